//! Alerts in the catalogue, in a file and on a server: of two who see the same thing one tells it,
//! and what is to be told survives them.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::sync::Arc;

use base::{Clock, Entropy, ManualClock, SystemEntropy, Timestamp};
use store::{Catalogue, CatalogueServer, CatalogueServerOptions, StoredAlert, StoredMessage};

#[expect(dead_code, reason = "other tests use the rest")]
mod fixture;
use fixture::Hierarchy;

#[expect(dead_code, reason = "other tests use the rest")]
mod postgres {
    include!("../../../tests/postgres.rs");
}
use postgres::new_database;

fn on_a_server(address: &str, hierarchy: Hierarchy) -> Catalogue {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let options = CatalogueServerOptions {
        address: address.parse().unwrap(),
        authorities: None,
    };
    let server = CatalogueServer::connect(options, &clock, &entropy).unwrap();
    Catalogue::on_server(server, Arc::new(hierarchy.platform))
}

const fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

fn alert(id: &str, tenant: &str, opened: i64) -> StoredAlert {
    StoredAlert {
        id: id.to_owned(),
        tenant: tenant.to_owned(),
        opened_at: at(opened),
        seen_at: at(opened),
        told_at: at(opened),
        resolved_at: None,
        about: b"the month's budget".to_vec(),
    }
}

fn message(id: &str, tenant: &str) -> StoredMessage {
    StoredMessage {
        id: id.to_owned(),
        tenant: tenant.to_owned(),
        channel: "ops".to_owned(),
        tries: 0,
        text: b"letter".to_vec(),
    }
}

fn an_alert_is_opened_reminded_of_and_resolved_by_one(one: &Catalogue, other: &Catalogue) {
    let alert = alert("a", "t1", 100);
    assert!(one.open_alert(&alert, &[message("m1", "t1")]).unwrap());
    assert!(!other.open_alert(&alert, &[message("m2", "t1")]).unwrap());
    assert_eq!(other.alerts().unwrap(), std::slice::from_ref(&alert));
    assert!(
        one.remind_of_alert(&alert, &[message("m3", "t1")], at(200))
            .unwrap()
    );
    assert!(
        !other
            .remind_of_alert(&alert, &[message("m4", "t1")], at(200))
            .unwrap()
    );
    // Somebody sees it still: whoever thought otherwise is late.
    one.see_alerts(&["a"], at(300)).unwrap();
    assert!(
        !other
            .resolve_alert(&alert, &[message("m5", "t1")], at(301))
            .unwrap()
    );
    let known = other.alerts_of("t1").unwrap().remove(0);
    assert_eq!((known.seen_at, known.told_at), (at(300), at(200)));
    assert!(
        other
            .resolve_alert(&known, &[message("m6", "t1")], at(301))
            .unwrap()
    );
    assert!(
        !one.resolve_alert(&known, &[message("m7", "t1")], at(301))
            .unwrap()
    );
    let due = one.due_messages(at(1_000), 10).unwrap();
    let ids: Vec<&str> = due.iter().map(|message| message.id.as_str()).collect();
    assert_eq!(ids, ["m1", "m3", "m6"]);
    assert_eq!(due[0], message("m1", "t1"));
    assert!(
        one.open_alert(&alert, &[]).unwrap(),
        "the same thing is so again"
    );
}

fn a_message_is_taken_by_one_and_comes_back(one: &Catalogue, other: &Catalogue) {
    assert!(one.put_alert_message(&message("m", ""), at(0)).unwrap());
    assert_eq!(one.due_messages(at(-1), 10).unwrap(), []);
    let due = one.due_messages(at(0), 10).unwrap().remove(0);
    assert!(one.take_message(&due, at(30)).unwrap());
    assert!(!other.take_message(&due, at(30)).unwrap());
    assert_eq!(other.due_messages(at(29), 10).unwrap(), []);
    // Whoever took it has died.
    let again = other.due_messages(at(30), 10).unwrap().remove(0);
    assert_eq!(again.tries, 1);
    assert!(other.take_message(&again, at(60)).unwrap());
    other.end_message("m").unwrap();
    assert_eq!(one.due_messages(at(90), 10).unwrap(), []);
}

fn what_is_gone_is_forgotten(one: &Catalogue, _: &Catalogue) {
    for (id, tenant) in [("a", "t1"), ("b", "t2"), ("c", "")] {
        let message = message(id, tenant);
        one.open_alert(&alert(id, tenant, 1), &[message]).unwrap();
    }
    one.forget_alerts_of("t1").unwrap();
    assert_eq!(one.alerts_of("t1").unwrap(), []);
    assert_eq!(one.due_messages(at(9), 9).unwrap().len(), 2);
    let rest = one.alerts().unwrap();
    assert!(one.resolve_alert(&rest[0], &[], at(50)).unwrap());
    one.forget_alerts(at(50)).unwrap();
    assert_eq!(one.alerts().unwrap().len(), 2);
    one.forget_alerts(at(51)).unwrap();
    assert_eq!(one.alerts().unwrap().len(), 1, "what is open stays");
}

type Check = fn(&Catalogue, &Catalogue);
const CHECKS: [Check; 3] = [
    an_alert_is_opened_reminded_of_and_resolved_by_one,
    a_message_is_taken_by_one_and_comes_back,
    what_is_gone_is_forgotten,
];

#[test]
fn in_a_file() {
    for check in CHECKS {
        let folder = tempfile::tempdir().unwrap();
        let key = Hierarchy::new(1).platform.catalogue_key();
        let catalogue = Catalogue::open(folder.path(), &key).unwrap();
        check(&catalogue, &catalogue);
        let again = {
            drop(catalogue);
            Catalogue::open(folder.path(), &key).unwrap()
        };
        assert!(again.alerts().is_ok());
    }
}

#[test]
fn on_a_server_that_two_share() {
    for check in CHECKS {
        let address = new_database();
        let one = on_a_server(&address, Hierarchy::new(1));
        let other = on_a_server(&address, Hierarchy::new(1));
        check(&one, &other);
    }
}

#[test]
fn what_is_said_is_sealed_on_a_server() {
    let address = new_database();
    let catalogue = on_a_server(&address, Hierarchy::new(1));
    let alert = alert("a", "t1", 1);
    catalogue.open_alert(&alert, &[message("m", "t1")]).unwrap();
    let stranger = on_a_server(&address, Hierarchy::new(2));
    assert!(stranger.alerts().is_err() && stranger.due_messages(at(9), 9).is_err());
}
