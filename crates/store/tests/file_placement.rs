//! What placement `file` promises beyond the conformance suite: the second wall, the bounds, and
//! key rotation while it serves.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base::{AttemptId, Timestamp};
use store::{
    AuditEntry, AuditSigner, Catalogue, OpenError, Page, ResourceChange, Rotated, StoreError,
    StoresOptions, UsageFilter, UsageQuery,
};
use tenancy::{TenantKeys, TenantScope};

mod fixture;
use fixture::{DAY, FileStores, Hierarchy, attempt_at, line};

const CANARY: &str = "canary-7f3a9c";

fn calls(files: &FileStores, scope: &TenantScope) -> u64 {
    let query = UsageQuery {
        from: Timestamp::from_micros(0),
        until: Timestamp::from_micros(100 * DAY),
        group_by: Vec::new(),
        filter: UsageFilter::default(),
    };
    let rows = files.stores.open(scope).usage(&query, Page::first());
    rows.unwrap().first().map_or(0, |row| row.calls)
}

/// Opens a fresh set of stores over the same folder: nothing is open in it.
fn restarted(files: &FileStores) -> store::Stores {
    let options = StoresOptions::default();
    store::Stores::new(files.folder.path(), files.clock.clone(), options).unwrap()
}

fn contains(folder: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contains(&path, needle));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let needle = needle.as_bytes();
            if bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn invariant_3_no_file_holds_plaintext() {
    let (files, hierarchy) = (FileStores::new(), Hierarchy::new(1));
    let scope = hierarchy.scope(1);
    files.stores.provision(&scope).unwrap();
    let store = files.stores.open(&scope);
    let mut posted = line(scope.tenant(), 1, 1, DAY);
    posted.intent.feature = CANARY.parse().unwrap();
    let posted: Vec<_> = (0..200)
        .map(|attempt| {
            let mut line = posted.clone();
            line.intent.attempt = AttemptId::from_bits(attempt);
            line
        })
        .collect();
    store.post_lines(&posted).unwrap();
    let bodies = store::CallBodies {
        request: base::RequestId::from_bits(1),
        at: Timestamp::from_micros(1),
        asked: CANARY.into(),
        answered: CANARY.into(),
        marks: store::BodyMarks::default(),
    };
    let bounds = store::BodyBounds::default();
    store.keep_bodies(&[bodies], &bounds).unwrap();
    let signing = hierarchy.platform.audit_signing_key();
    let entry = AuditEntry::done(Timestamp::from_micros(1), CANARY, CANARY, CANARY);
    let signer = AuditSigner::tenant("inst", scope.tenant(), &signing);
    store.with_audit(&signer, |log| log.append(&entry)).unwrap();
    let catalogue =
        Catalogue::open(files.folder.path(), &hierarchy.platform.catalogue_key()).unwrap();
    let change = ResourceChange {
        kind: CANARY.into(),
        tenant: CANARY.into(),
        name: CANARY.into(),
        spec: Some(CANARY.into()),
    };
    let now = Timestamp::from_micros(1);
    catalogue.commit(0, &[change], CANARY, CANARY, now).unwrap();
    // Everything is open: the write-ahead logs hold the newest pages.
    let log = files.path(&scope).with_extension("db-wal");
    assert!(log.metadata().unwrap().len() > 0);
    assert_eq!(contains(files.folder.path(), CANARY), [""; 0]);
    // The search itself finds what is there.
    std::fs::write(files.folder.path().join("plain"), CANARY).unwrap();
    assert_eq!(contains(files.folder.path(), CANARY).len(), 1);
}

#[test]
fn invariant_3_another_key_does_not_open_the_file() {
    let (files, hierarchy) = (FileStores::new(), Hierarchy::new(1));
    let scope = hierarchy.scope(1);
    files.stores.provision(&scope).unwrap();
    // The same tenant, another key.
    let other = hierarchy.scope(1);
    assert!(matches!(
        restarted(&files).open(&other).line(attempt_at(DAY, 1)),
        Err(StoreError::Open(OpenError::WrongKey { .. }))
    ));
}

#[test]
fn invariant_3_a_file_in_another_tenants_place_does_not_open() {
    let (files, hierarchy) = (FileStores::new(), Hierarchy::new(1));
    let (one, two) = (hierarchy.scope(1), hierarchy.scope(2));
    files.stores.provision(&one).unwrap();
    files.stores.provision(&two).unwrap();
    let posted = line(two.tenant(), 1, 1, DAY);
    files.stores.open(&two).post_lines(&[posted]).unwrap();
    let (first, second) = (files.path(&one), files.path(&two));
    // Closed, so that all is in the file.
    let files = files.restart();
    std::fs::remove_file(&first).unwrap();
    std::fs::rename(&second, &first).unwrap();
    assert!(matches!(
        files.stores.open(&one).line(attempt_at(DAY, 1)),
        Err(StoreError::Open(OpenError::WrongKey { .. }))
    ));
    assert!(matches!(
        files.stores.open(&two).line(attempt_at(DAY, 1)),
        Err(StoreError::Open(OpenError::NotFound { .. }))
    ));
}

#[test]
fn a_damaged_page_is_an_error_and_not_an_answer() {
    let (files, hierarchy) = (FileStores::new(), Hierarchy::new(1));
    let scope = hierarchy.scope(1);
    files.stores.provision(&scope).unwrap();
    let lines: Vec<_> = (0..200)
        .map(|n| line(scope.tenant(), n, n as u64 + 1, DAY))
        .collect();
    files.stores.open(&scope).post_lines(&lines).unwrap();
    let files = files.restart();
    let path = files.path(&scope);
    let mut bytes = std::fs::read(&path).unwrap();
    for page in bytes.chunks_mut(4096).skip(1) {
        page[100] ^= 1;
    }
    std::fs::write(&path, bytes).unwrap();
    assert!(files.stores.open(&scope).line(attempt_at(DAY, 1)).is_err());
}

#[test]
fn only_the_owner_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let (files, hierarchy) = (FileStores::new(), Hierarchy::new(1));
    let scope = hierarchy.scope(1);
    files.stores.provision(&scope).unwrap();
    files
        .stores
        .open(&scope)
        .post_lines(&[line(scope.tenant(), 1, 1, DAY)])
        .unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let path = files.path(&scope);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&path.with_extension("db-wal")), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[test]
fn eviction_closes_the_least_recently_used_and_loses_nothing() {
    let files = FileStores::with(StoresOptions {
        open_max: 2,
        ..StoresOptions::default()
    });
    let hierarchy = Hierarchy::new(1);
    let scopes: Vec<_> = (0..4).map(|tenant| hierarchy.scope(tenant)).collect();
    for scope in &scopes {
        files.clock.advance(Duration::from_secs(1));
        files.stores.provision(scope).unwrap();
        files
            .stores
            .open(scope)
            .post_lines(&[line(scope.tenant(), 1, 1, DAY)])
            .unwrap();
    }
    let held = files.stores.open(&scopes[0]);
    assert_eq!(files.stores.open_count(), 4);
    assert_eq!(files.stores.evict(), 2);
    assert_eq!(files.stores.open_count(), 2);
    // A store that somebody holds is not closed under them.
    assert!(held.line(attempt_at(DAY, 1)).unwrap().is_some());
    drop(held);
    let log = |scope| files.path(scope).with_extension("db-wal").exists();
    assert!(log(&scopes[0]) && log(&scopes[3]));
    assert!(!log(&scopes[1]) && !log(&scopes[2]));
    for scope in &scopes {
        assert_eq!(calls(&files, scope), 1);
    }
    files.clock.advance(Duration::from_secs(3600));
    assert_eq!(files.stores.evict(), 4);
    assert_eq!(files.stores.open_count(), 0);
}

#[test]
fn opening_ever_more_tenants_stays_bounded_without_the_worker() {
    let files = FileStores::with(StoresOptions {
        open_max: 1,
        ..StoresOptions::default()
    });
    let hierarchy = Hierarchy::new(1);
    for tenant in 0..80 {
        files.stores.provision(&hierarchy.scope(tenant)).unwrap();
    }
    assert!(files.stores.open_count() <= 1 + 64);
}

/// The tenant's keys in the middle of a rotation, from `old` on.
fn rotating(hierarchy: &Hierarchy, old: &TenantKeys) -> Arc<TenantKeys> {
    let (next, _) = old
        .next_generation(&hierarchy.root, &hierarchy.entropy)
        .unwrap();
    Arc::new(next)
}

#[test]
fn rotation_encrypts_anew_and_keeps_everything() {
    let (files, hierarchy) = (FileStores::new(), Hierarchy::new(1));
    let old_keys = hierarchy.keys(1);
    let old = hierarchy.scope_of(&old_keys);
    files.stores.provision(&old).unwrap();
    let lines: Vec<_> = (0..300)
        .map(|n| line(old.tenant(), n, n as u64 + 1, DAY))
        .collect();
    files.stores.open(&old).post_lines(&lines).unwrap();
    let before = std::fs::read(files.path(&old)).unwrap();

    let new = hierarchy.scope_of(&rotating(&hierarchy, &old_keys));
    // Before the move, the new keys open the old file.
    assert_eq!(calls(&files, &new), 300);
    assert_eq!(files.stores.rotate(&new).unwrap(), Rotated::Encrypted);
    assert_eq!(files.stores.rotate(&new).unwrap(), Rotated::AlreadyCurrent);
    assert_eq!(calls(&files, &new), 300);

    // After a restart the new key opens the file, and the old one does not.
    let files = files.restart();
    assert_eq!(calls(&files, &new), 300);
    assert!(matches!(
        restarted(&files).open(&old).line(attempt_at(DAY, 1)),
        Err(StoreError::Open(OpenError::WrongKey { .. }))
    ));
    let after = std::fs::read(files.path(&new)).unwrap();
    assert_ne!(before[..64], after[..64]);
    let left: Vec<_> = std::fs::read_dir(files.folder.path().join("tenants"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("next"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_rotation_that_a_crash_cut_is_repeated() {
    let (files, hierarchy) = (FileStores::new(), Hierarchy::new(1));
    let old_keys = hierarchy.keys(1);
    let old = hierarchy.scope_of(&old_keys);
    files.stores.provision(&old).unwrap();
    files
        .stores
        .open(&old)
        .post_lines(&[line(old.tenant(), 1, 1, DAY)])
        .unwrap();
    // Half a copy lies about.
    let next = format!("{}.next", files.path(&old).display());
    std::fs::write(&next, [7; 5000]).unwrap();
    let new = hierarchy.scope_of(&rotating(&hierarchy, &old_keys));
    let files = files.restart();
    assert_eq!(calls(&files, &new), 1);
    assert_eq!(files.stores.rotate(&new).unwrap(), Rotated::Encrypted);
    assert_eq!(calls(&files, &new), 1);
    assert!(!Path::new(&next).exists());
}

#[test]
fn a_tenant_is_served_while_its_key_rotates() {
    let (files, hierarchy) = (FileStores::new(), Hierarchy::new(1));
    let keys = hierarchy.keys(1);
    let scope = hierarchy.scope_of(&keys);
    files.stores.provision(&scope).unwrap();
    let (is_done, posted) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                let number = posted.load(Ordering::SeqCst);
                // An old snapshot's scope: what is open serves it, whatever key it is under.
                files
                    .stores
                    .open(&scope)
                    .post_lines(&[line(scope.tenant(), number.into(), number + 1, DAY)])
                    .unwrap();
                posted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut current = Arc::clone(&keys);
        for rotation in 1..=3 {
            while posted.load(Ordering::SeqCst) < rotation * 5 {
                std::thread::yield_now();
            }
            current = rotating(&hierarchy, &current);
            let scope = hierarchy.scope_of(&current);
            assert_eq!(files.stores.rotate(&scope).unwrap(), Rotated::Encrypted);
        }
        is_done.store(true, Ordering::SeqCst);
    });
    assert_eq!(calls(&files, &scope), posted.load(Ordering::SeqCst));
}
