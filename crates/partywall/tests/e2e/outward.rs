//! What leaves by itself: costs to a bucket that checks each signature, and the log to a collector.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message as _;
use ring::{digest, hmac};
use serde_json::{Value, json};

use crate::product::Running;

/// Long enough for a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request, its header names in small letters.
struct Asked {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length");
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        headers,
        body,
    })
}

/// Serves until the test ends.
fn serve(mut answer: impl FnMut(Asked) -> (u16, Vec<u8>) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Some(asked) = read(&stream) else {
                continue;
            };
            let (status, body) = answer(asked);
            let head = format!(
                "HTTP/1.1 {status} As It Is\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            drop(stream.write_all(&[head.as_bytes(), &body].concat()));
        }
    });
    address
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hexadecimal(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// The signature that S3 expects (AWS Signature Version 4, the header's form), of what was asked.
fn signature(asked: &Asked, signed: &str, scope: &str, secret: &str) -> String {
    let headers: String = signed
        .split(';')
        .map(|name| format!("{name}:{}\n", asked.headers[name].trim()))
        .collect();
    let payload = &asked.headers["x-amz-content-sha256"];
    let canonical = format!(
        "{}\n{}\n\n{headers}\n{signed}\n{payload}",
        asked.method, asked.path
    );
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        asked.headers["x-amz-date"],
        sha256(canonical.as_bytes())
    );
    let start = format!("AWS4{secret}").into_bytes();
    let sign = |key: &[u8], text: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
    };
    let key = scope.split('/').fold(start, |key, part| sign(&key, part));
    hexadecimal(&sign(&key, &to_sign))
}

/// A bucket `finops` of one key pair, addressed by path.
fn bucket() -> SocketAddr {
    let mut objects: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    serve(move |asked| {
        let refused = |code: &str| {
            let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
            (403, body.into_bytes())
        };
        let given: BTreeMap<&str, &str> = asked.headers["authorization"]
            .strip_prefix("AWS4-HMAC-SHA256 ")
            .unwrap()
            .split(',')
            .filter_map(|pair| pair.trim().split_once('='))
            .collect();
        let (key, scope) = given["Credential"].split_once('/').unwrap();
        let day = &asked.headers["x-amz-date"][..8];
        if key != "AKIDEXAMPLE" || scope != format!("{day}/eu-west-1/s3/aws4_request") {
            return refused("InvalidAccessKeyId");
        }
        let signed = given["SignedHeaders"];
        let are_signed = ["host", "x-amz-content-sha256", "x-amz-date"]
            .iter()
            .all(|name| signed.split(';').any(|it| it == *name));
        if !are_signed || signature(&asked, signed, scope, "wJalr") != given["Signature"] {
            return refused("SignatureDoesNotMatch");
        }
        if asked.headers["x-amz-content-sha256"] != sha256(&asked.body) {
            return refused("XAmzContentSHA256Mismatch");
        }
        let Some(key) = asked.path.strip_prefix("/finops/") else {
            return refused("AccessDenied");
        };
        match asked.method.as_str() {
            "PUT" => {
                objects.insert(key.to_owned(), asked.body);
                (200, Vec::new())
            }
            _ => match objects.get(key) {
                Some(body) => (200, body.clone()),
                None => (404, b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
            },
        }
    })
}

/// A collector: what comes to `/v1/logs`.
fn collector() -> (SocketAddr, Receiver<Value>) {
    let (records, received) = sync_channel(256);
    let address = serve(move |asked| {
        if asked.path == "/v1/logs" {
            let said = ExportLogsServiceRequest::decode(&*asked.body).unwrap();
            let said = serde_json::to_value(said).unwrap();
            let scope = &said["resourceLogs"][0]["scopeLogs"][0];
            for record in scope["logRecords"].as_array().unwrap() {
                drop(records.try_send(record.clone()));
            }
        }
        (200, Vec::new())
    });
    (address, received)
}

#[test]
fn costs_go_to_a_bucket_by_signed_requests_and_the_log_to_a_collector() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    Running::quickstart(&data, &[]).stop();
    let credential = folder.path().join("s3.json");
    let write = |secret: &str| {
        let text = json!({"access_key_id": "AKIDEXAMPLE", "secret_access_key": secret});
        std::fs::write(&credential, text.to_string()).unwrap();
    };
    write("wrong");
    let (store, (logs, records)) = (bucket(), collector());
    let more = format!(
        "\n[exports]\nendpoint = \"http://{store}\"\nbucket = \"finops\"\nregion = \"eu-west-1\"\n\
         prefix = \"pw/costs/\"\ncredential = \"file:{}\"\n\n\
         [telemetry]\notlp_endpoint = \"http://{logs}\"\nprocess_log = \"sent\"\n",
        credential.display()
    );
    let product = Running::serve_with(&data, &more);

    // What was logged before the collector was known is sent, too.
    let recovered = loop {
        let record = records.recv_timeout(PATIENCE).unwrap();
        if record["body"]["stringValue"] == "recovered" {
            break record;
        }
    };
    assert_eq!(recovered["severityText"], "INFO");
    let fields = recovered["attributes"].as_array().unwrap();
    let tenants = fields.iter().find(|field| field["key"] == "tenants");
    assert_eq!(tenants.unwrap()["value"]["intValue"], "2");

    let push = |from: &str, to: &str| {
        product.cli(&["costs", "push", "--from", from, "--to", to, "--json"])
    };
    let refused = push("2026-01-31", "2026-02-01");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("SignatureDoesNotMatch"),
        "{}",
        refused.err
    );
    // The credential is read anew for each request.
    write("wJalr");
    let pushed = push("2026-01-31", "2026-02-02");
    assert_eq!(pushed.code, Some(0), "{}", pushed.err);
    let days = pushed.json();
    let days = days["days"].as_array().unwrap();
    assert_eq!(days.len(), 2);
    assert_eq!(
        days[1]["files"][0]["key"],
        "pw/costs/2026-02/2026-02-01/costs-0000.csv"
    );
    product.stop();
}
