//! How records stand in a file: frames that show a torn end, a hole and a flipped bit.
//!
//! A frame is `[len u32][crc32c u32][lsn u64][lag u32][payload: len bytes]`, little-endian. The
//! checksum covers all but itself. `lag` is how many records before this one were not yet known
//! to be durable when it was written. It tells a torn end from a hole: the pages of the last,
//! unfinished commit may reach the disk in any order, so that a good frame can follow a bad one;
//! but a frame whose writer knew that the bad one was durable proves that it was damaged later.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Record;
use crate::record::RECORD_KINDS;

/// A record's place in the journal: 1, 2, 3, … without a gap over all files.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Lsn(u64);

impl Lsn {
    /// Before the first record.
    pub const ZERO: Self = Self(0);
    /// The first record's.
    pub const FIRST: Self = Self(1);

    /// The place that has this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The next record's.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Length, checksum, LSN and lag.
pub const FRAME_HEADER_BYTES: usize = 20;
/// 4 KiB: an intent with the longest names (2 × 64, 200, 2 × 128 bytes), 16 accounts of 19 bytes
/// and its numbers stays below 1.2 KiB.
pub const RECORD_BYTES_MAX: usize = 4096;

/// A record is longer than [`RECORD_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a journal record is longer than {RECORD_BYTES_MAX} bytes")]
pub struct RecordTooLong;

/// Appends the frame of `record` to `buffer`. `durable` is the last record that is known to be
/// on disk.
///
/// # Errors
///
/// [`RecordTooLong`]; the buffer is then as it was.
pub fn encode(
    record: &Record,
    lsn: Lsn,
    durable: Lsn,
    buffer: &mut Vec<u8>,
) -> Result<(), RecordTooLong> {
    let lag = u32::try_from(lsn.0.saturating_sub(durable.0)).unwrap_or(u32::MAX);
    let written = frame::<FRAME_BYTES_USUAL>(record, lsn, lag, buffer);
    written.or_else(|_| frame::<FRAME_BYTES_MAX>(record, lsn, lag, buffer))
}

/// 512: an intent with names of the usual length and four accounts has some 300.
const FRAME_BYTES_USUAL: usize = 512;
const FRAME_BYTES_MAX: usize = FRAME_HEADER_BYTES + RECORD_BYTES_MAX;

/// The same for a frame of so many bytes at most. It is written where there is room for all of it,
/// so that not every byte asks whether the buffer has to grow.
fn frame<const BYTES_MAX: usize>(
    record: &Record,
    lsn: Lsn,
    lag: u32,
    buffer: &mut Vec<u8>,
) -> Result<(), RecordTooLong> {
    let mut frame = [0; BYTES_MAX];
    let payload = postcard::to_slice(record, &mut frame[FRAME_HEADER_BYTES..]);
    let length = payload.map_err(|_| RecordTooLong)?.len();
    let frame = &mut frame[..FRAME_HEADER_BYTES + length];
    frame[0..4].copy_from_slice(&(length as u32).to_le_bytes());
    frame[8..16].copy_from_slice(&lsn.0.to_le_bytes());
    frame[16..20].copy_from_slice(&lag.to_le_bytes());
    let sum = checksum(frame);
    frame[4..8].copy_from_slice(&sum.to_le_bytes());
    buffer.extend_from_slice(frame);
    Ok(())
}

/// Over the length and all that follows the checksum.
fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[0..4]), &frame[8..])
}

/// A record and where it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its place in the journal.
    pub lsn: Lsn,
    /// What it says.
    pub record: Record,
    /// Where in the bytes the next frame begins.
    pub end: usize,
}

/// Why bytes do not go on with a good frame. Each names the byte at which the trouble begins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end in the middle of what was being written when the power went. Nothing that
    /// was durable is missing: cut the file at `offset` and go on.
    #[error("the journal ends in a torn write at byte {offset}")]
    Torn {
        /// Where to cut.
        offset: usize,
    },
    /// What was durable is damaged.
    #[error("the journal is damaged at byte {offset}: a later good record is at byte {later}")]
    Damaged {
        /// Where the damage begins.
        offset: usize,
        /// Where a record stands whose writer knew the damaged one to be durable.
        later: usize,
    },
    /// A good frame has another number than the one that is due.
    #[error("record {expected} is missing at byte {offset}: found record {found}")]
    OutOfOrder {
        /// Where the frame begins.
        offset: usize,
        /// The number that is due.
        expected: Lsn,
        /// The number that is there.
        found: Lsn,
    },
    /// A newer version wrote a kind of record that this one does not know.
    #[error(
        "record {lsn} at byte {offset} is of kind {kind}, which this version does not know: a \
         newer version wrote it"
    )]
    Newer {
        /// Where the frame begins.
        offset: usize,
        /// The record.
        lsn: Lsn,
        /// Its kind.
        kind: u8,
    },
    /// A good frame holds what no version writes.
    #[error("record {lsn} at byte {offset} cannot be read")]
    Unreadable {
        /// Where the frame begins.
        offset: usize,
        /// The record.
        lsn: Lsn,
    },
}

/// Reads the frames of one file. Ends with `None` after the last good frame if nothing follows
/// it, and after one error otherwise.
#[derive(Debug)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    offset: usize,
    expected: Lsn,
    failed: bool,
}

/// A frame whose checksum holds.
struct RawFrame<'a> {
    lsn: Lsn,
    lag: u32,
    payload: &'a [u8],
    end: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder of `bytes`, of which the first record has the number `first`.
    pub const fn new(bytes: &'a [u8], first: Lsn) -> Self {
        Self {
            bytes,
            offset: 0,
            expected: first,
            failed: false,
        }
    }

    /// Where the next frame begins: all before it is good.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// The number that is due next.
    pub const fn expected(&self) -> Lsn {
        self.expected
    }

    fn raw_at(&self, offset: usize) -> Option<RawFrame<'a>> {
        let rest = self.bytes.get(offset..)?;
        let header = rest.get(..FRAME_HEADER_BYTES)?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
        let len = word(0) as usize;
        if len == 0 || len > RECORD_BYTES_MAX {
            return None;
        }
        let frame = rest.get(..FRAME_HEADER_BYTES + len)?;
        if checksum(frame) != word(4) {
            return None;
        }
        Some(RawFrame {
            lsn: Lsn(u64::from_le_bytes(
                header[8..16].try_into().expect("8 bytes"),
            )),
            lag: word(16),
            payload: &frame[FRAME_HEADER_BYTES..],
            end: offset + frame.len(),
        })
    }

    fn decode(&mut self) -> Result<Frame, DecodeError> {
        let offset = self.offset;
        let raw = self.raw_at(offset).ok_or_else(|| self.judge_end())?;
        let lsn = raw.lsn;
        if lsn != self.expected {
            return Err(DecodeError::OutOfOrder {
                offset,
                expected: self.expected,
                found: lsn,
            });
        }
        let record = match postcard::take_from_bytes::<Record>(raw.payload) {
            Ok((record, [])) => record,
            // All kinds are below 128, so that the kind is the first byte.
            _ if raw.payload[0] >= RECORD_KINDS => {
                let kind = raw.payload[0];
                return Err(DecodeError::Newer { offset, lsn, kind });
            }
            _ => return Err(DecodeError::Unreadable { offset, lsn }),
        };
        self.offset = raw.end;
        self.expected = lsn.next();
        Ok(Frame {
            lsn,
            record,
            end: raw.end,
        })
    }

    /// Looks behind a bad frame for one whose writer knew the bad one to be durable.
    fn judge_end(&self) -> DecodeError {
        let offset = self.offset;
        // No more records than this can follow, which makes chance hits rare and cheap.
        let follow_max = (self.bytes.len() - offset) as u64 / FRAME_HEADER_BYTES as u64 + 1;
        let is_due = |at: usize| {
            self.bytes.get(at + 8..at + 16).is_some_and(|lsn| {
                let lsn = u64::from_le_bytes(lsn.try_into().expect("8 bytes"));
                lsn > self.expected.0 && lsn - self.expected.0 <= follow_max
            })
        };
        let mut at = offset + 1;
        while at + FRAME_HEADER_BYTES < self.bytes.len() {
            match is_due(at).then(|| self.raw_at(at)).flatten() {
                Some(raw) if raw.lsn.0.saturating_sub(u64::from(raw.lag)) >= self.expected.0 => {
                    return DecodeError::Damaged { offset, later: at };
                }
                Some(raw) => at = raw.end,
                None => at += 1,
            }
        }
        DecodeError::Torn { offset }
    }
}

impl Iterator for Decoder<'_> {
    type Item = Result<Frame, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.offset == self.bytes.len() {
            return None;
        }
        let decoded = self.decode();
        self.failed = decoded.is_err();
        Some(decoded)
    }
}

#[cfg(test)]
mod tests {
    use base::{AttemptId, PicoUsd, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        AccountId, AccountOpened, Consumption, Hop, Intent, Metering, Outcome, PriceVersion,
        ReleaseReason, Settled, Subject, Window, Zone,
    };

    fn intent(number: u64) -> Record {
        Record::Intent(Box::new(Intent {
            attempt: AttemptId::from_bits(u128::from(number) << 64 | 5),
            request: base::RequestId::from_bits(u128::MAX - u128::from(number)),
            parent: None,
            prompt: None,
            tenant: base::TenantId::from_bits(u128::MAX / 3),
            team: Some(base::TeamId::from_bits(u128::MAX / 5)),
            user: Some(base::UserId::from_bits(u128::MAX / 7)),
            key: base::KeyId::from_bits(u128::MAX / 9),
            feature: "support-chat".parse().unwrap(),
            session: Some("c0ffee".parse().unwrap()),
            turn: None,
            hop: Hop::Generate,
            model: "openai/gpt-4o".parse().unwrap(),
            upstream: "openai".parse().unwrap(),
            price_version: PriceVersion(3),
            amount: PicoUsd::new(12_345_678_901),
            input_bound: 4_000,
            output_bound: 1_000,
            accounts: (0..3)
                .map(|n| AccountId::from_bits(u128::MAX - n))
                .collect(),
            at: Timestamp::from_micros(1_790_000_000_000_000),
            expires_at: Timestamp::from_micros(1_790_000_600_000_000),
        }))
    }

    /// One record of each kind, in the order of the kinds.
    fn all_kinds() -> Vec<Record> {
        let account = AccountId::from_bits(9);
        let attempt = AttemptId::from_bits(8);
        let at = Timestamp::from_micros(7);
        let limit = PicoUsd::new(6);
        vec![
            Record::Started { at },
            Record::AccountOpened(Box::new(AccountOpened {
                account,
                tenant: base::TenantId::from_bits(1),
                budget: "monthly".parse().unwrap(),
                subject: Subject::Tenant,
                window: Window::Monthly { zone: Zone::UTC },
                at,
            })),
            Record::AccountForgotten { account },
            Record::LeaseRaised {
                account,
                limit,
                budget: Some(limit),
                at,
            },
            Record::LeaseReconciled {
                account,
                unspent: limit,
                at,
            },
            intent(1),
            Record::Settled(Settled {
                attempt,
                consumption: Consumption::default(),
                cost: limit,
                outcome: Outcome::Completed,
                metering: Metering::Reported,
                served: None,
                at,
            }),
            Record::Released {
                attempt,
                reason: ReleaseReason::Refused,
                at,
            },
            Record::Expired { attempt, at },
            Record::Reconciled {
                attempt,
                cost: limit,
                at,
            },
            Record::Closed { at },
            Record::LeaseReturned {
                account,
                unused: limit,
                at,
            },
        ]
    }

    /// Frames in commits of `commit` records each, and where each frame begins.
    fn file(records: &[Record], commit: u64) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for (place, record) in records.iter().enumerate() {
            let durable = Lsn::new(place as u64 / commit * commit);
            starts.push(bytes.len());
            encode(record, Lsn::new(place as u64 + 1), durable, &mut bytes).unwrap();
        }
        (bytes, starts)
    }

    fn read(bytes: &[u8]) -> (Vec<Record>, Option<DecodeError>) {
        let mut records = Vec::new();
        for frame in Decoder::new(bytes, Lsn::FIRST) {
            match frame {
                Ok(frame) => records.push(frame.record),
                Err(error) => return (records, Some(error)),
            }
        }
        (records, None)
    }

    #[test]
    fn every_kind_round_trips_and_keeps_its_number() {
        let records = all_kinds();
        assert_eq!(records.len(), usize::from(RECORD_KINDS));
        let (bytes, starts) = file(&records, 4);
        assert_eq!(read(&bytes), (records, None));
        for (kind, start) in starts.iter().enumerate() {
            assert_eq!(usize::from(bytes[start + FRAME_HEADER_BYTES]), kind);
        }
    }

    #[test]
    fn a_call_takes_few_bytes() {
        let mut bytes = Vec::new();
        encode(&intent(1), Lsn::FIRST, Lsn::ZERO, &mut bytes).unwrap();
        assert!(bytes.len() <= 320, "{} bytes", bytes.len());
        let settled = all_kinds().swap_remove(6);
        bytes.clear();
        encode(&settled, Lsn::FIRST, Lsn::ZERO, &mut bytes).unwrap();
        assert!(bytes.len() <= 80, "{} bytes", bytes.len());
    }

    proptest! {
        #[test]
        fn invariant_7_every_prefix_yields_the_whole_frames_in_it(commit in 1_u64..6, cut: prop::sample::Index) {
            let records = all_kinds();
            let (bytes, starts) = file(&records, commit);
            let cut = cut.index(bytes.len() + 1);
            let whole = starts.iter().skip(1).chain([&bytes.len()]).filter(|end| **end <= cut).count();
            let (read_records, error) = read(&bytes[..cut]);
            prop_assert_eq!(&read_records[..], &records[..whole]);
            match error {
                None => prop_assert!(cut == bytes.len() || starts.contains(&cut)),
                Some(error) => prop_assert_eq!(error, DecodeError::Torn { offset: starts[whole] }),
            }
        }

        /// A flipped bit never yields another record; where a later commit follows it is called
        /// damage, and inside the last commit a torn end.
        #[test]
        fn invariant_7_a_flipped_bit_is_found(commit in 1_usize..6, place: prop::sample::Index, bit in 0_u8..8) {
            let records = all_kinds();
            let (mut bytes, starts) = file(&records, commit as u64);
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
            let hit = starts.iter().filter(|start| **start <= place).count() - 1;
            let (read_records, error) = read(&bytes);
            prop_assert_eq!(&read_records[..], &records[..hit]);
            let last_commit = (records.len() - 1) / commit * commit;
            match error {
                Some(DecodeError::Damaged { offset, .. }) => {
                    prop_assert_eq!(offset, starts[hit]);
                    prop_assert!(hit < last_commit);
                }
                Some(DecodeError::Torn { offset }) => {
                    prop_assert_eq!(offset, starts[hit]);
                    prop_assert!(hit >= last_commit);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let (records, error) = read(&bytes);
            prop_assert!(records.is_empty() && (bytes.is_empty() || error.is_some()));
        }
    }

    #[test]
    fn a_newer_kind_and_a_gap_are_named() {
        let mut bytes = Vec::new();
        let closed = Record::Closed {
            at: Timestamp::from_micros(1),
        };
        encode(&closed, Lsn::FIRST, Lsn::ZERO, &mut bytes).unwrap();
        bytes[FRAME_HEADER_BYTES] = RECORD_KINDS;
        let sum = checksum(&bytes);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        assert!(matches!(
            read(&bytes).1,
            Some(DecodeError::Newer {
                kind: RECORD_KINDS,
                ..
            })
        ));

        bytes.clear();
        encode(&closed, Lsn::new(2), Lsn::ZERO, &mut bytes).unwrap();
        assert!(matches!(
            read(&bytes).1,
            Some(DecodeError::OutOfOrder { .. })
        ));
    }

    #[test]
    fn a_record_that_is_too_long_leaves_the_buffer_as_it_was() {
        let Record::Intent(mut huge) = intent(1) else {
            unreachable!("it is an intent");
        };
        huge.accounts = (0..400)
            .map(|n| AccountId::from_bits(u128::MAX - n))
            .collect();
        let mut bytes = vec![1, 2, 3];
        assert_eq!(
            encode(&Record::Intent(huge), Lsn::FIRST, Lsn::ZERO, &mut bytes),
            Err(RecordTooLong)
        );
        assert_eq!(bytes, [1, 2, 3]);
    }
}
