//! A tenant's store is backed up from any placement and goes back to any.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::io::Cursor;
use std::sync::Arc;

use base::Timestamp;
use store::{
    BackedUp, BackupError, BackupHeader, ConversationBounds, IfDamaged, RestoreWhat, Stores,
    TenantStore,
};
use tenancy::TenantScope;

mod fixture;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "fixture/postgres.rs"]
mod postgres;
#[path = "fixture/whole.rs"]
mod whole;
use fixture::{FileStores, Hierarchy};
use postgres::ServerStores;
use tenancy::catalogue::ServerWall;
use whole::{change, everything, placements};

const COUNT: u64 = 12;

fn fill(store: &TenantStore<'_>, hierarchy: &Hierarchy, scope: &TenantScope) -> String {
    for number in 0..COUNT {
        change(store, hierarchy, scope.tenant(), number);
    }
    everything(store, hierarchy, scope.tenant())
}

fn back_up(stores: &Stores, hierarchy: &Hierarchy, scope: &TenantScope) -> (Vec<u8>, BackedUp) {
    let mut backup = Vec::new();
    let done = stores.back_up(scope, &mut backup, &hierarchy.entropy);
    (backup, done.unwrap())
}

fn restore(
    stores: &Stores,
    scope: &TenantScope,
    backup: &[u8],
    what: RestoreWhat,
) -> Result<BackedUp, BackupError> {
    stores.restore(scope, Cursor::new(backup), what, IfDamaged::Refuse)
}

#[test]
fn a_lost_store_comes_back_from_any_placement_to_any() {
    let (stores, hierarchy) = (ServerStores::new(ServerWall::Pool), Hierarchy::new(1));
    for (place, from) in placements(&stores).iter().enumerate() {
        let scope = hierarchy.scope(place as u128 + 1);
        stores.made(&scope);
        let all = &stores.stores;
        all.assign(scope.tenant(), from).unwrap();
        all.provision(&scope).unwrap();
        let before = fill(&all.open(&scope), &hierarchy, &scope);
        let (backup, done) = back_up(all, &hierarchy, &scope);
        assert_eq!(all.check_backup(&scope, backup.as_slice()).unwrap(), done);
        for to in &placements(&stores) {
            all.remove(&scope).unwrap();
            all.assign(scope.tenant(), to).unwrap();
            assert!(
                all.open(&scope)
                    .unsettled_lines(store::Page::first())
                    .is_err()
            );
            let restored = restore(all, &scope, &backup, RestoreWhat::Everything).unwrap();
            assert_eq!(restored, done, "{from} to {to}");
            let after = everything(&all.open(&scope), &hierarchy, scope.tenant());
            assert_eq!(after, before, "{from} to {to}");
            // It lives: what comes now is added to what came back.
            change(&all.open(&scope), &hierarchy, scope.tenant(), COUNT);
        }
    }
}

/// A tenant on a file, its store filled, and a backup of it.
fn backed_up(hierarchy: &Hierarchy) -> (FileStores, TenantScope, Vec<u8>) {
    let files = FileStores::new();
    let scope = hierarchy.scope(1);
    files.stores.provision(&scope).unwrap();
    fill(&files.stores.open(&scope), hierarchy, &scope);
    let (backup, _) = back_up(&files.stores, hierarchy, &scope);
    (files, scope, backup)
}

#[test]
fn what_clients_stored_comes_back_and_money_stays() {
    let hierarchy = Hierarchy::new(1);
    let (files, scope, backup) = backed_up(&hierarchy);
    let store = files.stores.open(&scope);
    let now = Timestamp::from_micros(fixture::DAY);
    let before = store.response("resp_1", now).unwrap();
    assert!(before.is_some());
    let lines = |store: &TenantStore<'_>| {
        let (from, until) = (
            Timestamp::from_micros(0),
            Timestamp::from_micros(9 * fixture::DAY),
        );
        store.lines(from, until, None, 1_000).unwrap()
    };
    change(&store, &hierarchy, scope.tenant(), COUNT);
    store.remove_response("resp_1", now).unwrap();
    let bounds = ConversationBounds::default();
    store
        .set_conversation_metadata("conv", b"{}", &bounds)
        .unwrap();
    let (known, audited) = (lines(&store), audit(&store, &hierarchy, &scope));
    restore(&files.stores, &scope, &backup, RestoreWhat::Content).unwrap();
    assert_eq!(store.response("resp_1", now).unwrap(), before);
    assert_eq!(store.response(&format!("resp_{COUNT}"), now).unwrap(), None);
    let metadata = store.conversation("conv").unwrap().unwrap().metadata;
    assert_eq!(metadata, format!("{{\"at\":{}}}", COUNT - 1).as_bytes());
    assert_eq!(lines(&store), known);
    assert_eq!(audit(&store, &hierarchy, &scope), audited);
}

fn audit(store: &TenantStore<'_>, hierarchy: &Hierarchy, scope: &TenantScope) -> String {
    let signing = hierarchy.platform.audit_signing_key();
    let signer = store::AuditSigner::tenant("inst", scope.tenant(), &signing);
    let head = store.with_audit(&signer, |log| Ok(format!("{:?}", log.head()?)));
    head.unwrap()
}

#[test]
fn invariant_6_a_store_that_has_more_than_the_backup_is_left_alone() {
    let hierarchy = Hierarchy::new(1);
    let (files, scope, backup) = backed_up(&hierarchy);
    let store = files.stores.open(&scope);
    // The same state may come back over itself.
    restore(&files.stores, &scope, &backup, RestoreWhat::Everything).unwrap();
    change(&store, &hierarchy, scope.tenant(), COUNT);
    let before = everything(&store, &hierarchy, scope.tenant());
    let refused = restore(&files.stores, &scope, &backup, RestoreWhat::Everything);
    assert!(
        matches!(refused, Err(BackupError::StoreIsNewer)),
        "{refused:?}"
    );
    assert_eq!(everything(&store, &hierarchy, scope.tenant()), before);
}

#[test]
fn invariant_1_a_backup_goes_back_to_its_tenant_alone() {
    let hierarchy = Hierarchy::new(1);
    let (files, scope, backup) = backed_up(&hierarchy);
    let other = hierarchy.scope(2);
    files.stores.provision(&other).unwrap();
    let refused = restore(&files.stores, &other, &backup, RestoreWhat::Everything);
    assert!(
        matches!(refused, Err(BackupError::AnotherTenants { .. })),
        "{refused:?}"
    );
    // Nor does it, where its header says that it is the other's.
    let (from, to) = (scope.tenant().to_string(), other.tenant().to_string());
    let forged = replaced(&backup, from.as_bytes(), to.as_bytes());
    let refused = restore(&files.stores, &other, &forged, RestoreWhat::Everything);
    assert!(matches!(refused, Err(BackupError::Damaged)), "{refused:?}");
    let header = BackupHeader::read(forged.as_slice()).unwrap();
    assert_eq!(header.tenant, other.tenant(), "the forgery is one");
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(from.len())
        .position(|part| part == from)
        .unwrap();
    let mut replaced = bytes.to_vec();
    replaced[at..at + to.len()].copy_from_slice(to);
    replaced
}

#[test]
fn a_backup_that_is_cut_off_or_changed_is_refused_and_the_store_stays() {
    let hierarchy = Hierarchy::new(1);
    let (files, scope, backup) = backed_up(&hierarchy);
    let store = files.stores.open(&scope);
    let before = everything(&store, &hierarchy, scope.tenant());
    let step = (backup.len() / 97).max(1);
    for at in (0..backup.len()).step_by(step) {
        let mut changed = backup.clone();
        changed[at] ^= 0x20;
        for damaged in [&backup[..at], &changed] {
            let refused = restore(&files.stores, &scope, damaged, RestoreWhat::Everything);
            assert!(refused.is_err(), "byte {at} of {}", backup.len());
        }
    }
    let longer = [backup.as_slice(), b"x"].concat();
    assert!(restore(&files.stores, &scope, &longer, RestoreWhat::Everything).is_err());
    // Chunks change places.
    let (first, second) = (chunk_at(&backup, 0), chunk_at(&backup, 1));
    let swapped = [
        &backup[..first.start],
        &backup[second.clone()],
        &backup[first],
        &backup[second.end..],
    ]
    .concat();
    let refused = restore(&files.stores, &scope, &swapped, RestoreWhat::Everything);
    assert!(matches!(refused, Err(BackupError::Damaged)), "{refused:?}");
    // The chunks of one backup below the header of another, which says when it was taken.
    let (another, _) = back_up(&files.stores, &hierarchy, &scope);
    let mixed = [
        &another[..chunk_at(&another, 0).start],
        &backup[chunk_at(&backup, 0).start..],
    ]
    .concat();
    let refused = restore(&files.stores, &scope, &mixed, RestoreWhat::Everything);
    assert!(matches!(refused, Err(BackupError::Damaged)), "{refused:?}");
    assert_eq!(everything(&store, &hierarchy, scope.tenant()), before);
}

fn chunk_at(backup: &[u8], number: usize) -> std::ops::Range<usize> {
    let length = |at: usize| u32::from_be_bytes(backup[at..at + 4].try_into().unwrap()) as usize;
    let magic = backup.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut at = magic + 4 + length(magic);
    for _ in 0..number {
        at += 4 + length(at);
    }
    at..at + 4 + length(at)
}

#[test]
fn a_damaged_store_is_replaced_where_that_is_said() {
    let hierarchy = Hierarchy::new(1);
    let (files, scope, backup) = backed_up(&hierarchy);
    let before = everything(&files.stores.open(&scope), &hierarchy, scope.tenant());
    let files = files.restart();
    let path = files.path(&scope);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..4_096].fill(7);
    std::fs::write(&path, bytes).unwrap();
    let refused = restore(&files.stores, &scope, &backup, RestoreWhat::Everything);
    assert!(
        matches!(refused, Err(BackupError::StoreDamaged { .. })),
        "{refused:?}"
    );
    let (what, replace) = (RestoreWhat::Everything, IfDamaged::Replace);
    files
        .stores
        .restore(&scope, Cursor::new(&backup), what, replace)
        .unwrap();
    assert_eq!(
        everything(&files.stores.open(&scope), &hierarchy, scope.tenant()),
        before
    );
}

#[test]
fn a_backup_is_lost_with_the_key_that_it_was_taken_under() {
    let hierarchy = Hierarchy::new(1);
    let files = FileStores::new();
    let keys = hierarchy.keys(1);
    let scope = hierarchy.scope_of(&keys);
    files.stores.provision(&scope).unwrap();
    let (backup, _) = back_up(&files.stores, &hierarchy, &scope);
    let next = |keys: &tenancy::TenantKeys| {
        Arc::new(
            keys.next_generation(&hierarchy.root, &hierarchy.entropy)
                .unwrap()
                .0,
        )
    };
    let second = next(&keys);
    let opened = files
        .stores
        .check_backup(&hierarchy.scope_of(&second), backup.as_slice());
    assert!(opened.is_ok(), "{opened:?}");
    let third = next(&second);
    let gone = files
        .stores
        .check_backup(&hierarchy.scope_of(&third), backup.as_slice());
    assert!(matches!(gone, Err(BackupError::KeyGone { .. })), "{gone:?}");
}

#[test]
fn a_backup_is_one_state_of_a_store_that_is_written_meanwhile() {
    let (stores, hierarchy) = (ServerStores::new(ServerWall::Pool), Hierarchy::new(1));
    for (place, at) in placements(&stores).iter().enumerate() {
        let scope = hierarchy.scope(place as u128 + 1);
        stores.made(&scope);
        stores.stores.assign(scope.tenant(), at).unwrap();
        stores.stores.provision(&scope).unwrap();
        fill(&stores.stores.open(&scope), &hierarchy, &scope);
        let before = everything(&stores.stores.open(&scope), &hierarchy, scope.tenant());
        // What is written while the first bytes are written is not in it.
        let mut backup = WritesMeanwhile {
            bytes: Vec::new(),
            write: Some(|| {
                change(
                    &stores.stores.open(&scope),
                    &hierarchy,
                    scope.tenant(),
                    COUNT,
                )
            }),
        };
        stores
            .stores
            .back_up(&scope, &mut backup, &hierarchy.entropy)
            .unwrap();
        let elsewhere = FileStores::new();
        let what = RestoreWhat::Everything;
        restore(&elsewhere.stores, &scope, &backup.bytes, what).unwrap();
        let restored = everything(&elsewhere.stores.open(&scope), &hierarchy, scope.tenant());
        assert_eq!(restored, before, "{at}");
        let now = everything(&stores.stores.open(&scope), &hierarchy, scope.tenant());
        assert_ne!(now, before, "{at}");
    }
}

struct WritesMeanwhile<F> {
    bytes: Vec<u8>,
    write: Option<F>,
}

impl<F: FnOnce()> std::io::Write for WritesMeanwhile<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(write) = self.write.take() {
            write();
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
