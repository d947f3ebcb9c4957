//! A tenant's prompts: versions that never change, and what a model would be told.

use serde_json::{Value, json};

use super::House;

const PATH: &str = "/admin/v1/tenants/acme/prompts/support";

fn spec(active: u32, versions: &[(&str, &str)]) -> Value {
    let versions: serde_json::Map<String, Value> = versions
        .iter()
        .map(|(number, template)| {
            let text = json!({"template": template, "variables": {"name": {"default": "you"}}});
            ((*number).to_owned(), text)
        })
        .collect();
    json!({"active": active, "versions": versions})
}

#[tokio::test]
async fn a_prompt_gets_versions_goes_back_and_survives_a_restart() {
    let house = House::new().await;
    house.onboard("acme").await;
    let first = ("1", "Help {{ name }}.");
    house.put(PATH, spec(1, &[first])).await.ok();
    let second = ("2", "Serve {{ name }}.");
    house.put(PATH, spec(2, &[first, second])).await.ok();
    for (wrong, said) in [
        (spec(2, &[("1", "Changed."), second]), "never changes"),
        (spec(7, &[first, second]), "no version 7"),
        (spec(2, &[first, second, ("3", " ")]), "`template`"),
    ] {
        let refused = house.put(PATH, wrong).await;
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert!(refused.text.contains(said), "{}", refused.text);
    }
    // The number of a version is never given again, however it went.
    let shorter = house.put(PATH, spec(1, &[first])).await;
    assert_eq!(shorter.status, 422, "{}", shorter.text);
    assert!(shorter.text.contains("not given again"), "{}", shorter.text);
    let with_one = house.current().version() - 1;
    let back = format!("/admin/v1/versions/{with_one}/rollback");
    house.post(&back, Value::Null).await.ok();
    let now = house.get(PATH).await.ok();
    assert_eq!(
        now["spec"],
        spec(1, &[first, second]),
        "the choice goes back"
    );
    house.put(PATH, spec(1, &[first, second])).await.ok();
    assert_eq!(house.get(PATH).await.ok()["spec"]["active"], 1);
    let listed = house.get("/admin/v1/tenants/acme/prompts").await;
    assert!(listed.text.contains("support"), "{}", listed.text);
    let exported = house.get("/admin/v1/export").await;
    let text = "Serve {{ name }}.";
    assert!(exported.text.contains(text), "{}", exported.text);

    let feature = "/admin/v1/tenants/acme/features/desk";
    let named = house.put(feature, json!({"prompt": "support@2"})).await;
    named.ok();
    let refused = house.put(feature, json!({"prompt": "other"})).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    let root = house.root_key();
    let house = house.restarted(root);
    let refused = house.delete(PATH).await;
    assert!(refused.text.contains("feature `desk`"), "{}", refused.text);
    house.delete(feature).await.ok();
    house.delete(PATH).await.ok();
    let snapshot = house.current();
    let acme = snapshot.tenant_named("acme").expect("there");
    assert!(acme.prompts.is_none());
}

#[tokio::test]
async fn what_a_model_would_be_told_is_shown() {
    let house = House::new().await;
    house.onboard("acme").await;
    house.onboard("globex").await;
    let versions = [("1", "Help {{ name }}."), ("2", "Serve {{ tenant }}.")];
    house.put(PATH, spec(1, &versions)).await.ok();
    let render = format!("{PATH}/render");
    let given = json!({"variables": {"name": "Ada"}});
    let shown = house.post(&render, given).await.ok();
    // As the fixture's stand-in for the gateway renders it.
    let text = "acme: Help {{ name }}. for Some(\"Ada\")";
    assert_eq!(shown, json!({"prompt": "support@1", "text": text}));
    let shown = house.post(&render, json!({"version": "2"})).await.ok();
    assert_eq!(shown["text"], "acme: Serve {{ tenant }}. for None");
    for wrong in [json!({"version": "3"}), json!({"variables": {"name": ""}})] {
        let refused = house.post(&render, wrong).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
    }
    let foreign = render.replace("acme", "globex");
    assert_eq!(house.post(&foreign, json!({})).await.status, 404);
}
