//! The audit logs: the platform's, and each tenant's own.

use std::sync::Arc;

use serde_json::{Value, json};
use store::merkle::Frontier;
use store::{AuditError, AuditLog, Page as StorePage};
use tenancy::{Permission, TenantScope};

use crate::Control;
use crate::api::{AuditCheck, AuditRow, ListQuery, Page};
use crate::endpoint::{Call, Endpoint, Json, JsonLines, Nothing, PlainText, Reach, Verb, endpoint};
use crate::error::ApiError;
use crate::paging::Paging;
use crate::publisher::blocking;

/// 64 MiB: some hundred thousand entries; a longer log is exported from the data folder.
const EXPORT_BYTES_MAX: usize = 64 << 20;
/// What the offline verifier expects in the first line.
const EXPORT_FORMAT: &str = "partywall-audit/1";

pub(super) fn endpoints() -> Vec<Endpoint> {
    let platform = Reach::Platform(Permission::ReadAudit);
    let tenant = Reach::Tenant(Permission::ReadAudit);
    let mut all = Vec::new();
    for (root, of, reach) in [
        ("/admin/v1", "platform", platform),
        ("/admin/v1/tenants/{tenant}", "tenant", tenant),
    ] {
        let path = |rest: &str| format!("{root}/audit{rest}");
        let id = |verb: &str| format!("{verb}_{of}_audit");
        all.push(endpoint(
            Verb::Get,
            &path(""),
            &id("list"),
            "Who did what to what, the newest first",
            reach,
            list,
        ));
        all.push(endpoint(
            Verb::Get,
            &path("/verify"),
            &id("verify"),
            "Whether every entry is as it was signed",
            reach,
            verify,
        ));
        all.push(endpoint(
            Verb::Get,
            &path("/export"),
            &id("export"),
            "The whole log, for the offline verifier",
            reach,
            export,
        ));
        all.push(endpoint(
            Verb::Get,
            &path("/key"),
            &id("key_of"),
            "The public key that the log's checkpoints are signed with",
            reach,
            key,
        ));
    }
    all
}

/// Does something with the log that a call is about, on a thread that may block.
async fn with_log<Q, T: Send + 'static>(
    control: Arc<Control>,
    call: Call<Q, Nothing>,
    act: impl FnMut(&mut AuditLog<'_>) -> Result<T, AuditError> + Send + 'static,
) -> Result<T, ApiError> {
    let scope = scope(&control, call).await?;
    blocking(move || {
        let publisher = &control.publisher;
        let done = match &scope {
            Some(scope) => publisher.with_tenant_log(scope, act),
            None => publisher.with_platform_log(act),
        };
        done.map_err(ApiError::internal)
    })
    .await
}

/// The tenant whose log it is, entered; none for the platform's.
async fn scope<Q>(
    control: &Arc<Control>,
    call: Call<Q, Nothing>,
) -> Result<Option<TenantScope>, ApiError> {
    let Some(tenant) = call.tenant_if_any().cloned() else {
        return Ok(None);
    };
    let reason = call.reason_to_enter();
    control.enter(call.caller, tenant, reason).await.map(Some)
}

async fn list(
    control: Arc<Control>,
    call: Call<Json<ListQuery>, Nothing>,
) -> Result<Json<Page<AuditRow>>, ApiError> {
    let Json(ListQuery { limit, cursor }) = &call.query;
    let paging = Paging::read(*limit, cursor.as_deref())?;
    let offset = paging.offset()?;
    let page = StorePage::new(offset, paging.limit as u32);
    let entries = with_log(control, call, move |log| log.newest_entries(page)).await?;
    let rows = entries.into_iter().map(|(index, entry)| AuditRow {
        index,
        entry: serde_json::from_str(&entry).unwrap_or(Value::String(entry)),
    });
    Ok(Json(paging.of_page(offset, rows.collect())))
}

async fn verify(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<Json<AuditCheck>, ApiError> {
    with_log(control, call, |log| Ok(check(log)))
        .await
        .map(Json)
}

/// Computes the root from the entries themselves and holds it against the signed one.
fn check(log: &AuditLog<'_>) -> AuditCheck {
    let (mut tree, mut page) = (Frontier::default(), StorePage::first());
    let walked = log.head().and_then(|head| {
        let size = head.as_ref().map_or(0, |(_, head)| head.size);
        loop {
            let entries = log.entries(page)?;
            for (index, entry) in &entries {
                if *index == tree.size() && *index < size {
                    tree.push(entry.as_bytes());
                }
            }
            if entries.is_empty() {
                return Ok(head);
            }
            page = page.next();
        }
    });
    let root_hash = hex(&tree.root());
    let problem = match &walked {
        Err(error) => Some(error.to_string()),
        Ok(Some((_, head))) if head.size != tree.size() || head.root != tree.root() => {
            Some("the entries do not give the root that was signed: the log was changed".to_owned())
        }
        Ok(_) => None,
    };
    AuditCheck {
        ok: problem.is_none(),
        entries: tree.size(),
        root_hash,
        problem,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn export(
    control: Arc<Control>,
    call: Call<Nothing, Nothing>,
) -> Result<JsonLines, ApiError> {
    let lines = with_log(control, call, export_lines).await?;
    lines.map(JsonLines).ok_or_else(|| {
        ApiError::conflict("the log is empty, or longer than 64 MiB: export it with the CLI")
    })
}

/// The log in the form of `store`'s exports: its signed head, then every entry. None if the log
/// is empty or too long.
fn export_lines(log: &mut AuditLog<'_>) -> Result<Option<String>, AuditError> {
    let Some((checkpoint, head)) = log.give_out_checkpoint()? else {
        return Ok(None);
    };
    // The fields' order is part of the form.
    let mut text = format!(
        "{{\"format\":{},\"checkpoint\":{}}}\n",
        json!(EXPORT_FORMAT),
        json!(checkpoint)
    );
    let mut page = StorePage::first();
    loop {
        let entries = log.entries(page)?;
        for (index, entry) in entries.iter().filter(|(index, _)| *index < head.size) {
            text.push_str(&format!("{{\"index\":{index},\"entry\":{entry}}}\n"));
        }
        if text.len() > EXPORT_BYTES_MAX {
            return Ok(None);
        }
        if entries.is_empty() {
            return Ok(Some(text));
        }
        page = page.next();
    }
}

async fn key(control: Arc<Control>, call: Call<Nothing, Nothing>) -> Result<PlainText, ApiError> {
    let key = control
        .publisher
        .audit_key(call.tenant_if_any().map(|tenant| tenant.id()));
    Ok(PlainText(format!("{key}\n")))
}
