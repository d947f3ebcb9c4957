//! Costs that go to an object store by themselves: of each UTC day FOCUS files and, once they are
//! all there, a manifest that names them. Nothing is kept of it here: what was pushed, the manifest
//! says. A day is pushed anew on the three days after it, since calls settle late.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use serde::{Deserialize, Serialize};
use tenancy::{ServicePurpose, Snapshot, TenantEntry};

use crate::Control;
use crate::api::{ExportFormat, PushedDay, PushedFile};
use crate::error::ApiError;
use crate::export::{self, Order};
use crate::publisher::{Act, blocking};

/// Three days: longer than any call, and than most that are reconciled.
const DAYS_AGAIN: u32 = 3;
/// 200 tenants of some hundred rows a day are 10 MB.
const TENANTS_PER_FILE: usize = 200;
/// 64 MiB: what one file may take of the memory.
const FILE_BYTES_MAX: usize = 64 << 20;
/// Two minutes for one file.
const PATIENCE: Duration = Duration::from_secs(120);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Something for the store.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its key: of letters, digits, `-`, `_`, `.` and `/`.
    pub key: String,
    /// What it is.
    pub content_type: &'static str,
    /// All of it.
    pub body: Bytes,
}

/// On its way; what went wrong, in a sentence without secrets.
pub type Storing<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;
/// What an object has; none if it is not there.
pub type Reading<'a> = Pin<Box<dyn Future<Output = Result<Option<Bytes>, String>> + Send + 'a>>;

/// A bucket of an object store.
pub trait Bucket: Send + Sync + 'static {
    /// Puts an object in place, whole.
    fn put(&self, object: Object) -> Storing<'_>;

    /// Reads a small object.
    fn get(&self, key: String) -> Reading<'_>;
}

/// Where costs are pushed, and how.
pub struct PushOptions {
    /// The bucket.
    pub bucket: Arc<dyn Bucket>,
    /// What keys begin with: empty, or up to and including a `/`.
    pub prefix: String,
    /// FOCUS as CSV, or as Parquet.
    pub format: PushFormat,
}

/// In which form costs are pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushFormat {
    /// FOCUS 1.4 as CSV.
    Csv,
    /// FOCUS 1.4 as Parquet.
    Parquet,
}

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushRound {
    /// Days that were pushed.
    pub pushed: u32,
    /// Days that were not, and are tried again.
    pub failed: u32,
}

/// What a manifest says.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    day: String,
    installation: String,
    format: String,
    pushed_at: Timestamp,
    files: Vec<PushedFile>,
}

impl PushFormat {
    const fn parts(self) -> (ExportFormat, &'static str, &'static str) {
        match self {
            Self::Csv => (ExportFormat::FocusCsv, "csv", "text/csv; charset=utf-8"),
            Self::Parquet => (
                ExportFormat::FocusParquet,
                "parquet",
                "application/vnd.apache.parquet",
            ),
        }
    }
}

/// The UTC day of a time: `2026-03-05`.
fn day_of(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

fn beginning(day: &str) -> Option<Timestamp> {
    format!("{day}T00:00:00Z").parse().ok()
}

impl PushOptions {
    fn manifest_key(&self, day: &str) -> String {
        format!("{}{}/{day}/manifest.json", self.prefix, &day[..7])
    }

    fn file_key(&self, day: &str, number: usize) -> String {
        let (_, extension, _) = self.format.parts();
        format!(
            "{}{}/{day}/costs-{number:04}.{extension}",
            self.prefix,
            &day[..7]
        )
    }
}

impl Control {
    /// Pushes the last days that were not pushed today. What fails is logged, and tried again at
    /// the next round.
    pub async fn push_due(self: &Arc<Self>) -> PushRound {
        let mut round = PushRound::default();
        let Some(options) = self.pushing.clone() else {
            return round;
        };
        let now = self.clock.now();
        for ago in (1..=DAYS_AGAIN).rev() {
            let day = day_of(now.minus(DAY * ago));
            if self.is_pushed(&options, &day, now).await {
                continue;
            }
            match self.push_day(&options, &day).await {
                Ok(_) => round.pushed += 1,
                Err(error) => {
                    let error = crate::chain(&error);
                    tracing::warn!(%day, %error, "costs were not pushed: the next round tries again");
                    round.failed += 1;
                }
            }
        }
        round
    }

    /// Whether the day was pushed today: somebody else may have done it.
    async fn is_pushed(&self, options: &PushOptions, day: &str, now: Timestamp) -> bool {
        let read = within(options.bucket.get(options.manifest_key(day))).await;
        let manifest = match read {
            Ok(Some(text)) => serde_json::from_slice::<Manifest>(&text).ok(),
            Ok(None) | Err(_) => None,
        };
        manifest.is_some_and(|manifest| day_of(manifest.pushed_at) == day_of(now))
    }

    /// Pushes these days, whatever was pushed before.
    pub(crate) async fn push_days(
        self: &Arc<Self>,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<PushedDay>, ApiError> {
        let options = self.pushing.clone().ok_or_else(|| {
            ApiError::conflict("no bucket is configured: `[exports]` in partywall.toml names one")
        })?;
        let mut pushed = Vec::new();
        let mut at = from;
        while at < until {
            pushed.push(self.push_day(&options, &day_of(at)).await?);
            at = at.plus(DAY);
        }
        Ok(pushed)
    }

    async fn push_day(
        self: &Arc<Self>,
        options: &PushOptions,
        day: &str,
    ) -> Result<PushedDay, ApiError> {
        let from = beginning(day).ok_or_else(|| ApiError::of("from", "a day is 2026-01-31"))?;
        let act = Act::new("platform".to_owned(), "push_costs", day, None)?;
        let publisher = Arc::clone(&self.publisher);
        blocking(move || publisher.record_act(&act)).await?;
        let (format, _, content_type) = options.format.parts();
        let order = Order {
            format,
            from,
            until: from.plus(DAY),
            issuer: self.publisher.installation().to_owned(),
            customer: None,
        };
        let snapshot = self.publisher.current();
        let mut tenants: Vec<Arc<TenantEntry>> = snapshot.tenants().cloned().collect();
        tenants.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let mut files = Vec::new();
        for (number, whose) in tenants.chunks(TENANTS_PER_FILE).enumerate() {
            let body = self.whole_export(&snapshot, whose, order.clone()).await?;
            let key = options.file_key(day, number);
            let file = PushedFile {
                key: key.clone(),
                bytes: body.len() as u64,
            };
            put(options, key, content_type, body).await?;
            files.push(file);
        }
        let manifest = Manifest {
            day: day.to_owned(),
            installation: self.publisher.installation().to_owned(),
            format: options.format.parts().1.to_owned(),
            pushed_at: self.clock.now(),
            files,
        };
        let text = serde_json::to_vec(&manifest).map_err(ApiError::internal)?;
        let key = options.manifest_key(day);
        put(options, key, "application/json", text.into()).await?;
        Ok(PushedDay {
            day: manifest.day,
            files: manifest.files,
        })
    }

    async fn whole_export(
        self: &Arc<Self>,
        snapshot: &Arc<Snapshot>,
        whose: &[Arc<TenantEntry>],
        order: Order,
    ) -> Result<Bytes, ApiError> {
        let scoped = whose.iter().map(|tenant| {
            let keys = &tenant.unlocked;
            let scope = self.publisher.service_scope(keys, ServicePurpose::Export);
            (Arc::clone(tenant), scope)
        });
        let pieces = export::begin(self, Arc::clone(snapshot), scoped.collect(), order)?;
        let whole = Limited::new(pieces, FILE_BYTES_MAX).collect().await;
        let whole = whole.map_err(|error| {
            tracing::warn!(%error, "an export for the bucket is not whole");
            ApiError::conflict("an export is not whole, or longer than 64 MiB of 200 tenants")
        })?;
        Ok(whole.to_bytes())
    }
}

async fn put(
    options: &PushOptions,
    key: String,
    content_type: &'static str,
    body: Bytes,
) -> Result<(), ApiError> {
    let object = Object {
        key,
        content_type,
        body,
    };
    within(options.bucket.put(object))
        .await
        .map_err(|why| ApiError::conflict(format!("the bucket did not take it: {why}")))
}

async fn within<T>(doing: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = || Err(format!("no answer in {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, doing)
        .await
        .unwrap_or_else(|_| late())
}
