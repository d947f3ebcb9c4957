//! Alerts: what is so that somebody should know; told once to each channel that hears of it, again
//! now and then while it lasts, and once more when it is over.
//!
//! A turn reads what is so now ([`condition`], [`history`]) and compares it with the alerts that
//! are open in the catalogue. What changed is written there together with the messages that it
//! makes, each in one transaction, so that several replicas tell an alert once and a crash loses
//! none. Messages are then taken, sent, and forgotten or tried again ([`courier`]).

mod band;
mod condition;
mod courier;
mod history;
mod post;
mod views;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base::{Name, TenantId, Timestamp};
use parking_lot::Mutex;
use store::{CatalogueError, StoredAlert, StoredMessage};
use tenancy::catalogue::ChannelSpec;
use tenancy::{Snapshot, TenantEntry};

pub use condition::Severity;
pub use post::{AddressScope, Hook, Mail, Postman, Sending, Signed};

pub(crate) use condition::About;

use crate::Control;
use condition::{Condition, OF_TENANT_MAX};
use history::{Edged, hour_of};
use post::{Event, Letter};

/// 500 alerts are opened in one turn: a few seconds on a slow disk. The rest follows at the next.
const OPENED_MAX: usize = 500;
/// 30 days: what was resolved is shown so long.
const RESOLVED_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Five minutes: spend and rates of an hour change no faster.
const ANOMALIES_EVERY: Duration = Duration::from_secs(300);

/// How alerts are watched for and told.
#[derive(Debug, Clone)]
pub struct AlertOptions {
    /// An alert is over when its condition was not seen for so long.
    pub resolve_after: Duration,
    /// A key that ends within this time is told of.
    pub key_notice: Duration,
    /// Where people open the dashboard: `https://…` without a path.
    pub dashboard_url: Option<String>,
}

impl Default for AlertOptions {
    fn default() -> Self {
        Self {
            resolve_after: Duration::from_secs(300),
            key_notice: Duration::from_secs(7 * 24 * 3600),
            dashboard_url: None,
        }
    }
}

/// What the watching keeps in memory.
pub(crate) struct Alerts {
    options: AlertOptions,
    postman: Arc<dyn Postman>,
    edged: Edged,
    last: Mutex<Last>,
    sending: Arc<tokio::sync::Semaphore>,
    /// How many changes each tenant's alerts had in this process; the platform's have no name.
    changes: Mutex<HashMap<String, u64>>,
}

/// What was done when.
#[derive(Debug, Default)]
struct Last {
    /// The hour that was under way, UTC.
    hour: Option<i64>,
    /// When anomalies were looked for, by the process's clock; and what there were.
    anomalies_at: Option<Duration>,
    anomalies: Vec<Condition>,
    /// Whose alerts were open when the catalogue was read last, by their ids; none before that.
    open: Option<HashMap<String, String>>,
}

impl Alerts {
    pub(crate) fn new(options: AlertOptions, postman: Arc<dyn Postman>) -> Self {
        Self {
            options,
            postman,
            edged: Edged::default(),
            last: Mutex::default(),
            sending: Arc::new(tokio::sync::Semaphore::new(courier::SENDING_MAX)),
            changes: Mutex::default(),
        }
    }

    /// A number that changes with everybody's alerts.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.lock().values().sum()
    }

    /// A number that changes with one tenant's.
    pub(crate) fn changes_of(&self, tenant: TenantId) -> u64 {
        let changes = self.changes.lock();
        changes.get(&tenant.to_string()).copied().unwrap_or(0)
    }

    fn changed(&self, tenant: &str) {
        *self.changes.lock().entry(tenant.to_owned()).or_default() += 1;
    }

    /// What other replicas have opened or resolved since the catalogue was read last is news here,
    /// too.
    fn note_open(&self, open: &HashMap<&str, &StoredAlert>) {
        let now = open.iter();
        let now = now.map(|(id, alert)| ((*id).to_owned(), alert.tenant.clone()));
        let now: HashMap<String, String> = now.collect();
        let before = self.last.lock().open.replace(now.clone());
        let Some(before) = before else {
            return;
        };
        let opened = now.iter().filter(|(id, _)| !before.contains_key(*id));
        let resolved = before.iter().filter(|(id, _)| !now.contains_key(*id));
        for (_, tenant) in opened.chain(resolved) {
            self.changed(tenant);
        }
    }

    /// Whether it is open now, by this process: it is no news at the next turn.
    fn note_own(&self, alert: &StoredAlert, is: State) {
        self.changed(&alert.tenant);
        if let Some(open) = &mut self.last.lock().open {
            match is {
                State::Open => drop(open.insert(alert.id.clone(), alert.tenant.clone())),
                State::Resolved => drop(open.remove(&alert.id)),
            }
        }
    }
}

/// What this process has made of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Resolved,
}

impl Control {
    /// One turn: reads what is so, and opens, reminds of and resolves alerts. Blocks. What fails
    /// is logged, and tried again at the next turn.
    pub fn watch(&self) {
        if let Err(error) = self.turn_of_watch() {
            tracing::warn!(error = %crate::chain(&error), "alerts are as they were a while ago");
        }
    }

    /// Learns what others have opened and resolved, for the pages, where this process watches for
    /// nothing. Blocks.
    pub fn follow_alerts(&self) {
        match self.publisher.catalogue.alerts() {
            Ok(stored) => self.alerts.note_open(&open_of(&stored)),
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "alerts are as they were a while ago");
            }
        }
    }

    fn turn_of_watch(&self) -> Result<(), CatalogueError> {
        let now = self.clock.now();
        let snapshot = self.publisher.current();
        let conditions = self.conditions(&snapshot, now);
        let catalogue = &self.publisher.catalogue;
        let stored = catalogue.alerts()?;
        let open = open_of(&stored);
        self.alerts.note_open(&open);
        let fresh_for = self.alerts.options.resolve_after / 3;
        let (mut seen, mut opened) = (Vec::new(), 0);
        for (id, condition) in &conditions {
            match open.get(id.as_str()) {
                Some(alert) => {
                    if now.since(alert.seen_at) >= fresh_for {
                        seen.push(id.as_str());
                    }
                    self.remind(&snapshot, alert, condition, now)?;
                }
                None if opened < OPENED_MAX => {
                    opened += usize::from(self.open(&snapshot, id, condition, now)?);
                }
                None => {}
            }
        }
        catalogue.see_alerts(&seen, now)?;
        let over = open.values().filter(|alert| {
            // It may have been seen for so long after it was last noted.
            let is_old = now.since(alert.seen_at) >= self.alerts.options.resolve_after + fresh_for;
            is_old && !conditions.contains_key(&alert.id)
        });
        for alert in over {
            self.resolve(&snapshot, alert, now)?;
        }
        let gone: HashSet<&str> = stored
            .iter()
            .map(|alert| alert.tenant.as_str())
            .filter(|tenant| !tenant.is_empty() && entry(&snapshot, tenant).is_none())
            .collect();
        for tenant in gone {
            catalogue.forget_alerts_of(tenant)?;
            self.alerts.changes.lock().remove(tenant);
        }
        catalogue.forget_alerts(now.minus(RESOLVED_KEPT))
    }

    /// Everything that is so now, by id.
    fn conditions(&self, snapshot: &Snapshot, now: Timestamp) -> HashMap<String, Condition> {
        let mut open_breakers: HashMap<_, Vec<Name>> = HashMap::new();
        for (upstream, tenants) in self.health.open_breakers() {
            for tenant in tenants {
                open_breakers
                    .entry(tenant)
                    .or_default()
                    .push(upstream.clone());
            }
        }
        let anomalies = self.anomalies(snapshot, now);
        let mut all = Vec::new();
        for tenant in snapshot.tenants() {
            let mut own = Vec::new();
            condition::of_breakers(tenant, &open_breakers, &mut own);
            let is_own = |it: &&Condition| it.tenant == Some(tenant.id());
            own.extend(anomalies.iter().filter(is_own).cloned());
            condition::of_keys(tenant, now, self.alerts.options.key_notice, &mut own);
            let rows = self.budgets.budgets(tenant.id());
            condition::of_budgets(snapshot, tenant, &rows, &mut own);
            own.truncate(OF_TENANT_MAX);
            all.append(&mut own);
        }
        if let Some(server) = self.publisher.catalogue.server() {
            match server.replicas() {
                Ok(replicas) => condition::of_replicas(&replicas, &mut all),
                Err(error) => {
                    tracing::warn!(error = %crate::chain(&error), "replicas are not looked at");
                }
            }
        }
        match self.publisher.upgrade_status() {
            Ok(upgrade) => condition::of_upgrade(&upgrade, &mut all),
            Err(error) => tracing::warn!(%error, "the upgrade is not looked at"),
        }
        all.into_iter().map(|it| (it.id(), it)).collect()
    }

    /// What is outside its band: looked for every five minutes, and noted by the hour.
    fn anomalies(&self, snapshot: &Snapshot, now: Timestamp) -> Vec<Condition> {
        let hour = hour_of(now);
        let before = self.alerts.last.lock().hour.replace(hour);
        if before.is_some_and(|before| before < hour) {
            self.note_hours(hour - 1);
        }
        let elapsed = self.clock.elapsed();
        {
            let last = self.alerts.last.lock();
            let is_fresh =
                |at: Duration| elapsed.saturating_sub(at) < ANOMALIES_EVERY && before == Some(hour);
            if last.anomalies_at.is_some_and(is_fresh) {
                return last.anomalies.clone();
            }
        }
        self.live_usage.catch_up();
        let mut found = Vec::new();
        for (tenant, health) in self.health.all().tenants {
            let Some(entry) = snapshot.tenant(tenant) else {
                continue;
            };
            if let Err(error) = self.anomalies_of(entry, &health.sum, now, &mut found) {
                let tenant = &entry.name;
                tracing::warn!(%tenant, error = %crate::chain(&error), "its past cannot be read");
            }
        }
        let mut last = self.alerts.last.lock();
        last.anomalies_at = Some(elapsed);
        last.anomalies.clone_from(&found);
        found
    }

    fn open(
        &self,
        snapshot: &Snapshot,
        id: &str,
        condition: &Condition,
        now: Timestamp,
    ) -> Result<bool, CatalogueError> {
        let alert = StoredAlert {
            id: id.to_owned(),
            tenant: condition
                .tenant
                .map(|id| id.to_string())
                .unwrap_or_default(),
            opened_at: now,
            seen_at: now,
            told_at: now,
            resolved_at: None,
            about: encode(&condition.about),
        };
        let heard = heard_by(snapshot, &alert.tenant, &condition.about);
        let messages = self.messages(heard, Event::Opened, &alert, &condition.about, now);
        let opened = self.publisher.catalogue.open_alert(&alert, &messages)?;
        if opened {
            self.alerts.note_own(&alert, State::Open);
            let (kind, summary) = (condition.about.kind, &condition.about.summary);
            let tenant = condition.about.tenant.as_ref().map(Name::as_str);
            tracing::warn!(%kind, tenant, %summary, "an alert was opened");
        }
        Ok(opened)
    }

    /// Tells it again to those channels whose time has come since the last reminder of any.
    fn remind(
        &self,
        snapshot: &Snapshot,
        alert: &StoredAlert,
        condition: &Condition,
        now: Timestamp,
    ) -> Result<(), CatalogueError> {
        let times = |until: Timestamp, every: Duration| {
            until.since(alert.opened_at).as_micros() / every.as_micros().max(1)
        };
        let is_due = |channel: &ChannelSpec| match channel.remind_hours {
            0 => false,
            hours => {
                let every = Duration::from_secs(3_600) * hours.into();
                times(now, every) > times(alert.told_at, every)
            }
        };
        let mut heard = heard_by(snapshot, &alert.tenant, &condition.about);
        heard.retain(|(_, _, channel)| is_due(channel));
        if heard.is_empty() {
            return Ok(());
        }
        let messages = self.messages(heard, Event::Reminder, alert, &condition.about, now);
        let catalogue = &self.publisher.catalogue;
        catalogue.remind_of_alert(alert, &messages, now).map(drop)
    }

    fn resolve(
        &self,
        snapshot: &Snapshot,
        alert: &StoredAlert,
        now: Timestamp,
    ) -> Result<(), CatalogueError> {
        self.alerts.note_own(alert, State::Resolved);
        let Some(about) = decode(&alert.about) else {
            return self
                .publisher
                .catalogue
                .resolve_alert(alert, &[], now)
                .map(drop);
        };
        let heard = heard_by(snapshot, &alert.tenant, &about);
        let messages = self.messages(heard, Event::Resolved, alert, &about, now);
        let catalogue = &self.publisher.catalogue;
        catalogue.resolve_alert(alert, &messages, now).map(drop)
    }

    fn messages(
        &self,
        heard: Vec<Heard<'_>>,
        event: Event,
        alert: &StoredAlert,
        about: &About,
        now: Timestamp,
    ) -> Vec<StoredMessage> {
        let letter = Letter {
            event,
            at: now,
            opened_at: alert.opened_at,
            alert: alert.id.clone(),
            about: about.clone(),
        };
        let text = encode(&letter);
        heard
            .into_iter()
            .map(|(tenant, channel, _)| StoredMessage {
                id: self.message_id(),
                tenant,
                channel: channel.to_string(),
                tries: 0,
                text: text.clone(),
            })
            .collect()
    }

    fn message_id(&self) -> String {
        let entropy = self.publisher.mint().entropy;
        format!("msg_{:016x}{:016x}", entropy.next_u64(), entropy.next_u64())
    }
}

/// Those that are open, by their ids.
fn open_of(stored: &[StoredAlert]) -> HashMap<&str, &StoredAlert> {
    let open = stored.iter().filter(|alert| alert.resolved_at.is_none());
    open.map(|alert| (alert.id.as_str(), alert)).collect()
}

/// Whose channel it is (empty for the platform's own), its name, and itself.
type Heard<'s> = (String, &'s Name, &'s ChannelSpec);

/// The channels that hear of an alert: the platform's, and of a tenant's alert that tenant's own.
/// `tenant` is the alert's, as the catalogue has it.
fn heard_by<'s>(snapshot: &'s Snapshot, tenant: &str, about: &About) -> Vec<Heard<'s>> {
    let platform = snapshot.channels().iter();
    let platform = platform.map(|(name, channel)| (String::new(), name, &**channel));
    let own = entry(snapshot, tenant).and_then(|entry| entry.own.as_ref());
    let own = own.into_iter().flat_map(|own| own.channels.iter());
    let own = own.map(|(name, channel)| (tenant.to_owned(), name, &channel.0));
    let all = platform.chain(own);
    all.filter(|(_, _, channel)| channel.hears(about.kind))
        .collect()
}

/// The tenant with this id; none for what is the platform's own.
fn entry<'s>(snapshot: &'s Snapshot, tenant: &str) -> Option<&'s Arc<TenantEntry>> {
    snapshot.tenant(tenant.parse().ok()?)
}

fn encode(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("it has string keys and finite numbers")
}

/// Nothing of what an older or newer program wrote in another form.
fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}
