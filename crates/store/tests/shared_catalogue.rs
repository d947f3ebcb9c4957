//! What several processes do with one catalogue on a server.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Entropy, ManualClock, SystemEntropy, Timestamp};
use store::{
    Catalogue, CatalogueError, CatalogueServer, CatalogueServerOptions, Founding, Replica,
    ReplicaError, ReplicaId, ReplicaMinutes, ResourceChange, ServerError, TellMinute,
};

#[expect(dead_code, reason = "other tests use the rest")]
mod fixture;
use fixture::Hierarchy;

include!("../../../tests/postgres.rs");

const ALIVE_FOR: Duration = Duration::from_secs(60);

fn connected(address: &str) -> Arc<CatalogueServer> {
    connect(address, None).unwrap()
}

fn connect(
    address: &str,
    authorities: Option<PathBuf>,
) -> Result<Arc<CatalogueServer>, ServerError> {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let options = CatalogueServerOptions {
        address: store::postgres_address(address).unwrap(),
        authorities,
    };
    CatalogueServer::connect(options, &clock, &entropy)
}

fn catalogue(server: &Arc<CatalogueServer>) -> Catalogue {
    Catalogue::on_server(Arc::clone(server), Arc::new(Hierarchy::new(1).platform))
}

fn replica(number: u128) -> Replica {
    Replica {
        id: ReplicaId::from_bits(number),
        name: format!("replica-{number}"),
        roles: "gateway,control".into(),
        program: "test".into(),
    }
}

fn tier(spec: &str) -> ResourceChange {
    ResourceChange {
        kind: "tier".into(),
        tenant: String::new(),
        name: "gold".into(),
        spec: Some(spec.into()),
    }
}

/// The error with its causes, as a person reads it.
fn failure(connected: Result<Arc<CatalogueServer>, ServerError>) -> String {
    let Err(error) = connected else {
        panic!("nobody should be connected");
    };
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    let said: Vec<_> = causes.map(|cause| cause.to_string()).collect();
    said.join(": ")
}

#[test]
fn a_server_in_tls_is_known_by_its_authority_and_its_name() {
    let address = new_database();
    let data = execute(&as_superuser(&address), "SHOW data_directory").unwrap();
    let authority = PathBuf::from(&data[0]).with_file_name("ca.pem");
    let in_tls = format!("{address}?sslmode=verify-full");

    let server = connect(&in_tls, Some(authority.clone())).unwrap();
    assert_eq!(server.founding().unwrap(), None);
    let owner = address.split(['/', ':']).nth(3).unwrap();
    let encrypted = format!(
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
         WHERE usename = '{owner}'"
    );
    let encrypted = execute(&as_superuser(&address), &encrypted).unwrap();
    assert_eq!(encrypted, ["t"]);

    // Browsers do not trust this authority.
    let said = failure(connect(&in_tls, None));
    assert!(said.contains("UnknownIssuer"), "{said}");
    let elsewhere = in_tls.replace("127.0.0.1", "localhost");
    let said = failure(connect(&elsewhere, Some(authority)));
    assert!(said.contains("not valid for name"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let said = failure(connect(&in_tls, file("empty", "nothing\n")));
    assert!(said.contains("holds no certificate"), "{said}");
    let key = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let said = failure(connect(&in_tls, file("other", key)));
    assert!(said.contains("what is no certificate"), "{said}");
    let said = failure(connect(&in_tls, Some(folder.path().join("missing"))));
    assert!(said.contains("cannot be read"), "{said}");
}

/// Nothing is said, and no password above all, to whom does not show a certificate.
#[test]
fn a_server_without_tls_is_not_spoken_to() {
    use std::io::{Read as _, Write as _};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 8];
        stream.read_exact(&mut asked).unwrap();
        stream.write_all(b"N").unwrap();
        let mut more = Vec::new();
        stream.read_to_end(&mut more).unwrap();
        more
    });
    let address = format!("postgres://owner:CANARY@127.0.0.1:{port}/d?sslmode=require");
    let said = failure(connect(&address, None));
    assert!(said.contains("server does not support TLS"), "{said}");
    assert!(!said.contains("CANARY"), "{said}");
    assert_eq!(heard.join().unwrap(), b"");
}

#[test]
fn of_many_founders_one_is_first_and_all_agree() {
    let address = new_database();
    let founded: Vec<_> = std::thread::scope(|threads| {
        let founders: Vec<_> = (1..=4_u8)
            .map(|number| {
                let address = &address;
                threads.spawn(move || {
                    let founding = Founding {
                        installation: [number; 16],
                        platform_key: vec![number],
                    };
                    connected(address).found(&founding).unwrap()
                })
            })
            .collect();
        founders
            .into_iter()
            .map(|founder| founder.join().unwrap())
            .collect()
    });
    assert!(founded.iter().all(|founding| *founding == founded[0]));
    let server = connected(&address);
    assert_eq!(server.founding().unwrap(), Some(founded[0].clone()));
    server.replace_platform_key(b"anew").unwrap();
    assert_eq!(server.founding().unwrap().unwrap().platform_key, b"anew");
}

#[test]
fn a_replica_learns_what_another_has_changed() {
    let address = new_database();
    let (one, other) = (connected(&address), connected(&address));
    let first = one.register(&replica(1)).unwrap();
    let second = other.register(&replica(2)).unwrap();
    let before = second.beat(0, ALIVE_FOR).unwrap();
    assert_eq!(
        (before.version, before.settings, before.gateways),
        (0, 0, 2)
    );
    let at = Timestamp::from_micros(1);
    catalogue(&one)
        .commit(0, &[tier("a")], "ops", "", at)
        .unwrap();
    catalogue(&one).put_setting("seeds", b"x").unwrap();
    let after = second.beat(0, ALIVE_FOR).unwrap();
    assert_eq!((after.version, after.settings), (1, 1));
    assert!(after.at >= before.at);
    let (newest, changes) = catalogue(&other).changes_since(0).unwrap();
    assert_eq!((newest, changes), (1, vec![tier("a")]));
    first.end().unwrap();
    assert_eq!(second.beat(1, ALIVE_FOR).unwrap().gateways, 1);
    let views = one.replicas().unwrap();
    let seen: Vec<_> = views
        .iter()
        .map(|view| (view.name.as_str(), view.has_ended, view.version))
        .collect();
    assert_eq!(seen, [("replica-1", true, 0), ("replica-2", false, 1)]);
    assert!(one.forget_replica(ReplicaId::from_bits(1)).unwrap());
    assert!(!one.forget_replica(ReplicaId::from_bits(1)).unwrap());
}

#[test]
fn of_two_with_one_id_the_later_stays() {
    let address = new_database();
    let server = connected(&address);
    let original = server.register(&replica(1)).unwrap();
    original.beat(0, ALIVE_FOR).unwrap();
    let copy = server.register(&replica(1)).unwrap();
    assert!(copy.epoch() > original.epoch());
    assert!(matches!(
        original.beat(0, ALIVE_FOR),
        Err(ReplicaError::Fenced { id }) if id == ReplicaId::from_bits(1)
    ));
    copy.beat(0, ALIVE_FOR).unwrap();
    // Whoever was fenced cannot end the other either.
    original.end().unwrap();
    assert!(!server.replicas().unwrap()[0].has_ended);
}

#[test]
fn one_at_a_time_has_the_turn() {
    let address = new_database();
    let (one, other) = (connected(&address), connected(&address));
    let turn = one.turn().unwrap();
    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| {
            let turn = other.turn().unwrap();
            let version = catalogue(&other).current_version();
            drop(turn);
            version
        });
        let at = Timestamp::from_micros(1);
        catalogue(&one)
            .commit(0, &[tier("a")], "ops", "", at)
            .unwrap();
        drop(turn);
        assert_eq!(waiting.join().unwrap().unwrap(), 1);
    });
    // A process that is gone does not keep it: its connection has ended.
    let lost = one.turn().unwrap();
    let pids = execute(
        &as_superuser(&address),
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    );
    assert!(!pids.unwrap().is_empty());
    drop(other.turn().unwrap());
    drop(lost);
}

#[test]
fn a_commit_is_heard_of() {
    let address = new_database();
    let (one, other) = (connected(&address), connected(&address));
    let news = other.listen();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let listeners = "SELECT pid FROM pg_stat_activity
                     WHERE query LIKE 'LISTEN%' AND datname = current_database()";
    while execute(&as_superuser(&address), listeners)
        .unwrap()
        .is_empty()
    {
        std::thread::yield_now();
    }
    let at = Timestamp::from_micros(1);
    catalogue(&one)
        .commit(0, &[tier("a")], "ops", "", at)
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), news.changed())
            .await
            .unwrap();
    });
}

#[test]
fn what_a_server_keeps_is_sealed() {
    let address = new_database();
    let server = connected(&address);
    let catalogue = catalogue(&server);
    let at = Timestamp::from_micros(1);
    catalogue
        .commit(0, &[tier("the price of gold")], "ops", "", at)
        .unwrap();
    catalogue
        .put_setting("seeds", b"the price of gold")
        .unwrap();
    let found = execute(
        &address,
        "SELECT encode(spec, 'escape') FROM partywall_catalogue.resources
         UNION ALL SELECT encode(value, 'escape') FROM partywall_catalogue.settings",
    )
    .unwrap();
    assert_eq!(found.len(), 2);
    assert!(
        found.iter().all(|bytes| !bytes.contains("gold")),
        "{found:?}"
    );
    // Rows that trade places do not open.
    catalogue.put_setting("other", b"of another name").unwrap();
    execute(
        &address,
        "UPDATE partywall_catalogue.resources SET spec =
         (SELECT value FROM partywall_catalogue.settings WHERE name = 'seeds')",
    )
    .unwrap();
    assert!(matches!(
        catalogue.load_current(),
        Err(CatalogueError::Database(_))
    ));
}

#[test]
fn a_newer_programs_catalogue_is_left_alone() {
    let address = new_database();
    drop(connected(&address));
    execute(
        &address,
        "UPDATE partywall_catalogue.schema_version SET version = 99",
    )
    .unwrap();
    assert!(matches!(
        connect(&address, None),
        Err(ServerError::NewerVersion { found: 99, .. })
    ));
}

#[test]
fn a_catalogue_goes_from_a_file_to_a_server_with_its_history() {
    let hierarchy = Hierarchy::new(1);
    let folder = tempfile::tempdir().unwrap();
    let key = hierarchy.platform.catalogue_key();
    let file = Catalogue::open(folder.path(), &key).unwrap();
    let at = Timestamp::from_micros;
    // Names whose order is another in most languages.
    let named = |name: &str, spec: Option<&str>| ResourceChange {
        name: name.into(),
        spec: spec.map(Into::into),
        ..tier("")
    };
    let first = ["a-b", "a_b", "A", "ab", "é"].map(|name| named(name, Some("{}")));
    file.commit(0, &first, "ada", "first", at(1)).unwrap();
    let second = [named("ab", None), named("A", Some("{\"changed\":1}"))];
    file.commit(1, &second, "bob", "second", at(2)).unwrap();
    let tenant = hierarchy.keys(1).tenant();
    file.put_key(&store::StoredKey {
        tenant,
        wrapped: vec![1, 2, 3],
        generation: 4,
    })
    .unwrap();
    file.put_setting("s", b"sealed").unwrap();
    let signing = hierarchy.platform.audit_signing_key();
    let signer = store::AuditSigner::platform("inst", &signing);
    for number in 0..5 {
        let entry = store::AuditEntry::done(at(3), "ada", "act", number.to_string());
        file.with_audit(&signer, |log| log.append(&entry)).unwrap();
    }
    let address = new_database();
    let server = connected(&address);
    let target = catalogue(&server);
    // What an attempt that was cut off has left goes.
    target.commit(0, &[tier("left")], "x", "y", at(9)).unwrap();
    let rows = file.copy_to(&target).unwrap();
    assert!(rows > 15, "{rows}");
    assert_eq!(file.copy_to(&target).unwrap(), rows, "again");
    assert_eq!(told(&target, &signer), told(&file, &signer));
    // It lives.
    target
        .commit(2, &[tier("{}")], "ada", "third", at(4))
        .unwrap();
    let entry = store::AuditEntry::done(at(5), "ada", "act", "more");
    target
        .with_audit(&signer, |log| log.append(&entry))
        .unwrap();
    // Nothing of it can be read on the server.
    let shows = connected(&address);
    assert_eq!(shows.founding().unwrap(), None);
    assert!(!shows.awaits_first().unwrap() && !shows.was_served().unwrap());
    shows.await_first().unwrap();
    assert!(shows.awaits_first().unwrap() && !shows.was_served().unwrap());
    let alone = Replica {
        id: ReplicaId::ALONE,
        ..replica(0)
    };
    let _registered = shows.register(&alone).unwrap();
    assert!(
        shows.awaits_first().unwrap(),
        "it has not told what it has spent"
    );
    assert!(shows.was_served().unwrap());
    assert!(shows.forget_replica(ReplicaId::ALONE).unwrap());
    assert!(!shows.awaits_first().unwrap());
}

/// All that can be read of a catalogue.
fn told(catalogue: &Catalogue, signer: &store::AuditSigner) -> String {
    let log = catalogue.with_audit(signer, |log| {
        Ok(format!(
            "{:?} {:?}",
            log.head()?,
            log.entries(store::Page::first())?
        ))
    });
    let history = ["a-b", "a_b", "A", "ab", "é"].map(|name| {
        format!(
            "{:?}",
            catalogue
                .history("tier", "", name, store::Page::first())
                .unwrap()
        )
    });
    format!(
        "{:?} {:?} {:?} {history:?} {}",
        catalogue.current_version().unwrap(),
        catalogue.keys().unwrap(),
        catalogue.setting("s").unwrap(),
        log.unwrap(),
    )
}

#[test]
fn a_replica_that_is_paused_in_its_turn_loses_it_once_it_is_not_there() {
    let address = new_database();
    let (paused, other) = (connected(&address), connected(&address));
    let held = paused.register(&replica(1)).unwrap();
    other.register(&replica(2)).unwrap();
    let turn = paused.turn().unwrap();
    held.beat(1, ALIVE_FOR).unwrap();
    // While it is heard of, it is waited for.
    let heard = std::sync::atomic::AtomicBool::new(true);
    let busy = std::thread::scope(|threads| {
        threads.spawn(|| {
            while heard.load(std::sync::atomic::Ordering::Relaxed) {
                held.beat(1, ALIVE_FOR).unwrap();
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        let busy = other.turn().map(drop);
        heard.store(false, std::sync::atomic::Ordering::Relaxed);
        busy
    });
    assert!(
        matches!(busy, Err(CatalogueError::Server(ServerError::Busy { .. }))),
        "{busy:?}"
    );
    // It has fallen silent, with its connection open.
    execute(
        &address,
        "UPDATE partywall_catalogue.replicas SET seen_at = 0 WHERE name = 'replica-1'",
    )
    .unwrap();
    drop(other.turn().unwrap());
    drop(turn);
    // It goes on as any other.
    drop(paused.turn().unwrap());
}

#[test]
fn a_minute_is_heard_once_by_the_others_and_forgotten_when_it_is_old() {
    let address = new_database();
    let server = connected(&address);
    let join = |number| Arc::new(server.register(&replica(number)).unwrap());
    let (one, two) = (ReplicaMinutes::new(join(1)), ReplicaMinutes::new(join(2)));
    let now = Timestamp::from_micros(
        i64::try_from(
            std::time::SystemTime::UNIX_EPOCH
                .elapsed()
                .unwrap()
                .as_micros(),
        )
        .unwrap(),
    );
    let minute = |minute: u32, ago: u64, body: &str| TellMinute {
        minute,
        began_at: now.minus(Duration::from_secs(ago)),
        body: body.into(),
    };
    one.tell(&[minute(0, 70 * 60, "old"), minute(70, 0, "new")])
        .unwrap();
    assert_eq!(one.hear(&[]).unwrap(), [], "nobody hears itself");
    let heard = two.hear(&[]).unwrap();
    assert_eq!(heard.len(), 2);
    let known: Vec<_> = heard.iter().map(|it| (it.id, it.revision)).collect();
    assert_eq!(two.hear(&known).unwrap(), []);

    one.tell(&[minute(70, 0, "newer")]).unwrap();
    let again = two.hear(&known).unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(
        (again[0].body.as_slice(), again[0].id.minute),
        (&b"newer"[..], 70)
    );
    two.forget().unwrap();
    let kept: Vec<_> = two
        .hear(&[])
        .unwrap()
        .iter()
        .map(|it| it.id.minute)
        .collect();
    assert_eq!(kept, [70]);

    // A later process in its place hears what the one before told, which may tell no more.
    let later = ReplicaMinutes::new(join(1));
    assert_eq!(later.hear(&[]).unwrap().len(), 1);
    let told = one.tell(&[minute(71, 0, "from the grave")]);
    assert!(matches!(told, Err(ReplicaError::Fenced { .. })), "{told:?}");
    let others = two.others().unwrap();
    assert_eq!(
        (others.len(), others[0].epoch, others[0].is_there()),
        (1, 2, true)
    );
    later.tell(&[minute(0, 0, "anew")]).unwrap();
    assert_eq!(two.hear(&[]).unwrap().len(), 2);
}
