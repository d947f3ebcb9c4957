//! Adapters are uploaded by whoever administers their tenant, kept apart from everybody else's, gone
//! back to, and removed.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Answered, House};
use crate::uploads::tests::{adapter, archive, entry};

const PATH: &str = "/admin/v1/tenants/acme/adapters/tone";

/// Two tenants on a tier that allows uploads; the key of each one's administrator.
async fn house() -> (House, String, String) {
    let house = House::new().await;
    let tier = json!({"adapters": {"count_max": 2, "upload_bytes_max": 100_000}});
    house.put("/admin/v1/tiers/free", tier).await.ok();
    let engine = json!({
        "engine": "vllm", "base_url": "http://engine.example:8000/v1", "salting": "derived",
        "adapters": {"slots": 4, "rank_max": 16},
    });
    house.put("/admin/v1/upstreams/engine", engine).await.ok();
    let route = json!({"targets": [{"upstream": "engine", "model": "m"}]});
    house.put("/admin/v1/routes/llama", route).await.ok();
    let acme = house.onboard("acme").await;
    let globex = house.onboard("globex").await;
    (house, acme, globex)
}

async fn upload(house: &House, key: &str, path: &str, tar: Vec<u8>) -> Answered {
    let request = axum::http::Request::put(path)
        .header("authorization", format!("Bearer {key}"))
        .body(axum::body::Body::from(tar))
        .unwrap();
    house.send(request).await
}

/// The folders that a tenant's uploads have on the disk, by name.
fn kept(house: &House, tenant: &str) -> Vec<String> {
    let id = house.tenant_id(tenant);
    let folder = house.folder.path().join("adapters").join(id.to_string());
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|it| it.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn location(shown: &Value) -> PathBuf {
    let location = &shown["spec"]["source"]["uploaded"]["location"];
    location.as_str().expect("it was uploaded").into()
}

/// The last part of where it is.
fn token(shown: &Value) -> String {
    let location = location(shown);
    location.file_name().unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_upload_is_an_adapter_whose_place_the_server_gives() {
    let (house, acme, _) = house().await;
    let files = format!("{PATH}/files");
    let without = upload(&house, &acme, &files, adapter()).await;
    assert!(without.refused(400).contains("needs the model"));
    let made = upload(&house, &acme, &format!("{files}?base=llama"), adapter())
        .await
        .ok();
    assert_eq!(
        (&made["spec"]["base"], &made["spec"]["rank"]),
        (&json!("llama"), &json!(8))
    );
    let tenant = house.tenant_id("acme").to_string();
    assert!(location(&made).starts_with(format!("/srv/adapters/{tenant}")));
    assert_eq!(kept(&house, "acme"), [token(&made)]);
    // What is read can be put back; nobody sets where files are.
    house.put(PATH, made["spec"].clone()).await.ok();
    let mut forged = made["spec"].clone();
    forged["source"]["uploaded"]["location"] = json!("/etc");
    let forged = house.put(PATH, forged).await;
    assert!(forged.refused(400).contains("upload the files"));
    let elsewhere = "/admin/v1/tenants/acme/adapters/other";
    let copied = house.put(elsewhere, made["spec"].clone()).await;
    assert!(copied.refused(400).contains("upload the files"));
    // A model that takes no such adapter: what was received goes again.
    let unsound = upload(&house, &acme, &format!("{files}?base=nobody"), adapter()).await;
    assert_eq!(unsound.status, 422, "{}", unsound.text);
    assert_eq!(kept(&house, "acme"), [token(&made)]);
    let root = house.root_key();
    let house = house.restarted(root);
    assert_eq!(house.get(PATH).await.ok(), made);
}

#[tokio::test]
async fn a_tenant_reaches_no_adapter_of_anothers() {
    let (house, acme, globex) = house().await;
    let files = format!("{PATH}/files?base=llama");
    let made = upload(&house, &acme, &files, adapter()).await.ok();
    // Absent and forbidden look alike.
    let stranger = upload(&house, &globex, &files, adapter()).await;
    let nobody = files.replace("acme", "nobody");
    let nobody = upload(&house, &globex, &nobody, adapter()).await;
    assert_eq!(
        (stranger.status.as_u16(), stranger.text),
        (404, nobody.text)
    );
    // Its own adapter cannot say the other's place, in either form.
    let own = "/admin/v1/tenants/globex/adapters/tone";
    let uploaded = house.put(own, made["spec"].clone()).await;
    assert!(uploaded.refused(400).contains("upload the files"));
    let reference =
        json!({"base": "llama", "source": {"reference": {"location": location(&made)}}});
    let referred = house.put(own, reference).await;
    assert!(
        referred.text.contains("does not let references lead"),
        "{}",
        referred.text
    );
    let theirs = upload(
        &house,
        &globex,
        &format!("{own}/files?base=llama"),
        adapter(),
    )
    .await
    .ok();
    assert_ne!(location(&made).parent(), location(&theirs).parent());
    house
        .call(&globex, axum::http::Method::DELETE, own, Value::Null)
        .await
        .ok();
    assert!(kept(&house, "globex").is_empty());
    assert_eq!(kept(&house, "acme"), [token(&made)]);
    house
        .delete("/admin/v1/tenants/acme?confirm=acme")
        .await
        .ok();
    let all = house.folder.path().join("adapters");
    assert!(
        std::fs::read_dir(all)
            .unwrap()
            .flatten()
            .all(|tenant| { std::fs::read_dir(tenant.path()).unwrap().count() == 0 })
    );
}

#[tokio::test]
async fn what_is_replaced_can_be_gone_back_to_and_what_is_removed_cannot() {
    let (house, acme, _) = house().await;
    let files = format!("{PATH}/files?base=llama");
    let first = upload(&house, &acme, &files, adapter()).await.ok();
    let then = house.current().version();
    let second = upload(&house, &acme, &files, adapter()).await.ok();
    assert_eq!(kept(&house, "acme").len(), 2, "this one and the one before");
    let back = |version: u64| format!("/admin/v1/versions/{version}/rollback");
    house.post(&back(then), Value::Null).await.ok();
    assert_eq!(house.get(PATH).await.ok(), first);
    house.post(&back(then + 1), Value::Null).await.ok();
    assert_eq!(house.get(PATH).await.ok(), second);
    let third = upload(&house, &acme, &files, adapter()).await.ok();
    let mut both = vec![token(&second), token(&third)];
    both.sort();
    assert_eq!(kept(&house, "acme"), both);
    // The first files are gone: it stays as it is, and the answer says why.
    let told = house.post(&back(then), Value::Null).await.ok();
    assert!(
        told["kept"].to_string().contains("upload them again"),
        "{told}"
    );
    assert_eq!(house.get(PATH).await.ok(), third);
    house.delete(PATH).await.ok();
    assert!(kept(&house, "acme").is_empty());
    let told = house.post(&back(then + 1), Value::Null).await.ok();
    assert!(
        told["kept"].to_string().contains("upload them again"),
        "{told}"
    );
    assert_eq!(house.get(PATH).await.status, 404);
}

#[tokio::test]
async fn hostile_archives_leave_nothing_behind() {
    let (house, acme, _) = house().await;
    let files = format!("{PATH}/files?base=llama");
    let outside = "../../../../tmp/partywall-escaped";
    let weights = "adapter_model.safetensors";
    let mut huge = entry(weights, b'0', b"x");
    // A header that promises eight gigabytes, with a sum that holds.
    huge[124..135].copy_from_slice(b"77777777777");
    let sum: u64 = huge[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            if (148..156).contains(&at) {
                32
            } else {
                u64::from(*byte)
            }
        })
        .sum();
    huge[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    let many = |name: &str| entry(name, b'0', b"").repeat(300);
    for (what, tar, told) in [
        ("leads up", archive(&[(outside, b"x")]), "is not taken"),
        (
            "leads to the root",
            archive(&[("/etc/cron.d/x", b"x")]),
            "is not taken",
        ),
        (
            "stands in a folder",
            archive(&[("a/adapter_config.json", b"{}")]),
            "is not taken",
        ),
        (
            "a symbolic link",
            entry(weights, b'2', b""),
            "no plain file",
        ),
        ("a hard link", entry(weights, b'1', b""), "no plain file"),
        ("a device", entry(weights, b'3', b""), "no plain file"),
        ("a sparse file", entry(weights, b'S', b""), "no plain file"),
        (
            "a long name's record",
            entry("././@LongLink", b'L', b"/etc/passwd"),
            "no plain file",
        ),
        (
            "compressed",
            [0x1f, 0x8b, 8, 0].repeat(512),
            "no tar archive",
        ),
        ("promises too much", huge, "ended in the middle"),
        ("too long", vec![0; 200_000], "upload_bytes_max"),
        ("many small files", many("README.md"), "upload_bytes_max"),
        ("nothing", Vec::new(), "is missing"),
    ] {
        let answer = upload(&house, &acme, &files, tar).await;
        assert_eq!(answer.status, 400, "{what}: {}", answer.text);
        assert!(answer.text.contains(told), "{what}: {}", answer.text);
        assert!(kept(&house, "acme").is_empty(), "{what}");
    }
    assert!(!std::path::Path::new("/tmp/partywall-escaped").exists());
    assert_eq!(house.get(PATH).await.status, 404);
}

#[tokio::test]
async fn uploads_are_within_what_the_tier_allows() {
    let (house, acme, _) = house().await;
    let of = |name: &str| format!("/admin/v1/tenants/acme/adapters/{name}/files?base=llama");
    for name in ["a", "b"] {
        upload(&house, &acme, &of(name), adapter()).await.ok();
    }
    let third = upload(&house, &acme, &of("c"), adapter()).await;
    assert!(
        third.text.contains("allows 2 adapters at most"),
        "{}",
        third.text
    );
    assert_eq!(kept(&house, "acme").len(), 2);
    house.delete("/admin/v1/tenants/acme/adapters/b").await.ok();
    let smaller = json!({"adapters": {"count_max": 2, "upload_bytes_max": 10}});
    let refused = house.put("/admin/v1/tiers/free", smaller).await;
    assert!(
        refused.text.contains("uploads of 10 bytes at most"),
        "{}",
        refused.text
    );
    house.delete("/admin/v1/tenants/acme/adapters/a").await.ok();
    let none = json!({"adapters": {"count_max": 2}});
    house.put("/admin/v1/tiers/free", none).await.ok();
    let refused = upload(&house, &acme, &of("a"), adapter()).await;
    assert!(refused.refused(409).contains("upload_bytes_max"));
}
