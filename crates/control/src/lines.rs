//! One call, as the ledger has it, for people and programs to read.

use ledger::{LedgerLine, LineState, Metering, Outcome, ReleaseReason};

use crate::api::LineView;
use crate::usage::Names;

/// The line, with names in place of ids where there are any.
pub(crate) fn view(line: &LedgerLine, names: &Names) -> LineView {
    let LedgerLine {
        intent,
        consumption,
        ..
    } = line;
    let (state, outcome) = state(line.state);
    LineView {
        attempt: intent.attempt,
        request: intent.request,
        parent: intent.parent,
        team: intent.team.map(|team| names.name(&team.to_string())),
        user: intent.user.map(|user| names.name(&user.to_string())),
        key: names.name(&intent.key.to_string()),
        feature: intent.feature.clone(),
        session: intent
            .session
            .as_ref()
            .map(|session| session.as_str().to_owned()),
        turn: intent.turn.as_ref().map(|turn| turn.as_str().to_owned()),
        hop: intent.hop.as_str().to_owned(),
        prompt: intent.prompt.as_deref().map(ToOwned::to_owned),
        model: intent.model.clone(),
        upstream: intent.upstream.clone(),
        version: line.served.clone(),
        price_version: intent.price_version.0,
        state: state.to_owned(),
        outcome: outcome.map(ToOwned::to_owned),
        input_tokens: consumption.input_tokens,
        cached_read_tokens: consumption.cached_read_tokens,
        cached_write_tokens: consumption.cached_write_tokens,
        cached_write_1h_tokens: consumption.cached_write_1h_tokens,
        output_tokens: consumption.output_tokens,
        held: intent.amount,
        cost: line.cost,
        started_at: intent.at,
        ended_at: line.at,
    }
}

const fn state(state: LineState) -> (&'static str, Option<&'static str>) {
    match state {
        LineState::Settled {
            metering: Metering::Cached { .. },
            ..
        } => ("settled", Some("cached")),
        LineState::Settled { outcome, .. } => ("settled", Some(ended(outcome))),
        LineState::Released { reason } => ("released", Some(released(reason))),
        LineState::Unsettled => ("unsettled", None),
        LineState::Reconciled => ("reconciled", None),
    }
}

const fn ended(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Cut => "cut",
        Outcome::ClientGone => "client-gone",
        Outcome::UpstreamFailed => "upstream-failed",
    }
}

const fn released(reason: ReleaseReason) -> &'static str {
    match reason {
        ReleaseReason::NotDispatched => "not-dispatched",
        ReleaseReason::Unreachable => "unreachable",
        ReleaseReason::Refused => "refused",
    }
}
