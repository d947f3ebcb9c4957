//! Calls as usage events, a JSON value a line, for services that bill by them. An event has its
//! call's id: sent twice, it counts once.

use std::io::{self, Write};

use ledger::{LedgerLine, LineState};
use serde_json::{Value, json};
use tenancy::TenantEntry;

/// Whose form events have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Events {
    /// CloudEvents 1.0, as OpenMeter ingests them.
    OpenMeter,
    /// Meter events as Stripe's API takes them.
    Stripe,
}

impl Events {
    /// Writes the events of a call. One that is not settled has none yet, and one that was
    /// released never has.
    pub(super) fn write(
        self,
        to: &mut impl Write,
        tenant: &TenantEntry,
        customer: &str,
        issuer: &str,
        line: &LedgerLine,
    ) -> io::Result<()> {
        if !matches!(
            line.state,
            LineState::Settled { .. } | LineState::Reconciled
        ) {
            return Ok(());
        }
        match self {
            Self::OpenMeter => say(to, &open_meter(tenant, customer, issuer, line)),
            Self::Stripe => stripe(customer, line)
                .iter()
                .try_for_each(|event| say(to, event)),
        }
    }
}

fn say(to: &mut impl Write, event: &Value) -> io::Result<()> {
    serde_json::to_writer(&mut *to, event)?;
    to.write_all(b"\n")
}

fn open_meter(tenant: &TenantEntry, customer: &str, issuer: &str, line: &LedgerLine) -> Value {
    let intent = &line.intent;
    json!({
        "specversion": "1.0",
        "id": intent.attempt,
        "source": format!("urn:partywall:{issuer}"),
        "type": "partywall.call",
        "time": intent.at,
        "subject": customer,
        "datacontenttype": "application/json",
        "data": {
            "tenant": tenant.name,
            "feature": intent.feature,
            "model": intent.model,
            "version": line.served,
            "hop": intent.hop.as_str(),
            "session": intent.session,
            "input_tokens": line.consumption.input_tokens,
            "cached_tokens": line.consumption.cached_read_tokens,
            "output_tokens": line.consumption.output_tokens,
            "cost": line.cost,
        },
    })
}

/// An event for each meter: Stripe's have one value.
fn stripe(customer: &str, line: &LedgerLine) -> Vec<Value> {
    let meters = [
        (
            "partywall_input_tokens",
            "in",
            line.consumption.input_tokens.to_string(),
        ),
        (
            "partywall_output_tokens",
            "out",
            line.consumption.output_tokens.to_string(),
        ),
        ("partywall_cost_usd", "cost", line.cost.to_string()),
    ];
    let events = meters.into_iter().map(|(name, part, value)| {
        json!({
            "event_name": name,
            "identifier": format!("{}-{part}", line.intent.attempt),
            "timestamp": line.intent.at.as_micros().div_euclid(1_000_000),
            "payload": {"stripe_customer_id": customer, "value": value},
        })
    });
    events.collect()
}
