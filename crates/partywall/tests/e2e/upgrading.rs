//! Stores of the step before are upgraded under real processes that are killed meanwhile.

use crate::postgres::execute;
use crate::product::Running;
use crate::replicas::{Installation, calls_of, eventually};

/// What the newest step has made, taken back in every schema of a tenant.
const TO_THE_STEP_BEFORE: &str = "
    DO $$ DECLARE own text; BEGIN
        FOR own IN SELECT nspname FROM pg_namespace WHERE nspname LIKE 'partywall\\_bridge\\_%' LOOP
            EXECUTE format('DROP INDEX %I.conversations_by_age', own);
            EXECUTE format('DELETE FROM %I.schema_version', own);
            EXECUTE format('INSERT INTO %I.schema_version VALUES (8)', own);
        END LOOP;
    END $$";
const HAVE_THE_INDEX: &str = "
    SELECT count(*) FROM pg_indexes
    WHERE indexname = 'conversations_by_age' AND schemaname LIKE 'partywall\\_bridge\\_%'";

const TENANTS: usize = 8;

#[test]
fn an_upgrade_goes_on_after_its_worker_was_killed_and_every_call_is_counted() {
    let installation = Installation::new();
    let address = std::fs::read_to_string(installation.folder.path().join("main.url")).unwrap();
    let keys: Vec<String> = (0..TENANTS)
        .map(|number| {
            let name = format!("tenant-{number}");
            let words = ["tenant", "onboard", &name, "--tier", "team"];
            let more = ["--placement", "bridge:main", "--json"];
            let made = installation
                .first
                .done(&[words.as_slice(), &more].concat())
                .json();
            made["first_key"]["key"].as_str().unwrap().to_owned()
        })
        .collect();
    let mut two = installation.replica("two");
    execute(&address, TO_THE_STEP_BEFORE).unwrap();
    let upgraded = || -> usize {
        let count = execute(&address, HAVE_THE_INDEX).unwrap();
        count[0].parse().unwrap()
    };
    assert_eq!(upgraded(), 0);
    // Served as they are.
    for key in &keys {
        assert_eq!(two.chat(key, "hello").0, 200);
    }
    assert_eq!(upgraded(), 0);

    // From here on one replica alone is a worker. The engine ends with the first process.
    let Installation {
        folder: _folder,
        first,
    } = installation;
    let data = first.data.clone();
    assert_eq!(first.stop(), Some(0));
    let first = Running::serve_as(&data, &["--role", "gateway,control"]);
    let words = ["upgrade", "start", "--internal", "tenant-0", "--by-hand"];
    let more = ["--internal", "tenant-1", "--watch-seconds", "0"];
    first.done(&[words.as_slice(), &more].concat());
    let state = || {
        let status = first.done(&["upgrade", "status", "--json"]).json();
        status["state"].as_str().unwrap().to_owned()
    };
    eventually("the first ring is done", || state() == "waiting");
    assert_eq!(upgraded(), 2);
    for _ in 0..3 {
        if state() == "done" {
            break;
        }
        first.done(&["upgrade", "advance"]);
        // Wherever it is: before its turn, or in the middle of a store.
        two.signal("KILL");
        two.ended();
        two = Running::serve(&two.data);
        eventually("the ring is done", || {
            ["waiting", "done"].contains(&&*state())
        });
    }
    assert_eq!(state(), "done");
    assert_eq!(upgraded(), TENANTS);
    for number in 0..TENANTS {
        let tenant = format!("tenant-{number}");
        assert_eq!(calls_of(&first, &tenant), 1, "{tenant}");
    }
}
