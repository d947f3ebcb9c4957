// A database of a test's own, on a server that tests share (`tests/postgres.sh run`) or on one that
// goes with the process. Tests of several crates include this file.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The owner's address of a new, empty database. The owner may make roles and databases, and is
/// no superuser: as on a hosted server.
pub(crate) fn new_database() -> String {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let server = server();
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    // A process has a database of each number; the server outlives no two processes of one id.
    let name = format!("test_{}_{number}", std::process::id());
    drop(execute(server, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")));
    drop(execute(server, &format!("DROP OWNED BY o_{name} CASCADE")));
    drop(execute(server, &format!("DROP ROLE IF EXISTS o_{name}")));
    execute(
        server,
        &format!("CREATE ROLE o_{name} LOGIN CREATEROLE CREATEDB PASSWORD 'word-of-the-owner'"),
    )
    .unwrap();
    execute(server, &format!("CREATE DATABASE {name} OWNER o_{name}")).unwrap();
    let (_, host) = server.split_once('@').unwrap();
    let host = host.trim_end_matches("/postgres");
    format!("postgres://o_{name}:word-of-the-owner@{host}/{name}")
}

/// The superuser's address of the same database.
pub(crate) fn as_superuser(address: &str) -> String {
    let database = address.rsplit('/').next().unwrap();
    server().replace("/postgres", &format!("/{database}"))
}

/// Runs statements as whoever `address` names; the error's text, or the rows' first columns.
pub(crate) fn execute(address: &str, statements: &str) -> Result<Vec<String>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let failed = |error: tokio_postgres::Error| match error.as_db_error() {
            Some(error) => error.message().to_owned(),
            None => error.to_string(),
        };
        let (client, connection) = tokio_postgres::connect(address, tokio_postgres::NoTls)
            .await
            .map_err(failed)?;
        let asked = async move { client.simple_query(statements).await };
        let (answer, _) = tokio::join!(asked, connection);
        let rows = answer.map_err(failed)?;
        Ok(rows
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    Some(row.get(0).unwrap_or_default().to_owned())
                }
                _ => None,
            })
            .collect())
    })
}

/// The server's address.
fn server() -> &'static str {
    static SERVER: OnceLock<(String, Option<Child>)> = OnceLock::new();
    &SERVER
        .get_or_init(|| match std::env::var("PARTYWALL_TEST_POSTGRES") {
            Ok(address) => (address, None),
            Err(_) => start(),
        })
        .0
}

fn start() -> (String, Option<Child>) {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap()
        .port();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/postgres.sh");
    let mut server = Command::new(script)
        .args(["serve", &port.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut address)
        .unwrap();
    assert!(
        address.starts_with("postgres://"),
        "PostgreSQL did not start"
    );
    (address.trim().to_owned(), Some(server))
}
