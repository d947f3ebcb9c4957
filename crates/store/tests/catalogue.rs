//! The catalogue: versions, history, wrapped keys, and what it refuses to open.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::sync::Arc;

use base::{Clock, Entropy, ManualClock, SystemEntropy, TenantId, Timestamp};
use rusqlite::Connection;
use store::{
    ActForLog, AuditEntry, AuditSigner, CATALOGUE_FILE, Catalogue, CatalogueError, CatalogueServer,
    CatalogueServerOptions, CommitError, HistoryEntry, NumberedDocument, OpenError, Page,
    ResourceChange, StoredKey,
};
use tenancy::ActForAudit as _;

#[expect(dead_code, reason = "other tests use the rest")]
mod fixture;
use fixture::Hierarchy;

#[expect(dead_code, reason = "other tests use the rest")]
mod postgres {
    include!("../../../tests/postgres.rs");
}
use postgres::new_database;

struct Opened {
    folder: tempfile::TempDir,
    /// The database that it is in, unless it is a file.
    address: Option<String>,
    hierarchy: Hierarchy,
    catalogue: Catalogue,
}

fn opened() -> Opened {
    open(None)
}

fn opened_on_a_server() -> Opened {
    open(Some(new_database()))
}

fn open(address: Option<String>) -> Opened {
    let (folder, hierarchy) = (tempfile::tempdir().unwrap(), Hierarchy::new(1));
    Opened {
        catalogue: catalogue(folder.path(), address.as_deref(), &hierarchy),
        folder,
        address,
        hierarchy,
    }
}

fn catalogue(folder: &std::path::Path, address: Option<&str>, hierarchy: &Hierarchy) -> Catalogue {
    let Some(address) = address else {
        return Catalogue::open(folder, &hierarchy.platform.catalogue_key()).unwrap();
    };
    Catalogue::on_server(connected(address), Arc::new(Hierarchy::new(1).platform))
}

fn connected(address: &str) -> Arc<CatalogueServer> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let options = CatalogueServerOptions {
        address: address.parse().unwrap(),
        authorities: None,
    };
    CatalogueServer::connect(options, &clock, &entropy).unwrap()
}

impl Opened {
    fn reopen(self) -> Self {
        drop(self.catalogue);
        let address = self.address.as_deref();
        let catalogue = catalogue(self.folder.path(), address, &self.hierarchy);
        Self { catalogue, ..self }
    }
}

/// Does these checks with the catalogue in a file, and on a server.
macro_rules! everywhere {
    ($($check:ident),* $(,)?) => {
        mod in_a_file {
            $(#[test]
            fn $check() {
                super::$check(super::opened());
            })*
        }
        mod on_a_server {
            $(#[test]
            fn $check() {
                super::$check(super::opened_on_a_server());
            })*
        }
    };
}

everywhere!(
    every_version_can_be_had_again,
    parts_add_up_to_the_whole_and_begin_with_the_platform,
    the_last_of_several_changes_to_one_thing_counts,
    what_changed_since_is_told_once,
    of_two_commits_to_one_version_one_wins,
    wrapped_keys_are_kept_and_destroyed,
    the_platforms_audit_log_is_in_it,
    an_operators_act_for_a_tenant_is_on_record,
    numbers_have_no_gaps_whoever_takes_them,
    comparisons_and_splits_are_kept,
);

fn numbers_have_no_gaps_whoever_takes_them(opened: Opened) {
    let catalogue = &opened.catalogue;
    let tenant = |number| TenantId::from_bits(number);
    let at = Timestamp::from_micros(7);
    let take = |tenant: TenantId, document: &str, series: &str| {
        let write = |number: u64| {
            Ok::<_, CatalogueError>((
                vec![number as u8],
                format!("{document} {number}").into_bytes(),
            ))
        };
        catalogue
            .take_number((tenant, document), series, at, write)
            .unwrap()
    };
    // What fails takes none.
    let failing = catalogue.take_number((tenant(1), "invoice/1"), "inv", at, |number| {
        assert_eq!(number, 1);
        Err(CatalogueError::BadTenant {
            tenant: "x".to_owned(),
        })
    });
    assert!(failing.is_err());
    assert_eq!(take(tenant(2), "invoice/1", "other").number, 1);
    // Eight at a time, each document twice: one number each, and none left out.
    std::thread::scope(|threads| {
        for thread in 0..8_u128 {
            let take = &take;
            threads.spawn(move || {
                for round in 0..2 {
                    for month in 0..4 {
                        let document = format!("invoice/{month}");
                        let taken = take(tenant(thread + 10), &document, "inv");
                        let body = format!("{document} {}", taken.number);
                        assert_eq!(taken.pending, Some(body.into_bytes()), "{round}");
                    }
                }
            });
        }
    });
    let all = catalogue.numbers("inv", 0, 1_000).unwrap();
    let numbers: Vec<u64> = all.iter().map(|taken| taken.number).collect();
    assert_eq!(numbers, (1..=32).collect::<Vec<u64>>());
    let pending = catalogue.pending_documents(tenant(10)).unwrap();
    assert_eq!(pending.len(), 4);
    for document in &pending {
        catalogue.document_is_kept(document).unwrap();
    }
    assert_eq!(catalogue.pending_documents(tenant(10)).unwrap(), []);
    assert_eq!(catalogue.pending_documents(tenant(11)).unwrap().len(), 4);
    let kept = catalogue
        .number_of(tenant(10), "invoice/0")
        .unwrap()
        .unwrap();
    assert_eq!((kept.pending.clone(), kept.at), (None, at));
    assert_eq!(take(tenant(10), "invoice/0", "inv"), kept);
    assert_eq!(catalogue.number_of(tenant(9), "invoice/0").unwrap(), None);
    let opened = opened.reopen();
    let last = opened.catalogue.numbers("inv", 30, 9).unwrap();
    let told =
        |taken: &NumberedDocument| (taken.number, taken.tenant.clone(), taken.digest.clone());
    // Whose they are is whoever's turn came last: one of them may be kept by now.
    assert_eq!(
        last.iter().map(told).collect::<Vec<_>>(),
        all[30..].iter().map(told).collect::<Vec<_>>()
    );
}

fn comparisons_and_splits_are_kept(opened: Opened) {
    let catalogue = &opened.catalogue;
    let at = Timestamp::from_micros(7);
    let keep = |text: &str| {
        let write = |id: u64| Ok::<_, CatalogueError>(format!("{text} {id}").into_bytes());
        catalogue.keep_reconciliation(at, write).unwrap()
    };
    assert_eq!([keep("a"), keep("b"), keep("c")], [1, 2, 3]);
    let failing = catalogue.keep_reconciliation(at, |_| {
        Err(CatalogueError::BadTenant {
            tenant: "x".to_owned(),
        })
    });
    assert!(failing.is_err());
    assert_eq!(keep("d"), 4);
    let bodies = |before, limit| -> Vec<Vec<u8>> {
        let page = catalogue.reconciliations(before, limit).unwrap();
        page.into_iter().map(|kept| kept.body).collect()
    };
    assert_eq!(bodies(u64::MAX, 2), [b"d 4".to_vec(), b"c 3".to_vec()]);
    assert_eq!(bodies(3, 9), [b"b 2".to_vec(), b"a 1".to_vec()]);
    assert_eq!(catalogue.reconciliation(2).unwrap().unwrap().at, at);
    assert_eq!(catalogue.reconciliation(5).unwrap(), None);
    // The first word counts.
    catalogue.keep_split("gpu", "2026-10", b"first").unwrap();
    catalogue.keep_split("gpu", "2026-10", b"second").unwrap();
    catalogue.keep_split("gpu", "2026-11", b"third").unwrap();
    let opened = opened.reopen();
    let split = |name, period| opened.catalogue.split(name, period).unwrap();
    assert_eq!(split("gpu", "2026-10"), Some(b"first".to_vec()));
    assert_eq!(split("gpu", "2026-11"), Some(b"third".to_vec()));
    assert_eq!(split("disk", "2026-10"), None);
}

fn change(kind: &str, name: &str, spec: Option<&str>) -> ResourceChange {
    ResourceChange {
        kind: kind.into(),
        tenant: String::new(),
        name: name.into(),
        spec: spec.map(Into::into),
    }
}

fn commit(catalogue: &Catalogue, expected: u64, changes: &[ResourceChange]) -> u64 {
    let at = Timestamp::from_micros(expected as i64);
    catalogue
        .commit(expected, changes, "ops", "a note", at)
        .unwrap()
}

fn names(resources: &[store::Resource]) -> Vec<(String, String)> {
    let mut names: Vec<_> = resources
        .iter()
        .map(|resource| {
            let spec = String::from_utf8(resource.spec.clone()).unwrap();
            (resource.name.clone(), spec)
        })
        .collect();
    names.sort();
    names
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, spec)| ((*name).into(), (*spec).into()))
        .collect()
}

fn every_version_can_be_had_again(opened: Opened) {
    let catalogue = &opened.catalogue;
    assert_eq!(catalogue.load_current().unwrap(), (0, vec![]));
    commit(
        catalogue,
        0,
        &[
            change("tier", "a", Some("a1")),
            change("tier", "b", Some("b1")),
        ],
    );
    commit(
        catalogue,
        1,
        &[change("tier", "a", Some("a2")), change("tier", "b", None)],
    );
    commit(catalogue, 2, &[change("tier", "b", Some("b3"))]);
    let expected = [
        pairs(&[]),
        pairs(&[("a", "a1"), ("b", "b1")]),
        pairs(&[("a", "a2")]),
        pairs(&[("a", "a2"), ("b", "b3")]),
    ];
    let opened = opened.reopen();
    for (version, expected) in expected.iter().enumerate() {
        let resources = opened.catalogue.load_at(version as u64).unwrap();
        assert_eq!(&names(&resources), expected, "{version}");
    }
    let (version, current) = opened.catalogue.load_current().unwrap();
    assert_eq!((version, &names(&current)), (3, &expected[3]));
    let history = opened
        .catalogue
        .history("tier", "", "b", Page::first())
        .unwrap();
    let entry = |version, spec: Option<&str>| HistoryEntry {
        version,
        spec: spec.map(Into::into),
    };
    assert_eq!(
        history,
        [entry(3, Some("b3")), entry(2, None), entry(1, Some("b1"))]
    );
    let versions = opened.catalogue.versions(Page::new(1, 1)).unwrap();
    assert_eq!(versions.len(), 1);
    assert_eq!(
        (versions[0].version, versions[0].actor.as_str()),
        (2, "ops")
    );
}

fn parts_add_up_to_the_whole_and_begin_with_the_platform(opened: Opened) {
    let catalogue = &opened.catalogue;
    let of_tenant = |number: u32| ResourceChange {
        tenant: "a tenant".into(),
        ..change("key", &format!("k{number}"), Some("k"))
    };
    let mut changes: Vec<_> = (0..7).map(of_tenant).collect();
    changes.push(change("tier", "late", Some("t")));
    changes.push(change("tier", "gone", None));
    commit(catalogue, 0, &changes);
    for part_max in [1, 2, 3, 7, 100] {
        let mut parts = Vec::new();
        let read = catalogue.read_current(part_max, &mut |part| {
            parts.push(part);
            Ok::<_, CatalogueError>(())
        });
        assert_eq!(read.unwrap(), 1);
        assert!(
            parts
                .iter()
                .all(|part| (1..=part_max).contains(&part.len()))
        );
        let all = parts.concat();
        assert_eq!(all[0].name, "late");
        let (_, whole) = catalogue.load_current().unwrap();
        assert_eq!(names(&all), names(&whole), "{part_max}");
    }
    let mut taken = 0;
    let cut = catalogue.read_current(1, &mut |_| {
        taken += 1;
        Err(CatalogueError::BadTenant {
            tenant: "enough".into(),
        })
    });
    assert!(cut.is_err() && taken == 1);
}

fn the_last_of_several_changes_to_one_thing_counts(opened: Opened) {
    let changes = [
        change("tier", "a", Some("1")),
        change("tier", "a", None),
        change("tier", "a", Some("3")),
    ];
    commit(&opened.catalogue, 0, &changes);
    let (_, current) = opened.catalogue.load_current().unwrap();
    assert_eq!(names(&current), pairs(&[("a", "3")]));
}

fn what_changed_since_is_told_once(opened: Opened) {
    let catalogue = &opened.catalogue;
    commit(
        catalogue,
        0,
        &[
            change("tier", "a", Some("a1")),
            change("tier", "b", Some("b1")),
        ],
    );
    commit(catalogue, 1, &[change("tier", "a", Some("a2"))]);
    commit(
        catalogue,
        2,
        &[change("tier", "a", Some("a3")), change("tier", "b", None)],
    );
    let since = |version| {
        let (newest, mut changes) = catalogue.changes_since(version).unwrap();
        changes.sort_by(|one, other| one.name.cmp(&other.name));
        (newest, changes)
    };
    let last = vec![change("tier", "a", Some("a3")), change("tier", "b", None)];
    assert_eq!(since(0), (3, last.clone()));
    assert_eq!(since(2), (3, last));
    assert_eq!(since(3), (3, vec![]));
}

fn of_two_commits_to_one_version_one_wins(opened: Opened) {
    let catalogue = Arc::new(opened.catalogue);
    let outcomes: Vec<_> = std::thread::scope(|threads| {
        let racers: Vec<_> = (0..8)
            .map(|racer| {
                let catalogue = Arc::clone(&catalogue);
                threads.spawn(move || {
                    let changes = [change("tier", "a", Some(&racer.to_string()))];
                    catalogue.commit(0, &changes, "ops", "", Timestamp::from_micros(0))
                })
            })
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect()
    });
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(won, 1);
    for outcome in outcomes {
        assert!(matches!(
            outcome,
            Ok(1) | Err(CommitError::Conflict { current: 1 })
        ));
    }
}

fn wrapped_keys_are_kept_and_destroyed(opened: Opened) {
    let key = |tenant, generation, wrapped: &[u8]| StoredKey {
        tenant: TenantId::from_bits(tenant),
        wrapped: wrapped.to_vec(),
        generation,
    };
    opened
        .catalogue
        .put_keys(&[key(1, 1, b"one"), key(2, 1, b"two")])
        .unwrap();
    opened.catalogue.put_key(&key(1, 2, b"anew")).unwrap();
    let opened = opened.reopen();
    let tenant = TenantId::from_bits(1);
    assert_eq!(
        opened.catalogue.key(tenant).unwrap(),
        Some(key(1, 2, b"anew"))
    );
    assert_eq!(opened.catalogue.keys().unwrap().len(), 2);
    assert!(opened.catalogue.delete_key(tenant).unwrap());
    assert!(!opened.catalogue.delete_key(tenant).unwrap());
    assert_eq!(opened.catalogue.key(tenant).unwrap(), None);
    opened.catalogue.put_setting("id", b"x").unwrap();
    opened.catalogue.put_setting("id", b"y").unwrap();
    let opened = opened.reopen();
    assert_eq!(opened.catalogue.setting("id").unwrap(), Some(b"y".to_vec()));
    assert_eq!(opened.catalogue.setting("none").unwrap(), None);
}

fn the_platforms_audit_log_is_in_it(opened: Opened) {
    let signing = opened.hierarchy.platform.audit_signing_key();
    let signer = AuditSigner::platform("inst", &signing);
    let entry = AuditEntry::done(Timestamp::from_micros(1), "ops", "tenant.create", "acme");
    let size = opened
        .catalogue
        .with_audit(&signer, |log| log.append(&entry))
        .unwrap();
    assert_eq!(size, 1);
    let opened = opened.reopen();
    let head = opened
        .catalogue
        .with_audit(&signer, |log| log.head())
        .unwrap();
    assert_eq!(head.unwrap().1.size, 1);
}

fn an_operators_act_for_a_tenant_is_on_record(opened: Opened) {
    let signing = opened.hierarchy.platform.audit_signing_key();
    let signer = AuditSigner::platform("inst", &signing);
    let clock = ManualClock::at(Timestamp::from_micros(5));
    let log = ActForLog {
        catalogue: &opened.catalogue,
        signer: &signer,
        clock: &clock,
    };
    let tenant = TenantId::from_bits(7);
    log.record("ada", tenant, "ticket 42").unwrap();
    let entries = opened
        .catalogue
        .with_audit(&signer, |log| log.entries(Page::first()))
        .unwrap();
    let entry = AuditEntry::done(
        Timestamp::from_micros(5),
        "ada",
        "tenant.act-for",
        tenant.to_string(),
    );
    let expected = entry.with_reason("ticket 42").canonical_json();
    assert_eq!(entries, [(0, expected)]);
}

#[test]
fn ten_thousand_tenants_and_their_keys_are_loaded_in_one_go() {
    let opened = opened();
    let changes: Vec<_> = (0..110_000)
        .map(|number| {
            let kind = if number % 11 == 0 { "tenant" } else { "key" };
            let mut change = change(kind, &number.to_string(), Some("{\"tier\":\"free\"}"));
            change.tenant = format!("tnt_{}", number / 11);
            change
        })
        .collect();
    commit(&opened.catalogue, 0, &changes);
    let opened = opened.reopen();
    let (version, resources) = opened.catalogue.load_current().unwrap();
    assert_eq!((version, resources.len()), (1, 110_000));
}

#[test]
fn another_key_is_refused_and_changes_nothing() {
    let opened = opened();
    commit(&opened.catalogue, 0, &[change("tier", "a", Some("a1"))]);
    let other = Hierarchy::new(2).platform.catalogue_key();
    assert!(matches!(
        Catalogue::open(opened.folder.path(), &other),
        Err(OpenError::WrongKey { .. })
    ));
    assert_eq!(opened.reopen().catalogue.current_version().unwrap(), 1);
}

#[test]
fn a_plain_database_and_other_files_are_refused_and_untouched() {
    let hierarchy = Hierarchy::new(1);
    let key = hierarchy.platform.catalogue_key();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CATALOGUE_FILE);
    let plain = Connection::open(&path).unwrap();
    plain.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(plain);
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(
        Catalogue::open(folder.path(), &key),
        Err(OpenError::NotPartywall { .. })
    ));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    std::fs::write(
        &path,
        "not a database at all, but long enough to be one".repeat(100),
    )
    .unwrap();
    assert!(matches!(
        Catalogue::open(folder.path(), &key),
        Err(OpenError::WrongKey { .. })
    ));
}

#[test]
fn another_programs_database_under_our_key_and_a_newer_schema_are_refused() {
    let hierarchy = Hierarchy::new(1);
    let key = hierarchy.platform.catalogue_key();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CATALOGUE_FILE);
    let keyed = |path: &std::path::Path| {
        let connection = Connection::open(path).unwrap();
        let raw = key.sqlcipher_pragma();
        connection
            .execute_batch(&format!("PRAGMA key = \"{}\"", *raw))
            .unwrap();
        connection
    };
    keyed(&path)
        .execute_batch("CREATE TABLE theirs (x)")
        .unwrap();
    assert!(matches!(
        Catalogue::open(folder.path(), &key),
        Err(OpenError::NotPartywall { .. })
    ));
    std::fs::remove_file(&path).unwrap();
    drop(Catalogue::open(folder.path(), &key).unwrap());
    keyed(&path)
        .execute_batch("UPDATE schema_version SET version = 99")
        .unwrap();
    let refused = Catalogue::open(folder.path(), &key).unwrap_err();
    assert!(matches!(refused, OpenError::NewerVersion { found: 99, .. }));
    assert!(
        refused
            .to_string()
            .contains("start the version that wrote it")
    );
}
