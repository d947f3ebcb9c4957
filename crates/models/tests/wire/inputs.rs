//! The neutral conversations that every provider is asked. Add one here, run the suite with
//! `UPDATE_SNAPSHOTS=1`, and read what each provider would be asked before committing it.

use models::conversation::{
    CacheMark, CacheTtl, Content, Conversation, Effort, Format, FunctionTool, Message, Part,
    Reasoning, Role, SchemaFormat, Signature, Source, Tool, ToolCall, ToolChoice, ToolResult,
};
use models::{Dialect, Json};
use serde_json::Number;

/// A conversation and its name, which is its snapshot's.
pub struct Input {
    pub name: &'static str,
    pub conversation: Conversation,
}

/// What makes an input out of an empty conversation.
type Edit = fn(&mut Conversation);

/// All of them.
pub fn all() -> Vec<Input> {
    let make: [(&'static str, Edit); 21] = [
        ("plain", plain),
        ("system", system),
        ("system_in_the_middle", system_in_the_middle),
        ("multi_turn", multi_turn),
        ("tools", tools),
        ("tool_results", tool_results),
        ("tool_failed", tool_failed),
        ("images", images),
        ("documents", documents),
        ("text_documents", text_documents),
        ("json_schema", json_schema),
        ("json_object", json_object),
        ("reasoning_effort", reasoning_effort),
        ("reasoning_off", reasoning_off),
        ("anthropic_thoughts", anthropic_thoughts),
        ("gemini_signatures", gemini_signatures),
        ("cache_marks", cache_marks),
        ("candidates_and_logprobs", candidates_and_logprobs),
        ("sampling", sampling),
        ("unicode", unicode),
        ("user_and_tier", user_and_tier),
    ];
    make.into_iter()
        .map(|(name, edit)| {
            let mut conversation = Conversation::new(Dialect::OpenAiChat);
            conversation.output_tokens_max = Some(1_000);
            edit(&mut conversation);
            Input { name, conversation }
        })
        .collect()
}

fn say(to: &mut Conversation, role: Role, parts: impl IntoIterator<Item = Part>) {
    let parts = parts.into_iter().collect();
    to.messages.push(Message::new(role, parts));
}

fn user(to: &mut Conversation, text: &str) {
    say(to, Role::User, [Part::text(text)]);
}

fn json(text: &'static str) -> Json {
    Json::parse(text.into()).unwrap()
}

fn number(value: f64) -> Option<Number> {
    Number::from_f64(value)
}

fn plain(to: &mut Conversation) {
    user(to, "Hello!");
}

fn system(to: &mut Conversation) {
    say(to, Role::System, [Part::text("Be brief.")]);
    user(to, "Hello!");
}

fn system_in_the_middle(to: &mut Conversation) {
    say(to, Role::System, [Part::text("Be brief.")]);
    user(to, "Hello!");
    say(to, Role::Developer, [Part::text("Be polite.")]);
    user(to, "And now?");
}

fn multi_turn(to: &mut Conversation) {
    user(to, "My name is Ann.");
    say(to, Role::Assistant, [Part::text("Hello, Ann.")]);
    user(to, "What is my name?");
    to.stream = true;
    to.include_usage = true;
}

fn weather(to: &mut Conversation) {
    to.tools.push(Tool::Function(FunctionTool {
        name: "weather".into(),
        description: Some("The weather in a city.".into()),
        parameters: Some(json(
            r#"{"type":"object","properties":{"unit":{"type":"string"},"city":{"type":"string"}},"required":["city"]}"#,
        )),
        strict: None,
        cache: None,
    }));
}

fn tools(to: &mut Conversation) {
    user(to, "How warm is it in Rome?");
    weather(to);
    to.tools.push(Tool::Function(FunctionTool {
        name: "now".into(),
        description: None,
        parameters: None,
        strict: None,
        cache: None,
    }));
    to.tool_choice = Some(ToolChoice::Named("weather".into()));
    to.parallel_tool_calls = Some(false);
}

fn call(id: &str, arguments: &str) -> Part {
    Content::ToolCall(ToolCall {
        id: id.into(),
        name: "weather".into(),
        arguments: arguments.into(),
    })
    .into()
}

fn result(id: &str, parts: Vec<Part>) -> Part {
    Content::ToolResult(ToolResult {
        call: id.into(),
        name: None,
        parts,
        is_error: false,
    })
    .into()
}

fn tool_results(to: &mut Conversation) {
    weather(to);
    user(to, "Rome and Oslo?");
    let calls = [
        Part::text("Let me see."),
        call("call_rome", r#"{"city":"Rome"}"#),
        call("call_oslo", r#"{"city":"Oslo"}"#),
    ];
    say(to, Role::Assistant, calls);
    say(
        to,
        Role::User,
        [result("call_rome", vec![Part::text("30")])],
    );
    say(
        to,
        Role::User,
        [result("call_oslo", vec![Part::text("12")])],
    );
    user(to, "In words, please.");
}

fn tool_failed(to: &mut Conversation) {
    weather(to);
    user(to, "Rome?");
    say(to, Role::Assistant, [call("functions.weather:0", "")]);
    let mut failed = result("functions.weather:0", vec![Part::text("no such city")]);
    if let Content::ToolResult(result) = &mut failed.content {
        result.is_error = true;
    }
    say(to, Role::User, [failed]);
}

fn picture() -> Source {
    Source::Base64 {
        media_type: "image/png".into(),
        data: "iVBORw0KGgo=".into(),
    }
}

fn images(to: &mut Conversation) {
    let inline = Content::Image {
        source: picture(),
        detail: None,
    };
    let address = Content::Image {
        source: Source::Url("https://example.com/a.jpg".into()),
        detail: Some("low".into()),
    };
    say(
        to,
        Role::User,
        [
            Part::text("Which is larger?"),
            inline.into(),
            address.into(),
        ],
    );
}

fn documents(to: &mut Conversation) {
    let document = Content::Document {
        source: Source::Base64 {
            media_type: "application/pdf".into(),
            data: "JVBERi0xLjQK".into(),
        },
        title: Some("report.pdf".into()),
    };
    say(to, Role::User, [document.into(), Part::text("Sum it up.")]);
}

fn text_documents(to: &mut Conversation) {
    let document = Content::Document {
        source: Source::Text("Sales rose.".into()),
        title: Some("Report".into()),
    };
    say(to, Role::User, [document.into(), Part::text("Sum it up.")]);
}

fn json_schema(to: &mut Conversation) {
    user(to, "Ann is 30.");
    to.format = Some(Format::JsonSchema(SchemaFormat {
        name: Some("person".into()),
        description: Some("A person.".into()),
        schema: json(
            r#"{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name","age"],"additionalProperties":false}"#,
        ),
        strict: Some(true),
    }));
}

fn json_object(to: &mut Conversation) {
    user(to, "Ann is 30. Answer in JSON.");
    to.format = Some(Format::JsonObject);
}

fn reasoning_effort(to: &mut Conversation) {
    user(to, "Prove it.");
    to.reasoning = Some(Reasoning {
        effort: Some(Effort::Medium),
        ..Reasoning::default()
    });
}

fn reasoning_off(to: &mut Conversation) {
    user(to, "Just say it.");
    to.reasoning = Some(Reasoning {
        effort: Some(Effort::None),
        ..Reasoning::default()
    });
}

fn signed(content: Content, origin: Dialect, data: &str) -> Part {
    let mut part = Part::from(content);
    part.signature = Some(Signature {
        origin,
        data: data.into(),
    });
    part
}

fn anthropic_thoughts(to: &mut Conversation) {
    weather(to);
    user(to, "Rome?");
    let thoughts = [
        signed(
            Content::Reasoning("I need the weather.".into()),
            Dialect::Anthropic,
            "EqQBCkYIBBgC",
        ),
        signed(Content::RedactedReasoning, Dialect::Anthropic, "EmwKAhgB"),
        call("toolu_1", r#"{"city":"Rome"}"#),
    ];
    say(to, Role::Assistant, thoughts);
    say(to, Role::User, [result("toolu_1", vec![Part::text("30")])]);
}

fn gemini_signatures(to: &mut Conversation) {
    weather(to);
    user(to, "Rome?");
    let looking = Content::Text("Looking.".into());
    let called = call("gemini_1", r#"{"city":"Rome"}"#).content;
    let parts = [
        signed(looking, Dialect::Gemini, "CvcQAR=="),
        signed(called, Dialect::Gemini, "CiQBVKhc"),
    ];
    say(to, Role::Assistant, parts);
    say(to, Role::User, [result("gemini_1", vec![Part::text("30")])]);
}

fn cache_marks(to: &mut Conversation) {
    let mut long = Part::text("A long text that many calls begin with.");
    long.cache = Some(CacheMark {
        ttl: Some(CacheTtl::OneHour),
    });
    say(to, Role::System, [long]);
    let mut question = Part::text("Hello!");
    question.cache = Some(CacheMark::default());
    say(to, Role::User, [question]);
}

fn candidates_and_logprobs(to: &mut Conversation) {
    user(to, "Heads or tails?");
    to.candidates = Some(2);
    to.sampling.logprobs = Some(true);
    to.sampling.top_logprobs = Some(3.into());
}

fn sampling(to: &mut Conversation) {
    user(to, "Hello!");
    to.sampling.temperature = number(0.7);
    to.sampling.top_p = number(0.9);
    to.sampling.stop = vec!["END".into(), "\n\n".into()];
}

fn unicode(to: &mut Conversation) {
    user(to, "Ünï\"cödé\\ \u{1F680}\u{200d}\u{0}\u{2028} — 日本語");
}

fn user_and_tier(to: &mut Conversation) {
    user(to, "Hello!");
    to.user = Some("ann@example.com".into());
    to.service_tier = Some("auto".into());
}
