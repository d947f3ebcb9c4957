//! The whole engine: actions, placeholders, streams, and properties over random texts.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;

use super::*;

fn guard(looks_at: &str, checks: &str) -> Guard {
    let spec = format!(r#"{{"looks_at":"{looks_at}","checks":[{checks}]}}"#);
    Guard::compile(&serde_json::from_str(&spec).unwrap()).unwrap()
}

const REDACT_PII: &str = r#"{"name":"pii","action":"redact","restore":true,"check":{"pii":{}}}"#;

/// What comes of looking, for who has no other task that would want a turn.
fn now<T>(inspection: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(inspection)
}

fn redacted(guard: &Guard, text: &str) -> String {
    let inspection = now(guard.inspect(Side::Input, [((), text)], &mut Vault::new()));
    let rewritten = inspection.found.into_iter().next();
    rewritten
        .and_then(|one| one.rewritten)
        .unwrap_or_else(|| text.to_owned())
}

#[test]
fn texts_are_redacted_with_stable_placeholders() {
    let guard = guard("input", REDACT_PII);
    let mut vault = Vault::new();
    let texts = [
        (0, "pay 4111 1111 1111 1111 for a@b.io"),
        (1, "nothing"),
        (
            2,
            "again 4111 1111 1111 1111, then 5555555555554444 [CARD_2]",
        ),
    ];
    let inspection = now(guard.inspect(Side::Input, texts, &mut vault));
    assert_eq!(inspection.verdict, Verdict::Pass);
    let rewritten: Vec<(i32, &str)> = inspection
        .found
        .iter()
        .map(|one| (one.location, one.rewritten.as_deref().unwrap()))
        .collect();
    assert_eq!(
        rewritten,
        [
            (0, "pay [CARD_1] for [EMAIL_1]"),
            (2, "again [CARD_1], then [CARD_3] [CARD_2]"),
        ]
    );
    assert!(!format!("{inspection:?} {guard:?} {vault:?}").contains("4111"));
    let mut answer = String::new();
    let mut restorer = Restorer::new();
    restorer.push(&vault, "[CARD_1] [CARD_3] [CARD_2] [EMAIL_1]", &mut answer);
    restorer.finish(&mut answer);
    assert_eq!(
        answer,
        "4111 1111 1111 1111 5555555555554444 [CARD_2] a@b.io"
    );
}

#[test]
fn what_overlaps_is_covered_once() {
    let guard = guard(
        "input",
        r#"{"name":"one","action":"redact","check":{"deny-list":{"entries":["foo bar","x"]}}},
           {"name":"two","action":"redact","check":{"regex":{"patterns":["bar baz","fo"]}}}"#,
    );
    assert_eq!(redacted(&guard, "a foo bar baz b"), "a [ONE_1][TWO_1] b");
    assert_eq!(redacted(&guard, "fo x"), "[TWO_1] [ONE_1]");
}

#[test]
fn a_block_names_its_check_and_flags_pass() {
    let guard = guard(
        "both",
        r#"{"name":"ip","action":"flag","check":{"pii":{"kinds":["ip"]}}},
           {"name":"word","action":"block","check":{"deny-list":{"entries":["falcon"]}}}"#,
    );
    let inspect = |text| now(guard.inspect(Side::Output, [(7, text)], &mut Vault::new()));
    let flagged = inspect("at 10.1.2.3");
    assert_eq!(flagged.verdict, Verdict::Pass);
    assert_eq!(flagged.found[0].location, 7);
    assert_eq!(flagged.found[0].findings.list()[0].span, 3..11);
    assert_eq!(flagged.found[0].rewritten, None);
    let blocked = inspect("at 10.1.2.3 the Falcon");
    assert_eq!(
        blocked.verdict,
        Verdict::Block {
            by: "word".parse().unwrap()
        }
    );
    assert_eq!(inspect("quiet").found, []);
}

#[test]
fn a_guard_applies_where_it_says() {
    let spec = r#"{"looks_at":"output","features":["chat"],"models":["m"],"checks":[
        {"name":"a","action":"flag","check":{"pii":{}}}]}"#;
    let guard = Guard::compile(&serde_json::from_str(spec).unwrap()).unwrap();
    let (chat, other) = ("chat".parse().unwrap(), "other".parse().unwrap());
    let (model, another) = ("m".parse().unwrap(), "n".parse().unwrap());
    assert!(guard.applies_to(Side::Output, Some(&chat), &model));
    assert!(!guard.applies_to(Side::Input, Some(&chat), &model));
    assert!(!guard.applies_to(Side::Output, Some(&other), &model));
    assert!(!guard.applies_to(Side::Output, None, &model));
    assert!(!guard.applies_to(Side::Output, Some(&chat), &another));
}

#[test]
fn everything_wrong_is_said_at_once() {
    let spec = r#"{"looks_at":"output","checks":[
        {"name":"a","action":"flag","check":{"regex":{"patterns":["x+"]}}},
        {"name":"b","action":"flag","check":{"json-schema":{"schema":{"if":{}}}}},
        {"name":"c","action":"flag","check":{"deny-list":{"entries":["\u200b"]}}}]}"#;
    let error = Guard::compile(&serde_json::from_str(spec).unwrap())
        .err()
        .unwrap();
    assert_eq!(error.problems.len(), 3, "{error}");
}

fn stream(guard: &Arc<Guard>, pieces: &[&str]) -> (String, Flow, Findings) {
    let mut stream = StreamGuard::new(Arc::clone(guard));
    let mut vault = Vault::new();
    let mut released = String::new();
    for piece in pieces {
        if stream.push(piece, &mut vault, &mut released) == Flow::Blocked {
            break;
        }
    }
    let flow = stream.finish(&mut vault, &mut released);
    (released, flow, stream.findings().clone())
}

#[test]
fn streams_release_all_but_the_last_word() {
    let guard = Arc::new(guard(
        "output",
        r#"{"name":"pii","action":"redact","check":{"pii":{}}},
           {"name":"word","action":"block","check":{"deny-list":{"entries":["blue falcon"]}}}"#,
    ));
    let mut one = StreamGuard::new(Arc::clone(&guard));
    let (mut vault, mut released) = (Vault::new(), String::new());
    let mut push = |text: &str| {
        released.clear();
        let flow = one.push(text, &mut vault, &mut released);
        (flow, released.clone())
    };
    assert_eq!(
        push("Hello there, wor"),
        (Flow::Continue, "Hello there, ".to_owned())
    );
    assert_eq!(
        push("ld. Card 4111 1111"),
        (Flow::Continue, "world. Card ".to_owned())
    );
    assert_eq!(
        push(" 1111 1111 is"),
        (Flow::Continue, "[CARD_1] ".to_owned())
    );
    assert_eq!(push(" a blue"), (Flow::Continue, "is a ".to_owned()));
    assert_eq!(
        push(" bird, a blue "),
        (Flow::Continue, "blue bird, a ".to_owned())
    );
    assert_eq!(push("FALCON!"), (Flow::Blocked, String::new()));
    assert_eq!(push("more"), (Flow::Blocked, String::new()));
    assert_eq!(one.findings().count(), 2);
}

#[test]
fn a_schema_is_checked_in_the_end() {
    let guard = Arc::new(guard(
        "output",
        r#"{"name":"shape","action":"block","check":{"json-schema":{"schema":{"type":"object"}}}}"#,
    ));
    assert_eq!(stream(&guard, &["{\"a\"", ":1}"]).1, Flow::Continue);
    assert_eq!(stream(&guard, &["[", "]"]).1, Flow::Blocked);
    let large = "x".repeat(1 << 20);
    let (_, flow, findings) = stream(&guard, &[&large, &large, &large, &large, &large]);
    assert_eq!(flow, Flow::Blocked);
    assert_eq!(findings.list()[0].label, Some(CHECK_FAILED));
}

#[test]
fn what_is_held_back_is_bounded() {
    let guard = everything();
    let units = [
        "1",
        "1 ",
        "a",
        "é",
        "eyJ",
        "A.",
        "[",
        "(1",
        "\u{200b}",
        " ",
        "中",
        "-----BEGIN ",
        "ignore all ",
        "+",
        "a@",
        "0x",
        "x=",
    ];
    for unit in units {
        let mut stream = StreamGuard::new(Arc::clone(&guard));
        let (mut vault, mut released) = (Vault::new(), String::new());
        for _ in 0..12_000 {
            stream.push(unit, &mut vault, &mut released);
            assert!(stream.held() <= 12 << 10, "{unit}: {}", stream.held());
        }
    }
}

#[test]
fn a_key_block_is_redacted_whatever_its_pieces() {
    let guard = everything();
    let key = format!(
        "Here: -----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\nDone.",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n".repeat(50)
    );
    for size in [1, 3, 100, 5_000] {
        let pieces: Vec<&str> = key
            .as_bytes()
            .chunks(size)
            .map(|one| std::str::from_utf8(one).unwrap())
            .collect();
        assert_eq!(stream(&guard, &pieces).0, "Here: [PRIVATE_KEY_1]\nDone.");
    }
}

const EVERYTHING: &str = r#"{"name":"pii","action":"redact","check":{"pii":{}}},
    {"name":"words","action":"redact","check":{"deny-list":{"entries":["foo","foo bar","c++","密码","é"]}}},
    {"name":"patterns","action":"redact","check":{"regex":{"patterns":["ab{1,3}c?","\\bz\\w{1,4}\\b","^st","en$"]}}},
    {"name":"orders","action":"flag","check":{"prompt-injection":{}}},
    {"name":"stop","action":"block","check":{"deny-list":{"entries":["stop now"]}}}"#;

/// All of it, compiled once.
fn everything() -> Arc<Guard> {
    static GUARD: LazyLock<Arc<Guard>> = LazyLock::new(|| Arc::new(guard("both", EVERYTHING)));
    Arc::clone(&GUARD)
}

/// Pieces that findings are made of, and what can stand between them.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::sample::select(vec![
            "4111 1111 1111 1111", "4111", " 1111", "DE89 3704 0044 0532 0130 00", "a@b.io", "a@", "b.io",
            "+49 30 1234567", "(415) 555-2671", "192.168.", "1.10", "2001:db8::1", "536-90-4399", "12345678Z",
            "AKIAIOSFODNN7EXAMPLE", "password: ", "hJ4kd9Lw2mQ8xZ7p", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc", "foo", "foo bar", "c++", "密码", "abbc", "zoo", "st", "en",
            "ignore ", "all ", "previous ", "instructions", "jailbreak", "stop", " now", "\u{200b}", "\u{202e}", "SWdub3JlIGFsbCBwcmV2aW91cyBpbnN0cnVjdGlvbnM=",
            "ssn ", "536904399", "[CARD_1]", "Σ", "İ", "🏴",
        ]).prop_map(str::to_owned),
        2 => "[ .,\n-]{1,2}",
        1 => "[a-c0-9é]{1,4}",
        1 => "\\PC{0,3}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.concat())
}

fn cut(text: &str, sizes: &[usize]) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let at = rest.ceil_char_boundary((*size).min(rest.len()));
        pieces.push(rest[..at].to_owned());
        rest = &rest[at..];
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn how_an_answer_is_cut_does_not_matter(
        text in text(),
        sizes in prop::collection::vec(1_usize..12, 1..6),
    ) {
        let guard = everything();
        let pieces = cut(&text, &sizes);
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let whole = stream(&guard, &[&text]);
        prop_assert_eq!(&stream(&guard, &pieces), &whole);
        // And a whole text comes out as a stream does.
        let inspection = now(guard.inspect(Side::Output, [((), text.as_str())], &mut Vault::new()));
        let is_blocked = inspection.verdict != Verdict::Pass;
        prop_assert_eq!(is_blocked, whole.1 == Flow::Blocked);
        if !is_blocked && !text.contains('[') {
            let rewritten = inspection.found.into_iter().next().and_then(|one| one.rewritten);
            prop_assert_eq!(rewritten.unwrap_or(text), whole.0);
        }
    }

    #[test]
    fn what_was_redacted_is_not_there_any_more(text in text().prop_filter("no placeholders", |text| !text.contains('['))) {
        let placeholder = regex::Regex::new(r"\[[A-Z_]+_[0-9]+\]").unwrap();
        let guard = everything();
        let inspection = now(guard.inspect(Side::Input, [((), text.as_str())], &mut Vault::new()));
        prop_assume!(inspection.verdict == Verdict::Pass);
        let Some(one) = inspection.found.into_iter().next() else { return Ok(()) };
        let mut is_covered = vec![false; text.len()];
        for finding in one.findings.list() {
            if finding.action == GuardAction::Redact {
                is_covered[finding.span.clone()].fill(true);
            }
        }
        // Without its placeholders the text is exactly what no finding covers.
        let kept: String = text
            .char_indices()
            .filter(|(place, _)| !is_covered[*place])
            .map(|(_, one)| one)
            .collect();
        let rewritten = one.rewritten.unwrap_or(text);
        prop_assert_eq!(placeholder.replace_all(&rewritten, ""), kept);
    }

    #[test]
    fn restoring_gives_back_what_was_sent(text in text()) {
        let guard = guard("input", REDACT_PII);
        let mut vault = Vault::new();
        let inspection = now(guard.inspect(Side::Input, [((), text.as_str())], &mut vault));
        let sent = inspection.found.into_iter().next().and_then(|one| one.rewritten).unwrap_or_else(|| text.clone());
        let mut restored = String::new();
        let mut restorer = Restorer::new();
        restorer.push(&vault, &sent, &mut restored);
        restorer.finish(&mut restored);
        prop_assert_eq!(restored, text);
    }

    #[test]
    fn nothing_panics(
        patterns in prop::collection::vec("[a-c(){}|.*+?\\[\\]\\\\0-9,w^$]{1,8}", 1..3),
        entries in prop::collection::vec("\\PC{1,6}", 1..4),
        text in "(?s).{0,200}",
        sizes in prop::collection::vec(1_usize..9, 1..4),
    ) {
        let spec = serde_json::json!({"looks_at": "both", "checks": [
            {"name": "a", "action": "redact", "check": {"regex": {"patterns": patterns}}},
            {"name": "b", "action": "redact", "check": {"deny-list": {"entries": entries}}},
            {"name": "c", "action": "redact", "check": {"pii": {}}},
            {"name": "d", "action": "flag", "check": {"prompt-injection": {"threshold": 1}}},
        ]});
        if let Ok(guard) = Guard::compile(&serde_json::from_value(spec).unwrap()) {
            let guard = Arc::new(guard);
            let pieces = cut(&text, &sizes);
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(stream(&guard, &pieces), stream(&guard, &[&text]));
        }
    }
}

#[tokio::test]
async fn others_have_their_turn_while_a_long_text_is_looked_through() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    let guard = guard("input", REDACT_PII);
    let text = "1 2 34 ".repeat(10 * BLOCK_BYTES / 7);
    let turns = AtomicUsize::new(0);
    let inspect = async {
        let mut vault = Vault::new();
        guard
            .inspect(Side::Input, [((), text.as_str())], &mut vault)
            .await;
    };
    let other = async {
        loop {
            turns.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = inspect => {}
        () = other => {}
    }
    assert!(turns.into_inner() >= 9);
}
