//! What the pages of the platform's record and of a tenant's data do.

use serde_json::json;

use super::House;

#[tokio::test]
async fn the_platforms_record_is_shown_checked_and_gone_back_in() {
    let house = House::new().await;
    house.onboard("acme").await;
    let session = house.sign_in(&house.operator).await.unwrap();
    let team = "/admin/v1/tenants/acme/teams/core";
    house.put(team, json!({})).await.ok();
    let before = house.current().version();
    house.delete(team).await.ok();

    let audit = house
        .browse("/dashboard/audit?check=1", Some(&session))
        .await;
    assert_eq!(audit.status, 200, "{}", audit.text);
    assert!(
        audit.text.contains("entries are as they were signed"),
        "{}",
        audit.text
    );
    assert!(audit.text.contains("sign_in") && audit.text.contains("onboard_tenant"));
    let versions = house.browse("/dashboard/versions", Some(&session)).await;
    assert!(
        versions
            .text
            .contains(&format!("/dashboard/versions/{before}/rollback"))
    );

    let path = format!("/dashboard/versions/{before}/rollback");
    let done = house.press(&path, &session, "note=by+mistake").await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert!(done.text.contains("core"), "{}", done.text);
    house.get(team).await.ok();
    let audit = house.browse("/dashboard/audit", Some(&session)).await;
    assert!(audit.text.contains("by mistake"), "{}", audit.text);
    let absent = house
        .press("/dashboard/versions/9999/rollback", &session, "")
        .await;
    assert_eq!(absent.status, 404);
}

#[tokio::test]
async fn a_tenants_data_is_backed_up_and_the_tenant_ends_by_its_name_alone() {
    let house = House::new().await;
    let own = house.onboard("acme").await;
    house.onboard("globex").await;
    let session = house.sign_in(&house.operator).await.unwrap();
    let admin = house.sign_in(&own).await.unwrap();
    let page = house
        .browse("/dashboard/tenants/acme/data", Some(&session))
        .await;
    assert!(page.text.contains("<code>file</code>"), "{}", page.text);
    let taken = house
        .press("/dashboard/tenants/acme/backups", &session, "")
        .await;
    assert_eq!(
        taken.location(),
        "/dashboard/tenants/acme/data?done=backed-up",
        "{}",
        taken.text
    );
    let listed = house.get("/admin/v1/tenants/acme/backups").await.ok();
    let name = listed["data"][0]["name"].as_str().unwrap().to_owned();
    let page = house
        .browse("/dashboard/tenants/acme/data", Some(&session))
        .await;
    assert!(
        page.text.contains(&name) && page.text.contains("Put back"),
        "{}",
        page.text
    );
    // Its administrator sees that it is backed up, and has no way to turn it back.
    let seen = house
        .browse("/dashboard/tenants/acme/data", Some(&admin))
        .await;
    assert!(seen.text.contains(&name), "{}", seen.text);
    assert!(!seen.text.contains("Put back") && !seen.text.contains("Destroy it"));
    let restore = format!("/dashboard/tenants/acme/backups/{name}/restore");
    let refused = house.press(&restore, &admin, "what=content").await;
    assert_eq!(refused.status, 404, "{}", refused.text);
    let back = house.press(&restore, &session, "what=content").await;
    assert_eq!(
        back.location(),
        "/dashboard/tenants/acme/data?done=restored",
        "{}",
        back.text
    );
    let remove = format!("/dashboard/tenants/acme/backups/{name}/remove");
    let removed = house.press(&remove, &session, "").await;
    assert_eq!(
        removed.location(),
        "/dashboard/tenants/acme/data?done=removed"
    );
    let nowhere = "to=silo:nowhere&keep_days=7";
    let refused = house
        .press("/dashboard/tenants/acme/move", &session, nowhere)
        .await;
    assert!(
        refused.text.contains("Nothing was changed"),
        "{}",
        refused.text
    );

    let offboard = "/dashboard/tenants/acme/offboard";
    for wrong in ["", "confirm=", "confirm=globex", "confirm=ACME"] {
        let refused = house.press(offboard, &session, wrong).await;
        assert_eq!(refused.status, 400, "{wrong}");
    }
    house.get("/admin/v1/tenants/acme").await.ok();
    let gone = house.press(offboard, &session, "confirm=acme").await;
    assert_eq!(
        gone.location(),
        "/dashboard/fleet?done=offboarded",
        "{}",
        gone.text
    );
    house.get("/admin/v1/tenants/acme").await.refused(404);
    house.get("/admin/v1/tenants/globex").await.ok();
}

#[tokio::test]
async fn usage_is_cut_by_what_the_ledger_keeps() {
    let house = House::new().await;
    let own = house.onboard("acme").await;
    let session = house.sign_in(&own).await.unwrap();
    for (query, title) in [
        ("by=version&time=hours", "Version of the model"),
        ("by=session&time=year", "Conversation"),
        ("by=upstream&time=year", "Upstream"),
        ("by=nonsense&time=nonsense", "Feature"),
    ] {
        let path = format!("/dashboard/tenants/acme/usage?{query}");
        let seen = house.browse(&path, Some(&session)).await;
        assert_eq!(seen.status, 200, "{query}: {}", seen.text);
        assert!(seen.text.contains(title), "{query}");
        assert!(
            seen.text.contains("Nothing was used"),
            "{query}: {}",
            seen.text
        );
    }
}
