//! Running other programs: steps that succeed or fail, and servers that are ended with us.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base::{Clock, SystemClock};

/// The repository's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the repository's folder")
}

/// The folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// An empty folder on the disk that the build is on, removed in the end. `/tmp` may be memory,
/// where a durable write costs nothing and proves nothing.
pub(crate) fn disk_folder() -> anyhow::Result<tempfile::TempDir> {
    std::fs::create_dir_all(target()).context("making the target folder")?;
    tempfile::tempdir_in(target()).context("making a folder")
}

/// Runs a command to its end with its output on ours.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .current_dir(root())
        .status()
        .with_context(|| format!("starting {}", shown(command)))?;
    ensure!(status.success(), "{} ended with {status}", shown(command));
    Ok(())
}

/// Runs a command to its end; each line of its output is shown and handed to `each_line`.
/// Standard error joins standard output, so that the lines keep their order.
pub(crate) fn run_and_read(
    command: &mut Command,
    mut each_line: impl FnMut(&str),
) -> anyhow::Result<ExitStatus> {
    let name = shown(command);
    let (reader, writer) = std::io::pipe().context("opening a pipe")?;
    let mut child = command
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("sharing a pipe")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    // The command holds the pipe's writing ends, and reading would not end before they close.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut output = std::io::stdout().lock();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("reading a pipe")?;
        let line = String::from_utf8_lossy(&line);
        writeln!(output, "{line}").context("writing to standard output")?;
        each_line(&line);
    }
    child.wait().with_context(|| format!("waiting for {name}"))
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Says something to the person at the terminal: standard output may be for a program.
#[expect(
    clippy::print_stderr,
    reason = "progress and failures must not stand among the results"
)]
pub(crate) fn tell(line: &str) {
    eprintln!("{line}");
}

/// A program that runs beside us and is ended when this is dropped.
pub(crate) struct Server {
    child: Child,
    name: String,
}

impl Server {
    /// Starts it.
    pub(crate) fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", shown(command)))?;
        Ok(Self {
            child,
            name: name.to_owned(),
        })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of its standard output that we read, if it was piped.
    pub(crate) fn output(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Fails if it has ended by itself.
    pub(crate) fn ensure_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait().context("asking for its state")? {
            None => Ok(()),
            Some(status) => bail!("{} ended by itself: {status}", self.name),
        }
    }

    /// Kills it as a power cut would (SIGKILL) and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // It may be gone already: then there is nothing to do.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Asks it to end (SIGTERM) and waits for `patience` at most.
    pub(crate) fn terminate(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait().context("asking for its state")? {
            return Ok(status);
        }
        run(Command::new("kill").args(["-TERM", &self.id().to_string()]))?;
        let clock = SystemClock::new();
        while clock.elapsed() < patience {
            if let Some(status) = self.child.try_wait().context("asking for its state")? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("{} did not end within {patience:?} of SIGTERM", self.name)
    }
}

/// A second: nginx ends its workers by then, who would outlive it if it were killed at once.
const ENDING: Duration = Duration::from_secs(1);

impl Drop for Server {
    fn drop(&mut self) {
        // What does not end when it is asked to is killed.
        if self.terminate(ENDING).is_err() {
            self.kill();
        }
    }
}

/// Whether a program of this name can be found.
pub(crate) fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|folder| folder.join(program).is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_dropped_can_end_its_own_children() {
        let folder = tempfile::tempdir().expect("a folder");
        let note = folder.path().join("ended");
        let script =
            "trap 'echo ended >\"$NOTE\"; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("NOTE", &note);
        let mut server = Server::start("a shell", command.stdout(Stdio::piped())).expect("sh");
        let mut line = String::new();
        BufReader::new(server.output().expect("piped"))
            .read_line(&mut line)
            .expect("its output");
        drop(server);
        assert_eq!(
            std::fs::read_to_string(&note).expect("it ended by itself"),
            "ended\n"
        );
    }

    #[test]
    fn output_is_read_line_by_line_from_both_streams() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let status = run_and_read(&mut command, |line| lines.push(line.to_owned())).expect("sh");
        assert_eq!(
            (lines, status.code()),
            (vec!["one".to_owned(), "two".to_owned()], Some(3))
        );
    }
}
