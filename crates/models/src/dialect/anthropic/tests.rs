use serde_json::{Value, json};

use crate::conversation::{Content, Effort, Reasoning};
use crate::dialect::testing::{asked, chat, envelope, refused};
use crate::dialect::{Dialect, Flavour, Forced};

const WITH_BUDGET: &str = "claude-sonnet-4-5-20250929";
const WITH_EFFORT: &str = "claude-opus-4-6";

fn thinking(effort: &str, model: &str) -> Value {
    let asking = chat(json!({
        "messages": [{"role": "user", "content": "x"}], "reasoning_effort": effort,
    }));
    let body = asked(Dialect::Anthropic, model, &asking).unwrap();
    json!([body["thinking"], body["output_config"]])
}

#[test]
fn models_are_told_how_much_to_think_as_they_can_hear_it() {
    let enabled = |budget: u64| json!([{"type": "enabled", "budget_tokens": budget}, null]);
    assert_eq!(thinking("minimal", WITH_BUDGET), enabled(1_024));
    assert_eq!(thinking("low", WITH_BUDGET), enabled(1_024));
    assert_eq!(thinking("medium", WITH_BUDGET), enabled(2_048));
    assert_eq!(thinking("high", WITH_BUDGET), enabled(3_276));
    let off = json!([{"type": "disabled"}, null]);
    assert_eq!(thinking("none", WITH_BUDGET), off);
    assert_eq!(thinking("none", WITH_EFFORT), off);
    let adaptive = |effort: &str| json!([{"type": "adaptive"}, {"effort": effort}]);
    assert_eq!(thinking("minimal", WITH_EFFORT), adaptive("low"));
    assert_eq!(thinking("xhigh", WITH_EFFORT), adaptive("xhigh"));
}

#[test]
fn an_answer_too_short_to_think_in_is_refused() {
    let asking = chat(json!({
        "messages": [{"role": "user", "content": "x"}], "reasoning_effort": "low",
    }));
    let forced = |output_tokens| Forced {
        model: WITH_BUDGET,
        output_tokens,
        stream: false,
        salt: None,
    };
    let write =
        |tokens| Dialect::Anthropic.write_request(Flavour::OpenAi, &asking, &forced(tokens));
    let refusal = write(1_024).unwrap_err();
    assert_eq!(refusal.field, "reasoning_effort");
    assert!(refusal.why.contains("1024"), "{refusal}");
    let body: Value = serde_json::from_slice(&write(1_025).unwrap()).unwrap();
    assert_eq!(body["thinking"]["budget_tokens"], 1_024);
}

#[test]
fn what_anthropic_cannot_hear_is_refused_by_name() {
    let ask = |field: &str, value: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "x"}]});
        body[field] = value;
        refused(Dialect::Anthropic, WITH_BUDGET, &chat(body))
    };
    for (field, value) in [
        ("temperature", json!(1.5)),
        ("seed", json!(1)),
        ("n", json!(2)),
        ("logit_bias", json!({"1": 5})),
        ("frequency_penalty", json!(0.5)),
        ("response_format", json!({"type": "json_object"})),
        ("service_tier", json!("flex")),
        ("guided_regex", json!("a+")),
    ] {
        assert_eq!(ask(field, value), field);
    }
    let broken = json!({"role": "assistant", "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":"}},
    ]});
    let broken = chat(json!({"messages": [{"role": "user", "content": "x"}, broken]}));
    assert_eq!(
        refused(Dialect::Anthropic, WITH_BUDGET, &broken),
        "messages"
    );
}

#[test]
fn schemas_are_completed() {
    let asking = chat(json!({
        "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "response_format": {"type": "json_schema", "json_schema": {
            "name": "n", "description": "A person.", "schema": {"type": "object"},
        }},
    }));
    let body = asked(Dialect::Anthropic, WITH_BUDGET, &asking).unwrap();
    assert_eq!(body["tools"][0]["input_schema"], json!({"type": "object"}));
    let schema = json!({"description": "A person.", "type": "object"});
    assert_eq!(body["output_config"]["format"]["schema"], schema);
}

fn refuse_read(body: Value, field: &str) {
    let refusal = Dialect::Anthropic
        .read_request(&envelope(&body))
        .unwrap_err();
    assert_eq!(refusal.field, field, "{refusal}");
}

#[test]
fn clients_are_told_what_cannot_be_read() {
    let message = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    refuse_read(
        message(json!({"type": "search_result"})),
        "messages.0.content.0.type",
    );
    refuse_read(
        message(json!({"type": "text", "text": 1})),
        "messages.0.content.0.text",
    );
    refuse_read(
        message(json!({"type": "text", "text": "x", "color": "red"})),
        "messages.0.content.0.color",
    );
    refuse_read(
        message(
            json!({"type": "document", "source": {"type": "text", "data": "x"},
            "citations": {"enabled": true}}),
        ),
        "messages.0.content.0.citations",
    );
    refuse_read(
        json!({"messages": [{"role": "user"}]}),
        "messages.0.content",
    );
    refuse_read(
        json!({"tools": [{"name": "f", "defer_loading": true}]}),
        "tools.0.defer_loading",
    );
    refuse_read(json!({"thinking": {"type": "loud"}}), "thinking.type");
    refuse_read(json!({"metadata": {"tier": "x"}}), "metadata.tier");
}

#[test]
fn thinking_is_read_in_all_its_forms() {
    let read = |body: Value| {
        let read = Dialect::Anthropic.read_request(&envelope(&body)).unwrap();
        read.reasoning.unwrap()
    };
    let budget = read(json!({"thinking": {"type": "enabled", "budget_tokens": 5_000}}));
    assert_eq!(budget.effort_or_of_budget(), Some(Effort::Medium));
    let adaptive = read(json!({
        "thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "max"},
    }));
    let expected = Reasoning {
        effort: Some(Effort::Max),
        budget_tokens: None,
        summary: Some("none".into()),
    };
    assert_eq!(adaptive, expected);
    let off = read(json!({
        "thinking": {"type": "disabled"}, "output_config": {"effort": "high"},
    }));
    assert_eq!(off.effort, Some(Effort::None));
}

/// Only a block that says so belongs to the part before it.
#[test]
fn a_signature_finds_its_part() {
    let body = json!({"messages": [{"role": "assistant", "content": [
        {"type": "redacted_thinking", "data": "EmwKAhgB"},
        {"type": "redacted_thinking", "data": "gemini:AAAA"},
        {"type": "text", "text": "Looking."},
        {"type": "redacted_thinking", "data": "@gemini:BBBB"},
    ]}]});
    let read = Dialect::Anthropic.read_request(&envelope(&body)).unwrap();
    let parts = &read.messages[0].parts;
    assert_eq!(parts.len(), 3);
    assert_eq!(parts[0].signature_of(Dialect::Anthropic), Some("EmwKAhgB"));
    assert_eq!(parts[1].content, Content::RedactedReasoning);
    assert_eq!(parts[1].signature_of(Dialect::Gemini), Some("AAAA"));
    assert_eq!(parts[2].signature_of(Dialect::Gemini), Some("BBBB"));
}
