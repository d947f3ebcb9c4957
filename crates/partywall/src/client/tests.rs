//! Against a server on loopback that answers what it is told.

use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::*;

/// What the stub has seen: method, path with query, authorization, body.
type Seen = Arc<Mutex<Vec<(String, String, String, String)>>>;

/// A server that answers the `n`th request with the `n`th of `answers`.
async fn stub(answers: Vec<(u16, &'static str)>, tasks: &Supervisor) -> (Client, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let seen_by_server = Arc::clone(&seen);
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                let seen = Arc::clone(&seen_by_server);
                let answers = answers.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    let mut seen = seen.lock();
                    let (status, text) = answers[seen.len()];
                    let key = head.headers.get("authorization");
                    seen.push((
                        head.method.to_string(),
                        head.uri.to_string(),
                        key.map(|key| key.to_str().unwrap().to_owned())
                            .unwrap_or_default(),
                        String::from_utf8(body.to_vec()).unwrap(),
                    ));
                    let mut response = http::Response::new(Full::new(Bytes::from(text)));
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    Ok::<_, hyper::Error>(response)
                }
            });
            drop(
                http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        }
    });
    let target = Target::parse(&format!("http://{address}/base")).unwrap();
    (
        Client::new(target, Some(Redacted::new("pw_k".to_owned()))),
        seen,
    )
}

#[tokio::test]
async fn a_request_carries_key_path_and_body() {
    let tasks = Supervisor::new();
    let (mut client, seen) = stub(vec![(200, r#"{"a":1}"#)], &tasks).await;
    let answer: Value = client
        .post("/admin/v1/x", &serde_json::json!({"b": 2}))
        .await
        .unwrap();
    assert_eq!(answer["a"], 1);
    let (method, path, key, body) = seen.lock()[0].clone();
    assert_eq!(
        (method.as_str(), path.as_str()),
        ("POST", "/base/admin/v1/x")
    );
    assert_eq!((key.as_str(), body.as_str()), ("Bearer pw_k", r#"{"b":2}"#));
}

#[tokio::test]
async fn pages_are_followed_when_all_are_wanted() {
    let tasks = Supervisor::new();
    let pages = vec![
        (200, r#"{"data":[{"name":"a"}],"next_cursor":"c/1"}"#),
        (200, r#"{"data":[{"name":"b"}],"next_cursor":null}"#),
        (200, r#"{"data":[{"name":"a"}],"next_cursor":"c/1"}"#),
    ];
    let (mut client, seen) = stub(pages, &tasks).await;
    let limit = vec![("limit", Some("1".to_owned()))];
    let all = list(&mut client, "/l", Pages::All, limit.clone())
        .await
        .unwrap();
    assert_eq!(all.rows.len(), 2);
    assert_eq!(seen.lock()[1].1, "/base/l?limit=1&cursor=c%2F1");
    let first = list(&mut client, "/l", Pages::First, limit).await.unwrap();
    assert_eq!(
        (first.rows.len(), first.next_cursor.as_deref()),
        (1, Some("c/1"))
    );
}

#[tokio::test]
async fn a_refusal_is_the_apis_message_and_what_to_do() {
    let tasks = Supervisor::new();
    let answers = vec![
        (
            400,
            r#"{"error":{"message":"the version is refused","type":"t","param":null,"code":null,"details":[{"address":"tiers/free","message":"is used"}]}}"#,
        ),
        (
            401,
            r#"{"error":{"message":"the key is not valid","type":"t"}}"#,
        ),
        (502, "<html>"),
        (200, "<html>"),
        (204, ""),
    ];
    let (mut client, _) = stub(answers, &tasks).await;
    let mut texts = Vec::new();
    for _ in 0..4 {
        texts.push(client.get::<Value>("/x").await.unwrap_err().to_string());
    }
    assert_eq!(texts[0], "the version is refused\n  tiers/free: is used");
    assert!(
        texts[1].starts_with("the key is not valid\nGive an operator's key"),
        "{}",
        texts[1]
    );
    assert_eq!(texts[2], "the server answered 502 Bad Gateway");
    assert!(
        texts[3].contains("Does --url name the admin address?"),
        "{}",
        texts[3]
    );
    assert_eq!(client.get::<Value>("/x").await.unwrap(), Value::Null);
}

#[tokio::test]
async fn nobody_there_says_what_to_start() {
    let unused = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let target = Target::parse(&format!("http://{unused}")).unwrap();
    let error = Client::new(target, None)
        .get::<Value>("/x")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("partywall serve"), "{error}");
}

#[test]
fn a_segment_keeps_no_slash() {
    assert_eq!(segment("openai/gpt-4o:free"), "openai%2Fgpt-4o%3Afree");
    assert_eq!(
        with_query("/p", &[("a", None), ("b", Some("1,2".into()))]),
        "/p?b=1%2C2"
    );
}
