//! The data path: seven stages from a client's bytes to an upstream's and back.
