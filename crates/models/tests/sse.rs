//! Where the network cuts a stream does not matter.

use bytes::Bytes;
use models::{ChunkKind, Event, SseSplitter, classify};
use proptest::prelude::*;

fn split(text: &[u8], cuts: &[usize]) -> Vec<Event> {
    let mut splitter = SseSplitter::new(1 << 20);
    let mut events = Vec::new();
    let mut start = 0;
    for cut in cuts.iter().copied().chain([text.len()]) {
        let chunk = Bytes::copy_from_slice(&text[start..cut]);
        events.extend(splitter.feed(chunk).map(Result::unwrap));
        start = cut;
    }
    events.extend(splitter.finish());
    events
}

/// The standard's own way, line by line, on the whole text at once.
fn reference(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let mut data: Vec<&str> = Vec::new();
    let mut any = false;
    for line in lines.split('\n') {
        if line.is_empty() {
            if any {
                events.push(data.join("\n"));
            }
            data.clear();
            any = false;
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        if field == "data" {
            any = true;
            data.push(value.strip_prefix(' ').unwrap_or(value));
        }
    }
    if any {
        events.push(data.join("\n"));
    }
    events
}

fn stream() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "data",
        ": ",
        ":",
        " ",
        "data: {\"a\":1}",
        "é",
        "\n",
        "\n\n",
        "\r\n",
        "\r\n\r\n",
        "\r",
        "event: x",
        ": comment",
        "id",
        "\u{feff}",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn events_are_the_standards_wherever_the_stream_is_cut(
        text in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let text_bytes = text.as_bytes();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text_bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let events = split(text_bytes, &cuts);
        let raw: Vec<u8> = events.iter().flat_map(|event| event.raw.to_vec()).collect();
        prop_assert_eq!(raw, text_bytes, "no byte is lost");
        let data: Vec<_> = events
            .iter()
            .filter_map(|event| event.data.as_ref())
            .map(|data| String::from_utf8(data.to_vec()).unwrap())
            .collect();
        prop_assert_eq!(data, reference(&text));
        prop_assert_eq!(events, split(text_bytes, &[]), "cuts change nothing");
    }

    #[test]
    fn content_is_counted_as_it_is_written(contents in prop::collection::vec(any::<String>(), 0..4)) {
        let choices: Vec<_> = contents
            .iter()
            .map(|content| serde_json::json!({"index": 0, "delta": {"role": "x", "content": content}}))
            .collect();
        let chunk = serde_json::json!({"id": "x", "choices": choices}).to_string();
        let ChunkKind::Content(delta) = classify(chunk.as_bytes()) else {
            panic!("not content: {chunk}");
        };
        let text: usize = contents.iter().map(String::len).sum();
        prop_assert!(delta.content_bytes >= text as u64);
        let spoken = contents.iter().filter(|content| !content.is_empty()).count();
        prop_assert_eq!(delta.choices as usize, spoken);
    }

    #[test]
    fn any_data_is_classified(data in prop::collection::vec(
        prop_oneof![
            Just(b"{\"usage\":".to_vec()), Just(b"\"delta\":".to_vec()), Just(b"\"error\"".to_vec()),
            Just(b"\"choices\":[".to_vec()), any::<u8>().prop_map(|byte| vec![byte]),
        ], 0..20,
    )) {
        let data = data.concat();
        if let ChunkKind::Content(delta) = classify(&data) {
            prop_assert!(delta.content_bytes <= data.len() as u64);
        }
    }
}
