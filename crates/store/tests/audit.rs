//! Whatever is done to an exported audit log, an offline verifier finds it.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::path::{Path, PathBuf};

use base::Timestamp;
use rusqlite::Connection;
use store::{
    AuditEntry, AuditError, AuditKey, AuditSigner, CATALOGUE_FILE, Catalogue, Checkpoint,
    CheckpointError, ENTRY_BYTES_MAX, ExportError, VerifyError, verify_export,
};
use tenancy::AuditSigningKey;

#[expect(dead_code, reason = "other tests use the rest")]
mod fixture;
use fixture::Hierarchy;

struct Log {
    folder: tempfile::TempDir,
    hierarchy: Hierarchy,
    catalogue: Catalogue,
    signing: AuditSigningKey,
}

impl Log {
    fn with_entries(count: u64) -> Self {
        let (folder, hierarchy) = (tempfile::tempdir().unwrap(), Hierarchy::new(1));
        let key = hierarchy.platform.catalogue_key();
        let catalogue = Catalogue::open(folder.path(), &key).unwrap();
        let signing = hierarchy.platform.audit_signing_key();
        let log = Self {
            folder,
            hierarchy,
            catalogue,
            signing,
        };
        log.append(0, count);
        log
    }

    fn append(&self, from: u64, until: u64) {
        let entries: Vec<_> = (from..until).map(entry).collect();
        let append = self
            .catalogue
            .with_audit(&self.signer(), |log| log.append_all(&entries));
        assert_eq!(append.unwrap(), until);
    }

    fn signer(&self) -> AuditSigner<'_> {
        AuditSigner::platform("inst", &self.signing)
    }

    fn key(&self) -> AuditKey {
        self.signer().public_key()
    }

    fn head(&self) -> (String, Checkpoint) {
        let head = self.catalogue.with_audit(&self.signer(), |log| log.head());
        head.unwrap().unwrap()
    }

    fn export(&self) -> PathBuf {
        let path = self.folder.path().join("export.jsonl");
        let head = self
            .catalogue
            .with_audit(&self.signer(), |log| Ok(log.export(&path)))
            .unwrap()
            .unwrap();
        assert_eq!(head, self.head().1);
        path
    }
}

fn entry(number: u64) -> AuditEntry {
    AuditEntry::done(
        Timestamp::from_micros(number as i64),
        "ops",
        "key.create",
        format!("key_{number}"),
    )
    .with_reason("a ticket — \"42\"\n")
    .with_detail("team", number)
}

fn verify(log: &Log, path: &Path) -> Result<(), VerifyError> {
    verify_export(path, &log.key(), None).map(|_| ())
}

#[test]
fn an_untouched_export_verifies_with_its_pub_file_alone() {
    let log = Log::with_entries(40);
    let witness = log.head().0;
    log.append(40, 2_100);
    let path = log.export();
    let public = std::fs::read_to_string(log.folder.path().join("export.jsonl.pub")).unwrap();
    let key: AuditKey = public.parse().unwrap();
    assert_eq!(key, log.key());
    let verified = verify_export(&path, &key, Some(&witness)).unwrap();
    assert_eq!(verified.head, log.head().1);
    assert!(verified.extends_witness);
    assert_eq!(verified.head.origin, "partywall/inst/platform");
}

#[test]
fn every_flipped_byte_of_an_export_is_found() {
    let log = Log::with_entries(2);
    let path = log.export();
    let good = std::fs::read(&path).unwrap();
    verify(&log, &path).unwrap();
    let bad = log.folder.path().join("bad");
    for place in 0..good.len() {
        for bit in [0, 2, 5, 7] {
            let mut bytes = good.clone();
            bytes[place] ^= 1 << bit;
            std::fs::write(&bad, bytes).unwrap();
            assert!(verify(&log, &bad).is_err(), "byte {place}, bit {bit}");
        }
    }
}

#[test]
fn every_truncation_and_every_addition_is_found() {
    let log = Log::with_entries(4);
    let path = log.export();
    let good = std::fs::read(&path).unwrap();
    let bad = log.folder.path().join("bad");
    for len in 0..good.len() {
        std::fs::write(&bad, &good[..len]).unwrap();
        assert!(verify(&log, &bad).is_err(), "{len}");
    }
    for extra in ["\n", " ", "{}\n", "x"] {
        std::fs::write(&bad, [&good, extra.as_bytes()].concat()).unwrap();
        assert!(verify(&log, &bad).is_err(), "{extra:?}");
    }
}

#[test]
fn every_dropped_repeated_swapped_or_renumbered_line_is_found() {
    let log = Log::with_entries(9);
    let text = std::fs::read_to_string(log.export()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let bad = log.folder.path().join("bad");
    let refused = |lines: &[&str], what: &str| {
        std::fs::write(&bad, lines.join("\n") + "\n").unwrap();
        assert!(verify(&log, &bad).is_err(), "{what}");
    };
    for place in 0..lines.len() {
        let mut dropped = lines.clone();
        dropped.remove(place);
        refused(&dropped, "dropped");
        let mut repeated = lines.clone();
        repeated.insert(place, lines[place]);
        refused(&repeated, "repeated");
        for other in 0..place {
            let mut swapped = lines.clone();
            swapped.swap(place, other);
            refused(&swapped, "swapped");
        }
    }
    // Dropped or swapped by somebody who numbers the lines anew.
    for place in 1..lines.len() {
        let mut dropped = lines.clone();
        dropped.remove(place);
        let renumbered = renumber(&dropped);
        let renumbered: Vec<_> = renumbered.iter().map(String::as_str).collect();
        refused(&renumbered, "dropped and renumbered");
        for other in 1..place {
            let mut swapped = lines.clone();
            swapped.swap(place, other);
            let renumbered = renumber(&swapped);
            let renumbered: Vec<_> = renumbered.iter().map(String::as_str).collect();
            refused(&renumbered, "swapped and renumbered");
        }
    }
}

fn renumber(lines: &[&str]) -> Vec<String> {
    let entries = lines[1..].iter().enumerate().map(|(index, line)| {
        let (_, entry) = line.split_once(",\"entry\":").unwrap();
        format!("{{\"index\":{index},\"entry\":{entry}")
    });
    [lines[0].to_owned()].into_iter().chain(entries).collect()
}

#[test]
fn invariant_10_a_rollback_and_a_fork_are_found_with_a_witness() {
    let log = Log::with_entries(5);
    let early = log.export();
    let kept = log.folder.path().join("early");
    std::fs::rename(early, &kept).unwrap();
    log.append(5, 9);
    let witness = log.head().0;
    // By itself the early export is genuine; it only is not all.
    verify(&log, &kept).unwrap();
    assert!(matches!(
        verify_export(&kept, &log.key(), Some(&witness)),
        Err(VerifyError::RolledBack {
            witnessed: 9,
            found: 5
        })
    ));
    // Another history of the same length, signed by the same key.
    let forked = Log::with_entries(0);
    let entries: Vec<_> = (1..11).map(entry).collect();
    let append = forked
        .catalogue
        .with_audit(&forked.signer(), |log| log.append_all(&entries));
    append.unwrap();
    assert_eq!(forked.key(), log.key());
    let path = forked.export();
    verify(&log, &path).unwrap();
    assert!(matches!(
        verify_export(&path, &log.key(), Some(&witness)),
        Err(VerifyError::Forked { witnessed: 9 })
    ));
}

#[test]
fn another_key_and_another_log_are_refused() {
    let log = Log::with_entries(3);
    let path = log.export();
    let stranger = Hierarchy::new(2).platform.audit_signing_key();
    let theirs = AuditSigner::platform("inst", &stranger).public_key();
    assert!(matches!(
        verify_export(&path, &theirs, None),
        Err(VerifyError::BadCheckpoint(CheckpointError::BadSignature))
    ));
    let other_log = AuditSigner::platform("other", &log.signing).public_key();
    assert!(matches!(
        verify_export(&path, &other_log, None),
        Err(VerifyError::BadCheckpoint(CheckpointError::OtherLog))
    ));
}

/// The form of C2SP `tlog-checkpoint` and `signed-note`, piece by piece.
#[test]
fn a_checkpoint_is_a_signed_note() {
    let log = Log::with_entries(3);
    let (note, head) = log.head();
    let lines: Vec<&str> = note.split('\n').collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[0], "partywall/inst/platform");
    assert_eq!(lines[1], "3");
    assert_eq!(lines[2].len(), 44, "32 bytes in padded base64");
    assert_eq!(lines[3], "");
    assert!(lines[4].starts_with("\u{2014} partywall/inst/platform "));
    assert_eq!(lines[5], "");
    assert_eq!(Checkpoint::verify(&note, &log.key()), Ok(head));
    assert_eq!(
        Checkpoint::verify(&note.replace("\n3\n", "\n03\n"), &log.key()),
        Err(CheckpointError::Malformed)
    );
    assert_eq!(
        Checkpoint::verify(&note.replace("\n3\n", "\n4\n"), &log.key()),
        Err(CheckpointError::BadSignature)
    );
}

/// Somebody who has the file's key, and so can edit it, is found out before anything is signed.
#[test]
fn an_edited_database_is_not_signed_again() {
    let edits = [
        "UPDATE audit_nodes SET hash = zeroblob(32) WHERE level = 2",
        "DELETE FROM audit_nodes WHERE level = 2",
        "UPDATE audit_head SET checkpoint = replace(checkpoint, char(10) || '5', char(10) || '4')",
    ];
    for edit in edits {
        let log = Log::with_entries(5);
        let raw = log.hierarchy.platform.catalogue_key().sqlcipher_pragma();
        let connection = Connection::open(log.folder.path().join(CATALOGUE_FILE)).unwrap();
        connection
            .execute_batch(&format!("PRAGMA key = \"{}\"; {edit}", *raw))
            .unwrap();
        drop(connection);
        let append = log
            .catalogue
            .with_audit(&log.signer(), |log| log.append(&entry(5)));
        assert!(
            matches!(
                append,
                Err(AuditError::Tampered(_) | AuditError::MissingNode { .. })
            ),
            "{edit}"
        );
    }
    // An edited entry shows in the export, which is checked against the signed root.
    let log = Log::with_entries(5);
    let raw = log.hierarchy.platform.catalogue_key().sqlcipher_pragma();
    let connection = Connection::open(log.folder.path().join(CATALOGUE_FILE)).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA key = \"{}\"; UPDATE audit_entries SET entry = CAST(replace(CAST(entry AS TEXT), 'key_3', 'key_4') AS BLOB)",
            *raw
        ))
        .unwrap();
    drop(connection);
    assert!(matches!(
        verify(&log, &log.export()),
        Err(VerifyError::OtherRoot)
    ));
}

#[test]
fn an_empty_log_is_not_exported_and_an_entry_is_bounded() {
    let log = Log::with_entries(1);
    let huge = entry(1).with_reason("x".repeat(ENTRY_BYTES_MAX));
    let append = log
        .catalogue
        .with_audit(&log.signer(), |log| log.append(&huge));
    assert!(matches!(append, Err(AuditError::TooLong)));
    assert_eq!(log.head().1.size, 1);

    let other = AuditSigner::platform("empty", &log.signing);
    let folder = tempfile::tempdir().unwrap();
    let key = log.hierarchy.platform.catalogue_key();
    let empty = Catalogue::open(folder.path(), &key).unwrap();
    let export = empty.with_audit(&other, |log| Ok(log.export(&folder.path().join("x"))));
    assert!(matches!(export.unwrap(), Err(ExportError::Empty)));
}
