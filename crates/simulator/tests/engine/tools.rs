//! Tool calls and JSON on demand.

use serde_json::{Value, json};

use crate::harness::{Harness, chat_with, merge};

fn tools() -> Value {
    json!([
        {"type": "function", "function": {"name": "get_weather", "parameters": {
            "type": "object",
            "required": ["city", "days"],
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
                "unit": {"enum": ["C", "F"]},
            },
        }}},
        {"type": "function", "function": {"name": "get_time"}},
    ])
}

fn assert_weather(call: &Value) {
    assert!(call["id"].as_str().unwrap().starts_with("call_"));
    assert_eq!(call["type"], "function");
    assert_eq!(call["function"]["name"], "get_weather");
    let arguments: Value =
        serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["city"].is_string());
    assert!((1..=7).contains(&arguments["days"].as_i64().unwrap()));
    assert!(arguments["unit"] == "C" || arguments["unit"] == "F");
}

#[tokio::test]
async fn a_tool_is_called_when_it_is_wanted() {
    let harness = Harness::default().await;
    let named = json!({"type": "function", "function": {"name": "get_weather"}});
    let cases = [
        ("hello", json!("required")),
        ("hello", named),
        ("please use the tool", json!("auto")),
        ("please use the tool", Value::Null),
    ];
    for (text, choice) in cases {
        let body = chat_with(text, json!({"tools": tools(), "tool_choice": choice}));
        let answer = harness.chat(&body).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "tool_calls");
        assert_eq!(choice["message"]["content"], Value::Null);
        assert_weather(&choice["message"]["tool_calls"][0]);
    }
    let body = chat_with("use the tool get_time", json!({"tools": tools()}));
    let call = &harness.chat(&body).await["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(
        call["function"],
        json!({"name": "get_time", "arguments": "{}"})
    );
}

#[tokio::test]
async fn a_tool_is_left_alone_when_it_is_not_wanted() {
    let harness = Harness::default().await;
    let unwanted = [
        chat_with("hello", json!({"tools": tools()})),
        chat_with(
            "use the tool",
            json!({"tools": tools(), "tool_choice": "none"}),
        ),
        chat_with("use the tool", json!({})),
    ];
    let mut answered = chat_with("", json!({"tools": tools()}));
    merge(
        &mut answered,
        json!({"messages": [
            {"role": "user", "content": "use the tool"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1",
                "type": "function", "function": {"name": "get_time", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
        ]}),
    );
    for body in unwanted.iter().chain([&answered]) {
        let choice = &harness.chat(body).await["choices"][0];
        assert_eq!(choice["finish_reason"], "stop", "{body}");
        assert!(choice["message"]["content"].is_string());
        assert!(choice["message"].get("tool_calls").is_none());
    }
    let absent = json!({"type": "function", "function": {"name": "absent"}});
    let body = chat_with("hello", json!({"tools": tools(), "tool_choice": absent}));
    let reply = harness.post("/v1/chat/completions", &body).await;
    assert_eq!(reply.json()["error"]["param"], "tool_choice");
}

#[tokio::test]
async fn a_tool_call_streams_its_arguments() {
    let harness = Harness::default().await;
    let body = chat_with(
        "hello",
        json!({"tools": tools(), "tool_choice": "required"}),
    );
    let whole = harness.chat(&body).await;
    let mut body = body;
    merge(&mut body, json!({"stream": true}));
    let events = harness.stream("/v1/chat/completions", &body).await;
    let frames = events.json();
    let opening = &frames[0]["choices"][0]["delta"];
    let expected = &whole["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(opening["role"], "assistant");
    assert_eq!(opening["tool_calls"][0]["index"], 0);
    assert_eq!(opening["tool_calls"][0]["id"], expected["id"]);
    assert_eq!(opening["tool_calls"][0]["function"]["name"], "get_weather");
    let arguments = events.joined("/choices/0/delta/tool_calls/0/function/arguments");
    assert_eq!(expected["function"]["arguments"], arguments);
    let last = &frames[frames.len() - 1]["choices"][0];
    assert_eq!(last["finish_reason"], "tool_calls");
    assert!(frames.len() > 5);
}

#[tokio::test]
async fn json_is_answered_where_json_is_wanted() {
    let harness = Harness::default().await;
    let answer = async |format: Value| {
        let answer = harness
            .chat(&chat_with("hello", json!({"response_format": format})))
            .await;
        answer["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let object: Value =
        serde_json::from_str(&answer(json!({"type": "json_object"})).await).unwrap();
    assert!(object.is_object());
    let schema = json!({
        "type": "object", "required": ["ok", "items"], "additionalProperties": false,
        "properties": {
            "ok": {"type": "boolean"},
            "items": {"type": "array", "items": {"type": "number"}, "minItems": 1},
        },
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let object: Value = serde_json::from_str(&answer(format).await).unwrap();
    assert!(object["ok"].is_boolean());
    assert!(
        object["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(Value::is_number)
    );
    assert!(!object["items"].as_array().unwrap().is_empty());
    let text = answer(json!({"type": "text"})).await;
    assert!(serde_json::from_str::<Value>(&text).is_err());
}
