//! Answers of every provider to clients of every dialect, whole and streamed.
//!
//! `answers/<provider>/<case>.json` is a whole answer as the provider writes it; the same answer
//! as a stream is `<case>.stream`, or for Bedrock `<case>.messages`, a message a line.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use models::{
    AnswerNames, AnthropicMeter, ChunkKind, Dialect, EVENT_BYTES_MAX, EventMessage, Flavour,
    OutputCount, Raw, SseSplitter, StreamState, StreamUsage, Translation, classify,
};

use crate::requests::INBOUND;
use crate::snapshot::{check, pretty};

/// One recorded answer.
pub struct Case {
    /// `openai/tools`
    pub name: String,
    pub dialect: Dialect,
    pub whole: Option<Bytes>,
    pub stream: Option<Bytes>,
}

/// All of them, in order.
pub fn all() -> Vec<Case> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wire/answers");
    let mut files: Vec<PathBuf> = Vec::new();
    for provider in sorted(&folder) {
        files.extend(sorted(&provider));
    }
    let mut cases: Vec<Case> = Vec::new();
    for file in files {
        let provider = file
            .parent()
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap();
        let name = format!("{provider}/{}", file.file_stem().unwrap().to_str().unwrap());
        let index = cases.iter().position(|case| case.name == name);
        let index = index.unwrap_or_else(|| {
            cases.push(Case {
                name,
                dialect: dialect(provider),
                whole: None,
                stream: None,
            });
            cases.len() - 1
        });
        let text = std::fs::read(&file).unwrap();
        match file.extension().unwrap().to_str().unwrap() {
            "json" => cases[index].whole = Some(text.into()),
            "stream" => cases[index].stream = Some(text.into()),
            "messages" => cases[index].stream = Some(messages(&text)),
            other => panic!("what is a .{other}?"),
        }
    }
    assert!(cases.len() > 10, "the answers are not where they should be");
    cases
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Flavours of OpenAI's chat have folders of their own.
fn dialect(provider: &str) -> Dialect {
    match Dialect::from_name(provider) {
        Some(dialect) => dialect,
        None => {
            assert!(Flavour::from_name(provider).is_some(), "{provider}");
            Dialect::OpenAiChat
        }
    }
}

fn messages(lines: &[u8]) -> Bytes {
    let lines = lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    let frames = lines.flat_map(|line| {
        let line = Raw::new(line);
        let kind = line.get("type").unwrap().as_str().unwrap();
        let payload = Bytes::copy_from_slice(line.get("payload").unwrap().bytes());
        EventMessage::event(&kind, payload).encode().unwrap()
    });
    frames.collect::<Vec<u8>>().into()
}

pub fn names() -> AnswerNames {
    AnswerNames {
        id: "req_0".to_owned(),
        model: "the-model".to_owned(),
        created: 1_700_000_001,
    }
}

/// What a client of a dialect receives of a stream that comes in these pieces, and how it ends.
fn streamed(
    inbound: Dialect,
    outbound: Dialect,
    pieces: &[Bytes],
) -> (Vec<u8>, StreamState, Option<models::Usage>, OutputCount) {
    let translation = Translation::new(inbound, outbound, Flavour::OpenAi);
    let mut stream = translation.stream(names(), StreamUsage::Wanted).unwrap();
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(stream.feed(piece.clone()).unwrap());
    }
    out.extend(stream.finish().unwrap());
    let state = stream.state().clone();
    (out, state, stream.usage(), stream.output_count())
}

#[test]
fn every_answer_reaches_every_client() {
    for case in all() {
        let mut text = String::new();
        for inbound in INBOUND {
            let translation = Translation::new(inbound, case.dialect, Flavour::OpenAi);
            let client = inbound.name();
            if let Some(whole) = &case.whole {
                let answer = translation.answer(whole, &names()).unwrap();
                writeln!(text, "== {client}\n{}\n", pretty(&answer.body)).unwrap();
            }
            if let Some(stream) = &case.stream {
                let (out, ..) = streamed(inbound, case.dialect, std::slice::from_ref(stream));
                let out = String::from_utf8(out).unwrap();
                writeln!(text, "== {client}, streamed\n{out}").unwrap();
            }
        }
        check(&format!("answers/{}", case.name.replace('/', "_")), &text);
    }
}

#[test]
fn a_streamed_answer_is_the_whole_one() {
    for case in all() {
        if let (Some(whole), Some(stream)) = (case.whole, case.stream) {
            let whole = case.dialect.read_answer(&whole).unwrap();
            let mut streamed = case.dialect.read_stream(stream).unwrap();
            // Not every stream says what its answer says beside the answer itself.
            streamed.id.clone_from(&whole.id);
            streamed.model.clone_from(&whole.model);
            streamed.created = whole.created;
            streamed.service_tier.clone_from(&whole.service_tier);
            assert_eq!(streamed, whole, "{}", case.name);
        }
    }
}

#[test]
fn it_does_not_matter_where_a_stream_is_cut() {
    for case in all() {
        let Some(stream) = case.stream else { continue };
        for inbound in INBOUND {
            let whole = streamed(inbound, case.dialect, std::slice::from_ref(&stream));
            let byte_by_byte: Vec<_> = (0..stream.len()).map(|at| stream.slice(at..=at)).collect();
            assert_eq!(
                streamed(inbound, case.dialect, &byte_by_byte),
                whole,
                "{}",
                case.name
            );
            for cut in (0..stream.len()).step_by(61) {
                let pieces = [stream.slice(..cut), stream.slice(cut..)];
                let cut_once = streamed(inbound, case.dialect, &pieces);
                assert_eq!(cut_once, whole, "{} cut at {cut}", case.name);
            }
        }
    }
}

/// Metering sees the same, whether a stream is translated or passes as it is.
#[test]
fn usage_and_output_are_counted_alike() {
    for case in all() {
        let Some(stream) = case.stream else { continue };
        let (_, state, usage, counted) = streamed(
            Dialect::OpenAiChat,
            case.dialect,
            std::slice::from_ref(&stream),
        );
        if case.name.ends_with("/failure") {
            assert!(matches!(state, StreamState::Failed(_)), "{}", case.name);
            assert!(counted.deltas > 0, "{}", case.name);
            continue;
        }
        assert_eq!(state, StreamState::Complete, "{}", case.name);
        let tokens = usage;
        assert!(tokens.is_some(), "{}", case.name);
        let (native, native_count) = match case.dialect {
            Dialect::OpenAiChat | Dialect::Anthropic => metered(case.dialect, stream),
            _ => continue,
        };
        assert_eq!(native, tokens, "{}", case.name);
        // The native count takes what is written, escapes and structure included.
        assert!(
            native_count.content_bytes >= counted.content_bytes,
            "{}: {native_count:?} {counted:?}",
            case.name
        );
    }
}

/// As the gateway meters a stream that it passes on.
fn metered(dialect: Dialect, stream: Bytes) -> (Option<models::Usage>, OutputCount) {
    let mut splitter = SseSplitter::new(EVENT_BYTES_MAX);
    let mut meter = AnthropicMeter::default();
    let mut usage = None;
    let mut count = OutputCount::default();
    for event in splitter.feed(stream) {
        let Some(data) = event.unwrap().data else {
            continue;
        };
        let kind = match dialect {
            Dialect::Anthropic => meter.classify(&data),
            _ => classify(&data),
        };
        match kind {
            ChunkKind::Usage(said) => usage = Some(said),
            ChunkKind::ContentWithUsage(said, delta) => {
                usage = Some(said);
                count.add(delta);
            }
            ChunkKind::Content(delta) => count.add(delta),
            ChunkKind::Done | ChunkKind::Error | ChunkKind::Other => {}
        }
    }
    (usage, count)
}

/// What one of our gateways says to a client, another can read: in every dialect that is both
/// spoken by clients and by upstreams.
#[test]
fn what_clients_are_told_can_be_read_again() {
    for case in all() {
        let Some(whole) = case.whole else { continue };
        let answer = case.dialect.read_answer(&whole).unwrap();
        for inbound in INBOUND {
            let told = inbound.write_answer(&answer, &names()).unwrap();
            let again = inbound.read_answer(&told).unwrap();
            let twice = inbound.write_answer(&again, &names()).unwrap();
            let client = inbound.name();
            assert_eq!(pretty(&told), pretty(&twice), "{} to {client}", case.name);
            if let Some(stream) = &case.stream {
                let (told, ..) = streamed(inbound, case.dialect, std::slice::from_ref(stream));
                let streamed = inbound.read_stream(told.into()).unwrap();
                let streamed = inbound.write_answer(&streamed, &names()).unwrap();
                assert_eq!(
                    without_names(&streamed),
                    without_names(&twice),
                    "{} streamed to {client}",
                    case.name
                );
            }
        }
    }
}

/// Ids and times differ between an answer and its stream where the provider gives none.
fn without_names(body: &[u8]) -> serde_json::Value {
    let mut body: serde_json::Value = serde_json::from_slice(body).unwrap();
    let fields = body.as_object_mut().unwrap();
    for name in ["id", "created", "created_at", "model", "service_tier"] {
        fields.remove(name);
    }
    body
}

/// The request of a client that sends an answer back whole, as it came.
fn sent_back(inbound: Dialect, answer: &[u8]) -> Bytes {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap();
    let asked = serde_json::json!({"role": "user", "content": "Rome?"});
    let body = match inbound {
        Dialect::OpenAiChat => serde_json::json!({
            "messages": [asked, answer["choices"][0]["message"]],
        }),
        Dialect::Anthropic => serde_json::json!({
            "messages": [asked, {"role": "assistant", "content": answer["content"]}],
        }),
        _ => {
            let mut input = vec![asked];
            input.extend(answer["output"].as_array().unwrap().iter().cloned());
            serde_json::json!({"input": input})
        }
    };
    body.to_string().into()
}

/// Thoughts, calls and signatures come back through clients of every dialect as their provider
/// wrote them, whether the client saw the answer whole or streamed.
#[test]
fn signatures_survive_clients() {
    let mut signed = 0;
    for case in all() {
        let Some(whole) = case.whole else { continue };
        let answer = case.dialect.read_answer(&whole).unwrap();
        let parts = &answer.candidates[0].parts;
        let signatures = |parts: &[models::conversation::Part]| {
            let signatures = parts.iter().filter_map(|part| part.signature.clone());
            signatures.collect::<Vec<_>>()
        };
        signed += signatures(parts).len();
        for inbound in INBOUND {
            let told = inbound.write_answer(&answer, &names()).unwrap();
            let mut heard = vec![told];
            if let Some(stream) = &case.stream {
                let (out, ..) = streamed(inbound, case.dialect, std::slice::from_ref(stream));
                let whole = inbound.read_stream(out.into()).unwrap();
                heard.push(inbound.write_answer(&whole, &names()).unwrap());
            }
            for told in heard {
                let envelope = crate::requests::envelope(sent_back(inbound, &told));
                let read = inbound.read_request(&envelope).unwrap();
                let read: Vec<_> = read.messages[1..]
                    .iter()
                    .flat_map(|message| message.parts.clone())
                    .collect();
                let client = inbound.name();
                assert_eq!(
                    signatures(&read),
                    signatures(parts),
                    "{} by {client}",
                    case.name
                );
                assert_eq!(read.len(), parts.len(), "{} by {client}", case.name);
            }
        }
    }
    assert!(signed >= 4, "some answers are signed");
}

/// Where the gateway itself cuts a stream, each client is told in its own dialect.
#[test]
fn a_cut_is_told() {
    let cases = all();
    let case = cases.iter().find(|case| case.name == "openai/text");
    let stream = case.and_then(|case| case.stream.clone()).unwrap();
    for inbound in INBOUND {
        let translation = Translation::new(inbound, Dialect::OpenAiChat, Flavour::OpenAi);
        let mut cut = translation.stream(names(), StreamUsage::Wanted).unwrap();
        cut.feed(stream.slice(..stream.len() / 2)).unwrap();
        let frame = cut.fail("server_error", "the budget is spent");
        let frame = String::from_utf8(frame.to_vec()).unwrap();
        assert!(frame.ends_with("\n\n"), "{frame}");
        assert!(frame.contains("the budget is spent"), "{frame}");
        let named = frame.starts_with("event: error\n");
        assert_eq!(named, inbound != Dialect::OpenAiChat, "{frame}");
        assert!(matches!(cut.state(), StreamState::Failed(_)));
    }
}

#[test]
fn a_stream_that_ends_early_is_an_error() {
    for case in all() {
        let (Some(stream), Some(_)) = (case.stream, case.whole) else {
            continue;
        };
        let half = stream.slice(..stream.len() / 2);
        assert!(case.dialect.read_stream(half).is_err(), "{}", case.name);
    }
}
