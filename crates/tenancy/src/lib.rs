//! Scopes, directory snapshots, keys, tokens, roles and the key hierarchy.
