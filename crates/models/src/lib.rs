//! Wire types of model providers: pure parsing, rebuilding and counting.
