//! How much a model thinks: in words, or in tokens.

/// How much the model thinks before it answers. Nothing said means: as it likes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reasoning {
    /// In words.
    pub effort: Option<Effort>,
    /// In tokens.
    pub budget_tokens: Option<u64>,
    /// Which summary of it the client wants: `auto`, `concise`, `detailed`, `none`.
    pub summary: Option<String>,
}

/// How much the model thinks, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effort {
    /// Not at all.
    None,
    /// As little as it can.
    Minimal,
    /// A little.
    Low,
    /// The usual.
    Medium,
    /// Much.
    High,
    /// More.
    XHigh,
    /// All it can.
    Max,
}

impl Effort {
    const ALL: [Self; 7] = [
        Self::None,
        Self::Minimal,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::XHigh,
        Self::Max,
    ];

    /// `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// From its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effort| effort.as_str() == name)
    }
}

impl Reasoning {
    /// The tokens to think with, of an answer that may have `output_tokens`: as said, or the
    /// effort's share of the answer: a fifth, a half, four fifths. `None` if the model shall not
    /// think, or may choose.
    pub fn budget_within(&self, output_tokens: u64) -> Option<u64> {
        if self.effort == Some(Effort::None) {
            return None;
        }
        self.budget_tokens.or_else(|| {
            Some(match self.effort? {
                Effort::None | Effort::Minimal => 0,
                Effort::Low => output_tokens / 5,
                Effort::Medium => output_tokens / 2,
                Effort::High | Effort::XHigh | Effort::Max => output_tokens / 5 * 4,
            })
        })
    }

    /// The effort: as said, or what a budget comes to. 2,048 and 8,192: the steps at which
    /// gateways that map the other way put `low` and `medium`.
    pub fn effort_or_of_budget(&self) -> Option<Effort> {
        self.effort.or_else(|| {
            Some(match self.budget_tokens? {
                0 => Effort::None,
                1..=2_048 => Effort::Low,
                2_049..=8_192 => Effort::Medium,
                _ => Effort::High,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_and_efforts_map() {
        let effort = |effort| Reasoning {
            effort: Some(effort),
            ..Reasoning::default()
        };
        assert_eq!(effort(Effort::Low).budget_within(10_000), Some(2_000));
        assert_eq!(effort(Effort::None).budget_within(10_000), None);
        assert_eq!(Reasoning::default().budget_within(10_000), None);
        let budget = |tokens| Reasoning {
            budget_tokens: Some(tokens),
            ..Reasoning::default()
        };
        assert_eq!(budget(1_024).effort_or_of_budget(), Some(Effort::Low));
        assert_eq!(budget(9_000).effort_or_of_budget(), Some(Effort::High));
        assert_eq!(Effort::from_name("xhigh"), Some(Effort::XHigh));
    }
}
