//! Whole-system simulation.
