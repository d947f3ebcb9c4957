//! What is read of a call, and what is refused.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use bytes::Bytes;
use models::{Bounds, Call, Envelope, Operation, OutputLimitField, stream_options_with_usage};
use proptest::prelude::*;
use serde_json::{Value, json};

fn envelope(body: &Value) -> Envelope {
    Envelope::parse(Bytes::from(body.to_string()), &Bounds::default()).unwrap()
}

fn parse(operation: Operation, body: &Value) -> Call {
    Call::parse(operation, &envelope(body)).unwrap()
}

fn refuse(operation: Operation, body: &Value, message: &str, param: &str) {
    let error = Call::parse(operation, &envelope(body)).unwrap_err();
    assert_eq!(
        (error.message.as_str(), error.param.as_deref()),
        (message, Some(param)),
        "{body}"
    );
}

#[test]
fn a_chat_is_read() {
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let body = json!({
        "model": "openai/gpt-4o", "n": 3, "stream": true, "user": "u1", "service_tier": "flex",
        "stream_options": {"include_usage": true, "x": [1]},
        "max_completion_tokens": 50, "max_tokens": 50, "tools": tools, "temperature": null,
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": [
            {"type": "text", "text": "what is this?"},
            {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{}", "A".repeat(9000))}},
        ]}],
    });
    let call = parse(Operation::Chat, &body);
    assert_eq!(call.model.as_str(), "openai/gpt-4o");
    assert!(call.stream && call.include_usage && call.has_tools);
    assert_eq!((call.n, call.candidates, call.prompt_count), (3, 3, 1));
    assert_eq!(
        call.output_tokens_asked,
        Some((50, OutputLimitField::MaxCompletionTokens))
    );
    assert_eq!((call.message_count, call.image_count), (2, 1));
    assert!(call.unbounded.is_empty());
    assert_eq!(call.tools.as_deref(), Some(tools.to_string().as_bytes()));
    assert_eq!(call.user.as_deref(), Some("u1"));
    assert_eq!(call.service_tier.as_deref(), Some("flex"));
    assert!(call.prompt_bytes < 400, "{}", call.prompt_bytes);
    assert_eq!(call.generations(), 3);
    let options: Value =
        serde_json::from_slice(stream_options_with_usage(&envelope(&body)).as_bytes()).unwrap();
    assert_eq!(options, json!({"include_usage": true, "x": [1]}));
}

#[test]
fn prompts_are_counted_in_every_form() {
    let check = |prompt: Value, count: u32, ids: u64, bytes: u64| {
        let body = json!({"model": "m", "prompt": prompt, "best_of": 4, "n": 2});
        let call = parse(Operation::Completion, &body);
        assert_eq!(call.prompt_count, count);
        assert_eq!((call.prompt_token_ids, call.prompt_bytes), (ids, bytes));
        assert_eq!(call.candidates, 4);
        assert_eq!(call.generations(), 4 * u64::from(count));
    };
    check(json!("abc"), 1, 0, 5);
    check(json!(["a", "b", "c"]), 3, 0, 13);
    check(json!([100, 2000, 5]), 1, 3, 0);
    check(json!([[1, 2], [3]]), 2, 3, 0);
    let call = parse(
        Operation::Embedding,
        &json!({"model": "m", "input": ["a", "b"]}),
    );
    assert_eq!((call.prompt_count, call.generations()), (2, 0));
}

#[test]
fn only_a_bound_that_binds_is_believed() {
    let body = json!({"model": "m", "prompt": "a", "max_completion_tokens": 5});
    let call = parse(Operation::Completion, &body);
    assert_eq!(call.output_tokens_asked, None);
    let body = json!({"model": "m", "prompt": "a", "max_completion_tokens": 5, "max_tokens": 9});
    let call = parse(Operation::Completion, &body);
    assert_eq!(
        call.output_tokens_asked,
        Some((9, OutputLimitField::MaxTokens))
    );
}

#[test]
fn what_has_no_bound_is_named() {
    let body = json!({
        "model": "m", "modalities": ["text", "audio"], "audio": {"voice": "x"},
        "chat_template": "{% for i in range(9999999) %}x{% endfor %}",
        "messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
    });
    let mut call = parse(Operation::Chat, &body);
    call.unbounded.sort();
    assert_eq!(
        call.unbounded.as_slice(),
        ["audio", "chat_template", "input_audio", "modalities"]
    );
    let body = json!({"model": "m", "modalities": ["text"], "messages": [{}]});
    assert!(parse(Operation::Chat, &body).unbounded.is_empty());
}

#[test]
fn what_is_wrong_is_said_in_openais_words() {
    let messages = json!([{"role": "user", "content": "hi"}]);
    let chat = |field: &str, value: Value| {
        let mut body = json!({"model": "m", "messages": messages});
        body[field] = value;
        body
    };
    let cases = [
        (
            json!({"messages": messages}),
            "you must provide a model parameter",
            "model",
        ),
        (
            json!({"model": "m"}),
            "Missing required parameter: 'messages'.",
            "messages",
        ),
        (
            chat("messages", json!("hi")),
            "Invalid type for 'messages': expected an array of objects, but got a string instead.",
            "messages",
        ),
        (
            chat("messages", json!([])),
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "messages",
        ),
        (
            chat("model", json!(7)),
            "Invalid type for 'model': expected a string, but got a number instead.",
            "model",
        ),
        (
            chat("model", json!("a b")),
            "Invalid value for 'model': a model name is 1 to 200 visible ASCII characters.",
            "model",
        ),
        (
            chat("stream", json!("yes")),
            "Invalid type for 'stream': expected a boolean, but got a string instead.",
            "stream",
        ),
        (
            chat("n", json!(0)),
            "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead.",
            "n",
        ),
        (
            chat("n", json!(129)),
            "Invalid 'n': integer above maximum value. Expected a value <= 128, but got 129 instead.",
            "n",
        ),
        (
            chat("max_tokens", json!(-1)),
            "Invalid value for 'max_tokens': expected an integer of 0 or more.",
            "max_tokens",
        ),
        (
            chat("tools", json!({})),
            "Invalid type for 'tools': expected an array of objects, but got an object instead.",
            "tools",
        ),
        (
            chat("stream_options", json!({"include_usage": 1})),
            "Invalid type for 'stream_options.include_usage': expected a boolean, but got a number instead.",
            "stream_options.include_usage",
        ),
        (
            chat("stream_options", json!({"include_usage": true})),
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        ),
    ];
    for (body, message, param) in cases {
        refuse(Operation::Chat, &body, message, param);
    }
    let mut both = chat("max_tokens", json!(5));
    both["max_completion_tokens"] = json!(6);
    assert!(Call::parse(Operation::Chat, &envelope(&both)).is_err());
    let mixed = json!({"model": "m", "prompt": [1, "a", "b"]});
    assert!(Call::parse(Operation::Completion, &envelope(&mixed)).is_err());
    let streamed = json!({"model": "m", "input": "a", "stream": true});
    assert!(Call::parse(Operation::Embedding, &envelope(&streamed)).is_err());
    let nothing = json!({"model": "m", "input": []});
    assert!(Call::parse(Operation::Embedding, &envelope(&nothing)).is_err());
}

proptest! {
    /// A token of byte-level BPE is at least one byte: so a bound of all text, tools and names in
    /// bytes is one of tokens.
    #[test]
    fn the_bound_is_never_below_the_bytes_of_the_text(
        texts in prop::collection::vec(any::<String>(), 1..5),
        description in any::<String>(),
        unknown in any::<String>(),
    ) {
        let parts = |text: &String| json!({"role": "user", "content": [{"type": "text", "text": text}]});
        let messages: Vec<_> = texts.iter().map(parts).collect();
        let tools = json!([{"type": "function", "function": {"description": description}}]);
        let body = json!({"model": "m", "messages": messages, "tools": tools, "unknown": unknown});
        let call = parse(Operation::Chat, &body);
        let text: usize = texts.iter().map(String::len).sum();
        let rendered = text + serde_json::to_string_pretty(&tools).unwrap().split(' ').count()
            + description.len() + unknown.len();
        prop_assert!(call.input_tokens_bound() >= rendered as u64);
        prop_assert!(call.prompt_bytes <= body.to_string().len() as u64);
    }

    /// Hiding text where images belong gains nothing: what is not an address is text.
    #[test]
    fn only_addresses_are_left_out(hidden in "[a-z ]{0,300}", wrap in 0..3) {
        let image = match wrap {
            0 => json!({"type": "image_url", "image_url": {"url": hidden}}),
            1 => json!({"type": "image_url", "image_url": {"url": "https://a", "detail": hidden}}),
            _ => json!({"type": "image_url", "image_url": "https://a", "text": hidden}),
        };
        let body = json!({"model": "m", "messages": [{"role": "user", "content": [image]}]});
        let call = parse(Operation::Chat, &body);
        prop_assert_eq!(call.image_count, 1);
        prop_assert!(call.prompt_bytes >= hidden.len() as u64);
    }
}

/// Pictures in base64 are no prompt; documents and the provider's own tools have no bound.
#[test]
fn messages_are_read_and_bounded() {
    let picture = "A".repeat(9_000);
    let body = json!({
        "model": "claude", "max_tokens": 64, "stream": true, "metadata": {"user_id": "u1"},
        "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
        "stop_sequences": ["x"], "thinking": {"type": "enabled", "budget_tokens": 1024},
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {
                "type": "base64", "media_type": "image/png", "data": picture}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "Eq=="},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1",
                "content": [{"type": "text", "text": "4"}]}]},
        ],
    });
    let call = parse(Operation::Messages, &body);
    assert!(call.stream && call.include_usage && call.has_tools);
    assert_eq!(
        call.output_tokens_asked,
        Some((64, OutputLimitField::MaxTokens))
    );
    assert_eq!((call.message_count, call.image_count), (3, 1));
    assert_eq!(call.user.as_deref(), Some("u1"));
    assert!(call.unbounded.is_empty(), "{:?}", call.unbounded);
    assert!(call.prompt_bytes < 700, "{}", call.prompt_bytes);
    assert_eq!(call.generations(), 1);

    for (field, value) in [
        ("speed", json!("fast")),
        ("mcp_servers", json!([{"url": "https://x"}])),
        ("inference_geo", json!("us")),
    ] {
        let mut asked = body.clone();
        asked[field] = value;
        assert_eq!(
            parse(Operation::Messages, &asked).unbounded.as_slice(),
            [field]
        );
    }
    let mut searching = body.clone();
    searching["tools"] = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    let call = parse(Operation::Messages, &searching);
    assert_eq!(call.unbounded.as_slice(), ["web_search_20250305"]);
}

#[test]
fn messages_need_a_bound_and_counting_them_does_not() {
    let body = json!({"model": "claude", "messages": [{"role": "user", "content": "hi"}]});
    refuse(
        Operation::Messages,
        &body,
        "Missing required parameter: 'max_tokens'.",
        "max_tokens",
    );
    let call = parse(Operation::CountTokens, &body);
    assert_eq!((call.generations(), call.message_count), (0, 1));
    assert!(call.input_tokens_bound() >= 2);
    let empty = json!({"model": "claude", "max_tokens": 1, "messages": []});
    assert!(Call::parse(Operation::Messages, &envelope(&empty)).is_err());
    let streamed = json!({"model": "claude", "stream": true, "messages": [{}]});
    assert!(Call::parse(Operation::CountTokens, &envelope(&streamed)).is_err());
}

#[test]
fn responses_are_read_and_bounded() {
    let picture = format!("data:image/png;base64,{}", "A".repeat(9_000));
    let body = json!({
        "model": "gpt-5", "max_output_tokens": 64, "stream": true, "instructions": "be brief",
        "stream_options": {"include_obfuscation": false}, "reasoning": {"effort": "low"},
        "store": false, "include": ["reasoning.encrypted_content"],
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        "input": [
            {"role": "user", "content": [
                {"type": "input_text", "text": "what?"},
                {"type": "input_image", "image_url": picture}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}],
                "encrypted_content": "gAAA"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [
                {"type": "input_image", "image_url": picture}]},
        ],
    });
    let call = parse(Operation::Responses, &body);
    assert!(call.stream && call.include_usage && call.has_tools);
    assert_eq!(
        call.output_tokens_asked,
        Some((64, OutputLimitField::MaxOutputTokens))
    );
    assert_eq!((call.message_count, call.image_count), (5, 2));
    assert!(call.unbounded.is_empty(), "{:?}", call.unbounded);
    assert!(call.prompt_bytes < 800, "{}", call.prompt_bytes);
    assert_eq!(call.generations(), 1);

    let unbounded = |field: &str, value: serde_json::Value| {
        let mut asked = body.clone();
        asked[field] = value;
        parse(Operation::Responses, &asked).unbounded.to_vec()
    };
    assert_eq!(
        unbounded("previous_response_id", json!("r")),
        ["previous_response_id"]
    );
    assert_eq!(unbounded("conversation", json!("c")), ["conversation"]);
    assert_eq!(unbounded("prompt", json!({"id": "p"})), ["prompt"]);
    assert_eq!(
        unbounded("tools", json!([{"type": "web_search"}])),
        ["web_search"]
    );
    assert_eq!(
        unbounded("input", json!([{"type": "item_reference"}])),
        ["item_reference"]
    );
    assert_eq!(
        unbounded("input", json!([{"type": "mcp_call"}, {"type": "mcp_call"}])),
        ["mcp_call"]
    );
    let file = json!([{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]);
    assert_eq!(unbounded("input", file), ["input_file"]);
}

#[test]
fn responses_without_input_or_with_a_chats_fields_are_refused() {
    let operation = Operation::Responses;
    let missing = "Missing required parameter: 'input'.";
    refuse(operation, &json!({"model": "m"}), missing, "input");
    let wrong = "Invalid type for 'input': expected a string or an array of items, but got an \
                 object instead.";
    refuse(
        operation,
        &json!({"model": "m", "input": {}}),
        wrong,
        "input",
    );
    for field in ["n", "max_tokens"] {
        let mut body = json!({"model": "m", "input": "x"});
        body[field] = 2.into();
        refuse(
            operation,
            &body,
            &format!("Unknown parameter: '{field}'."),
            field,
        );
    }
    let twice = br#"{"model":"m","input":[{"type":"message","type":"reasoning"}]}"#;
    let envelope = Envelope::parse(twice.to_vec().into(), &Bounds::default()).unwrap();
    assert!(Call::parse(operation, &envelope).is_err());
}

#[test]
fn a_query_is_read_with_each_document() {
    let body = json!({"model": "rerank-v3.5", "query": "q".repeat(100), "top_n": 2,
        "documents": ["a", "b", {"text": "c"}], "return_documents": true});
    let call = parse(Operation::Rerank, &body);
    assert_eq!((call.prompt_count, call.generations()), (3, 0));
    assert!(
        call.input_tokens_bound() >= 303,
        "{}",
        call.input_tokens_bound()
    );
    assert_eq!(call.output_tokens_asked, None);

    let operation = Operation::Rerank;
    let query = "Missing required parameter: 'query'.";
    refuse(
        operation,
        &json!({"model": "m", "documents": ["x"]}),
        query,
        "query",
    );
    let documents = "Missing required parameter: 'documents'.";
    refuse(
        operation,
        &json!({"model": "m", "query": "x"}),
        documents,
        "documents",
    );
    let empty = json!({"model": "m", "query": "", "documents": ["x"]});
    assert!(Call::parse(operation, &envelope(&empty)).is_err());
    let none = json!({"model": "m", "query": "x", "documents": []});
    assert!(Call::parse(operation, &envelope(&none)).is_err());
    let streamed = json!({"model": "m", "query": "x", "documents": ["y"], "stream": true});
    assert!(Call::parse(operation, &envelope(&streamed)).is_err());
}

/// What the provider runs by itself, or another model that may answer, has no bound.
#[test]
fn what_a_service_adds_to_a_chat_is_named() {
    let body = json!({
        "model": "m", "messages": [{"role": "user", "content": "hi"}],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
            {"type": "browser_search"},
        ],
    });
    let call = parse(Operation::Chat, &body);
    assert_eq!(call.unbounded.as_slice(), ["browser_search"]);
    for field in [
        "models",
        "plugins",
        "preset",
        "provider",
        "search_parameters",
    ] {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body[field] = json!({});
        assert_eq!(parse(Operation::Chat, &body).unbounded.as_slice(), [field]);
    }
}
