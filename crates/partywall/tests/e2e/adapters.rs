//! An adapter from a trainer's folder to an answer: uploaded, loaded by an engine that looks for its
//! files, called by its name, and removed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::product::{Running, partywall, post};

/// An engine that loads adapters if their files are there.
struct Engine(Child);

impl Engine {
    fn start() -> (Self, String) {
        let mut command = partywall();
        command.args(["simulate", "--json", "--listen", "127.0.0.1:0"]);
        command.args(["--lora-slots", "2", "--lora-files"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
        let mut text = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let made: Value = loop {
            assert!(
                output.read_line(&mut text).expect("it is text") > 0,
                "it ended: {text}"
            );
            if let Ok(made) = serde_json::from_str(&text) {
                break made;
            }
        };
        let url = made["base_url"].as_str().expect("a URL").to_owned();
        (Self(child), url)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What a trainer leaves behind: one tensor of four 16-bit numbers, of rank 8.
fn trained(folder: &Path) {
    std::fs::create_dir(folder).expect("it is new");
    let header = json!({"a": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]}});
    let header = header.to_string();
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend(header.as_bytes());
    weights.extend([1; 8]);
    std::fs::write(folder.join("adapter_model.safetensors"), weights).expect("it can be written");
    let config = json!({"peft_type": "LORA", "r": 8});
    let config_file = folder.join("adapter_config.json");
    std::fs::write(config_file, config.to_string()).expect("it can be written");
}

#[test]
fn an_adapter_is_uploaded_loaded_called_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (_engine, url) = Engine::start();
    let first = Running::quickstart(&data, &[]);
    let (acme, globex) = (first.key_of("acme"), first.key_of("globex"));
    assert_eq!(first.stop(), Some(0));

    let product = Running::serve_with(&data, "\n[adapters]\nfolder = \"uploads\"\n");
    let trained_at = folder.path().join("out");
    trained(&trained_at);
    let from = trained_at.to_str().unwrap();
    let engine = [
        "upstream",
        "create",
        "lora",
        "--engine",
        "vllm",
        "--base-url",
        &url,
        "--salting",
        "derived",
        "--set",
        "allow_private_address=true",
        "--set",
        r#"adapters={"slots": 2}"#,
    ];
    product.done(&engine);
    let target = "lora=sim-small";
    product.done(&[
        "route",
        "create",
        "base",
        "--target",
        target,
        "--output-tokens-max",
        "64",
    ]);
    let priced = ["--input-per-million", "0", "--output-per-million", "0"];
    product.done(&[&["price", "create", "vllm/sim-small"][..], &priced].concat());
    let tier = product.done(&["tenant", "show", "acme", "--json"]).json()["spec"]["tier"].clone();
    let tier = tier.as_str().expect("a tier").to_owned();
    let allowed = r#"adapters={"count_max": 2, "upload_bytes_max": 1000000}"#;
    product.done(&["tier", "set", &tier, "--set", allowed]);
    let upload = [
        "adapter", "upload", "tone", "-t", "acme", "--folder", from, "--base", "base",
    ];
    product.done(&upload);

    let call = json!({"model": "tone", "messages": [{"role": "user", "content": "hello"}]});
    let ask = |key: &str| post(&product.chat_url(), key, &call);
    let (status, answer) = ask(&acme);
    assert_eq!(
        (status, &answer["model"]),
        (200, &json!("tone")),
        "{answer}"
    );
    assert_eq!(ask(&globex).0, 404, "it is nobody else's");
    product.done(&["adapter", "delete", "tone", "-t", "acme", "--yes"]);
    assert_eq!(ask(&acme).0, 404);
    let tenants = std::fs::read_dir(data.join("uploads")).unwrap().flatten();
    for tenant in tenants {
        assert_eq!(std::fs::read_dir(tenant.path()).unwrap().count(), 0);
    }
    assert_eq!(product.stop(), Some(0));
}
