//! Starting, stopping, starting again, and what keeps it from starting.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use crate::product::{Running, run};

#[test]
fn a_second_start_finds_what_the_first_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = Running::quickstart(&data, &[]);
    assert!(first.made["base_url"].as_str().unwrap().ends_with("/v1"));
    let keys = (first.key_of("acme"), first.key_of("globex"));
    let (status, answer) = first.chat(&keys.0, "[[say:hello]]");
    assert_eq!(
        (status, &answer["choices"][0]["message"]["content"]),
        (200, &"hello".into())
    );
    assert_eq!(first.chat("pw_wrong", "hello").0, 401);
    let operator_key = first.made["operator_key"].clone();
    for secret in ["root.key", "operator.key", "quickstart.json"] {
        let mode = std::fs::metadata(data.join(secret))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{secret}");
    }
    first.done(&[
        "limit",
        "create",
        "mine",
        "-t",
        "acme",
        "--subject",
        "tenant",
        "--concurrency",
        "9",
    ]);
    assert_eq!(first.stop(), Some(0));

    let second = Running::quickstart(&data, &[]);
    assert_eq!((second.key_of("acme"), second.key_of("globex")), keys);
    assert_eq!(second.made["operator_key"], operator_key);
    assert_eq!(second.chat(&keys.1, "[[say:again]]").0, 200);
    let limit = second
        .done(&["limit", "show", "mine", "-t", "acme", "--json"])
        .json();
    assert_eq!(limit["spec"]["concurrency"], 9);
    let usage = second.done(&["usage", "--by", "tenant", "--json"]).json();
    let requests = |tenant: &str| {
        let rows = usage["data"].as_array().unwrap();
        rows.iter()
            .find(|row| row["group"]["tenant"] == tenant)
            .unwrap()["requests"]
            .clone()
    };
    assert_eq!((requests("acme"), requests("globex")), (1.into(), 1.into()));
    assert_eq!(second.stop(), Some(0));
}

#[test]
fn a_forgotten_key_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = Running::quickstart(&data, &[]);
    let old = first.key_of("acme");
    first.stop();
    std::fs::remove_file(data.join("quickstart.json")).unwrap();
    let second = Running::quickstart(&data, &[]);
    assert_ne!(second.key_of("acme"), old);
    assert_eq!(second.chat(&second.key_of("acme"), "hello").0, 200);
    assert_eq!(second.chat(&old, "hello").0, 401);
}

#[test]
fn an_engine_of_ones_own_is_asked_for_its_models() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Running::quickstart(&folder.path().join("engine"), &[]);
    // A quickstart speaks as an engine does, to whoever has a key.
    let key = engine.key_of("acme");
    let url = engine.made["base_url"].as_str().unwrap();
    let data = folder.path().join("data");
    let refused = run(&[
        "quickstart",
        "--data",
        data.to_str().unwrap(),
        "--upstream",
        url,
    ]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("name them with --model"),
        "{}",
        refused.err
    );

    let front = Running::quickstart(&data, &["--upstream", url, "--model", "sim-small"]);
    // The engine's key was not given: it refuses, and the gateway says so without its words.
    assert_ne!(front.chat(&front.key_of("acme"), "hello").0, 200);
    let file = folder.path().join("engine.secret");
    std::fs::write(&file, format!("{key}\n")).unwrap();
    let reference = format!("file:{}", file.display());
    front.done(&["upstream", "set", "engine", "--credential", &reference]);
    assert_eq!(front.chat(&front.key_of("acme"), "hello").0, 200);
}

#[test]
fn init_then_serve() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let path = data.to_str().unwrap();
    let made = run(&["init", "--data", path]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    let again = run(&["init", "--data", path]);
    assert_eq!(again.code, Some(1));
    assert!(
        again.err.contains("holds an installation already"),
        "{}",
        again.err
    );

    let file = data.join("partywall.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace(":8080", ":0").replace(":8081", ":0");
    std::fs::write(&file, &text).unwrap();
    assert_eq!(
        run(&["config", "check", file.to_str().unwrap()]).code,
        Some(0)
    );
    let mut serving = Running::serve(&data);
    assert_eq!(
        serving.done(&["operator", "list", "--json"]).json()["data"][0]["name"],
        "root"
    );

    std::fs::write(&file, format!("{text}\n[listn]\n")).unwrap();
    serving.signal("HUP");
    let log = serving.await_log("the old one stays");
    assert!(
        log.contains("unknown key `listn`; did you mean `listen`?"),
        "{log}"
    );
    std::fs::write(&file, text.replace("\"info\"", "\"debug\"")).unwrap();
    serving.signal("HUP");
    serving.await_log("the configuration was read again");

    let locked = run(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(locked.code, Some(1));
    assert!(
        locked.err.contains("in use by another partywall"),
        "{}",
        locked.err
    );
    assert_eq!(serving.stop(), Some(0));
    assert!(!data.join("admin.url").exists());
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let start = |data: &str, port: &str| {
        run(&[
            "quickstart",
            "--data",
            data,
            "--port",
            port,
            "--admin-port",
            "0",
        ])
    };

    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let said = start(&path("a"), &port);
    assert_eq!(said.code, Some(1));
    assert!(
        said.err
            .contains(&format!("port {port} on 127.0.0.1 is in use")),
        "{}",
        said.err
    );
    assert!(said.err.contains("quickstart --port"), "{}", said.err);

    std::fs::create_dir(folder.path().join("foreign")).unwrap();
    std::fs::write(folder.path().join("foreign/thesis.tex"), "x").unwrap();
    let said = start(&path("foreign"), "0");
    assert_eq!(said.code, Some(1));
    assert!(
        said.err
            .contains("holds `thesis.tex`, and nothing in it was touched"),
        "{}",
        said.err
    );

    std::fs::create_dir(folder.path().join("newer")).unwrap();
    std::fs::write(
        folder.path().join("newer/installation.json"),
        r#"{"format":9}"#,
    )
    .unwrap();
    let said = start(&path("newer"), "0");
    assert!(said.err.contains("has format 9"), "{}", said.err);

    std::fs::write(folder.path().join("file"), "x").unwrap();
    let said = start(&path("file/data"), "0");
    assert!(said.err.contains("cannot write in"), "{}", said.err);

    let said = run(&["serve", "--config", &path("none.toml")]);
    assert!(
        said.err.contains("none.toml: `partywall init` makes one"),
        "{}",
        said.err
    );

    let made = folder.path().join("partywall-data");
    std::fs::create_dir(&made).unwrap();
    std::fs::write(made.join("partywall.toml"), "").unwrap();
    let said = run(&["serve", "--config", &path("partywall.toml")]);
    let meant = format!(
        "did you mean `--config {}`?",
        path("partywall-data/partywall.toml")
    );
    assert!(said.err.contains(&meant), "{}", said.err);
}
