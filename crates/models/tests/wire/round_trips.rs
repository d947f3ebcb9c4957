//! Reading what was written gives what was meant, for all that a dialect can say.

use models::conversation::{
    CacheMark, CacheTtl, Content, Conversation, Effort, Format, FunctionTool, Message, Part,
    Reasoning, Role, SchemaFormat, Signature, Source, Tool, ToolCall, ToolChoice, ToolResult,
};
use models::{Dialect, Flavour, Forced, Json};
use proptest::option;
use proptest::prelude::*;

use crate::requests::envelope;

fn text() -> impl Strategy<Value = String> {
    "[ -~\u{a0}-\u{2fff}\n\t]{1,20}"
}

fn id() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_-]{1,12}"
}

fn cache(dialect: Dialect) -> BoxedStrategy<Option<CacheMark>> {
    let ttl = option::of(prop_oneof![
        Just(CacheTtl::FiveMinutes),
        Just(CacheTtl::OneHour)
    ]);
    match dialect {
        Dialect::Anthropic | Dialect::OpenAiChat => {
            option::weighted(0.2, ttl.prop_map(|ttl| CacheMark { ttl })).boxed()
        }
        _ => Just(None).boxed(),
    }
}

fn marked(
    dialect: Dialect,
    content: impl Strategy<Value = Content>,
) -> impl Strategy<Value = Part> {
    (content, cache(dialect)).prop_map(|(content, cache)| Part {
        content,
        cache,
        signature: None,
    })
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        "https://[a-z]{1,9}\\.example/[a-z]{0,9}".prop_map(Source::Url),
        "[A-Za-z0-9+/]{4,12}".prop_map(|data| Source::Base64 {
            media_type: "image/png".into(),
            data,
        }),
    ]
}

/// What a user says in both dialects.
fn spoken(dialect: Dialect) -> impl Strategy<Value = Part> {
    let detail = match dialect {
        Dialect::OpenAiChat => option::of(Just("low".to_owned())).boxed(),
        _ => Just(None).boxed(),
    };
    let image = (source(), detail).prop_map(|(source, detail)| Content::Image { source, detail });
    marked(
        dialect,
        prop_oneof![3 => text().prop_map(Content::Text), 1 => image],
    )
}

fn texts(dialect: Dialect) -> impl Strategy<Value = Vec<Part>> {
    prop::collection::vec(marked(dialect, text().prop_map(Content::Text)), 1..3)
}

fn arguments() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("{}".to_owned()),
        text().prop_map(|text| format!(r#"{{"a":[1.50,{}]}}"#, serde_json::json!(text))),
    ]
}

fn call() -> impl Strategy<Value = Part> {
    (id(), id(), arguments()).prop_map(|(id, name, arguments)| {
        Content::ToolCall(ToolCall {
            id,
            name,
            arguments,
        })
        .into()
    })
}

fn thought() -> impl Strategy<Value = Part> {
    let origin = prop_oneof![Just(Dialect::Anthropic)];
    (text(), origin, "[A-Za-z0-9+/]{4,20}").prop_map(|(text, origin, data)| Part {
        content: Content::Reasoning(text),
        cache: None,
        signature: Some(Signature { origin, data }),
    })
}

/// An assistant's turn, in the one order that both dialects can say.
fn answered(dialect: Dialect) -> impl Strategy<Value = Message> {
    let thoughts = prop::collection::vec(thought(), 0..2);
    let calls = prop::collection::vec(call(), 0..3);
    (thoughts, texts(dialect), calls).prop_map(|(mut parts, texts, calls)| {
        parts.extend(texts);
        parts.extend(calls);
        Message::new(Role::Assistant, parts)
    })
}

fn result(dialect: Dialect) -> impl Strategy<Value = Message> {
    let is_error = match dialect {
        Dialect::Anthropic => any::<bool>().boxed(),
        _ => Just(false).boxed(),
    };
    (id(), texts(dialect), is_error, cache(dialect)).prop_map(|(call, parts, is_error, cache)| {
        let content = Content::ToolResult(ToolResult {
            call,
            name: None,
            parts,
            is_error,
        });
        let part = Part {
            content,
            cache,
            signature: None,
        };
        Message::new(Role::User, vec![part])
    })
}

fn messages(dialect: Dialect) -> impl Strategy<Value = Vec<Message>> {
    let system = texts(dialect).prop_map(|parts| Message::new(Role::System, parts));
    let asked = prop::collection::vec(spoken(dialect), 1..3)
        .prop_map(|parts| Message::new(Role::User, parts));
    let asked = prop_oneof![3 => asked, 1 => result(dialect)];
    // Alternating, as Anthropic has it: what follows each other there becomes one.
    let turns = prop::collection::vec((asked, answered(dialect)), 1..3);
    (option::of(system), turns).prop_map(|(system, turns)| {
        let turns = turns
            .into_iter()
            .flat_map(|(asked, answered)| [asked, answered]);
        system.into_iter().chain(turns).collect()
    })
}

fn tool(dialect: Dialect) -> impl Strategy<Value = Tool> {
    let strict = match dialect {
        Dialect::OpenAiChat => option::of(any::<bool>()).boxed(),
        _ => option::of(Just(true)).boxed(),
    };
    (id(), option::of(text()), strict, cache(dialect)).prop_map(
        |(name, description, strict, cache)| {
            Tool::Function(FunctionTool {
                name,
                description,
                parameters: Some(schema()),
                strict,
                cache,
            })
        },
    )
}

fn schema() -> Json {
    Json::parse(r#"{"type":"object", "properties":{"z":{},"a":{}}}"#.into()).unwrap()
}

fn choice() -> impl Strategy<Value = ToolChoice> {
    prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::Required),
        Just(ToolChoice::None),
        id().prop_map(ToolChoice::Named),
    ]
}

fn format(dialect: Dialect) -> BoxedStrategy<Format> {
    let plain = SchemaFormat {
        name: None,
        description: None,
        schema: schema(),
        strict: None,
    };
    match dialect {
        Dialect::Anthropic => Just(Format::JsonSchema(plain)).boxed(),
        _ => {
            let named = (id(), option::of(text()), option::of(any::<bool>()));
            let named = named.prop_map(move |(name, description, strict)| {
                Format::JsonSchema(SchemaFormat {
                    name: Some(name),
                    description,
                    strict,
                    ..plain.clone()
                })
            });
            prop_oneof![Just(Format::Text), Just(Format::JsonObject), named].boxed()
        }
    }
}

fn reasoning(dialect: Dialect) -> BoxedStrategy<Reasoning> {
    let effort = prop_oneof![Just(Effort::None), Just(Effort::Low), Just(Effort::High)];
    match dialect {
        Dialect::OpenAiChat => effort
            .prop_map(|effort| Reasoning {
                effort: Some(effort),
                ..Reasoning::default()
            })
            .boxed(),
        _ => prop_oneof![
            (1_024..4_000u64).prop_map(|budget| Reasoning {
                budget_tokens: Some(budget),
                ..Reasoning::default()
            }),
            effort.prop_map(|effort| Reasoning {
                effort: Some(effort),
                ..Reasoning::default()
            }),
            Just(Reasoning::default()),
        ]
        .boxed(),
    }
}

fn number() -> impl Strategy<Value = Option<serde_json::Number>> {
    option::of((0..100u32).prop_map(|hundredths| {
        serde_json::Number::from_f64(f64::from(hundredths) / 100.0).unwrap()
    }))
}

fn conversation(dialect: Dialect) -> impl Strategy<Value = Conversation> {
    let tools = prop::collection::vec(tool(dialect), 1..3);
    let choice = (option::of(choice()), option::of(any::<bool>()));
    (
        messages(dialect),
        option::of((tools, choice)),
        (number(), number(), prop::collection::vec(text(), 0..3)),
        option::of(format(dialect)),
        option::of(reasoning(dialect)),
        (any::<bool>(), option::of(id())),
    )
        .prop_map(
            move |(
                messages,
                tools,
                (temperature, top_p, stop),
                format,
                reasoning,
                (stream, user),
            )| {
                let mut conversation = Conversation::new(dialect);
                conversation.messages = messages;
                if let Some((tools, (choice, parallel))) = tools {
                    conversation.tools = tools;
                    conversation.tool_choice = choice;
                    conversation.parallel_tool_calls = parallel;
                }
                conversation.sampling.temperature = temperature;
                conversation.sampling.top_p = top_p;
                conversation.sampling.stop = stop;
                conversation.format = format;
                conversation.reasoning = reasoning;
                conversation.stream = stream;
                conversation.user = user;
                conversation.output_tokens_max = Some(4_096);
                conversation
            },
        )
}

fn read_again(conversation: &Conversation, flavour: Flavour, model: &str) -> Conversation {
    let forced = Forced {
        model,
        output_tokens: 4_096,
        stream: conversation.stream,
        salt: None,
    };
    let dialect = conversation.dialect;
    let body = dialect.write_request(flavour, conversation, &forced);
    dialect.read_request(&envelope(body.unwrap())).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// OpenRouter's is the flavour that can say all of it: cache marks and signed thoughts.
    #[test]
    fn openai_chat(mut conversation in conversation(Dialect::OpenAiChat)) {
        conversation.include_usage = conversation.stream;
        prop_assert_eq!(&read_again(&conversation, Flavour::OpenRouter, "m"), &conversation);
    }

    #[test]
    fn anthropic(mut conversation in conversation(Dialect::Anthropic)) {
        // Without tools there is nothing to be said of them; a choice of none has no more to say.
        if conversation.tool_choice == Some(ToolChoice::None) {
            conversation.parallel_tool_calls = None;
        }
        let mut expected = conversation.clone();
        if expected.parallel_tool_calls == Some(false) && expected.tool_choice.is_none() {
            expected.tool_choice = Some(ToolChoice::Auto);
        }
        if expected.tool_choice.is_none() {
            expected.parallel_tool_calls = None;
        }
        let again = read_again(&conversation, Flavour::OpenAi, "claude-opus-4-6");
        prop_assert_eq!(&again, &expected);
    }

    /// Items have no turns: what is read may be grouped otherwise, and says the same again.
    #[test]
    fn openai_responses(mut conversation in conversation(Dialect::OpenAiResponses)) {
        // There is no word for it.
        conversation.sampling.stop.clear();
        let body = responses_body(&conversation);
        let read = Dialect::OpenAiResponses.read_request(&envelope(body.clone())).unwrap();
        prop_assert_eq!(responses_body(&read), body);
        let texts = |conversation: &Conversation| {
            let parts = conversation.messages.iter().flat_map(|message| &message.parts);
            parts.filter(|part| matches!(part.content, Content::Text(_) | Content::ToolCall(_)))
                .map(|part| part.content.clone())
                .collect::<Vec<_>>()
        };
        prop_assert_eq!(texts(&read), texts(&conversation));
        prop_assert_eq!(read.tools, conversation.tools);
        prop_assert_eq!(read.format, conversation.format);
    }
}

fn responses_body(conversation: &Conversation) -> bytes::Bytes {
    let forced = Forced {
        model: "m",
        output_tokens: 4_096,
        stream: conversation.stream,
        salt: None,
    };
    Dialect::OpenAiResponses
        .write_request(Flavour::OpenAi, conversation, &forced)
        .unwrap()
}
