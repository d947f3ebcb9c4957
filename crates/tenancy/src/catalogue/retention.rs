//! How long what a tenant's calls leave is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ten years: the longest that accounts are kept for anywhere we know.
const DAYS_MAX: u16 = 3_650;
/// 30 days: as long as responses are kept at all.
const RESPONSES_DAYS_MAX: u16 = 30;

/// After how many days what is forgotten, about four times a day. What is absent is as the tier
/// says, or else as it says here. Sums of usage by day and month, invoices and the audit log are kept for good,
/// sums by hour for 100 days.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSpec {
    /// Lines of the ledger, one for each call: 1 to 3,650 days; for good if absent. Costs stay;
    /// single calls and conversations can be told apart no longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines_days: Option<u16>,
    /// Stored responses that nobody has gone on from: 1 to 30 days; 30 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub responses_days: Option<u16>,
    /// Conversations, from the day they were made: 1 to 3,650 days; for good if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversations_days: Option<u16>,
}

impl RetentionSpec {
    /// This, and where it says nothing what `other` says.
    pub fn or(self, other: Self) -> Self {
        Self {
            lines_days: self.lines_days.or(other.lines_days),
            responses_days: self.responses_days.or(other.responses_days),
            conversations_days: self.conversations_days.or(other.conversations_days),
        }
    }

    /// Says what is wrong with it.
    pub(crate) fn check(&self, found: &mut Vec<String>) {
        for (field, days, most) in [
            ("lines_days", self.lines_days, DAYS_MAX),
            ("responses_days", self.responses_days, RESPONSES_DAYS_MAX),
            ("conversations_days", self.conversations_days, DAYS_MAX),
        ] {
            if days.is_some_and(|days| !(1..=most).contains(&days)) {
                found.push(format!("`retention.{field}` is from 1 to {most}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tenant_does_not_say_its_tier_says() {
        let spec = |lines_days, responses_days| RetentionSpec {
            lines_days,
            responses_days,
            conversations_days: None,
        };
        assert_eq!(
            spec(Some(7), None).or(spec(Some(90), Some(3))),
            spec(Some(7), Some(3))
        );
        let mut found = Vec::new();
        spec(Some(0), Some(31)).check(&mut found);
        assert_eq!(found.len(), 2, "{found:?}");
        spec(Some(3_650), Some(30)).check(&mut found);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
