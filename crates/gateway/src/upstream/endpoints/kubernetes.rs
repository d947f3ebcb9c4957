//! Following a Kubernetes service: its endpoint slices are listed, and then watched, over the API
//! server, with the pod's own service account.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tenancy::catalogue::{KubernetesEndpoints, SecretRef};

use super::group::Group;
use super::slices::{SliceList, Slices, WatchEnd, WatchEvent};
use crate::upstream::call::OUR_NAME;
use crate::upstream::http1::{Connection, ExchangeError, WireError};
use crate::upstream::pool::Pool;
use crate::upstream::{ConnectError, Origin, Reach, UpstreamBody, UpstreamParts, read_secret};

/// Where Kubernetes puts a pod's service account.
const TOKEN_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const CA_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

/// 5 s to connect, 15 s for the head of an answer: an API server inside the cluster that takes
/// longer is in trouble, and those who were known serve on.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const HEAD_MAX: Duration = Duration::from_secs(15);
/// A minute for one watch: then another begins where it ended, with a token that is fresh.
const WATCH_SECONDS: u64 = 60;
const WATCH_MAX: Duration = Duration::from_secs(WATCH_SECONDS + 15);
/// A second after a failure, twice as long each time, up to half a minute.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_DOUBLINGS_MAX: u32 = 5;
/// 8 MiB: a slice has a hundred endpoints of some hundred bytes each.
const LIST_BYTES_MAX: usize = 8 << 20;
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Why a service cannot be followed.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("there is no API server: KUBERNETES_SERVICE_HOST is not set, and `api_server` neither")]
    NotInCluster,
    #[error("the API server's address cannot be used")]
    BadAddress,
    #[error("the service account's token cannot be read: {0}")]
    Token(&'static str),
    #[error("the API server's certificate authority cannot be read")]
    Authority,
    #[error("the API server was not reached")]
    Connect(#[from] ConnectError),
    #[error("the API server did not answer")]
    Exchange(#[source] ExchangeError),
    #[error("the API server did not answer in time")]
    TimedOut,
    #[error(
        "the API server answered {0}: the service account needs `list` and `watch` on \
         `endpointslices` of `discovery.k8s.io` in that namespace"
    )]
    Refused(StatusCode),
    #[error("the API server's answer broke off")]
    Broken(#[from] WireError),
    #[error("the API server's list cannot be read")]
    BadList(#[source] serde_json::Error),
    #[error(transparent)]
    Watch(#[from] WatchEnd),
}

impl Group {
    /// Begins to follow the service, unless somebody does.
    pub(super) fn follow(self: &Arc<Self>, service: &KubernetesEndpoints) {
        if self.is_looked_for.swap(true, Ordering::AcqRel) {
            return;
        }
        let (group, service) = (Arc::downgrade(self), service.clone());
        let supervisor = self.parts.supervisor.clone();
        self.parts.supervisor.spawn(async move {
            tokio::select! {
                () = follow(&group, &service) => {}
                () = supervisor.stopping() => {}
            }
        });
    }
}

/// Follows the service until nobody uses the group any more.
async fn follow(group: &Weak<Group>, service: &KubernetesEndpoints) {
    let mut failures = 0;
    while let Some(group) = group.upgrade() {
        let Err(error) = follow_once(&group, service).await else {
            failures = 0;
            continue;
        };
        drop(group);
        // An old version ends a watch every now and then, and is nobody's failure.
        if !matches!(error, FollowError::Watch(WatchEnd::Ended)) || failures > 0 {
            tracing::warn!(%error, service = %service.service, "a service's endpoints are not followed");
        }
        tokio::time::sleep(PAUSE * 2_u32.pow(failures)).await;
        failures = (failures + 1).min(PAUSE_DOUBLINGS_MAX);
    }
}

/// Lists who there is, and watches for a minute.
async fn follow_once(group: &Group, service: &KubernetesEndpoints) -> Result<(), FollowError> {
    let server = Server::of(service, &group.parts)?;
    let port = service.port.as_deref();
    let mut connection = server.get(&server.path(service, "limit=1000")).await?;
    let list = connection.whole_body(LIST_BYTES_MAX);
    let list = tokio::time::timeout(HEAD_MAX, list).await;
    let list = list.map_err(|_| FollowError::TimedOut)??;
    let list: SliceList = serde_json::from_slice(&list).map_err(FollowError::BadList)?;
    let mut slices = Slices::listed(list, port);
    group.found(slices.addresses());
    let watch = watch(group, service, &server, &mut slices);
    match tokio::time::timeout(WATCH_MAX, watch).await {
        Ok(ended) => ended,
        Err(_) => Ok(()),
    }
}

async fn watch(
    group: &Group,
    service: &KubernetesEndpoints,
    server: &Server,
    slices: &mut Slices,
) -> Result<(), FollowError> {
    let query = format!(
        "watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={}",
        slices.version
    );
    let mut connection = server.get(&server.path(service, &query)).await?;
    let mut unread = BytesMut::new();
    while let Some(piece) = poll_fn(|context| connection.poll_body(context)).await {
        unread.extend_from_slice(&piece?);
        while let Some(line) = take_line(&mut unread) {
            let event: WatchEvent =
                serde_json::from_slice(&line).map_err(|_| WatchEnd::Malformed)?;
            if slices.apply(event, service.port.as_deref())? {
                group.found(slices.addresses());
            }
        }
        if unread.len() > EVENT_BYTES_MAX {
            return Err(WatchEnd::Malformed.into());
        }
    }
    Ok(())
}

fn take_line(unread: &mut BytesMut) -> Option<Bytes> {
    let end = memchr::memchr(b'\n', unread)?;
    Some(unread.split_to(end + 1).freeze())
}

/// The API server, and who asks it. Read anew each time: tokens are replaced within the hour.
struct Server {
    origin: Origin,
    token: HeaderValue,
    /// For one connection at a time, which is not kept.
    pool: Pool,
}

impl Server {
    fn of(service: &KubernetesEndpoints, parts: &UpstreamParts) -> Result<Self, FollowError> {
        let address = match &service.api_server {
            Some(address) => address.clone(),
            None => in_cluster_address().ok_or(FollowError::NotInCluster)?,
        };
        let origin = Origin::parse(&address).ok_or(FollowError::BadAddress)?;
        let of_pod = SecretRef::File(TOKEN_FILE.to_owned());
        let token = read_secret(service.token.as_ref().unwrap_or(&of_pod));
        let token = token.map_err(FollowError::Token)?;
        let mut token = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| FollowError::Token("it has characters that no header has"))?;
        token.set_sensitive(true);
        let mut parts = parts.clone();
        if origin.tls.is_some() {
            let file = service.ca_file.as_deref().unwrap_or(CA_FILE);
            parts.tls = trusting(file).ok_or(FollowError::Authority)?;
        }
        let pool = Pool::new(parts, 0);
        Ok(Self {
            origin,
            token,
            pool,
        })
    }

    fn path(&self, service: &KubernetesEndpoints, query: &str) -> String {
        let KubernetesEndpoints {
            namespace, service, ..
        } = service;
        let base = &self.origin.path;
        format!(
            "{base}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices\
             ?labelSelector=kubernetes.io%2Fservice-name%3D{service}&{query}"
        )
    }

    /// A connection on which the answer's body is to be read.
    async fn get(&self, path: &str) -> Result<Connection, FollowError> {
        // The operator names the API server, or the cluster does.
        let connecting = self
            .pool
            .connect(&self.origin, Reach::Anywhere, CONNECT_MAX);
        let mut connection = connecting.await?;
        let mut request = Request::new(());
        *request.uri_mut() = path.parse().map_err(|_| FollowError::BadAddress)?;
        let headers = request.headers_mut();
        headers.insert(HOST, self.origin.authority.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, self.token.clone());
        let body = UpstreamBody::of([]);
        let answered = tokio::time::timeout(HEAD_MAX, connection.exchange(&request, &body)).await;
        let head = answered
            .map_err(|_| FollowError::TimedOut)?
            .map_err(FollowError::Exchange)?;
        match head.status {
            StatusCode::OK => Ok(connection),
            other => Err(FollowError::Refused(other)),
        }
    }
}

/// The address that Kubernetes gives every pod.
fn in_cluster_address() -> Option<String> {
    let host = std::env::var("KUBERNETES_SERVICE_HOST").ok()?;
    let port = std::env::var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|_| "443".to_owned());
    // An IPv6 address comes without its brackets.
    let host = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host
    };
    Some(format!("https://{host}:{port}"))
}

/// TLS that trusts the authorities in a file, and no others.
fn trusting(file: &str) -> Option<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).ok()? {
        roots.add(certificate.ok()?).ok()?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Some(Arc::new(config))
}
