//! A started quickstart, its API and its command line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_partywall");

/// The binary, without what the environment of whoever runs the tests would say to it.
pub(crate) fn partywall() -> Command {
    let mut command = Command::new(BINARY);
    for name in [
        "OPENAI_API_KEY",
        "PARTYWALL_URL",
        "PARTYWALL_KEY",
        "PARTYWALL_DATA",
        "PARTYWALL_TENANT",
    ] {
        command.env_remove(name);
    }
    command
}

/// What a command printed, and its exit code.
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: Option<i32>,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            out: String::from_utf8(output.stdout).expect("output is text"),
            err: String::from_utf8(output.stderr).expect("errors are text"),
            code: output.status.code(),
        }
    }

    /// What it printed, as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}{}", self.out, self.err))
    }
}

/// Runs the binary to its end.
pub(crate) fn run(words: &[&str]) -> Said {
    Said::of(partywall().args(words).output().expect("the binary runs"))
}

/// A running server.
pub(crate) struct Running {
    child: Child,
    /// What it printed first.
    pub(crate) made: Value,
    pub(crate) data: PathBuf,
    log: PathBuf,
}

impl Running {
    /// A quickstart over `data`, on free ports.
    pub(crate) fn quickstart(data: &Path, more: &[&str]) -> Self {
        let mut command = partywall();
        command
            .args(["quickstart", "--json", "--port", "0", "--admin-port", "0"])
            .args(more);
        Self::start(command, data)
    }

    /// `serve` over what a quickstart left in `data`, with this beside its configuration.
    pub(crate) fn serve_with(data: &Path, more: &str) -> Self {
        let file = data.join("partywall.toml");
        let text = std::fs::read_to_string(&file).expect("a quickstart has configured it");
        // Whoever runs the tests may have an installation on the usual ports.
        let ports = text
            .replace("\"127.0.0.1:8080\"", "\"127.0.0.1:0\"")
            .replace("\"127.0.0.1:8081\"", "\"127.0.0.1:0\"");
        assert_ne!(ports, text, "the usual ports are in it");
        std::fs::write(&file, ports + more).expect("it can be written");
        Self::serve(data)
    }

    /// `serve` with the configuration in `data`.
    pub(crate) fn serve(data: &Path) -> Self {
        Self::serve_as(data, &[])
    }

    /// The same, with more words.
    pub(crate) fn serve_as(data: &Path, more: &[&str]) -> Self {
        let mut command = partywall();
        command
            .args(["serve", "--json", "--config"])
            .arg(data.join("partywall.toml"))
            .args(more);
        Self::start(command, data)
    }

    fn start(mut command: Command, data: &Path) -> Self {
        let log = data.with_extension("log");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the log can be made");
        let mut child = command
            .arg("--data")
            .arg(data)
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .expect("the binary runs");
        let mut output = BufReader::new(child.stdout.take().expect("its output is piped"));
        let mut text = String::new();
        let made = loop {
            let read = output.read_line(&mut text).expect("its output is text");
            if let Ok(made) = serde_json::from_str(&text) {
                break made;
            }
            assert!(
                read > 0,
                "it ended: {}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
        };
        Self {
            child,
            made,
            data: data.to_owned(),
            log,
        }
    }

    /// The key of a demo tenant.
    pub(crate) fn key_of(&self, tenant: &str) -> String {
        let tenants = self.made["tenants"].as_array().expect("tenants are a list");
        let found = tenants
            .iter()
            .find(|it| it["name"] == tenant)
            .expect(tenant);
        found["key"].as_str().expect("a key is text").to_owned()
    }

    /// Runs a command against this server.
    pub(crate) fn cli(&self, words: &[&str]) -> Said {
        let mut command = partywall();
        command.args(words).arg("--data").arg(&self.data);
        Said::of(command.output().expect("the binary runs"))
    }

    /// Runs a command that must succeed.
    pub(crate) fn done(&self, words: &[&str]) -> Said {
        let said = self.cli(words);
        assert_eq!(said.code, Some(0), "{words:?}: {}{}", said.out, said.err);
        said
    }

    /// The status and the body of a chat.
    pub(crate) fn chat(&self, key: &str, text: &str) -> (u16, Value) {
        let body = serde_json::json!({
            "model": "sim-small",
            "messages": [{"role": "user", "content": text}],
        });
        post(&self.chat_url(), key, &body)
    }

    /// Where chats go.
    pub(crate) fn chat_url(&self) -> String {
        let base_url = self.made["base_url"].as_str().expect("a URL is text");
        format!("{base_url}/chat/completions")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &line]).status();
        assert!(sent.expect("sh runs").success());
    }

    /// Waits until the log says this.
    pub(crate) fn await_log(&mut self, wanted: &str) -> String {
        loop {
            let text = std::fs::read_to_string(&self.log).expect("the log can be read");
            if text.contains(wanted) {
                return text;
            }
            let ended = self.child.try_wait().expect("it can be asked");
            assert!(
                ended.is_none(),
                "it ended before it said {wanted:?}: {text}"
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.wait().expect("it can be waited for").code()
    }

    /// Asks it to stop and returns its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        self.child.wait().expect("it can be waited for").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test stopped it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The status and the body of a `POST`.
pub(crate) fn post(url: &str, key: &str, body: &Value) -> (u16, Value) {
    exchange("POST", url, key, &body.to_string())
}

/// The status of an answer, and its body if that is JSON.
pub(crate) fn exchange(method: &str, url: &str, key: &str, body: &str) -> (u16, Value) {
    let rest = url.strip_prefix("http://").expect("it is not encrypted");
    let (host, path) = rest.split_once('/').expect("it has a path");
    let mut stream = TcpStream::connect(host).expect("it listens");
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    stream.write_all(body.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("it has a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    (status.expect("it has a status"), body)
}
