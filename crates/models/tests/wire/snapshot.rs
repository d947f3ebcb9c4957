//! Snapshots: texts in files, compared whole. `UPDATE_SNAPSHOTS=1` writes them anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use models::Raw;

/// Compares a text with what is committed.
pub fn check(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/wire/snapshots")
        .join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some(line) = first_difference(&committed, text) {
        panic!(
            "the snapshot '{name}' differs at line {line}; run with UPDATE_SNAPSHOTS=1 and read \
             the difference.\n--- now:\n{text}"
        );
    }
}

fn first_difference(committed: &str, now: &str) -> Option<usize> {
    if committed == now {
        return None;
    }
    let same = committed.lines().zip(now.lines());
    Some(same.take_while(|(one, other)| one == other).count() + 1)
}

/// JSON with a field a line, in its own order: how it is written matters to caches and schemas.
pub fn pretty(body: &[u8]) -> String {
    let mut out = String::new();
    write_value(&mut out, Raw::new(body), 0);
    out
}

/// 72: what is shorter stays on one line.
const LINE_MAX: usize = 72;

fn write_value(out: &mut String, value: Raw<'_>, depth: usize) {
    let text = std::str::from_utf8(value.bytes()).expect("JSON is text");
    let is_open = text.starts_with(['{', '[']);
    if !is_open || text.len() <= LINE_MAX {
        out.push_str(text);
        return;
    }
    let indent = "  ".repeat(depth + 1);
    if text.starts_with('{') {
        out.push('{');
        for (index, (key, value)) in value.fields().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(out, "{comma}\n{indent}{:?}: ", key.decode()).unwrap();
            write_value(out, value, depth + 1);
        }
        write!(out, "\n{}}}", "  ".repeat(depth)).unwrap();
    } else {
        out.push('[');
        for (index, value) in value.elements().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(out, "{comma}\n{indent}").unwrap();
            write_value(out, value, depth + 1);
        }
        write!(out, "\n{}]", "  ".repeat(depth)).unwrap();
    }
}
