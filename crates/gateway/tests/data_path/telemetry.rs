//! Traces and metrics as a collector receives them: exact names, whole traces, and nothing of
//! what was said.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use base::Supervisor;
use gateway::{
    CallRecords, CallersTraces, CollectorHeader, NamesVersion, ProcessField, ProcessLog,
    ProcessRecord, SampleRatio, Severity, TelemetryOptions,
};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;
use tokio::net::TcpListener;

use crate::world::catalogue::{ACME, GLOBEX, key, upstream, with};
use crate::world::client::{CHAT, body, chat, post, until};
use crate::world::scripted::{self, Then, event_stream};
use crate::world::{Setup, World};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// Nothing that is exported may have this in it.
const CANARY: &str = "CANARY-7f3a";

/// A collector that keeps what it is sent.
#[derive(Debug, Clone, Default)]
struct Receiver {
    requests: Arc<Mutex<Vec<Received>>>,
    /// Refusals with 503 that are still to come.
    busy: Arc<AtomicU16>,
}

#[derive(Debug, Clone)]
struct Received {
    path: String,
    headers: HeaderMap,
    body: Value,
}

impl Receiver {
    /// Listens; gives the options that send to it.
    async fn start() -> (Self, TelemetryOptions) {
        let receiver = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (serving, supervisor) = (receiver.clone(), Supervisor::new());
        let tasks = supervisor.clone();
        supervisor.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = serving.clone();
                let service = service_fn(move |request| receiver.clone().answer(request));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tasks.spawn(async move { drop(connection.await) });
            }
        });
        let endpoint = format!("http://{address}").parse().unwrap();
        let options = TelemetryOptions {
            interval: Duration::from_millis(50),
            ..TelemetryOptions::to(endpoint)
        };
        (receiver, options)
    }

    async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let left = self.busy.load(Ordering::SeqCst);
        if left > 0 {
            self.busy.store(left - 1, Ordering::SeqCst);
            let mut busy = Response::new(Full::default());
            *busy.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            busy.headers_mut().insert("retry-after", 0.into());
            return Ok(busy);
        }
        assert_eq!(head.headers["content-type"], "application/x-protobuf");
        self.requests.lock().push(Received {
            body: decoded(head.uri.path(), body),
            path: head.uri.path().to_owned(),
            headers: head.headers,
        });
        Ok(Response::new(Full::default()))
    }

    fn all(&self) -> Vec<Received> {
        self.requests.lock().clone()
    }

    /// Every span, in the order in which they came.
    fn spans(&self) -> Vec<Value> {
        let all = self
            .all()
            .into_iter()
            .filter(|one| one.path == "/v1/traces");
        let spans = all.flat_map(|one| {
            let scope = &one.body["resourceSpans"][0]["scopeSpans"][0];
            scope["spans"].as_array().unwrap().clone()
        });
        spans.collect()
    }

    /// Every record, in the order in which they came.
    fn records(&self) -> Vec<Value> {
        let all = self.all().into_iter().filter(|one| one.path == "/v1/logs");
        let records = all.flat_map(|one| {
            let scope = &one.body["resourceLogs"][0]["scopeLogs"][0];
            scope["logRecords"].as_array().unwrap().clone()
        });
        records.collect()
    }

    /// The last metrics: by name, the points.
    fn metrics(&self) -> BTreeMap<String, Vec<Value>> {
        let all = self.all();
        let last = all.iter().rfind(|one| one.path == "/v1/metrics").unwrap();
        let metrics = &last.body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
        let points = metrics.as_array().unwrap().iter().map(|metric| {
            let data = metric.get("sum").or_else(|| metric.get("histogram"));
            let data = data.unwrap();
            assert_eq!(data["aggregationTemporality"], 2);
            let points = data["dataPoints"].as_array().unwrap().clone();
            (metric["name"].as_str().unwrap().to_owned(), points)
        });
        points.collect()
    }

    fn has_canary(&self) -> bool {
        format!("{:?}", self.all()).contains(CANARY)
    }
}

/// A message as OpenTelemetry's own library reads it, in its JSON.
fn decoded(path: &str, body: bytes::Bytes) -> Value {
    fn read<M: prost::Message + Default + serde::Serialize>(body: bytes::Bytes) -> Value {
        let mut read = serde_json::to_value(M::decode(body).unwrap()).unwrap();
        leave_out_defaults(&mut read);
        read
    }
    use opentelemetry_proto::tonic::collector::{logs, metrics, trace};
    match path {
        "/v1/traces" => read::<trace::v1::ExportTraceServiceRequest>(body),
        "/v1/metrics" => read::<metrics::v1::ExportMetricsServiceRequest>(body),
        "/v1/logs" => read::<logs::v1::ExportLogsServiceRequest>(body),
        other => panic!("{other} is no signal's path"),
    }
}

/// Fields that were not sent: the library says all.
fn leave_out_defaults(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields
                .retain(|_, field| ![json!(null), json!([]), json!(""), json!(0)].contains(field));
            fields.values_mut().for_each(leave_out_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out_defaults),
        _ => {}
    }
}

/// Attributes as a plain object.
fn attributes(of: &Value) -> BTreeMap<String, Value> {
    let list = of["attributes"].as_array().unwrap().iter();
    let plain = list.map(|attribute| {
        let (kind, value) = attribute["value"]
            .as_object()
            .unwrap()
            .iter()
            .next()
            .unwrap();
        let value = match kind.as_str() {
            "intValue" => json!(value.as_str().unwrap().parse::<i64>().unwrap()),
            "arrayValue" => {
                let values = value["values"].as_array().unwrap().iter();
                values.map(|value| value["stringValue"].clone()).collect()
            }
            _ => value.clone(),
        };
        (attribute["key"].as_str().unwrap().to_owned(), value)
    });
    plain.collect()
}

async fn start(setup: Setup, options: TelemetryOptions) -> World {
    let telemetry = Some(options);
    Setup { telemetry, ..setup }.start().await
}

async fn world(options: TelemetryOptions) -> World {
    start(Setup::new().await, options).await
}

fn joined(options: TelemetryOptions) -> TelemetryOptions {
    let callers_traces = CallersTraces::Joined;
    TelemetryOptions {
        callers_traces,
        ..options
    }
}

fn traced(flags: &str, value: &Value) -> Request<Full<bytes::Bytes>> {
    traced_by("acme", flags, value)
}

fn traced_by(owner: &str, flags: &str, value: &Value) -> Request<Full<bytes::Bytes>> {
    post(owner, CHAT)
        .header("traceparent", format!("00-{TRACE}-{PARENT}-{flags}"))
        .header("tracestate", "vendor=theirs")
        .header("partywall-session", "conversation-1")
        .header("partywall-feature", "search")
        .body(body(value))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_a_span_in_its_callers_trace_and_nothing_of_its_content() {
    let (receiver, options) = Receiver::start().await;
    let world = world(joined(options)).await;
    let value = with(
        chat("sim-small", &format!("[[tokens:3]] {CANARY}")),
        json!({"temperature": 0.5, "max_tokens": 20, "seed": 7, "n": 2, "user": CANARY,
               "stop": [CANARY], "metadata": {"note": CANARY}}),
    );
    let reply = world.client.exchange(traced("01", &value)).await;
    let answer = reply.ok();
    until(|| !receiver.spans().is_empty()).await;

    let span = receiver.spans().remove(0);
    assert_eq!(span["name"], "chat sim-small");
    assert_eq!(span["kind"], 3);
    assert_eq!(span["traceId"], TRACE);
    assert_eq!(span["parentSpanId"], PARENT);
    assert_eq!(span["traceState"], "vendor=theirs");
    assert_eq!(span["flags"], 0x301);
    assert_eq!(span.get("links"), None);
    assert_eq!(span.get("status"), None);
    let time = |field: &str| span[field].as_str().unwrap().parse::<u64>().unwrap();
    assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"));
    let key = base::KeyId::from_bits(key_bits("acme"));
    let expected = json!({
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "sim",
        "gen_ai.request.model": "sim-small",
        "gen_ai.conversation.id": "conversation-1",
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.max_tokens": 20,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 7,
        "gen_ai.response.id": answer["id"],
        "gen_ai.response.model": answer["model"],
        "gen_ai.response.finish_reasons": [
            answer["choices"][0]["finish_reason"], answer["choices"][1]["finish_reason"],
        ],
        "gen_ai.usage.input_tokens": answer["usage"]["prompt_tokens"],
        "gen_ai.usage.output_tokens": answer["usage"]["completion_tokens"],
        "partywall.tenant.id": ACME.to_string(),
        "partywall.key.id": key.to_string(),
        "partywall.request.id": reply.header("x-request-id"),
        "partywall.feature": "search",
        "partywall.hop": "generate",
        "partywall.upstream": "engine",
    });
    assert_eq!(json!(attributes(&span)), expected);

    // The engine goes on with the trace below our span, and hears nothing of the caller's state.
    let recorded = world.engine.observed().recorded.pop().unwrap();
    let told = recorded.headers["traceparent"].to_str().unwrap();
    assert_eq!(
        told,
        format!("00-{TRACE}-{}-01", span["spanId"].as_str().unwrap())
    );
    assert!(!recorded.headers.contains_key("tracestate"));

    let received = &receiver.all()[0];
    assert_eq!(received.headers["content-type"], "application/x-protobuf");
    let resource = attributes(&received.body["resourceSpans"][0]["resource"]);
    assert_eq!(resource["service.name"], "partywall");
    assert!(resource["service.instance.id"].as_str().unwrap().len() == 32);
    assert!(!receiver.has_canary());
}

/// However the engine speaks: `sim-small` is OpenAI's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_in_anthropics_words_has_its_id_and_reason_on_its_span() {
    const MESSAGES: &str = "/v1/messages";
    let (receiver, options) = Receiver::start().await;
    let world = world(options).await;
    let mut call = chat("sim-small", &format!("[[tokens:5]] {CANARY}"));
    call["max_tokens"] = json!(50);
    let answer = world.client.post("acme", MESSAGES, &call).await;
    let id = answer.ok()["id"].clone();
    until(|| !receiver.spans().is_empty()).await;
    let events = world.client.stream("acme", MESSAGES, &call).await;
    let id_of_stream = events.json()[0]["message"]["id"].clone();
    until(|| receiver.spans().len() == 2).await;
    for (span, id) in receiver.spans().iter().zip([id, id_of_stream]) {
        let span = attributes(span);
        assert_eq!(span["gen_ai.response.id"], id);
        assert_eq!(span["gen_ai.response.model"], "sim-small");
        assert_eq!(span["gen_ai.response.finish_reasons"], json!(["end_turn"]));
    }
    assert!(!receiver.has_canary());
}

/// The id of an owner's key, as the catalogue says it.
fn key_bits(owner: &str) -> u128 {
    let record = key(owner, json!({}));
    let id: base::KeyId = serde_json::from_value(record["id"].clone()).unwrap();
    id.bits()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_says_when_it_began_and_metrics_count_its_pieces() {
    let (receiver, options) = Receiver::start().await;
    let world = world(options).await;
    let value = chat("sim-small", &format!("[[tokens:5]] {CANARY}"));
    let events = world.client.stream("acme", CHAT, &value).await;
    assert!(events.is_done);
    until(|| !receiver.spans().is_empty()).await;
    let span = attributes(&receiver.spans()[0]);
    assert_eq!(span["gen_ai.request.stream"], true);
    assert!(
        span["gen_ai.response.time_to_first_chunk"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    assert_eq!(span["gen_ai.response.finish_reasons"], json!(["stop"]));
    assert_eq!(span["gen_ai.response.id"], events.json()[0]["id"]);
    assert_eq!(span["gen_ai.usage.output_tokens"], 5);

    until(|| receiver.all().iter().any(|one| one.path == "/v1/metrics")).await;
    let of_series = json!({
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "sim",
        "gen_ai.request.model": "sim-small",
        "partywall.tenant.id": ACME.to_string(),
    });
    let metrics = receiver.metrics();
    for name in ["duration", "time_to_first_chunk", "operation.output_tokens"] {
        let point = &metrics[&format!("gen_ai.client.inference.{name}")][0];
        assert_eq!(json!(attributes(point)), of_series, "{name}");
        assert_eq!(point["count"], "1", "{name}");
        assert_eq!(point["explicitBounds"].as_array().unwrap().len(), 14);
        assert_eq!(point["bucketCounts"].as_array().unwrap().len(), 15);
    }
    let point = &metrics["gen_ai.client.inference.usage.output_tokens"][0];
    assert_eq!(point["asInt"], "5");
    assert_eq!(json!(attributes(point)), of_series);
    assert_eq!(
        metrics["partywall.telemetry.dropped_spans"][0]["asInt"],
        "0"
    );
    assert!(!receiver.has_canary());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_its_type_and_a_stranger_leaves_no_span() {
    let (receiver, options) = Receiver::start().await;
    let world = world(options).await;
    let unknown = chat(CANARY, CANARY);
    let refused = world.client.post("acme", CHAT, &unknown).await;
    refused.refused(404, "model_not_found");
    let stranger = world.client.post("nobody", CHAT, &unknown).await;
    stranger.refused(401, "invalid_api_key");
    let faulty = chat("sim-small", "[[fault:status=500]]");
    let failed = world.client.post("acme", CHAT, &faulty).await;
    failed.refused(502, "upstream_failed");
    until(|| receiver.spans().len() == 2).await;

    let spans = receiver.spans();
    assert_eq!(spans[0]["name"], "chat");
    assert_eq!(spans[0]["status"]["code"], 2);
    let unknown = attributes(&spans[0]);
    assert_eq!(unknown["error.type"], "model_not_found");
    assert_eq!(unknown["gen_ai.provider.name"], "partywall");
    // A caller without a trace begins one, which the request's id leads to.
    let request = refused.header("x-request-id").unwrap();
    let request: base::RequestId = request.parse().unwrap();
    assert_eq!(spans[0]["traceId"], format!("{:032x}", request.bits()));
    assert_eq!(spans[0].get("parentSpanId"), None);
    assert_eq!(spans[0]["flags"], 0x101);
    let failed = attributes(&spans[1]);
    assert_eq!(failed["error.type"], "upstream_failed");
    assert_eq!(failed["gen_ai.provider.name"], "sim");

    world.gateway.drain(Duration::from_secs(5)).await;
    assert_eq!(receiver.spans().len(), 2);
    let durations = &receiver.metrics()["gen_ai.client.inference.duration"];
    let mut errors: Vec<_> = durations
        .iter()
        .map(|point| attributes(point)["error.type"].clone())
        .collect();
    errors.sort_by_key(ToString::to_string);
    assert_eq!(errors, ["model_not_found", "upstream_failed"]);
    assert!(!receiver.has_canary());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_ends_in_an_error() {
    let script = event_stream![
        r#"{"id":"chatcmpl-9","model":"m","choices":[{"index":0,"delta":{"content":"CANARY-7f3a"}}]}"#
    ];
    let address = scripted::upstream(&Supervisor::new(), script, Then::Close).await;
    let (receiver, options) = Receiver::start().await;
    let url = format!("http://{address}/v1");
    let setup = Setup::new().await;
    let world = start(
        setup.put(Kind::Upstream, "engine", upstream(&url, "sim")),
        options,
    )
    .await;
    let events = world
        .client
        .stream("acme", CHAT, &chat("sim-small", CANARY))
        .await;
    assert_eq!(
        events.error_code().as_deref(),
        Some("upstream_failed"),
        "{events:?}"
    );
    until(|| !receiver.spans().is_empty()).await;
    let span = attributes(&receiver.spans()[0]);
    assert_eq!(span["error.type"], "upstream_failed");
    assert_eq!(span["gen_ai.response.finish_reasons"], json!(["error"]));
    // What was not reported is not made up.
    assert_eq!(span.get("gen_ai.usage.output_tokens"), None);
    assert!(!receiver.has_canary());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_sampled_is_counted_and_the_decision_goes_on() {
    let (receiver, options) = Receiver::start().await;
    let world = world(joined(options)).await;
    let hello = chat("sim-small", "hello");
    world.client.exchange(traced("00", &hello)).await.ok();
    let told = world.engine.observed().recorded.pop().unwrap().headers;
    assert!(told["traceparent"].to_str().unwrap().ends_with("-00"));
    world.client.exchange(traced("01", &hello)).await.ok();

    world.gateway.drain(Duration::from_secs(5)).await;
    let spans = receiver.spans();
    assert_eq!(spans.len(), 1, "its caller records it: {spans:?}");
    assert_eq!(spans[0]["parentSpanId"], PARENT);
    assert_eq!(
        receiver.metrics()["gen_ai.client.inference.duration"][0]["count"],
        "2"
    );
}

/// Attack: a caller names the trace of another tenant, has everything recorded where the operator
/// records nothing, or repeats a trace that it saw.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_caller_joins_anothers_trace_or_forces_recording() {
    let hello = chat("sim-small", "hello");
    for callers_traces in [CallersTraces::Linked, CallersTraces::Joined] {
        let (receiver, options) = Receiver::start().await;
        let options = TelemetryOptions {
            callers_traces,
            ..options
        };
        let one = world(options).await;
        for owner in ["acme", "globex"] {
            let reply = one.client.exchange(traced_by(owner, "01", &hello)).await;
            reply.ok();
        }
        one.gateway.drain(Duration::from_secs(5)).await;
        let spans = receiver.spans();
        let of = |tenant: base::TenantId| {
            let owner = json!(tenant.to_string());
            let own = spans
                .iter()
                .find(|it| attributes(it)["partywall.tenant.id"] == owner);
            own.unwrap().clone()
        };
        let (acme, globex) = (of(ACME), of(GLOBEX));
        assert_ne!(acme["traceId"], globex["traceId"], "{callers_traces:?}");
        assert_eq!(globex.get("parentSpanId"), None);
        let link = &globex["links"][0];
        assert_eq!(
            (&link["traceId"], &link["spanId"]),
            (&json!(TRACE), &json!(PARENT))
        );
        assert_eq!(link["traceState"], "vendor=theirs");
        // What the engine hears of the second call is not the first one's trace.
        let told = one.engine.observed().recorded.pop().unwrap().headers;
        let told = told["traceparent"].to_str().unwrap().to_owned();
        assert!(told.contains(globex["traceId"].as_str().unwrap()));

        let (silent, options) = Receiver::start().await;
        let options = TelemetryOptions {
            callers_traces,
            sample_ratio: SampleRatio::per_mille(0),
            ..options
        };
        let none = world(options).await;
        none.client.exchange(traced("01", &hello)).await.ok();
        none.gateway.drain(Duration::from_secs(5)).await;
        assert!(silent.spans().is_empty(), "{callers_traces:?}");
        assert!(!none.gateway.metrics().open_metrics().contains("trace_id"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_process_logs_is_sent_with_its_fields() {
    let (receiver, options) = Receiver::start().await;
    let log = Arc::<ProcessLog>::default();
    let options = TelemetryOptions {
        process_log: Some(Arc::clone(&log)),
        ..options
    };
    let record = |number, severity| ProcessRecord {
        at: base::Timestamp::from_micros(1_700_000_000_000_000),
        severity,
        target: "store::journal",
        message: "the disk is slow".to_owned(),
        fields: vec![
            ("number", ProcessField::Int(number)),
            ("ratio", ProcessField::Double(0.5)),
            ("again", ProcessField::Bool(true)),
            ("path", ProcessField::Text("/data".to_owned())),
        ],
    };
    // From before there is anybody to send it; what is beyond the queue is counted.
    log.push(record(0, Severity::Warn));
    for number in 1..3_000 {
        log.push(record(number, Severity::Error));
    }
    let world = world(options).await;
    world.gateway.drain(Duration::from_secs(5)).await;
    let records = receiver.records();
    let first = &records[0];
    assert_eq!(first["severityText"], "WARN");
    assert_eq!(first["severityNumber"], 13);
    assert_eq!(first["body"]["stringValue"], "the disk is slow");
    assert_eq!(first["timeUnixNano"], "1700000000000000000");
    assert_eq!(first.get("traceId"), None, "it is of no call");
    assert_eq!(first.get("eventName"), None);
    let said = attributes(first);
    assert_eq!(said["partywall.log.target"], "store::journal");
    assert_eq!(
        (
            &said["number"],
            &said["ratio"],
            &said["again"],
            &said["path"]
        ),
        (&json!(0), &json!(0.5), &json!(true), &json!("/data"))
    );
    let numbers = records.iter().map(|one| attributes(one)["number"].as_u64());
    assert!(numbers.eq((0..2_048).map(Some)));
    let metrics = world.gateway.metrics().text();
    let line = "partywall_telemetry_dropped_records_total 952\n";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_is_a_record_and_leads_from_the_metrics_to_its_trace() {
    let (receiver, options) = Receiver::start().await;
    let options = TelemetryOptions {
        call_records: CallRecords::Sent,
        ..options
    };
    let setup = Setup::new().await;
    let untold = with(
        upstream(&setup.engine_url(), "sim"),
        json!({"trace_context": "withheld"}),
    );
    let world = start(setup.put(Kind::Upstream, "engine", untold), options).await;
    let value = chat("sim-small", &format!("[[tokens:3]] {CANARY}"));
    let reply = world.client.exchange(traced("01", &value)).await;
    reply.ok();
    let unknown = chat("no-such-model", CANARY);
    world
        .client
        .post("acme", CHAT, &unknown)
        .await
        .refused(404, "model_not_found");
    // An upstream that is not to know hears nothing.
    let told = world.engine.observed().recorded.pop().unwrap().headers;
    assert!(!told.contains_key("traceparent"));
    world.gateway.drain(Duration::from_secs(5)).await;

    let records = receiver.records();
    assert_eq!(records.len(), 2);
    let span = &receiver.spans()[0];
    let record = &records[0];
    assert_eq!(record["traceId"], span["traceId"]);
    assert_eq!(record["spanId"], span["spanId"]);
    assert_eq!(record["severityNumber"], 9);
    assert_eq!(record["eventName"], "partywall.call");
    let said = attributes(record);
    assert_eq!(said["http.response.status_code"], 200);
    assert_eq!(said["partywall.tenant.id"], ACME.to_string());
    assert_eq!(
        said["partywall.request.id"],
        reply.header("x-request-id").unwrap()
    );
    assert!(
        said["partywall.cost_usd"]
            .as_str()
            .unwrap()
            .starts_with("0.")
    );
    assert!(said["partywall.duration_ms"].as_f64().unwrap() > 0.0);
    let refused = attributes(&records[1]);
    assert_eq!(refused["http.response.status_code"], 404);
    assert_eq!(refused["error.type"], "model_not_found");
    assert!(!receiver.has_canary());

    // Of the calls in a bucket the latest is named: both, where they took about as long.
    let open = world.gateway.metrics().open_metrics();
    let traces = [&records[0], &records[1]].map(|one| one["traceId"].as_str().unwrap());
    for (metric, leads_to) in [
        ("duration", &traces[..]),
        ("time_to_first_chunk", &traces[..1]),
    ] {
        let prefix = format!("gen_ai_client_inference_{metric}_seconds_bucket{{");
        let leads = |line: &str| {
            line.starts_with(&prefix) && leads_to.iter().any(|trace| line.contains(trace))
        };
        assert!(open.lines().any(leads), "{metric}: {open}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_names_of_v1_41_are_a_switch() {
    let (receiver, options) = Receiver::start().await;
    let options = TelemetryOptions {
        names: NamesVersion::V1_41,
        service_name: "gateway-eu".to_owned(),
        ..options
    };
    let world = world(options).await;
    let hello = chat("sim-small", "hello");
    world.client.stream("globex", CHAT, &hello).await;
    let embedding = json!({"model": "sim-embed", "input": "hello"});
    world
        .client
        .post("globex", "/v1/embeddings", &embedding)
        .await
        .ok();
    world.gateway.drain(Duration::from_secs(5)).await;

    let names: Vec<_> = receiver
        .spans()
        .iter()
        .map(|span| span["name"].clone())
        .collect();
    assert_eq!(names, ["chat sim-small", "embeddings sim-embed"]);
    let metrics = receiver.metrics();
    assert_eq!(
        metrics.keys().collect::<Vec<_>>(),
        [
            "gen_ai.client.operation.duration",
            "gen_ai.client.operation.time_per_output_chunk",
            "gen_ai.client.operation.time_to_first_chunk",
            "gen_ai.client.token.usage",
            "partywall.telemetry.dropped_spans",
        ]
    );
    let kinds = metrics["gen_ai.client.token.usage"].iter().map(attributes);
    let kinds = kinds.map(|point| {
        format!(
            "{} {}",
            point["gen_ai.operation.name"], point["gen_ai.token.type"]
        )
    });
    let mut kinds: Vec<_> = kinds.collect();
    kinds.sort();
    assert_eq!(
        kinds,
        [
            r#""chat" "input""#,
            r#""chat" "output""#,
            r#""embeddings" "input""#
        ]
    );
    let tenants = metrics["gen_ai.client.operation.duration"].iter();
    for point in tenants {
        assert_eq!(attributes(point)["partywall.tenant.id"], GLOBEX.to_string());
    }
    let traces = receiver.all();
    let resource = &traces[0].body["resourceSpans"][0];
    assert_eq!(
        attributes(&resource["resource"])["service.name"],
        "gateway-eu"
    );
    let schema = &resource["scopeSpans"][0]["schemaUrl"];
    assert_eq!(schema, "https://opentelemetry.io/schemas/1.41.0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_busy_is_asked_again_with_its_credential() {
    let (receiver, options) = Receiver::start().await;
    receiver.busy.store(2, Ordering::SeqCst);
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "token-of-the-collector\n").unwrap();
    let reference = format!("file:{}", secret.path().display()).parse().unwrap();
    let options = TelemetryOptions {
        headers: vec![CollectorHeader::read("api-key", &reference).unwrap()],
        // Metrics on draining alone, so that both refusals are of the spans.
        interval: Duration::from_secs(3_600),
        ..options
    };
    let world = world(options).await;
    world.client.chat("acme", "hello").await.ok();
    until(|| !receiver.spans().is_empty()).await;
    assert_eq!(receiver.busy.load(Ordering::SeqCst), 0);
    assert_eq!(receiver.spans().len(), 1);
    assert_eq!(
        receiver.all()[0].headers["api-key"],
        "token-of-the-collector"
    );
    let text = world.gateway.metrics().text();
    assert!(
        text.contains("partywall_telemetry_dropped_spans_total 0"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_gone_costs_spans_and_no_call() {
    let address = scripted::dead_address().await;
    let endpoint = format!("http://{address}").parse().unwrap();
    let world = world(TelemetryOptions::to(endpoint)).await;
    for _ in 0..3 {
        world.client.chat("acme", "hello").await.ok();
    }
    world.gateway.drain(Duration::from_secs(5)).await;
    let text = world.gateway.metrics().text();
    assert!(
        text.contains("partywall_telemetry_dropped_spans_total 3"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_off_sends_nothing_and_passes_nothing_on() {
    let (receiver, _) = Receiver::start().await;
    let world = World::new().await;
    let hello = chat("sim-small", "hello");
    world.client.exchange(traced("01", &hello)).await.ok();
    let told = world.engine.observed().recorded.pop().unwrap().headers;
    assert!(!told.contains_key("traceparent") && !told.contains_key("tracestate"));
    world.gateway.drain(Duration::from_secs(5)).await;
    assert!(receiver.all().is_empty());
}

/// Names of models that clients make up are no labels: a thousand of them are as many series as one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_clients_make_up_make_no_series() {
    let world = World::new().await;
    let ask = |number: usize| {
        let body = chat(&format!("{CANARY}-{number}"), "hello");
        let client = &world.client;
        async move {
            let refused = client.post("acme", CHAT, &body).await;
            refused.refused(404, "model_not_found");
        }
    };
    let series = || {
        let text = world.gateway.metrics().text();
        assert!(!text.contains(CANARY), "{text}");
        text.lines()
            .filter(|line| line.contains(r#"tenant="acme""#))
            .count()
    };
    ask(0).await;
    let one = series();
    for number in 1..1_000 {
        ask(number).await;
    }
    assert_eq!(series(), one);
}
