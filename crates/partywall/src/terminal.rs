//! What people and scripts see: standard output, tables, questions.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;
use serde_json::Value;

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Tables and sentences.
    People,
    /// The API's own JSON.
    Json,
}

/// Writes `text` and a line's end to standard output.
///
/// # Errors
///
/// Whatever writing reports; a reader that has gone (`… | head`) is no error.
pub(crate) fn say(text: impl std::fmt::Display) -> anyhow::Result<()> {
    write_out(format!("{text}\n").as_bytes())
}

/// Writes `bytes` to standard output.
///
/// # Errors
///
/// As [`say`].
pub(crate) fn write_out(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Writes `value` as JSON to standard output.
///
/// # Errors
///
/// As [`say`].
pub(crate) fn say_json(value: &impl Serialize) -> anyhow::Result<()> {
    say(serde_json::to_string_pretty(value).context("results have string keys")?)
}

/// Writes a line to standard error: notices that are no part of the result.
pub(crate) fn note(text: impl std::fmt::Display) {
    // Standard error may be closed; then nobody wants to know.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Writes a table to standard output; says that there is nothing where there are no rows.
///
/// # Errors
///
/// As [`say`].
pub(crate) fn say_table(header: &[&str], rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    if rows.is_empty() {
        return say("none");
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(
        header
            .iter()
            .map(|name| name.to_uppercase())
            .collect::<Vec<_>>(),
    );
    table.add_rows(rows);
    say(table.trim_fmt())
}

/// A JSON value in a table's cell.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Asks, and returns whether the answer is yes.
///
/// # Errors
///
/// If there is nobody to ask: the input is no terminal.
pub(crate) fn confirm(question: &str) -> anyhow::Result<bool> {
    let answer = ask(&format!("{question} [y/N] "))?;
    Ok(matches!(answer.as_str(), "y" | "Y" | "yes"))
}

/// Asks, and returns the answer.
///
/// # Errors
///
/// As [`confirm`].
pub(crate) fn ask(question: &str) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        bail!("nobody is here to confirm: repeat with --yes");
    }
    let mut out = io::stderr().lock();
    out.write_all(question.as_bytes())?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// Colours, where a terminal shows them and nobody asked for none (<https://no-color.org>).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    is_on: bool,
}

impl Paint {
    /// As standard output wants it.
    pub(crate) fn for_stdout() -> Self {
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            is_on: io::stdout().is_terminal() && !is_refused,
        }
    }

    /// No colours.
    #[cfg(test)]
    pub(crate) const OFF: Self = Self { is_on: false };

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.is_on {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
