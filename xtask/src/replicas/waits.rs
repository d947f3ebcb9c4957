//! What the replicas count of their talks with the coordinator.

use anyhow::Context;
use base::SystemClock;

use super::fleet::Fleet;
use crate::wire::{Connection, request};

/// How often a call waited, and how many exchanges there were, on all replicas.
#[derive(Debug, Default)]
pub(super) struct Waits {
    pub(super) waited: u64,
    pub(super) exchanges: u64,
}

impl Waits {
    pub(super) async fn of(fleet: &Fleet) -> anyhow::Result<Self> {
        let clock = SystemClock::new();
        let mut sum = Self::default();
        for replica in &fleet.replicas {
            let key = &replica.quickstart.operator_key;
            let asked = request("GET", replica.admin, "/metrics", key, None);
            let mut connection = Connection::open(replica.admin).await?;
            let answer = connection.call(&clock, &asked).await?;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            sum.waited += counter(&text, "partywall_share_waits_total")?;
            sum.exchanges += counter(&text, "partywall_share_exchanges_total")?;
        }
        Ok(sum)
    }
}

/// A counter without labels in Prometheus' text form.
fn counter(metrics: &str, name: &str) -> anyhow::Result<u64> {
    let mut values = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = values.next().with_context(|| format!("no {name}"))?;
    value.parse().with_context(|| format!("{name} is {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read_whatever_begins_alike() {
        let text = "# HELP a_total x\na_total_more 7\na_total{b=\"c\"} 8\na_total 9\n";
        assert_eq!(counter(text, "a_total").expect("a number"), 9);
        assert!(counter(text, "b_total").is_err());
    }
}
