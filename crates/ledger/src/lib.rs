//! Prices, budgets, holds, limits, leases and journal records, as state machines.
