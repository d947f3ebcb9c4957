//! An engine's replicas by the word of a Kubernetes API server, which a fake one speaks as the
//! real one does.

use std::net::SocketAddr;
use std::sync::Arc;

use base::Supervisor;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tenancy::catalogue::Kind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::world::catalogue::{route, upstream, with};
use crate::world::client::{CHAT, chat, until};
use crate::world::{Setup, World};

const TOKEN: &str = "eyJhbGciOi.pod.token";

/// An API server with one service, and what it was asked.
struct ApiServer {
    address: SocketAddr,
    /// The list as it is now, and the events that a watch has had.
    events: watch::Sender<Vec<Value>>,
    list: Arc<Mutex<Value>>,
    asked: Arc<Mutex<Vec<String>>>,
    tasks: Supervisor,
}

fn slice(name: &str, version: u32, port: u16, pods: &[(&str, bool)]) -> Value {
    let endpoints = pods.iter().map(|(address, ready)| {
        json!({
            "addresses": [address],
            "conditions": {"ready": ready, "serving": ready, "terminating": !ready},
            "targetRef": {"kind": "Pod", "name": "engine-0"},
        })
    });
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": name, "namespace": "models", "resourceVersion": version.to_string(),
            "labels": {"kubernetes.io/service-name": "engine"},
        },
        "addressType": "IPv4",
        "endpoints": endpoints.collect::<Vec<_>>(),
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    })
}

impl ApiServer {
    async fn start(items: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            events: watch::Sender::default(),
            list: Arc::new(Mutex::new(items)),
            asked: Arc::default(),
            tasks: Supervisor::new(),
        };
        let (events, list) = (server.events.clone(), Arc::clone(&server.list));
        let (asked, tasks) = (Arc::clone(&server.asked), server.tasks.clone());
        server.tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (events, list) = (events.subscribe(), Arc::clone(&list));
                tasks.spawn(answer(stream, list, events, Arc::clone(&asked)));
            }
        });
        server
    }

    fn say(&self, kind: &str, object: Value) {
        let event = json!({"type": kind, "object": object});
        self.events.send_modify(|events| events.push(event));
    }

    fn watches(&self) -> usize {
        let asked = self.asked.lock();
        asked.iter().filter(|head| head.contains("watch=1")).count()
    }
}

async fn answer(
    mut stream: TcpStream,
    list: Arc<Mutex<Value>>,
    mut events: watch::Receiver<Vec<Value>>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let mut buffer = vec![0; 16 << 10];
    let read = stream.read(&mut buffer).await.unwrap();
    let head = String::from_utf8_lossy(&buffer[..read]).into_owned();
    asked.lock().push(head.clone());
    if !head.contains(&format!("authorization: Bearer {TOKEN}\r\n")) {
        let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\n{}";
        return drop(stream.write_all(refused.as_bytes()).await);
    }
    if !head.contains("watch=1") {
        let list = json!({
            "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {"resourceVersion": "100"}, "items": *list.lock(),
        });
        let list = list.to_string();
        let length = list.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{list}"
        );
        return drop(stream.write_all(answer.as_bytes()).await);
    }
    let begun =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(begun.as_bytes()).await.unwrap();
    let mut sent = events.borrow_and_update().len();
    while events.changed().await.is_ok() {
        let new = events.borrow_and_update()[sent..].to_vec();
        sent += new.len();
        for event in new {
            let line = format!("{event}\n");
            // In two pieces: a line may come in any.
            let (first, rest) = line.split_at(line.len() / 2);
            let piece = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
            let pieces = [piece(first), piece(rest)];
            for piece in pieces {
                if stream.write_all(piece.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn world(server: &ApiServer, token: &str) -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let endpoints = json!({"kubernetes": {
        "namespace": "models", "service": "engine", "port": "http",
        "api_server": format!("http://{}", server.address),
        "token": format!("file:{}", file.display()),
    }});
    let spec = with(
        upstream("http://engine.models/v1", "sim"),
        json!({"endpoints": endpoints}),
    );
    let setup = Setup::new().await.put(Kind::Upstream, "group", spec).put(
        Kind::Route,
        "m",
        route("group", "sim-small"),
    );
    (setup.start().await, folder)
}

fn addresses(world: &World) -> Vec<String> {
    let status = world.gateway.upstream_status("group").unwrap();
    status.endpoints.into_iter().map(|it| it.address).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_services_pods_are_followed() {
    let engine = Setup::new().await.start().await;
    let port: u16 = engine.engine_url["http://127.0.0.1:".len()..]
        .trim_end_matches("/v1")
        .parse()
        .unwrap();
    let first = slice(
        "engine-a",
        7,
        port,
        &[("127.0.0.1", true), ("127.0.0.9", false)],
    );
    let server = ApiServer::start(json!([first])).await;
    let (world, _folder) = world(&server, TOKEN).await;
    let pod = |ip: &str| format!("{ip}:{port}");
    until(|| addresses(&world) == [pod("127.0.0.1")]).await;
    let reply = world.client.post("acme", CHAT, &chat("m", "hi")).await;
    reply.ok();
    assert_eq!(engine.engine.observed().requests, 1);

    until(|| server.watches() == 1).await;
    server.say(
        "ADDED",
        slice("engine-b", 101, port, &[("127.0.0.2", true)]),
    );
    until(|| addresses(&world) == [pod("127.0.0.1"), pod("127.0.0.2")]).await;
    server.say(
        "BOOKMARK",
        json!({"kind": "EndpointSlice", "metadata": {"resourceVersion": "150"}}),
    );
    server.say(
        "MODIFIED",
        slice("engine-a", 151, port, &[("127.0.0.1", false)]),
    );
    until(|| addresses(&world) == [pod("127.0.0.2")]).await;
    server.say("DELETED", slice("engine-b", 152, port, &[]));
    until(|| addresses(&world).is_empty()).await;

    // The watch is too old: all is listed anew, and nobody is forgotten in between.
    *server.list.lock() = json!([slice("engine-c", 160, port, &[("127.0.0.1", true)])]);
    server.say(
        "ERROR",
        json!({"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410}),
    );
    until(|| addresses(&world) == [pod("127.0.0.1")]).await;
    world.client.post("acme", CHAT, &chat("m", "hi")).await.ok();
    let asked = server.asked.lock();
    let path = "GET /apis/discovery.k8s.io/v1/namespaces/models/endpointslices\
                ?labelSelector=kubernetes.io%2Fservice-name%3Dengine&";
    assert!(asked.iter().all(|head| head.starts_with(path)), "{asked:?}");
    assert!(asked[1].contains("&resourceVersion=100"), "{asked:?}");
}

/// A token that the API server does not take: nobody is found, and calls fail with a clear error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_look_finds_nobody() {
    let server = ApiServer::start(json!([slice("a", 1, 80, &[("127.0.0.1", true)])])).await;
    let (world, _folder) = world(&server, "another").await;
    until(|| !server.asked.lock().is_empty()).await;
    let refused = world.client.post("acme", CHAT, &chat("m", "hi")).await;
    refused.refused(502, "upstream_failed");
    assert!(addresses(&world).is_empty());
}
