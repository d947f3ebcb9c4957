//! Placements, SQL, the journal, the audit log: all that touches storage.
