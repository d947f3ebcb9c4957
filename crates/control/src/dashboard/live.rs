//! Pages that keep up by themselves: a stream of server-sent events says that something on the
//! page has changed, and the page asks for its part again, as its visitor. No figure is in the
//! stream, and a tenant's administrator hears of its own tenant alone: not even that something
//! happened elsewhere.
//!
//! A stream is looked after once a second, by nobody but itself: it ends when its session does, or
//! its key, or its time. While it lasts, the session's token is in memory, as in a request.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base::{Name, TenantId};
use bytes::Bytes;
use http_body::Frame;
use parking_lot::Mutex;
use tenancy::{Permission, Snapshot};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::answer::{PageError, Shown};
use super::lockers::{Owner, Token};
use super::page::{Door, House, PageRow, Visit, page, present};
use crate::Control;
use crate::caller::{admit, recognise};
use crate::endpoint::{Reach, Verb};

/// One second: how long after a key's revocation its streams end.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Two seconds: how old what a page shows may be, and how often it asks at most.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// 20 s: proxies cut what is silent for half a minute.
const SPEAK_EVERY: Duration = Duration::from_secs(20);
/// Ten minutes: then the browser comes again, by whatever way leads here by then.
const LIFE: Duration = Duration::from_secs(600);
/// 256: each has a connection, and some 2 KiB.
const STREAMS_MAX: usize = 256;
/// 16 of one operator, or of one tenant: of each browser's tabs the one that is looked at.
const OF_OWNER_MAX: usize = 16;

const GREETING: &str = "retry: 5000\n\n";
const CHANGED: &str = "event: changed\ndata: 1\n\n";
const ENDED: &str = "event: ended\ndata: 1\n\n";
const STILL_HERE: &str = ": \n\n";

const PLATFORM: Reach = Reach::Platform(Permission::ReadUsage);
const TENANT: Reach = Reach::Tenant(Permission::ReadUsage);

/// Where the pages of the platform listen.
pub(super) const PLATFORM_EVENTS: &str = "/dashboard/events";

/// Where the pages of a tenant listen.
pub(super) fn events_of(tenant: &Name) -> String {
    format!("/dashboard/tenants/{tenant}/events")
}

pub(super) fn pages() -> Vec<PageRow> {
    vec![
        page(Verb::Get, PLATFORM_EVENTS, Door::As(PLATFORM), listen),
        page(
            Verb::Get,
            "/dashboard/tenants/{tenant}/events",
            Door::As(TENANT),
            listen,
        ),
    ]
}

/// The streams that are open.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Mutex<HashMap<Owner, usize>>>);

/// A stream's place among them.
#[derive(Debug)]
struct Place {
    streams: Streams,
    owner: Owner,
}

impl Streams {
    fn enter(&self, owner: Owner) -> Option<Place> {
        let mut open = self.0.lock();
        let all: usize = open.values().sum();
        let own = open.get(&owner).copied().unwrap_or_default();
        if all >= STREAMS_MAX || own >= OF_OWNER_MAX {
            return None;
        }
        open.insert(owner.clone(), own + 1);
        Some(Place {
            streams: self.clone(),
            owner,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock();
        if let Some(own) = open.get_mut(&self.owner) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.owner);
            }
        }
    }
}

async fn listen(visit: Visit) -> Result<Shown, PageError> {
    let streams = &visit.house.control.dashboard.streams;
    let place = streams.enter(Owner::from(&visit.visitor));
    let place = place.ok_or_else(|| PageError::Refused {
        status: StatusCode::SERVICE_UNAVAILABLE,
        message: "Too many pages keep up by themselves. This one asks now and then.".to_owned(),
        details: Vec::new(),
    })?;
    Ok(Shown::Events(Events::begin(visit, place)))
}

/// What a visitor would see change.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    /// Of the calls.
    calls: u64,
    alerts: u64,
    /// The catalogue's version; of a tenant's page, which entry of the tenant is served.
    catalogue: u64,
}

impl State {
    fn read(control: &Control, snapshot: &Snapshot, tenant: Option<&Name>) -> Option<Self> {
        let Some(name) = tenant else {
            return Some(Self {
                calls: control.health.pulse(),
                alerts: control.alerts.changes(),
                catalogue: snapshot.version(),
            });
        };
        let entry = snapshot.tenant_named(name.as_str())?;
        let id: TenantId = entry.id();
        Some(Self {
            calls: control.health.pulse_of(id),
            alerts: control.alerts.changes_of(id),
            catalogue: Arc::as_ptr(entry) as usize as u64,
        })
    }
}

/// The body of a stream.
pub(super) struct Events(Box<Watch>);

struct Watch {
    house: Arc<House>,
    _place: Place,
    token: Token,
    tenant: Option<Name>,
    /// Without the credential: it is unsealed for each look.
    parts: Parts,
    ticks: Interval,
    greeting: Option<&'static str>,
    state: Option<State>,
    began: Duration,
    told_at: Duration,
    spoke_at: Duration,
    is_over: bool,
}

impl Events {
    fn begin(visit: Visit, place: Place) -> Self {
        let control = &visit.house.control;
        let tenant = visit.tenant_if_any().map(|tenant| tenant.name.clone());
        let state = State::read(control, &visit.snapshot, tenant.as_ref());
        let now = control.clock.elapsed();
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (house, token, mut parts) = visit.into_listener();
        parts.headers.remove(AUTHORIZATION);
        Self(Box::new(Watch {
            house,
            _place: place,
            token,
            tenant,
            parts,
            ticks,
            greeting: Some(GREETING),
            state,
            began: now,
            told_at: now,
            spoke_at: now,
            is_over: false,
        }))
    }
}

impl Watch {
    /// What is to be said now, if anything.
    fn look(&mut self) -> Option<&'static str> {
        let house = Arc::clone(&self.house);
        let control = &house.control;
        let now = control.clock.elapsed();
        let snapshot = control.publisher.current();
        if !self.may_listen(control, &snapshot, now) {
            self.is_over = true;
            return Some(ENDED);
        }
        if now.saturating_sub(self.began) >= LIFE || control.vitals.ready().is_err() {
            self.is_over = true;
            return None;
        }
        if now.saturating_sub(self.told_at) >= TELL_EVERY {
            let state = State::read(control, &snapshot, self.tenant.as_ref());
            if state != self.state {
                self.state = state;
                self.told_at = now;
                return Some(CHANGED);
            }
        }
        (now.saturating_sub(self.spoke_at) >= SPEAK_EVERY).then_some(STILL_HERE)
    }

    /// Whether the session and its key are still good, for these pages.
    fn may_listen(&mut self, control: &Control, snapshot: &Snapshot, now: Duration) -> bool {
        let Some(credential) = control.dashboard.sessions.peek(&self.token, now) else {
            return false;
        };
        let reach = match self.tenant {
            Some(_) => TENANT,
            None => PLATFORM,
        };
        let tenant = self.tenant.as_ref().map(Name::as_str);
        let is_good = present(&mut self.parts, &credential).is_some()
            && recognise(control, snapshot, &self.parts).is_some()
            && admit(control, snapshot, reach, tenant, &self.parts).is_ok();
        self.parts.headers.remove(AUTHORIZATION);
        is_good
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let watch = &mut *self.0;
        let said = loop {
            if watch.is_over {
                return Poll::Ready(None);
            }
            if let Some(greeting) = watch.greeting.take() {
                break greeting;
            }
            ready!(watch.ticks.poll_tick(context));
            if let Some(said) = watch.look() {
                watch.spoke_at = watch.house.control.clock.elapsed();
                break said;
            }
        };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(said.as_bytes())))))
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_opens_many_leaves_room_for_others() {
        let streams = Streams::default();
        let owner = |number: u128| Owner::Tenant(TenantId::from_bits(number));
        let mut own: Vec<_> = (0..OF_OWNER_MAX)
            .map(|_| streams.enter(owner(1)).unwrap())
            .collect();
        assert!(streams.enter(owner(1)).is_none());
        let others: Vec<_> = (2..1_000)
            .map_while(|it| streams.enter(owner(it)))
            .collect();
        assert_eq!(own.len() + others.len(), STREAMS_MAX);
        own.pop();
        assert!(streams.enter(owner(1)).is_some());
        drop((own, others));
        assert!(streams.0.lock().is_empty());
    }
}
