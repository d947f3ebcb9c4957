//! A Valkey server, or a Redis one, for one test: on loopback, in memory.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// The first that is installed: both speak the same language.
const SERVERS: [(&str, &str); 2] = [
    ("valkey-server", "valkey-cli"),
    ("redis-server", "redis-cli"),
];
/// A server is there within milliseconds.
const TRIES: u32 = 500;

pub(crate) struct Server {
    process: Child,
    port: u16,
    arguments: Vec<String>,
    is_encrypted: bool,
    folder: TempDir,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self::begin(folder, arguments, false)
    }

    /// By a certificate for 127.0.0.1 alone.
    pub(crate) fn start_in_tls() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let make = |arguments: &[&str]| {
            let made = Command::new("openssl")
                .args(["req", "-x509", "-nodes", "-newkey", "ec", "-days", "2"])
                .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
                .args(arguments)
                .current_dir(folder.path())
                .stderr(Stdio::null())
                .status();
            assert!(made.unwrap().success());
        };
        make(&[
            "-subj",
            "/CN=authority of the tests",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-addext",
            "keyUsage=critical,keyCertSign",
        ]);
        make(&[
            "-subj",
            "/CN=127.0.0.1",
            "-keyout",
            "server.key",
            "-out",
            "server.crt",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]);
        let file = |name: &str| folder.path().join(name).display().to_string();
        let arguments = [
            "--tls-cert-file",
            &file("server.crt"),
            "--tls-key-file",
            &file("server.key"),
            "--tls-ca-cert-file",
            &file("ca.pem"),
            "--tls-auth-clients",
            "no",
        ];
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self::begin(folder, arguments, true)
    }

    fn begin(folder: TempDir, arguments: Vec<String>, is_encrypted: bool) -> Self {
        // Another process may take the port before the server does: then another one.
        for _ in 0..10 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            if let Some(process) = launch(&folder, port, &arguments, is_encrypted) {
                return Self {
                    process,
                    port,
                    arguments,
                    is_encrypted,
                    folder,
                };
            }
        }
        panic!("no server of rates starts: apt-get install valkey-server, or redis-server");
    }

    pub(crate) fn address(&self) -> String {
        let scheme = if self.is_encrypted {
            "valkeys"
        } else {
            "valkey"
        };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Who vouches for its certificate; read where it speaks TLS alone.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        let process = launch(&self.folder, self.port, &self.arguments, self.is_encrypted);
        self.process = process.expect("the port is free again");
    }

    /// What it answers to a command.
    pub(crate) fn tell(&self, command: &[&str]) -> String {
        let (_, client) = installed();
        let told = Command::new(client)
            .args(["-p", &self.port.to_string()])
            .args(command)
            .output()
            .unwrap();
        assert!(told.status.success(), "{told:?}");
        String::from_utf8(told.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn installed() -> (&'static str, &'static str) {
    let is_there = |(server, _): &(&str, &str)| {
        let asked = Command::new(server)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    };
    let found = SERVERS.into_iter().find(is_there);
    found.expect("a server of rates: apt-get install valkey-server, or redis-server")
}

fn launch(folder: &TempDir, port: u16, arguments: &[String], is_encrypted: bool) -> Option<Child> {
    let port_text = port.to_string();
    let ports = match is_encrypted {
        true => ["--port", "0", "--tls-port", &port_text],
        false => ["--port", &port_text, "--tls-port", "0"],
    };
    let mut process = Command::new(installed().0)
        .args(ports)
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(arguments)
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..TRIES {
        if process.try_wait().unwrap().is_some() {
            return None;
        }
        // A connection to a port that nobody listens on may, rarely, meet itself.
        let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok();
        if connected.is_some_and(|it| it.local_addr().ok() != it.peer_addr().ok()) {
            return Some(process);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    process.kill().unwrap();
    None
}
