//! Backups of other steps of the schema.

use std::io::Cursor;

use base::{ManualClock, SeededEntropy, TenantId, Timestamp};
use tenancy::{LocalRootKey, PlatformKeys, ServiceIdentity, ServicePurpose};

use super::*;
use crate::stores::StoresOptions;
use crate::tenant::{PastHour, StoredResponse};

/// A store with a response and an hour in it, and a backup of it that says this of its schema.
fn backed_up_at(schema: u32) -> (tempfile::TempDir, Stores, TenantScope, Vec<u8>) {
    let entropy = SeededEntropy::new(1);
    let root = LocalRootKey::generate(&entropy);
    let (platform, _) = PlatformKeys::generate(&root, &entropy).expect("keys");
    let (keys, _) =
        TenantKeys::generate(&root, TenantId::from_bits(1 << 70), &entropy).expect("keys");
    let scope = ServiceIdentity::of(&platform).scope(Arc::new(keys), ServicePurpose::Recovery);
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(ManualClock::default());
    let stores = Stores::new(folder.path(), clock, StoresOptions::default()).expect("stores");
    stores.provision(&scope).expect("a store");
    let store = stores.open(&scope);
    let response = StoredResponse {
        id: "resp_1".to_owned(),
        previous: String::new(),
        input: b"[]".to_vec(),
        body: b"{}".to_vec(),
    };
    let now = Timestamp::from_micros(1);
    let kept = store.keep_response(&response, now, &Default::default());
    kept.expect("it is kept");
    let mut backup = Vec::new();
    let header = BackupHeader {
        format: FORMAT,
        id: "0".repeat(32),
        tenant: scope.tenant(),
        key_generation: scope.keys().generation(),
        schema,
        taken_at: now,
    };
    let written = stores.on_snapshot(scope.keys(), |database| {
        write_tables(database, header, &mut backup, scope.keys(), &entropy)
    });
    written.expect("a backup");
    (folder, stores, scope, backup)
}

fn restore(stores: &Stores, scope: &TenantScope, backup: &[u8]) -> Result<(), BackupError> {
    let what = RestoreWhat::Everything;
    let restored = stores.restore(scope, Cursor::new(backup), what, IfDamaged::Refuse);
    restored.map(drop)
}

#[test]
fn a_backup_of_an_older_schema_goes_back() {
    // Steps 3 and 5 had responses, and neither hours nor, the first, conversations.
    for schema in [3, 5, schema::TENANT.newest()] {
        let (_folder, stores, scope, backup) = backed_up_at(schema);
        stores.remove(&scope).expect("it is removed");
        restore(&stores, &scope, &backup).expect("it goes back");
        let store = stores.open(&scope);
        let found = store.response("resp_1", Timestamp::from_micros(1));
        assert!(found.expect("it is read").is_some(), "{schema}");
        // What the older schema lacked is there, and empty.
        let hours: Vec<PastHour> = store.past_hours(0).expect("a table of hours");
        assert!(hours.is_empty());
    }
}

#[test]
fn a_backup_of_a_newer_schema_is_refused_and_one_that_lies_is_damaged() {
    let newer = schema::TENANT.newest() + 1;
    let (_folder, stores, scope, backup) = backed_up_at(newer);
    let refused = restore(&stores, &scope, &backup).expect_err("it is newer");
    assert!(matches!(refused, BackupError::NewerSchema { found } if found == newer));
    // A step that had no responses has none in its backup.
    let (_folder, stores, scope, backup) = backed_up_at(3);
    let at = backup
        .windows(10)
        .position(|window| window == b"\"schema\":3")
        .expect("the header is in clear");
    let mut changed = backup;
    changed[at + 9] = b'2';
    let refused = restore(&stores, &scope, &changed).expect_err("the header is bound");
    assert!(matches!(refused, BackupError::Damaged), "{refused}");
}
