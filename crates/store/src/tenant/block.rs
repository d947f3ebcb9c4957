//! A block: the lines of calls that were dispatched within one second and posted together, packed
//! into one row. A row of its own for each line costs several times what the line does.

use std::borrow::Cow;

use base::{AttemptId, PicoUsd, RequestId, TenantId, Timestamp};
use ledger::{AccountId, Consumption, Intent, LedgerLine, LineState, Lsn, SessionName};
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::dims::Dims;

/// 256 lines of some 110 bytes: seven pages. What is changed afterwards is written as a whole.
pub(super) const LINES_PER_BLOCK: usize = 256;
/// The first byte of a block. Fields are added by a new version, beside this one.
const BLOCK_VERSION: u8 = 3;
/// Of so many terms, the last ones used, one is looked for; further away it is written again.
const TERMS_SEARCHED: usize = 8;
/// A block's number is `second · 2²⁰ + part`.
const PART_BITS: u32 = 20;
/// Seconds stay below 2⁴², which is 100,000 years: so that every block has a number.
const SECOND_MAX: i64 = 1 << 42;
const MICROS: i64 = 1_000_000;

const BAD_BLOCK: StoreError = StoreError::BadRow {
    table: "ledger_lines",
};

/// The second, since 1970, in which a call was dispatched.
pub(super) fn second_of(started_at: Timestamp) -> i64 {
    let second = started_at.as_micros().div_euclid(MICROS);
    second.clamp(-SECOND_MAX, SECOND_MAX)
}

/// The number of a block of `second`; any part will do that no other block of the second has.
pub(super) const fn block_number(second: i64, part: u64) -> i64 {
    (second << PART_BITS) + (part & ((1 << PART_BITS) - 1)) as i64
}

/// The second of the block that has this number.
pub(super) const fn second_of_block(number: i64) -> i64 {
    number >> PART_BITS
}

/// Lines that share a row.
#[derive(Debug, Default)]
pub(super) struct Block<'a> {
    terms: Vec<Terms<'a>>,
    pub(super) lines: Vec<Packed<'a>>,
}

/// What many lines of a block have in common.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Terms<'a> {
    accounts: Cow<'a, [AccountId]>,
    prompt: Cow<'a, Option<Box<str>>>,
}

/// A line in a block. The order of the fields is the format on disk.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Packed<'a> {
    attempt: [u8; 16],
    request: [u8; 16],
    pub(super) lsn: u64,
    /// In microseconds since 1970, as are the others less this one.
    started_at: i64,
    ended_after: i64,
    expires_after: i64,
    pub(super) dims: i64,
    /// Its place among the block's terms.
    terms: u32,
    pub(super) parent: Option<RequestId>,
    pub(super) session: Cow<'a, Option<SessionName>>,
    turn: Cow<'a, Option<SessionName>>,
    amount: PicoUsd,
    input_bound: u64,
    output_bound: u64,
    pub(super) consumption: Consumption,
    pub(super) cost: PicoUsd,
    pub(super) state: LineState,
}

impl<'a> Block<'a> {
    /// Adds `line`, which has the row `dims` of `usage_dims`.
    pub(super) fn push(&mut self, line: &'a LedgerLine, dims: i64) {
        let packed = self.pack(line, dims);
        self.lines.push(packed);
    }

    /// Puts `line`, which has the row `dims`, in the place of an earlier one of its attempt.
    pub(super) fn replace(&mut self, place: usize, line: &'a LedgerLine, dims: i64) {
        self.lines[place] = self.pack(line, dims);
    }

    fn pack(&mut self, line: &'a LedgerLine, dims: i64) -> Packed<'a> {
        let intent = &line.intent;
        let started_at = intent.at.as_micros();
        let after = |time: Timestamp| time.as_micros().wrapping_sub(started_at);
        Packed {
            attempt: intent.attempt.to_bytes(),
            request: intent.request.to_bytes(),
            lsn: line.lsn.number(),
            started_at,
            ended_after: after(line.at),
            expires_after: after(intent.expires_at),
            dims,
            terms: self.terms_of(intent),
            parent: intent.parent,
            session: Cow::Borrowed(&intent.session),
            turn: Cow::Borrowed(&intent.turn),
            amount: intent.amount,
            input_bound: intent.input_bound,
            output_bound: intent.output_bound,
            consumption: line.consumption,
            cost: line.cost,
            state: line.state,
        }
    }

    fn terms_of(&mut self, intent: &'a Intent) -> u32 {
        let terms = Terms {
            accounts: Cow::Borrowed(&intent.accounts),
            prompt: Cow::Borrowed(&intent.prompt),
        };
        let first = self.terms.len().saturating_sub(TERMS_SEARCHED);
        let known = self.terms[first..]
            .iter()
            .rposition(|known| *known == terms);
        let place = known.map(|place| first + place).unwrap_or_else(|| {
            self.terms.push(terms);
            self.terms.len() - 1
        });
        place as u32
    }

    /// Puts the bytes of this block into `bytes`, in place of what was there.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) -> Result<(), StoreError> {
        bytes.clear();
        bytes.push(BLOCK_VERSION);
        let content = (&self.terms, &self.lines);
        *bytes = postcard::to_extend(&content, std::mem::take(bytes)).map_err(|_| BAD_BLOCK)?;
        Ok(())
    }

    /// The block in a row of `ledger_lines`.
    pub(super) fn of_column(bytes: &[u8]) -> Result<Self, StoreError> {
        let Some((&BLOCK_VERSION, content)) = bytes.split_first() else {
            return Err(BAD_BLOCK);
        };
        let (terms, lines) = postcard::from_bytes(content).map_err(|_| BAD_BLOCK)?;
        Ok(Self { terms, lines })
    }

    /// The line at `place`, whose row of `usage_dims` says `dims`.
    pub(super) fn line(
        &self,
        place: usize,
        tenant: TenantId,
        dims: &Dims,
    ) -> Result<LedgerLine, StoreError> {
        let packed = &self.lines[place];
        let terms = self.terms.get(packed.terms as usize).ok_or(BAD_BLOCK)?;
        let after = |micros: i64| Timestamp::from_micros(packed.started_at.wrapping_add(micros));
        let intent = Intent {
            attempt: packed.attempt(),
            request: RequestId::from_bytes(packed.request),
            parent: packed.parent,
            tenant,
            team: dims.team,
            user: dims.user,
            key: dims.key,
            feature: dims.feature.clone(),
            session: packed.session.clone().into_owned(),
            turn: packed.turn.clone().into_owned(),
            hop: dims.hop,
            prompt: terms.prompt.clone().into_owned(),
            model: dims.model.clone(),
            upstream: dims.upstream.clone(),
            price_version: dims.price_version,
            amount: packed.amount,
            input_bound: packed.input_bound,
            output_bound: packed.output_bound,
            accounts: terms.accounts.iter().copied().collect(),
            at: packed.started_at(),
            expires_at: after(packed.expires_after),
        };
        Ok(LedgerLine {
            lsn: Lsn::new(packed.lsn),
            intent,
            served: dims.served.clone(),
            consumption: packed.consumption,
            cost: packed.cost,
            state: packed.state,
            at: after(packed.ended_after),
        })
    }
}

impl Packed<'_> {
    pub(super) const fn attempt(&self) -> AttemptId {
        AttemptId::from_bytes(self.attempt)
    }

    pub(super) const fn started_at(&self) -> Timestamp {
        Timestamp::from_micros(self.started_at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_block_has_a_number_that_says_its_second(
            micros in any::<i64>(), other in any::<i64>(), part in any::<u64>()
        ) {
            let second = second_of(Timestamp::from_micros(micros));
            let number = block_number(second, part);
            prop_assert_eq!(second_of_block(number), second);
            let later = second_of(Timestamp::from_micros(other));
            prop_assert_eq!(number < block_number(later, 0), second < later);
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for bytes in [
            &[][..],
            &[BLOCK_VERSION],
            &[9, 0, 0],
            &[BLOCK_VERSION, 0, 1],
        ] {
            assert!(Block::of_column(bytes).is_err(), "{bytes:?}");
        }
    }
}
