//! What a conversation holds beside text: images are counted, what has no bound is named.

use smallvec::SmallVec;

use crate::envelope::Kind;
use crate::error::InvalidRequest;
use crate::raw::{self, Key, Raw};
use crate::scan::length_bit;

/// Types of objects in messages that are text, or that hold it.
pub const TEXT_TYPES: &[&str] = &[
    "text",
    "input_text",
    "output_text",
    "refusal",
    "function",
    "custom",
];

/// Types of content parts that are one image each.
pub const IMAGE_TYPES: &[&str] = &["image_url", "input_image", "image"];

/// Types of content parts whose tokens cannot be bounded from the request.
const UNBOUNDED_TYPES: &[&str] = &[
    "input_audio",
    "audio_url",
    "audio",
    "video_url",
    "video",
    "file",
    "input_file",
    "document",
    "image_embeds",
    "audio_embeds",
    "image_pil",
];

/// Keys by which engines know an image that does not say its type.
const IMAGE_KEYS: &[&str] = &["image_url", "image"];

/// Keys by which engines know other modalities that do not say their type.
const UNBOUNDED_KEYS: &[&str] = &[
    "input_audio",
    "audio_url",
    "video_url",
    "video",
    "file",
    "image_embeds",
    "audio_embeds",
    "image_pil",
];

/// What a `type` says of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TypeWord {
    Text,
    Image,
    Unbounded,
    Unknown,
}

pub(crate) fn type_word(word: &[u8]) -> TypeWord {
    let is_one_of = |words: &[&str]| words.iter().any(|known| known.as_bytes() == word);
    if is_one_of(TEXT_TYPES) {
        TypeWord::Text
    } else if is_one_of(IMAGE_TYPES) {
        TypeWord::Image
    } else if is_one_of(UNBOUNDED_TYPES) {
        TypeWord::Unbounded
    } else {
        TypeWord::Unknown
    }
}

/// Whether a key makes its object worth a look by [`Media::in_messages`].
pub(crate) fn is_modality_key(name: &str) -> bool {
    // Compared here and not by `contains`, which is a call of its own for each key of a body.
    IMAGE_KEYS
        .iter()
        .chain(UNBOUNDED_KEYS)
        .any(|known| *known == name)
}

/// The lengths of the keys that a scanner must look at: `type` and those of modalities.
pub(crate) const KEY_LENGTHS: u64 =
    length_bit("type".len()) | lengths(IMAGE_KEYS) | lengths(UNBOUNDED_KEYS);

const fn lengths(mut words: &[&str]) -> u64 {
    let mut bits = 0;
    while let [word, rest @ ..] = words {
        bits |= length_bit(word.len());
        words = rest;
    }
    bits
}

/// What is beside text.
#[derive(Debug, Default)]
pub(crate) struct Media {
    pub(crate) images: u32,
    /// Bytes of image addresses and inline images, which are no prompt text.
    pub(crate) image_bytes: u64,
    /// The types whose tokens cannot be bounded, each once.
    pub(crate) unbounded: SmallVec<[String; 1]>,
}

/// 8 names say enough to refuse a request; 64 bytes hold every known type.
const UNBOUNDED_MAX: usize = 8;
const TYPE_BYTES_MAX: usize = 64;

impl Media {
    /// Looks through the value of `messages`.
    ///
    /// # Errors
    /// A content part says twice what it is, so that two readers could see two requests.
    pub(crate) fn in_messages(messages: Raw<'_>) -> Result<Self, InvalidRequest> {
        let mut media = Self::default();
        for message in messages.elements() {
            for (key, value) in message.fields() {
                if key.is("content") {
                    media.content(value)?;
                } else {
                    media.anything(value);
                }
            }
        }
        Ok(media)
    }

    /// Looks through any other value.
    pub(crate) fn in_value(value: Raw<'_>) -> Self {
        let mut media = Self::default();
        media.anything(value);
        media
    }

    fn note_unbounded(&mut self, name: &str) {
        note(&mut self.unbounded, name);
    }

    pub(crate) fn content(&mut self, content: Raw<'_>) -> Result<(), InvalidRequest> {
        if content.kind() != Some(Kind::Array) {
            self.anything(content);
            return Ok(());
        }
        for part in content.elements() {
            match Part::of(part)? {
                Part::Image { data_bytes } => {
                    self.images = self.images.saturating_add(1);
                    self.image_bytes += data_bytes;
                }
                Part::Unbounded(name) => self.note_unbounded(&name),
                Part::Unknown(name) => {
                    self.note_unbounded(&name);
                    self.anything(part);
                }
                // Text may have anything beside it: look inside.
                Part::Text => {
                    for (_, value) in part.fields() {
                        self.anything(value);
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts what is of a known modality, at any depth.
    pub(crate) fn anything(&mut self, value: Raw<'_>) {
        self.walk(value.bytes(), 0);
    }

    /// Walks the value that begins at `start` and returns its end. Each byte is passed once,
    /// however deep it lies; recursion is bounded by the depth that the scanner admitted.
    fn walk(&mut self, bytes: &[u8], start: usize) -> usize {
        match bytes.get(start) {
            Some(b'[') => self.walk_array(bytes, start + 1),
            Some(b'{') => self.walk_object(bytes, start + 1),
            _ => raw::value_end(bytes, start).unwrap_or(bytes.len()),
        }
    }

    fn walk_array(&mut self, bytes: &[u8], mut at: usize) -> usize {
        loop {
            at = raw::white_space_end(bytes, at);
            match bytes.get(at) {
                Some(b']') => return at + 1,
                Some(b',') => at += 1,
                Some(_) => at = self.walk(bytes, at),
                None => return bytes.len(),
            }
        }
    }

    fn walk_object(&mut self, bytes: &[u8], mut at: usize) -> usize {
        let mut image = false;
        let mut unbounded = None;
        loop {
            at = raw::white_space_end(bytes, at);
            match bytes.get(at) {
                Some(b'}') => break,
                Some(b',') => at += 1,
                Some(b'"') => {
                    let key_end = raw::value_end(bytes, at).unwrap_or(bytes.len());
                    let key = Key::quoted(&bytes[at..key_end]);
                    at = raw::white_space_end(bytes, key_end);
                    at += usize::from(bytes.get(at) == Some(&b':'));
                    let value_start = raw::white_space_end(bytes, at);
                    at = self.walk(bytes, value_start);
                    let value = &bytes[value_start.min(at)..at];
                    match meaning(key, Raw::new(value)) {
                        Meaning::Image => image = true,
                        Meaning::Unbounded(name) => unbounded = Some(name),
                        Meaning::Nothing => {}
                    }
                }
                _ => return bytes.len(),
            }
        }
        match unbounded {
            Some(name) => self.note_unbounded(name),
            None => self.images = self.images.saturating_add(image.into()),
        }
        at + 1
    }
}

/// What one field says of its object.
enum Meaning {
    Nothing,
    Image,
    Unbounded(&'static str),
}

fn meaning(key: Key<'_>, value: Raw<'_>) -> Meaning {
    if key.is("type") {
        let word = value.as_str().unwrap_or_default();
        if IMAGE_TYPES.contains(&&*word) {
            return Meaning::Image;
        }
        let unbounded = UNBOUNDED_TYPES.iter().find(|known| **known == word);
        return unbounded.map_or(Meaning::Nothing, |name| Meaning::Unbounded(name));
    }
    if known(key, IMAGE_KEYS).is_some() {
        return Meaning::Image;
    }
    known(key, UNBOUNDED_KEYS).map_or(Meaning::Nothing, Meaning::Unbounded)
}

pub(crate) fn note(names: &mut SmallVec<[String; 1]>, name: &str) {
    let name = &name[..name.floor_char_boundary(TYPE_BYTES_MAX)];
    if names.len() < UNBOUNDED_MAX && !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

/// Notes the tools that the provider itself runs: what they read and write is in no bound.
pub(crate) fn note_tools(names: &mut SmallVec<[String; 1]>, tools: Raw<'_>) {
    for tool in tools.elements() {
        if let Some(kind) = tool.get("type").and_then(Raw::as_str)
            && !matches!(&*kind, "function" | "custom")
        {
            note(names, &kind);
        }
    }
}

/// What one object is.
enum Part {
    Text,
    /// `data_bytes`: of the address or inline image, where that is no text to any reader.
    Image {
        data_bytes: u64,
    },
    Unbounded(String),
    Unknown(String),
}

impl Part {
    fn of(object: Raw<'_>) -> Result<Self, InvalidRequest> {
        let mut kind = None;
        let mut image = None;
        let mut unbounded = None;
        for (key, value) in object.fields() {
            if key.is("type") {
                refuse_second(&kind, "type")?;
                kind = Some(value);
            } else if let Some(name) = known(key, IMAGE_KEYS) {
                refuse_second(&image, name)?;
                image = Some(value);
            } else if let Some(name) = known(key, UNBOUNDED_KEYS) {
                unbounded = Some(name);
            }
        }
        let kind = kind.and_then(Raw::as_str);
        let word = kind.as_deref().map(|kind| type_word(kind.as_bytes()));
        Ok(match (word, unbounded, image) {
            (Some(TypeWord::Unbounded), ..) => Self::Unbounded(kind.unwrap_or_default().into()),
            (_, Some(name), _) => Self::Unbounded(name.to_owned()),
            (Some(TypeWord::Image), _, None) => Self::Image { data_bytes: 0 },
            (_, _, Some(image)) => Self::Image {
                data_bytes: image_data_bytes(image)?,
            },
            (Some(TypeWord::Unknown), ..) => Self::Unknown(kind.unwrap_or_default().into()),
            _ => Self::Text,
        })
    }
}

fn known(key: Key<'_>, names: &[&'static str]) -> Option<&'static str> {
    names.iter().copied().find(|name| key.is(name))
}

fn refuse_second(first: &Option<Raw<'_>>, name: &str) -> Result<(), InvalidRequest> {
    if first.is_none() {
        return Ok(());
    }
    Err(InvalidRequest::new(
        format!("A content part has the field '{name}' twice: send it once."),
        "messages",
        "duplicate_parameter",
    ))
}

/// The bytes of `{"url": …}` or of a plain address. Only what begins like an address counts:
/// anything else could be text to some engine.
fn image_data_bytes(image: Raw<'_>) -> Result<u64, InvalidRequest> {
    let address = match image.kind() {
        Some(Kind::Object) => {
            let mut url = None;
            for (_, value) in image.fields().filter(|(key, _)| key.is("url")) {
                refuse_second(&url, "url")?;
                url = Some(value);
            }
            url
        }
        _ => Some(image),
    };
    let is_address = |address: &Raw<'_>| {
        [
            b"\"data:image/".as_slice(),
            b"\"https://",
            b"\"http://",
            b"\"data:image\\/",
        ]
        .iter()
        .any(|prefix| address.bytes().starts_with(prefix))
    };
    Ok(address
        .filter(is_address)
        .map_or(0, |address| address.bytes().len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(messages: &str, images: u32, image_bytes: u64, unbounded: &[&str]) {
        let media = Media::in_messages(Raw::new(messages.as_bytes())).unwrap();
        assert_eq!(media.images, images, "{messages}");
        assert_eq!(media.image_bytes, image_bytes, "{messages}");
        assert_eq!(media.unbounded.as_slice(), unbounded, "{messages}");
    }

    #[test]
    fn images_are_counted_and_their_bytes_set_apart() {
        check(r#"[{"role":"user","content":"image_url"}]"#, 0, 0, &[]);
        check(
            r#"[{"content":[{"type":"text","text":"hi"},
                {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]"#,
            1,
            28,
            &[],
        );
        check(
            r#"[{"content":[{"type":"input_image","image_url":"https://a/b"}]}]"#,
            1,
            13,
            &[],
        );
        check(r#"[{"content":[{"image_url":{"url":"x"}}]}]"#, 1, 0, &[]);
    }

    #[test]
    fn images_elsewhere_count_and_their_bytes_stay_text() {
        check(
            r#"[{"tool":{"x":[{"type":"image_url","image_url":{"url":"https://a"}}]}}]"#,
            1,
            0,
            &[],
        );
        check(
            r#"[{"content":[{"type":"text","x":{"type":"image\u005furl"}}]}]"#,
            1,
            0,
            &[],
        );
    }

    #[test]
    fn what_has_no_bound_is_named_once() {
        check(
            r#"[{"content":[{"type":"input_audio"},{"input_audio":{}},{"type":"hologram"}]}]"#,
            0,
            0,
            &["input_audio", "hologram"],
        );
        check(
            r#"[{"tool_calls":[{"type":"function"}],"content":[{"file":{}}]}]"#,
            0,
            0,
            &["file"],
        );
    }

    #[test]
    fn a_part_of_two_minds_is_refused() {
        for part in [
            r#"{"type":"image_url","type":"text"}"#,
            r#"{"image_url":"a","image_url":"b"}"#,
            r#"{"image_url":{"url":"http://a","url":"text"}}"#,
        ] {
            let messages = format!(r#"[{{"content":[{part}]}}]"#);
            assert!(Media::in_messages(Raw::new(messages.as_bytes())).is_err());
        }
    }
}
