//! Placeholders for what was redacted, within one request, and the way back.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};

use zeroize::Zeroizing;

/// 10,000 different originals and 1 MiB of them in one request; what comes after gets a
/// placeholder without a number (`[CARD]`), which does not come back.
const ORIGINALS_MAX: usize = 10_000;
const ORIGINAL_BYTES_MAX: usize = 1 << 20;
/// 48 bytes: the longest label has 24, a number five digits.
const PLACEHOLDER_BYTES_MAX: usize = 48;
/// 24 bytes of a check's name.
pub(super) const LABEL_BYTES_MAX: usize = 24;

/// A text that is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
struct Original(Zeroizing<String>);

impl Hash for Original {
    fn hash<H: Hasher>(&self, state: &mut H) {
        str::hash(&self.0, state);
    }
}

impl Borrow<str> for Original {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The originals of one request and their placeholders. The same original has the same
/// placeholder throughout the request, input and answer; nothing outlives the request.
#[derive(Default)]
pub struct Vault {
    /// By label.
    numbers: HashMap<String, Numbers>,
    /// By placeholder, for those that come back.
    originals: HashMap<String, Original>,
    /// Placeholders that the caller's text had in it already.
    taken: HashSet<String>,
    count: usize,
    bytes: usize,
}

/// The numbers of one label.
#[derive(Default)]
struct Numbers {
    by_original: HashMap<Original, u32>,
    last: u32,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({} originals)", self.count)
    }
}

impl Vault {
    /// An empty vault, for one request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether anything would come back.
    pub fn restores(&self) -> bool {
        !self.originals.is_empty()
    }

    /// What would come back, and what stands for it: placeholder, original.
    pub(crate) fn originals(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.originals.iter();
        all.map(|(placeholder, original)| (placeholder.as_str(), original.0.as_str()))
    }

    /// Notes what looks like a placeholder in a text that is about to be redacted, so that none of
    /// ours is the same.
    pub(super) fn reserve(&mut self, text: &str) {
        let bytes = text.as_bytes();
        for start in memchr::memchr_iter(b'[', bytes) {
            if let Some(end) = placeholder_end(bytes, start)
                && self.taken.len() < ORIGINALS_MAX
            {
                self.taken.insert(text[start..end].to_owned());
            }
        }
    }

    /// The placeholder for `original`. It comes back if `restores`.
    pub(super) fn placeholder(&mut self, label: &str, original: &str, restores: bool) -> String {
        if let Some(number) = self
            .numbers
            .get(label)
            .and_then(|numbers| numbers.by_original.get(original))
        {
            let placeholder = format!("[{label}_{number}]");
            if restores {
                let original = Original(Zeroizing::new(original.to_owned()));
                self.originals
                    .entry(placeholder.clone())
                    .or_insert(original);
            }
            return placeholder;
        }
        if self.count >= ORIGINALS_MAX || self.bytes + original.len() > ORIGINAL_BYTES_MAX {
            return format!("[{label}]");
        }
        self.count += 1;
        self.bytes += original.len();
        let numbers = self.numbers.entry(label.to_owned()).or_default();
        let placeholder = loop {
            numbers.last += 1;
            let placeholder = format!("[{label}_{}]", numbers.last);
            if !self.taken.contains(&placeholder) {
                break placeholder;
            }
        };
        let original = Original(Zeroizing::new(original.to_owned()));
        if restores {
            self.originals.insert(placeholder.clone(), original.clone());
        }
        numbers.by_original.insert(original, numbers.last);
        placeholder
    }
}

/// Where the placeholder that begins at `start` ends, if there is one.
fn placeholder_end(bytes: &[u8], start: usize) -> Option<usize> {
    let rest = &bytes[start + 1..];
    let length = rest
        .iter()
        .take(PLACEHOLDER_BYTES_MAX)
        .position(|byte| !is_of_placeholder(*byte))?;
    (length > 0 && rest[length] == b']').then_some(start + length + 2)
}

fn is_of_placeholder(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'
}

/// Puts originals back into an answer that arrives in pieces. It holds back what may be the
/// beginning of a placeholder: 50 bytes at most.
#[derive(Default)]
pub struct Restorer {
    held: String,
    /// What comes back is escaped as inside a string of JSON.
    is_into_json: bool,
}

impl Restorer {
    /// A restorer for one answer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A restorer for an answer that is JSON itself, such as a tool's arguments: what comes back
    /// stands inside its strings.
    pub fn into_json() -> Self {
        Self {
            is_into_json: true,
            ..Self::default()
        }
    }

    /// Adds to `released` what can be told of the answer so far.
    pub fn push(&mut self, vault: &Vault, text: &str, released: &mut String) {
        if !vault.restores() && self.held.is_empty() {
            released.push_str(text);
            return;
        }
        self.held.push_str(text);
        let bytes = self.held.as_bytes();
        let mut copied = 0;
        let mut at = 0;
        while let Some(found) = memchr::memchr(b'[', &bytes[at..]) {
            let start = at + found;
            let tail = &bytes[start + 1..];
            let is_open = tail.len() <= PLACEHOLDER_BYTES_MAX
                && tail.iter().all(|byte| is_of_placeholder(*byte));
            if is_open {
                released.push_str(&self.held[copied..start]);
                self.held.drain(..start);
                return;
            }
            at = start + 1;
            let original = placeholder_end(bytes, start)
                .and_then(|end| Some((end, vault.originals.get(&self.held[start..end])?)));
            if let Some((end, original)) = original {
                released.push_str(&self.held[copied..start]);
                match self.is_into_json {
                    false => released.push_str(&original.0),
                    true => {
                        let json =
                            Zeroizing::new(serde_json::Value::from(&**original.0).to_string());
                        released.push_str(&json[1..json.len() - 1]);
                    }
                }
                copied = end;
                at = end;
            }
        }
        released.push_str(&self.held[copied..]);
        self.held.clear();
    }

    /// The answer has ended: adds the rest to `released`.
    pub fn finish(&mut self, released: &mut String) {
        released.push_str(&self.held);
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_original_has_the_same_placeholder() {
        let mut vault = Vault::new();
        vault.reserve("a literal [CARD_2] and [x] and [CARD_");
        assert_eq!(vault.placeholder("CARD", "one", false), "[CARD_1]");
        assert_eq!(vault.placeholder("CARD", "two", false), "[CARD_3]");
        assert_eq!(vault.placeholder("CARD", "one", false), "[CARD_1]");
        assert_eq!(vault.placeholder("CARD", "three", false), "[CARD_4]");
        assert_eq!(vault.placeholder("IBAN", "one", false), "[IBAN_1]");
        assert_eq!(format!("{vault:?}"), "Vault(4 originals)");
    }

    #[test]
    fn what_a_vault_holds_is_bounded() {
        let mut vault = Vault::new();
        let large = "x".repeat(ORIGINAL_BYTES_MAX);
        assert_eq!(vault.placeholder("A", &large, true), "[A_1]");
        assert_eq!(vault.placeholder("A", "y", true), "[A]");
    }

    #[test]
    fn only_what_is_to_come_back_does() {
        let mut vault = Vault::new();
        vault.placeholder("CARD", "4111", true);
        vault.placeholder("IP", "1.2.3.4", false);
        let mut released = String::new();
        let mut restorer = Restorer::new();
        restorer.push(&vault, "[[CARD_1] [IP_1] [CARD_2] [CARD_", &mut released);
        assert_eq!(released, "[4111 [IP_1] [CARD_2] ");
        restorer.push(&vault, "1], [", &mut released);
        restorer.finish(&mut released);
        assert_eq!(released, "[4111 [IP_1] [CARD_2] 4111, [");
    }

    #[test]
    fn inside_json_it_comes_back_escaped() {
        let mut vault = Vault::new();
        vault.placeholder("SECRET", "a\"b\nc", true);
        let mut released = String::new();
        let mut restorer = Restorer::into_json();
        restorer.push(&vault, r#"{"key":"[SECRET_1]"}"#, &mut released);
        restorer.finish(&mut released);
        assert_eq!(released, r#"{"key":"a\"b\nc"}"#);
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(pieces in prop::collection::vec("[\\[\\]CARD_1é]{0,6}|\\[CARD_1\\]", 0..12)) {
            let mut vault = Vault::new();
            vault.placeholder("CARD", "4111", true);
            let whole = pieces.concat();
            let mut released = String::new();
            let mut restorer = Restorer::new();
            for piece in &pieces {
                restorer.push(&vault, piece, &mut released);
            }
            restorer.finish(&mut released);
            prop_assert_eq!(released, whole.replace("[CARD_1]", "4111"));
        }
    }
}
