//! A check that asks a service of the tenant's: what it is sent, and what it answers.

use std::time::Duration;

use base::Name;
use serde::{Deserialize, Serialize};
use tenancy::catalogue::WebhookSpec;

use super::super::Side;
use super::{Remark, Remote, RemoteFailure, per_cent};

/// 1,000 findings of one service's answer.
const REMOTE_FINDINGS_MAX: usize = 1_000;

/// What a service is sent.
#[derive(Serialize)]
struct Posted<'t> {
    check: &'t str,
    side: &'static str,
    texts: &'t [&'t str],
}

/// What a service answers. Unknown fields are ignored: adapters say more.
#[derive(Deserialize)]
struct Answered {
    #[serde(default)]
    findings: Vec<AnsweredFinding>,
}

#[derive(Deserialize)]
struct AnsweredFinding {
    /// The number of the text.
    text: usize,
    /// In characters (Unicode code points), as Presidio counts; absent is the whole text.
    start: Option<usize>,
    end: Option<usize>,
    label: Option<String>,
    /// From 0 to 1.
    score: Option<f32>,
}

pub(super) async fn webhook<R: Remote>(
    spec: &WebhookSpec,
    check: &Name,
    side: Side,
    texts: &[&str],
    remote: &R,
) -> Result<Vec<Remark>, RemoteFailure> {
    let posted = Posted {
        check: check.as_str(),
        side: match side {
            Side::Input => "input",
            Side::Output => "output",
        },
        texts,
    };
    let body = serde_json::to_vec(&posted).expect("strings are always JSON");
    let timeout = Duration::from_millis(spec.timeout_ms);
    let answer = remote.post(&spec.url, timeout, body).await?;
    let answered: Answered =
        serde_json::from_slice(&answer).map_err(|_| RemoteFailure::Unreadable)?;
    answered
        .findings
        .into_iter()
        .take(REMOTE_FINDINGS_MAX)
        .map(|finding| {
            let text = texts.get(finding.text).ok_or(RemoteFailure::Unreadable)?;
            let span = match (finding.start, finding.end) {
                (Some(start), Some(end)) => {
                    Some(bytes_of(text, start, end).ok_or(RemoteFailure::Unreadable)?)
                }
                _ => None,
            };
            Ok(Remark {
                text: finding.text,
                // A finding without a place is the whole text: that is what is redacted.
                span: span.or(Some(0..text.len())),
                label: finding.label,
                score: per_cent(finding.score.unwrap_or(1.0)),
            })
        })
        .collect()
}

/// The bytes from character `start` to character `end`.
fn bytes_of(text: &str, start: usize, end: usize) -> Option<std::ops::Range<usize>> {
    let mut places = text
        .char_indices()
        .map(|(place, _)| place)
        .chain([text.len()]);
    let first = places.nth(start)?;
    let last = if end > start {
        places.nth(end - start - 1)?
    } else {
        return None;
    };
    Some(first..last)
}
