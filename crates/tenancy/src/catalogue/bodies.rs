//! Whether what a tenant's calls ask and are answered is kept, for people to look at.

use base::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// 90 days: long enough for a quarter's complaints; what is to be kept longer is to be kept elsewhere.
pub(crate) const BODIES_DAYS_MAX: u16 = 90;

/// The tenant's word that what its calls ask, and what they are answered, is kept in its own store:
/// redacted, bounded and for a time. Without it nothing is. Only the tenant's own administrators give
/// this word or widen it; an operator may narrow it and take it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BodiesSpec {
    /// The features whose calls are kept; empty means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<Name>,
    /// For how many days: 1 to 90.
    pub days: u16,
    /// Whether the platform's operators may read them too. Each reading is in the tenant's log.
    pub operators: bool,
}

impl Default for BodiesSpec {
    fn default() -> Self {
        Self {
            features: Vec::new(),
            // A week: as long as somebody remembers what they asked.
            days: 7,
            operators: false,
        }
    }
}

impl BodiesSpec {
    /// Whether it is for calls of this feature.
    pub fn is_for(&self, feature: &Name) -> bool {
        self.features.is_empty() || self.features.contains(feature)
    }

    /// Whether this allows nothing that `before` did not.
    pub fn is_within(&self, before: &Self) -> bool {
        let features = match (before.features.is_empty(), self.features.is_empty()) {
            (true, _) => true,
            (false, true) => false,
            (false, false) => self.features.iter().all(|name| before.is_for(name)),
        };
        features && self.days <= before.days && (before.operators || !self.operators)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(features: &[&str], days: u16, operators: bool) -> BodiesSpec {
        BodiesSpec {
            features: features.iter().map(|name| name.parse().unwrap()).collect(),
            days,
            operators,
        }
    }

    #[test]
    fn a_word_is_widened_by_whatever_it_did_not_allow() {
        let before = spec(&["search", "chat"], 7, false);
        for narrower in [
            before.clone(),
            spec(&["chat"], 7, false),
            spec(&["chat", "search"], 1, false),
        ] {
            assert!(narrower.is_within(&before), "{narrower:?}");
        }
        for wider in [
            spec(&[], 7, false),
            spec(&["chat", "billing"], 7, false),
            spec(&["chat"], 8, false),
            spec(&["chat"], 7, true),
        ] {
            assert!(!wider.is_within(&before), "{wider:?}");
        }
        let all = spec(&[], 90, true);
        assert!(before.is_within(&all) && all.is_within(&all));
    }

    #[test]
    fn an_empty_list_of_features_means_all() {
        let feature = "chat".parse().unwrap();
        assert!(spec(&[], 7, false).is_for(&feature));
        assert!(spec(&["chat"], 7, false).is_for(&feature));
        assert!(!spec(&["search"], 7, false).is_for(&feature));
    }
}
