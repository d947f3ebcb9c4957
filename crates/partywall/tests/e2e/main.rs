//! The real binary, as a person uses it: started, called, administered, stopped.

mod adapters;
mod administer;
mod behaviour;
mod placements;
mod product;
mod secrets;
mod start;
