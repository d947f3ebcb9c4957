//! Several processes, one catalogue on a PostgreSQL server: as an operator has them.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::postgres::new_database;
use crate::product::{Running, exchange, run};

/// An installation on a server: its first replica, which also runs the engine, and where the
/// others' folders go.
pub(crate) struct Installation {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) first: Running,
}

impl Installation {
    pub(crate) fn new() -> Self {
        Self::at(&new_database())
    }

    /// On a server at this address.
    pub(crate) fn at(address: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["catalogue", "main"] {
            std::fs::write(folder.path().join(format!("{name}.url")), address).unwrap();
        }
        let data = configure(folder.path(), "one", "");
        let first = Running::quickstart(&data, &[]);
        Self { folder, first }
    }

    /// The configured folder of another replica.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        configure(self.folder.path(), name, "")
    }

    pub(crate) fn replica(&self, name: &str) -> Running {
        Running::serve(&self.folder(name))
    }
}

/// Writes the configuration of a replica. All have the first one's root key.
pub(crate) fn configure(parent: &Path, name: &str, more: &str) -> PathBuf {
    let data = parent.join(name);
    std::fs::create_dir_all(&data).unwrap();
    let url = |name: &str| format!("file:{}", parent.join(format!("{name}.url")).display());
    let text = format!(
        "[listen]\ngateway = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         [storage]\nfolder = \".\"\n\
         [catalogue]\nurl = \"{}\"\nreplica = \"{name}\"\n{more}\n\
         [journal]\ncompact_seconds = 1\n\
         [root_key]\nfile = \"{}\"\n\
         [storage.servers.main]\nurl = \"{}\"\n",
        url("catalogue"),
        parent.join("one/root.key").display(),
        url("main"),
    );
    std::fs::write(data.join("partywall.toml"), text).unwrap();
    data
}

/// Asks until it is so: the others are told within a second, on a machine that has the time.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: not within half a minute");
}

pub(crate) fn calls_of(replica: &Running, tenant: &str) -> u64 {
    let usage = replica.done(&["usage", "-t", tenant, "--json"]).json();
    let rows = usage["data"].as_array().unwrap();
    rows.iter().map(|row| row["calls"].as_u64().unwrap()).sum()
}

/// Runs a command with the first replica's operator key against another replica.
pub(crate) fn at(replica: &Running, first: &Running, words: &[&str]) -> crate::product::Said {
    let key = std::fs::read_to_string(first.data.join("operator.key")).unwrap();
    let url = replica.made["admin_url"].as_str().unwrap();
    run(&[words, &["--url", url, "--key", key.trim()]].concat())
}

#[test]
fn what_one_replica_is_told_all_of_them_know() {
    let installation = Installation::new();
    let first = &installation.first;
    let (two, three) = (installation.replica("two"), installation.replica("three"));
    let all = [first, &two, &three];
    let key = first.key_of("acme");
    for replica in all {
        assert_eq!(replica.chat(&key, "hello").0, 200);
    }
    let listed = first.done(&["replica", "list", "--json"]).json();
    let states: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|replica| format!("{} {}", replica["name"], replica["state"]))
        .collect();
    assert_eq!(states.len(), 3, "{states:?}");
    assert!(states.iter().all(|it| it.ends_with("\"up\"")), "{states:?}");

    // A tenant that one has taken on calls through another; a key that a third one revokes is
    // refused by all.
    let made = at(
        &two,
        first,
        &["tenant", "onboard", "initech", "--tier", "team", "--json"],
    );
    assert_eq!(made.code, Some(0), "{}", made.err);
    let made = made.json();
    assert_eq!(made["tenant"]["spec"]["placement"], "pool:main", "{made}");
    let new_key = made["first_key"]["key"].as_str().unwrap().to_owned();
    for replica in all {
        eventually("the new key is good", || {
            replica.chat(&new_key, "hello").0 == 200
        });
    }
    let revoked = at(&three, first, &["key", "revoke", "-t", "initech", "first"]);
    assert_eq!(revoked.code, Some(0), "{}", revoked.err);
    for replica in all {
        eventually("the revoked key is refused", || {
            replica.chat(&new_key, "hello").0 == 401
        });
    }

    // Keys that one has rotated are everybody's; a tenant that one has removed is nobody's.
    let rotated = at(&two, first, &["tenant", "rotate-key", "acme"]);
    assert_eq!(rotated.code, Some(0), "{}", rotated.err);
    let features = at(&three, first, &["feature", "create", "-t", "acme", "after"]);
    assert_eq!(features.code, Some(0), "{}", features.err);
    let deleted = at(&three, first, &["tenant", "delete", "initech", "--yes"]);
    assert_eq!(deleted.code, Some(0), "{}", deleted.err);
    for replica in all {
        eventually("the tenant is gone", || {
            let shown = at(replica, first, &["tenant", "show", "initech"]);
            shown.code != Some(0)
        });
        assert_eq!(replica.chat(&key, "hello").0, 200);
    }

    // Changes through all of them at once are one after the other, and none is lost.
    std::thread::scope(|threads| {
        for (number, replica) in all.into_iter().enumerate() {
            threads.spawn(move || {
                for round in 0..3 {
                    let name = format!("feature-{number}-{round}");
                    let words = ["feature", "create", "-t", "acme", &name];
                    let said = at(replica, first, &words);
                    assert_eq!(said.code, Some(0), "{}", said.err);
                }
            });
        }
    });
    eventually("the second one knows them all", || {
        let features = at(&two, first, &["feature", "list", "-t", "acme", "--json"]);
        let names = features.json().to_string();
        (0..9).all(|number| {
            let name = format!("feature-{}-{}", number / 3, number % 3);
            names.contains(&format!("\"{name}\""))
        })
    });

    // Every replica's calls are in the usage that any of them shows.
    eventually("all calls are counted", || calls_of(first, "acme") == 6);

    // What would need one process is refused with the way out.
    let file = first.cli(&[
        "tenant",
        "onboard",
        "a",
        "--tier",
        "team",
        "--placement",
        "file",
    ]);
    assert!(
        file.err.contains("`pool`, `bridge` or `silo`"),
        "{}",
        file.err
    );

    // One that ends says so; and comes back.
    let data = two.data.clone();
    assert_eq!(two.stop(), Some(0));
    let state_of = |name: &str| {
        let listed = first.done(&["replica", "list", "--json"]).json();
        let replicas = listed["data"].as_array().unwrap().clone();
        let found = replicas.iter().find(|it| it["name"] == name).unwrap();
        found["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(state_of("two"), "ended");
    let two = Running::serve(&data);
    assert_eq!(two.chat(&key, "hello").0, 200);
    assert_eq!(state_of("two"), "up");
    let forgotten = first.cli(&["replica", "forget", "two"]);
    assert!(forgotten.err.contains("is running"), "{}", forgotten.err);
    assert_eq!(two.stop(), Some(0));
    first.done(&["replica", "forget", "two"]);
    drop(three);
}

#[test]
fn a_copy_of_a_replicas_folder_takes_its_place() {
    let installation = Installation::new();
    let key = installation.first.key_of("acme");
    let mut original = installation.replica("two");
    assert_eq!(original.chat(&key, "hello").0, 200);
    let copied = installation.folder.path().join("copy");
    std::fs::create_dir(&copied).unwrap();
    for name in ["installation.json", "partywall.toml"] {
        std::fs::copy(original.data.join(name), copied.join(name)).unwrap();
    }
    let copy = Running::serve(&copied);
    assert_eq!(copy.chat(&key, "hello").0, 200);
    original.await_log("another process has taken over");
    assert_eq!(original.ended(), Some(1));
}

#[test]
fn a_replica_that_hears_nothing_for_too_long_refuses_calls() {
    let installation = Installation::new();
    let key = installation.first.key_of("acme");
    let relay = crate::relay::Relay::new(
        &std::fs::read_to_string(installation.folder.path().join("catalogue.url")).unwrap(),
    );
    let data = configure(installation.folder.path(), "far", "alone_seconds = 2");
    let file = installation.folder.path().join("far.url");
    std::fs::write(&file, relay.address()).unwrap();
    let config = data.join("partywall.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("catalogue.url", "far.url");
    std::fs::write(&config, text).unwrap();
    let far = Running::serve(&data);
    assert_eq!(far.chat(&key, "hello").0, 200);
    relay.cut();
    eventually("it refuses", || {
        let (status, body) = far.chat(&key, "hello");
        status == 503 && body["error"]["code"] == "replica_detached"
    });
    let admin = far.made["admin_url"].as_str().unwrap();
    assert_eq!(exchange("GET", &format!("{admin}/readyz"), "", "").0, 503);
    // The others go on.
    assert_eq!(installation.first.chat(&key, "hello").0, 200);
    relay.mend();
    eventually("it serves again", || far.chat(&key, "hello").0 == 200);
}

#[test]
fn a_gateway_alone_has_no_admin_api() {
    let installation = Installation::new();
    let data = installation.folder("two");
    let gateway = Running::serve_as(&data, &["--role", "gateway"]);
    let admin = gateway.made["admin_url"].as_str().unwrap();
    assert_eq!(
        gateway.chat(&installation.first.key_of("acme"), "hello").0,
        200
    );
    assert_eq!(exchange("GET", &format!("{admin}/readyz"), "", "").0, 200);
    let refused = at(&gateway, &installation.first, &["tenant", "list"]);
    assert_ne!(refused.code, Some(0), "{}", refused.out);
}

#[test]
fn folders_of_different_kinds_are_not_mixed_up() {
    let installation = Installation::new();
    // A whole installation's folder is no replica's.
    let alone = installation.folder.path().join("alone");
    let path = alone.to_str().unwrap();
    assert_eq!(run(&["init", "--data", path]).code, Some(0));
    let replica = configure(installation.folder.path(), "other", "");
    std::fs::copy(
        alone.join("installation.json"),
        replica.join("installation.json"),
    )
    .unwrap();
    let config = replica.join("partywall.toml");
    let refused = run(&["serve", "--config", config.to_str().unwrap()]);
    assert!(
        refused.err.contains("a catalogue of its own"),
        "{}",
        refused.err
    );
    // A replica's folder does not open without the server.
    let data = installation.folder("two");
    drop(Running::serve(&data));
    let config = data.join("partywall.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let cut = text.replace("url = \"file:", "# url = \"file:");
    let cut = cut.split("[storage.servers").next().unwrap().to_owned();
    std::fs::write(&config, cut).unwrap();
    let refused = run(&["serve", "--config", config.to_str().unwrap()]);
    assert!(refused.err.contains("[catalogue] url"), "{}", refused.err);
    // A password does not belong into the file, and is not shown.
    std::fs::write(
        &config,
        text.replace("file:", "postgres://owner:secret-word@host/db#"),
    )
    .unwrap();
    let refused = run(&["serve", "--config", config.to_str().unwrap()]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("holds no password"), "{}", refused.err);
    assert!(!refused.err.contains("secret-word"), "{}", refused.err);
}

/// Calls at once through all replicas, many more than the budget has room for, while one of them is
/// killed in the middle: those that are answered are no more than it allows.
#[test]
fn replicas_share_a_budget_and_never_pass_it_together() {
    const CALLS: u64 = 60;
    let installation = Installation::new();
    let first = &installation.first;
    let (two, three) = (installation.replica("two"), installation.replica("three"));
    let key = first.key_of("acme");
    let words = "budget create shared --tenant acme --subject tenant --limit 1000 --calls-max 60";
    first.done(&words.split(' ').collect::<Vec<_>>());
    let answered = std::sync::atomic::AtomicU64::new(0);
    let count = |replica: &Running, calls: u64| {
        for _ in 0..calls {
            let (status, body) = replica.chat(&key, "hello");
            match status {
                200 => drop(answered.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
                // Used up, or what is left is in another's share.
                429 => {}
                _ => panic!("{status} {body}"),
            }
        }
    };
    // Until all know of the budget.
    for replica in [first, &two, &three] {
        eventually("the budget is known", || {
            replica.chat(&key, "hello");
            let status = at(
                replica,
                first,
                &["budget", "status", "-t", "acme", "--json"],
            );
            status.json()["data"].to_string().contains("\"shared\"")
        });
    }
    std::thread::scope(|threads| {
        for replica in [first, first, &two, &two, &three, &three] {
            threads.spawn(|| count(replica, CALLS / 4));
        }
    });
    let spent = |replica: &Running| {
        let status = at(
            replica,
            first,
            &["budget", "status", "-t", "acme", "--json"],
        )
        .json();
        let rows = status["data"].as_array().unwrap().clone();
        let shared = rows.iter().find(|row| row["budget"] == "shared").unwrap();
        shared["spent"].as_str().unwrap().to_owned()
    };
    let in_all = answered.load(std::sync::atomic::Ordering::Relaxed);
    assert!(in_all <= CALLS, "{in_all} of {CALLS}");
    // Each shows what all have spent.
    eventually("all show the same", || spent(first) == spent(&two));
    // A process that is killed and comes back from its disk has had its calls, and no others.
    two.signal("KILL");
    let data = two.data.clone();
    drop(two);
    let two = Running::serve(&data);
    std::thread::scope(|threads| {
        for replica in [first, &two, &three] {
            threads.spawn(|| count(replica, 10));
        }
    });
    let in_all = answered.load(std::sync::atomic::Ordering::Relaxed);
    println!("{in_all} calls of {CALLS}");
    assert!(in_all <= CALLS, "{in_all} of {CALLS}");
    eventually("nothing is left", || {
        let (status, body) = two.chat(&key, "hello");
        status == 429 && body["error"]["code"] == "insufficient_quota"
    });
}

/// Replaces a replica's configuration by one of a process that is alone, or takes that back.
fn set_catalogue(data: &Path, is_there: bool) {
    let config = data.join("partywall.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = match is_there {
        true => text.replace("[catalogue]\n# url", "[catalogue]\nurl"),
        false => text.replace("[catalogue]\nurl", "[catalogue]\n# url"),
    };
    std::fs::write(&config, text).unwrap();
}

#[test]
fn an_installation_of_one_process_becomes_one_of_replicas() {
    let folder = tempfile::tempdir().unwrap();
    let address = new_database();
    for name in ["catalogue", "main"] {
        std::fs::write(folder.path().join(format!("{name}.url")), &address).unwrap();
    }
    let data = configure(folder.path(), "one", "");
    set_catalogue(&data, false);
    let config = data.join("partywall.toml");
    let target = format!("file:{}", folder.path().join("catalogue.url").display());
    let words = ["catalogue", "move", "--to", &target, "--config"];
    let moving = || run(&[words.as_slice(), &[config.to_str().unwrap()]].concat());

    let first = Running::quickstart(&data, &[]);
    let budget = "budget create calls --tenant acme --subject tenant --limit 1000 --calls-max 8";
    first.done(&budget.split(' ').collect::<Vec<_>>());
    let key = first.key_of("acme");
    for _ in 0..5 {
        assert_eq!(first.chat(&key, "hello").0, 200);
    }
    eventually("the calls are counted", || calls_of(&first, "acme") == 5);
    // While it is served, or a tenant's data is in a file, nothing is moved.
    let refused = moving();
    assert!(refused.err.contains("another partywall"), "{}", refused.err);
    let tenants = first.done(&["tenant", "list", "--json"]).json();
    assert_eq!(first.stop(), Some(0));
    let refused = moving();
    assert!(refused.err.contains("tenant move NAME"), "{}", refused.err);
    let first = Running::quickstart(&data, &[]);
    for tenant in tenants["data"].as_array().unwrap() {
        let name = tenant["name"].as_str().unwrap();
        first.done(&["tenant", "move", name, "--to", "pool:main"]);
    }
    let versions = first.done(&["versions", "--json", "--all"]).json();
    assert_eq!(first.stop(), Some(0));
    let moved = moving();
    assert_eq!(moved.code, Some(0), "{}", moved.err);
    assert!(
        moved.out.contains("before any other replica"),
        "{}",
        moved.out
    );

    // Nobody goes before the folder that knows what was spent.
    let two = configure(folder.path(), "two", "");
    let words = [
        "serve",
        "--config",
        two.join("partywall.toml").to_str().unwrap(),
    ]
    .map(str::to_owned);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let refused = run(&words);
    assert!(
        refused.err.contains("has to start first"),
        "{}",
        refused.err
    );
    // Nor does it go on as it was, or move again.
    let alone = run(&["serve", "--config", config.to_str().unwrap()]);
    assert!(alone.err.contains("[catalogue] url"), "{}", alone.err);
    assert_ne!(moving().code, Some(0));

    set_catalogue(&data, true);
    let first = Running::quickstart(&data, &[]);
    assert_eq!(
        first.done(&["versions", "--json", "--all"]).json(),
        versions
    );
    assert_eq!(first.chat(&key, "hello").0, 200);
    eventually("its calls are counted once", || {
        calls_of(&first, "acme") == 6
    });
    eventually("the first has told what it spent", || {
        let listed = first.done(&["budget", "status", "-t", "acme", "--json"]);
        listed.code == Some(0)
    });
    let two = Running::serve(&two);
    let answered = (0..8).filter(|_| two.chat(&key, "hello").0 == 200).count();
    assert_eq!(answered, 2, "of eight calls six were used");
    first.done(&["ledger", "verify"]);
    first.done(&["audit", "verify"]);
    first.done(&["audit", "verify", "--tenant", "acme"]);
}
