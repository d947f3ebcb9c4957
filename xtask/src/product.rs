//! The real binary, started over a folder of its own, and its admin API.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base::{Clock, SystemClock};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::command::{self, Server, run};
use crate::wire::{Connection, request};

/// Ten seconds: thirty times what starting may take.
const READY_PATIENCE: Duration = Duration::from_secs(10);

/// Builds the release binary and says where it is.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    run(Command::new(env!("CARGO")).args(["build", "--release", "--locked", "-p", "partywall"]))?;
    Ok(command::target().join("release/partywall"))
}

/// What `partywall quickstart --json` prints.
#[derive(Debug, Deserialize)]
pub(crate) struct Quickstart {
    pub(crate) base_url: String,
    admin_url: String,
    pub(crate) operator_key: String,
    pub(crate) tenants: Vec<TenantKey>,
}

/// One of the quickstart's tenants.
#[derive(Debug, Deserialize)]
pub(crate) struct TenantKey {
    pub(crate) name: String,
    pub(crate) key: String,
}

/// A running gateway.
pub(crate) struct Product {
    pub(crate) server: Server,
    pub(crate) gateway: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) quickstart: Quickstart,
    /// From its start to its first answer of `/readyz`.
    pub(crate) ready_time: Duration,
}

/// How to start it.
pub(crate) struct Start<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) data: &'a Path,
    pub(crate) upstream: SocketAddr,
    /// The core to run on; any if absent.
    pub(crate) core: Option<u32>,
}

impl Start<'_> {
    /// Starts another process of an installation, configured by `partywall.toml` in its folder, and
    /// waits until it is ready. `operator_key` is the installation's.
    pub(crate) fn serve(&self, operator_key: &str) -> anyhow::Result<Product> {
        #[derive(Deserialize)]
        struct Greeting {
            base_url: String,
            admin_url: String,
        }
        let mut command = self.command();
        command
            .args(["serve", "--json", "--config"])
            .arg(self.data.join("partywall.toml"));
        self.greeted(&mut command, |output| {
            let greeting: Greeting = read_object(output)?;
            Ok(Quickstart {
                base_url: greeting.base_url,
                admin_url: greeting.admin_url,
                operator_key: operator_key.to_owned(),
                tenants: Vec::new(),
            })
        })
    }

    /// Starts it on free ports and waits until it is ready. Its log goes to `DATA.log`.
    pub(crate) fn run(&self) -> anyhow::Result<Product> {
        self.quickstart(&mut self.command())
    }

    /// The binary, on its core if it has one.
    fn command(&self) -> Command {
        match self.core {
            None => Command::new(self.binary),
            Some(core) => {
                let mut pinned = Command::new("taskset");
                pinned.args(["-c", &core.to_string()]).arg(self.binary);
                pinned
            }
        }
    }

    /// The same under callgrind, which counts once it is told to; dumps go to `counts` and a number.
    pub(crate) fn run_counted(&self, counts: &Path) -> anyhow::Result<Product> {
        let mut command = Command::new("valgrind");
        let mut file = std::ffi::OsString::from("--callgrind-out-file=");
        file.push(counts);
        command
            .args(["--quiet", "--tool=callgrind", "--instr-atstart=no"])
            .arg(file)
            .arg(self.binary);
        self.quickstart(&mut command)
    }

    fn quickstart(&self, command: &mut Command) -> anyhow::Result<Product> {
        command
            .args(["quickstart", "--json", "--port", "0", "--admin-port", "0"])
            .args(["--upstream", &format!("http://{}/v1", self.upstream)])
            // A key of the person who runs this must not turn a test into a bill.
            .env_remove("OPENAI_API_KEY");
        self.greeted(command, read_quickstart)
    }

    /// Starts it over the folder, reads what it says first, and waits until it is ready.
    fn greeted(
        &self,
        command: &mut Command,
        read: impl FnOnce(BufReader<ChildStdout>) -> anyhow::Result<Quickstart>,
    ) -> anyhow::Result<Product> {
        let log_path = self.data.with_extension("log");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .with_context(|| format!("opening {}", log_path.display()))?;
        command
            .arg("--data")
            .arg(self.data)
            .stdout(Stdio::piped())
            .stderr(log);
        let clock = SystemClock::new();
        let mut server = Server::start("partywall", command)?;
        let output = server.output().context("its output is piped")?;
        let quickstart = read(BufReader::new(output))
            .with_context(|| format!("starting partywall; its log is {}", log_path.display()))?;
        let gateway = address(&quickstart.base_url)?;
        let admin = address(&quickstart.admin_url)?;
        wait_until_ready(&mut server, admin)?;
        Ok(Product {
            server,
            gateway,
            admin,
            quickstart,
            ready_time: clock.elapsed(),
        })
    }
}

impl Product {
    /// The key of one of the quickstart's tenants.
    pub(crate) fn key_of(&self, tenant: &str) -> anyhow::Result<&str> {
        self.quickstart
            .tenants
            .iter()
            .find(|one| one.name == tenant)
            .map(|one| &*one.key)
            .with_context(|| format!("the quickstart made no tenant {tenant}"))
    }

    /// Asks the admin API as the operator and returns its JSON.
    pub(crate) async fn admin(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let body = body.map(Value::to_string);
        let request = request(
            method,
            self.admin,
            path,
            &self.quickstart.operator_key,
            body.as_ref().map(String::as_bytes),
        );
        let mut connection = Connection::open(self.admin).await?;
        let answer = connection.call(&SystemClock::new(), &request).await?;
        ensure!(
            (200..300).contains(&answer.status),
            "{method} {path}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        answer.json()
    }

    /// Lifts every limit and budget that the quickstart set for `tenant`, so that a run is bounded
    /// by the machine and each check is still made.
    pub(crate) async fn lift_limits(&self, tenant: &str) -> anyhow::Result<()> {
        let described = self
            .admin("GET", &format!("/admin/v1/tenants/{tenant}"), None)
            .await?;
        let tier = described["spec"]["tier"]
            .as_str()
            .context("a tenant has a tier")?;
        let path = format!("/admin/v1/tiers/{tier}");
        self.lift(&path).await?;
        for kind in ["budgets", "limits"] {
            let folder = format!("/admin/v1/tenants/{tenant}/{kind}");
            let list = self.admin("GET", &folder, None).await?;
            for item in list["data"].as_array().into_iter().flatten() {
                let name = item["name"].as_str().context("a resource has a name")?;
                self.lift(&format!("{folder}/{name}")).await?;
            }
        }
        Ok(())
    }

    async fn lift(&self, path: &str) -> anyhow::Result<()> {
        let mut spec = self.admin("GET", path, None).await?["spec"].take();
        lift_amounts(&mut spec);
        self.admin("PUT", path, Some(&spec)).await?;
        Ok(())
    }
}

/// A budget of a million dollars and a thousand million calls a minute: never reached here.
fn lift_amounts(spec: &mut Value) {
    match spec {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "limit" => *value = "1000000".into(),
                    "requests_per_minute" | "tokens_per_minute" => {
                        *value = 1_000_000_000_u64.into()
                    }
                    "concurrency" => *value = 100_000.into(),
                    "calls_max" => *value = u32::MAX.into(),
                    "in_flight_bytes_max" => *value = (1_u64 << 30).into(),
                    _ => lift_amounts(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(lift_amounts),
        _ => {}
    }
}

pub(crate) fn read_quickstart(output: impl BufRead) -> anyhow::Result<Quickstart> {
    read_object(output)
}

/// Reads the object that a server prints once it listens.
pub(crate) fn read_object<T: DeserializeOwned>(mut output: impl BufRead) -> anyhow::Result<T> {
    let mut text = String::new();
    // One object, on one line or on several.
    loop {
        let read = output.read_line(&mut text).context("reading its output")?;
        match serde_json::from_str(&text) {
            Ok(object) => return Ok(object),
            Err(_) if read > 0 => {}
            Err(error) => bail!("it ended after {text:?}: {error}"),
        }
    }
}

pub(crate) fn address(url: &str) -> anyhow::Result<SocketAddr> {
    url.strip_prefix("http://")
        .and_then(|rest| rest.split('/').next())
        .and_then(|address| address.parse().ok())
        .with_context(|| format!("`{url}` is no http:// URL of an address"))
}

fn wait_until_ready(server: &mut Server, admin: SocketAddr) -> anyhow::Result<()> {
    let clock = SystemClock::new();
    let probe = request("GET", admin, "/readyz", "", None);
    let runtime = runtime()?;
    while clock.elapsed() < READY_PATIENCE {
        server.ensure_running()?;
        let answer = runtime.block_on(async {
            Connection::open(admin)
                .await?
                .call(&clock, &probe)
                .await
                .map(|answer| answer.status)
        });
        if matches!(answer, Ok(200)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("partywall was not ready within {READY_PATIENCE:?}")
}

/// A runtime of one thread: it stays on the core that it is pinned to.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickstarts_object_may_span_lines() {
        let text = "{\n\"base_url\":\"http://127.0.0.1:1/v1\",\"admin_url\":\"http://127.0.0.1:2\",\n\
                    \"operator_key\":\"k\",\"tenants\":[{\"name\":\"a\",\"key\":\"b\"}],\"more\":1}\n";
        let quickstart = read_quickstart(text.as_bytes()).expect("an object");
        assert_eq!(
            address(&quickstart.base_url).expect("an address"),
            "127.0.0.1:1".parse().expect("an address")
        );
        assert!(read_quickstart(&b"error: port in use\n"[..]).is_err());
    }

    #[test]
    fn amounts_are_lifted_at_any_depth() {
        let mut spec = serde_json::json!({
            "description": "x",
            "limits": {"all": {"subject": "tenant", "requests_per_minute": 5}},
            "budgets": {"month": {"subject": "tenant", "limit": "1", "soft_percent": 80}},
        });
        lift_amounts(&mut spec);
        assert_eq!(spec["limits"]["all"]["requests_per_minute"], 1_000_000_000);
        assert_eq!(spec["budgets"]["month"]["limit"], "1000000");
        assert_eq!(spec["budgets"]["month"]["soft_percent"], 80);
    }
}
