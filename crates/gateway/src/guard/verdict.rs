//! What a guardrail found: where, by which check, and never what.

use std::ops::Range;

use base::Name;
use tenancy::catalogue::GuardAction;

/// One thing that a check found. It says where, and never holds the text: it may be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check's name.
    pub check: Name,
    /// What kind of thing it is, if the check knows several: `CARD`, `US_SSN`.
    pub label: Option<&'static str>,
    /// What the check does about it.
    pub action: GuardAction,
    /// Where it is: bytes of the text that was looked at, before any redaction. Empty if the
    /// check looked at the text as a whole.
    pub span: Range<usize>,
    /// How sure the check is, from 1 to 100; 100 if it does not score.
    pub score: u8,
}

/// 256: more say nothing new, and a report has to stay small. All are counted.
const FINDINGS_MAX: usize = 256;

/// What was found in one text: the first 256, and how many there were in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    list: Vec<Finding>,
    count: usize,
    /// The one that blocks: it is kept even if it is not among the first.
    blocking: Option<Finding>,
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        self.count += 1;
        if finding.action == GuardAction::Block && self.blocking.is_none() {
            self.blocking = Some(finding.clone());
        }
        if self.list.len() < FINDINGS_MAX {
            self.list.push(finding);
        }
    }

    /// The first 256.
    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// The first that blocks, if any does.
    pub fn blocking(&self) -> Option<&Finding> {
        self.blocking.as_ref()
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.count
    }
}
