//! One pass over a body: all of it is checked, none of it is copied.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::content::{self, TypeWord};
use crate::envelope::{Envelope, Field, Kind, Tally};
use crate::lex::{Lexer, Text};
use crate::raw;

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How deep objects and arrays may nest, the body itself being 1. At most 128.
    pub depth_max: u32,
    /// How many top-level fields there may be.
    pub fields_max: usize,
    /// Keys that are refused wherever in the body they stand, however they are spelled.
    pub refused_keys: &'static [&'static str],
}

/// Fields by which a client could reach another tenant's cache or adapters: only the gateway
/// may set them.
pub const REFUSED_FIELDS: &[&str] = &[
    "cache_salt",
    "extra_key",
    "kv_transfer_params",
    "prompt_cache_key",
    "lora_path",
    "lora_name",
    "adapter_id",
    "adapter_source",
];

/// 128: a bit for each level, in a `u128`; and what serde_json stops at.
const DEPTH_MAX: u32 = 128;

impl Default for Bounds {
    /// 64 levels: three times the deepest tool schema seen; 128 fields: OpenAI documents 40 and
    /// vLLM adds 50; [`REFUSED_FIELDS`].
    fn default() -> Self {
        Self {
            depth_max: 64,
            fields_max: 128,
            refused_keys: REFUSED_FIELDS,
        }
    }
}

/// Why a body was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not JSON.
    #[error("the body is not valid JSON: expected {expected} at byte {offset}")]
    Syntax {
        /// Where, in bytes from the beginning.
        offset: usize,
        /// What would have been right there.
        expected: &'static str,
    },
    /// Not text.
    #[error("the body is not valid UTF-8 at byte {offset}: send JSON in UTF-8")]
    NotUtf8 {
        /// Where, in bytes from the beginning.
        offset: usize,
    },
    /// JSON, and not an object.
    #[error("the body must be a JSON object, like {{\"model\": \"...\"}}")]
    NotAnObject,
    /// Nested too deep.
    #[error("the body nests deeper than {depth_max} levels at byte {offset}: flatten it")]
    TooDeep {
        /// Where, in bytes from the beginning.
        offset: usize,
        /// The bound.
        depth_max: u32,
    },
    /// Too many top-level fields.
    #[error("the body has more than {fields_max} fields: send fewer")]
    TooManyFields {
        /// The bound.
        fields_max: usize,
    },
    /// A top-level field occurs twice, so that two readers could see two requests.
    #[error("the field '{name}' occurs again at byte {offset}: send it once")]
    DuplicateField {
        /// The field's name, shortened to 64 bytes.
        name: String,
        /// Where it occurs again.
        offset: usize,
    },
    /// A field that only the gateway may set.
    #[error("the field '{name}' at byte {offset} cannot be set by a client: remove it")]
    RefusedField {
        /// The field's name.
        name: &'static str,
        /// Where it stands.
        offset: usize,
    },
    /// Longer than offsets can say.
    #[error("the body is longer than 4 GiB: send less")]
    TooLong,
}

impl Envelope {
    /// Checks the whole body and remembers where its top-level fields are.
    ///
    /// # Errors
    /// What is not one JSON object (RFC 8259, in UTF-8), exceeds `bounds`, repeats a top-level
    /// field, or has a refused key at any depth.
    pub fn parse(body: Bytes, bounds: &Bounds) -> Result<Self, BodyError> {
        if u32::try_from(body.len()).is_err() {
            return Err(BodyError::TooLong);
        }
        let mut scanner = Scanner::new(&body, bounds);
        let mut fields = SmallVec::new();
        scanner.lexer.white_space();
        let open = offset(scanner.lexer.at());
        if !scanner.lexer.eat(b'{') {
            // Say "not JSON" of what is not, before "not an object".
            scanner.value()?;
            scanner.end()?;
            return Err(BodyError::NotAnObject);
        }
        scanner.enter(Container::Object)?;
        scanner.lexer.white_space();
        if !scanner.lexer.eat(b'}') {
            loop {
                scanner.field(&mut fields)?;
                scanner.lexer.white_space();
                if scanner.lexer.eat(b'}') {
                    break;
                }
                scanner.lexer.expect(b',', "',' or '}'")?;
                scanner.lexer.white_space();
            }
        }
        let close = offset(scanner.lexer.at() - 1);
        scanner.end()?;
        Ok(Self {
            open,
            close,
            fields,
            body,
        })
    }
}

/// Checks that `text` is one JSON value, of any kind.
pub(crate) fn check_value(text: &[u8]) -> Result<(), BodyError> {
    let bounds = Bounds {
        depth_max: DEPTH_MAX,
        fields_max: 0,
        refused_keys: &[],
    };
    let mut scanner = Scanner::new(text, &bounds);
    scanner.lexer.white_space();
    scanner.value()?;
    scanner.end()
}

struct Scanner<'a> {
    lexer: Lexer<'a>,
    bounds: &'a Bounds,
    /// Bit n: a key of n bytes may be refused or tell of a modality.
    watched_lengths: u64,
    /// The open objects (1) and arrays (0), the innermost lowest.
    open: u128,
    depth: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Object,
    Array,
}

/// What a key says about its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyRole {
    Plain,
    /// The value may say of which modality the object is.
    Type,
}

impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8], bounds: &'a Bounds) -> Self {
        let refused = bounds.refused_keys.iter();
        Self {
            lexer: Lexer::new(bytes),
            bounds,
            watched_lengths: refused.fold(content::KEY_LENGTHS, |lengths, key| {
                lengths | length_bit(key.len())
            }),
            open: 0,
            depth: 0,
        }
    }

    /// One top-level field, its key first.
    fn field(&mut self, fields: &mut SmallVec<[Field; 8]>) -> Result<(), BodyError> {
        if fields.len() >= self.bounds.fields_max {
            let fields_max = self.bounds.fields_max;
            return Err(BodyError::TooManyFields { fields_max });
        }
        // A top-level key tells of no modality by itself: what it counts is dropped.
        let (key, _) = self.key(&mut Tally::default())?;
        self.refuse_duplicate(key, fields)?;
        let value_start = offset(self.lexer.at());
        let (kind, tally) = self.value()?;
        fields.push(Field {
            key_start: offset(key.start),
            key_end: offset(key.start + key.written.len()),
            key_escaped: key.escaped,
            value_start,
            value_end: offset(self.lexer.at()),
            kind,
            tally,
        });
        Ok(())
    }

    fn refuse_duplicate(&self, key: Text<'_>, fields: &[Field]) -> Result<(), BodyError> {
        let repeated = fields.iter().any(|field| {
            let earlier = self.lexer.slice(field.key_start, field.key_end);
            if field.key_escaped || key.escaped {
                raw::decode(earlier) == raw::decode(key.written)
            } else {
                earlier == key.written
            }
        });
        if !repeated {
            return Ok(());
        }
        let mut name = raw::decode(key.written).into_owned();
        name.truncate(name.floor_char_boundary(64));
        Err(BodyError::DuplicateField {
            name,
            offset: key.start - 1,
        })
    }

    /// One value of any depth.
    fn value(&mut self) -> Result<(Kind, Tally), BodyError> {
        let kind = Kind::of(self.lexer.peek()).ok_or_else(|| self.lexer.syntax("a value"))?;
        let outside = self.depth;
        let mut tally = Tally::default();
        let mut role = KeyRole::Plain;
        loop {
            let nested = self.begin_value(role, &mut tally)?;
            if let Some(inner) = nested {
                if self.depth == outside + 1 && inner == Container::Array {
                    tally.items = 1;
                }
                role = self.before_value(inner, &mut tally)?;
                continue;
            }
            // A value has ended: what ends with it, and what comes next?
            loop {
                if self.depth == outside {
                    return Ok((kind, tally));
                }
                self.lexer.white_space();
                tally.structure += 1;
                let inside = self.innermost();
                if self.lexer.eat(b',') {
                    if self.depth == outside + 1 && inside == Container::Array {
                        tally.items += 1;
                    }
                    self.lexer.white_space();
                    role = self.before_value(inside, &mut tally)?;
                    break;
                }
                match inside {
                    Container::Object => self.lexer.expect(b'}', "',' or '}'")?,
                    Container::Array => self.lexer.expect(b']', "',' or ']'")?,
                }
                self.leave();
            }
        }
    }

    /// Consumes a scalar or an empty container whole, and of another container its opening.
    fn begin_value(
        &mut self,
        role: KeyRole,
        tally: &mut Tally,
    ) -> Result<Option<Container>, BodyError> {
        match self.lexer.peek() {
            Some(b'"') => {
                let text = self.lexer.string("a value")?;
                tally.strings += 1;
                let unusual = || text.escaped || content::type_word(text.written) != TypeWord::Text;
                tally.marked |= role == KeyRole::Type && unusual();
            }
            Some(b'{') => return self.open(Container::Object, tally),
            Some(b'[') => return self.open(Container::Array, tally),
            Some(b'-' | b'0'..=b'9') => {
                self.lexer.number()?;
                tally.numbers += 1;
            }
            Some(b't') => self.lexer.literal(b"true")?,
            Some(b'f') => self.lexer.literal(b"false")?,
            Some(b'n') => self.lexer.literal(b"null")?,
            _ => return Err(self.lexer.syntax("a value")),
        }
        Ok(None)
    }

    /// Opens a container; none is left open if it is empty.
    fn open(
        &mut self,
        container: Container,
        tally: &mut Tally,
    ) -> Result<Option<Container>, BodyError> {
        self.enter(container)?;
        let closing = match container {
            Container::Object => b"{}",
            Container::Array => b"[]",
        };
        self.lexer.eat(closing[0]);
        tally.structure += 1;
        self.lexer.white_space();
        if self.lexer.eat(closing[1]) {
            tally.structure += 1;
            self.leave();
            return Ok(None);
        }
        Ok(Some(container))
    }

    /// What stands before a value: in an object its key.
    fn before_value(&mut self, inside: Container, tally: &mut Tally) -> Result<KeyRole, BodyError> {
        match inside {
            Container::Array => Ok(KeyRole::Plain),
            Container::Object => self.key(tally).map(|(_, role)| role),
        }
    }

    /// A key with its colon and the white space around it.
    fn key(&mut self, tally: &mut Tally) -> Result<(Text<'a>, KeyRole), BodyError> {
        let key = self.lexer.string("a key in quotes")?;
        let watched = self.watched_lengths & length_bit(key.written.len()) != 0;
        let role = if watched || key.escaped {
            self.watch(key, tally)?
        } else {
            KeyRole::Plain
        };
        self.lexer.white_space();
        self.lexer.expect(b':', "':' after a key")?;
        tally.structure += 1;
        self.lexer.white_space();
        Ok((key, role))
    }

    fn watch(&self, key: Text<'_>, tally: &mut Tally) -> Result<KeyRole, BodyError> {
        let name = raw::decode_escaped(key.written, key.escaped);
        if let Some(refused) = self.bounds.refused_keys.iter().find(|key| **key == name) {
            return Err(BodyError::RefusedField {
                name: refused,
                offset: key.start - 1,
            });
        }
        if name == "type" {
            return Ok(KeyRole::Type);
        }
        tally.marked |= content::is_modality_key(&name);
        Ok(KeyRole::Plain)
    }

    /// White space alone may follow.
    fn end(&mut self) -> Result<(), BodyError> {
        self.lexer.white_space();
        match self.lexer.peek() {
            None => Ok(()),
            Some(_) => Err(self.lexer.syntax("nothing after the end of the JSON value")),
        }
    }

    fn enter(&mut self, container: Container) -> Result<(), BodyError> {
        let depth_max = self.bounds.depth_max.min(DEPTH_MAX);
        if self.depth >= depth_max {
            let offset = self.lexer.at();
            return Err(BodyError::TooDeep { offset, depth_max });
        }
        self.depth += 1;
        self.open = self.open << 1 | u128::from(container == Container::Object);
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.open >>= 1;
    }

    fn innermost(&self) -> Container {
        if self.open & 1 == 1 {
            Container::Object
        } else {
            Container::Array
        }
    }
}

/// The bit of a length in a mask; lengths from 63 on share the last.
pub(crate) const fn length_bit(length: usize) -> u64 {
    1 << if length < 63 { length } else { 63 }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("a body is checked to be shorter than 4 GiB")
}
