//! Alerts from the real binary to a real hook and a real mail server.

#![expect(clippy::unwrap_used, reason = "a panic in a test is the report")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::product::Running;

/// Long enough for a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves each connection by `serve`, which hands on what it heard.
fn listen<T: Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> T + Send + 'static,
) -> Receiver<T> {
    let (heard, receiver): (SyncSender<T>, _) = sync_channel(64);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if heard.send(serve(stream)).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A hook that takes everything: the head and the body of each message.
fn hook(stream: TcpStream) -> (String, Value) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    let head = head.to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap();
    let length = length.lines().next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
    reader.get_mut().write_all(answer).unwrap();
    (head, serde_json::from_slice(&body).unwrap())
}

/// A mail server: the recipients and the text of each message.
fn mailbox(stream: TcpStream) -> (Vec<String>, String) {
    let mut reader = BufReader::new(stream);
    let say = |reader: &mut BufReader<TcpStream>, line: &str| {
        reader.get_mut().write_all(line.as_bytes()).unwrap();
    };
    say(&mut reader, "220 mx ESMTP\r\n");
    let (mut recipients, mut mail, mut in_data) = (Vec::new(), String::new(), false);
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap_or(0) > 0 {
        match line.trim_end() {
            "." => {
                in_data = false;
                say(&mut reader, "250 taken\r\n");
            }
            text if in_data => {
                mail.push_str(text);
                mail.push('\n');
            }
            "DATA" => {
                in_data = true;
                say(&mut reader, "354 go on\r\n");
            }
            "QUIT" => {
                say(&mut reader, "221 bye\r\n");
                break;
            }
            command => {
                if let Some(to) = command.strip_prefix("RCPT TO:") {
                    recipients.push(to.to_owned());
                }
                say(&mut reader, "250 ok\r\n");
            }
        }
        line.clear();
    }
    let body = mail.split("\n\n").nth(1).unwrap_or_default();
    let text = STANDARD.decode(body.replace('\n', "")).unwrap();
    (recipients, String::from_utf8(text).unwrap())
}

#[test]
fn an_alert_reaches_a_hook_and_a_mailbox_also_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let product = Running::quickstart(&data, &[]);
    let refused = product.cli(&[
        "channel",
        "create",
        "mail",
        "-t",
        "acme",
        "--email",
        "a@b.example",
    ]);
    assert!(
        refused.err.contains("there is no mail server"),
        "{}",
        refused.err
    );
    product.stop();

    let post = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!(
        "\n[alerts]\nevery_seconds = 1\n\n[dashboard]\nurl = \"https://partywall.example\"\n\n\
         [mail]\nhost = \"127.0.0.1\"\nport = {}\nencryption = \"none\"\nfrom = \"pw@partywall.example\"\n",
        post.local_addr().unwrap().port()
    );
    let mailed = listen(post, mailbox);

    // Nobody listens at the hook yet.
    let address = reserved();
    let product = Running::serve_with(&data, &more);
    let url = format!("http://{address}/in");
    let words = ["platform-channel", "create", "ops", "--webhook", &url];
    product.done(&words);
    let refused = product.cli(&["alert", "test", "ops"]);
    assert_eq!(
        refused.code,
        Some(1),
        "a private address is refused unless it is allowed"
    );
    assert!(refused.err.contains("no public address"), "{}", refused.err);
    product.done(&["platform-channel", "set", "ops", "--allow-private-address"]);
    let words = [
        "channel",
        "create",
        "mail",
        "-t",
        "acme",
        "--email",
        "ada@acme.example",
    ];
    product.done(&words);
    let inside = format!("https://{address}/in");
    product.done(&[
        "channel",
        "create",
        "probe",
        "-t",
        "acme",
        "--webhook",
        &inside,
    ]);
    let probed = product.cli(&["alert", "test", "probe", "-t", "acme"]);
    assert!(probed.err.contains("no public address"), "{}", probed.err);
    product.done(&["channel", "delete", "probe", "-t", "acme", "--yes"]);

    product.done(&["key", "create", "brief", "-t", "acme", "--expires", "2d"]);
    product.done(&["key", "create", "brief", "-t", "globex", "--expires", "2d"]);
    let (to, text) = mailed.recv_timeout(PATIENCE).unwrap();
    assert_eq!(to, ["<ada@acme.example>"]);
    assert!(text.contains("acme: key brief ends at"), "{text}");
    assert!(
        text.contains("Page: https://partywall.example/dashboard/tenants/acme/keys"),
        "{text}"
    );
    let open = |product: &Running| {
        let rows = product.done(&["alert", "list", "--open", "--json"]).json();
        rows["data"].as_array().unwrap().len()
    };
    assert_eq!(open(&product), 2);
    product.signal("KILL");
    drop(product);

    // After the crash somebody listens: both messages come, each once, and no other mail.
    let heard = listen(TcpListener::bind(address).unwrap(), hook);
    let product = Running::serve(&data);
    let mut tenants = Vec::new();
    for _ in 0..2 {
        let (head, said) = heard.recv_timeout(2 * PATIENCE).unwrap();
        assert!(head.contains("webhook-signature: v1,"), "{head}");
        assert_eq!(
            (&said["type"], &said["data"]["kind"]),
            (&"alert.opened".into(), &"key-expiring".into())
        );
        tenants.push(said["data"]["tenant"].as_str().unwrap().to_owned());
    }
    tenants.sort();
    assert_eq!(tenants, ["acme", "globex"]);
    product.done(&["alert", "test", "ops"]);
    let (_, said) = heard.recv_timeout(PATIENCE).unwrap();
    assert_eq!(said["type"], "alert.test");
    assert_eq!(open(&product), 2);
    assert!(
        mailed.try_recv().is_err(),
        "globex's alert is none of acme's"
    );
    let words = ["alert", "list", "-t", "acme", "--json"];
    let own = product.done(&words).json();
    assert_eq!(own["data"].as_array().unwrap().len(), 1);
    product.stop();
}

/// An address at which nobody listens.
fn reserved() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}
