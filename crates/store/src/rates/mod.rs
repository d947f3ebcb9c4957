//! Rates that replicas have together, kept by a Valkey (or Redis) server. Money is never there: what
//! such a server forgets is a minute of rates.

mod address;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base::{Network, Stream, Supervisor};
use ledger::{RateAsk, RateGiven, RateKind};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, RedisConnectionInfo, RedisError};
use rustls::pki_types::ServerName;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::AuthorityError;
use crate::postgres::client_config;

pub use address::{ValkeyAddress, ValkeyAddressError};

/// The rule, as the server runs it.
const ANSWER: &str = include_str!("answer.lua");
/// 2^50: above it Lua's numbers are no longer whole.
const UNITS_MAX: u64 = 1 << 50;

/// How rates are kept.
pub struct ValkeyOptions {
    /// Where the server is.
    pub address: ValkeyAddress,
    /// A PEM file with the authorities that vouch for its certificate; by default those that
    /// browsers trust.
    pub authorities: Option<PathBuf>,
    /// What its keys begin with: one installation's do not meet another's.
    pub prefix: String,
}

/// The pools of rates, on a server. Values there are counts, under the ids of tenants and limits.
pub struct ValkeyRates {
    options: ValkeyOptions,
    tls: Option<TlsConnector>,
    network: Arc<dyn Network>,
    /// Of connections, which end with whoever holds them.
    supervisor: Supervisor,
    connected: Mutex<Option<Connected>>,
}

/// A connection, and the name that the server knows the rule by.
#[derive(Clone)]
struct Connected {
    connection: MultiplexedConnection,
    rule: String,
}

/// The server did not answer, or not as it should.
#[derive(Debug, thiserror::Error)]
pub enum ValkeyError {
    /// It was not reached.
    #[error("the connection to the server of rates fails")]
    Unreachable(#[from] io::Error),
    /// Its name is none that a certificate can be for.
    #[error("the name of the server of rates is no name for TLS")]
    Name(#[from] rustls::pki_types::InvalidDnsNameError),
    /// It refuses: a wrong password, a rule that it does not run, no memory left.
    #[error("the server of rates refuses")]
    Refused(#[from] RedisError),
    /// It answers something else.
    #[error("the server of rates answers what makes no sense")]
    Nonsense,
}

impl ValkeyRates {
    /// Connects with the first exchange.
    ///
    /// # Errors
    ///
    /// [`AuthorityError`]: the file of authorities cannot be used.
    pub fn new(options: ValkeyOptions, network: Arc<dyn Network>) -> Result<Self, AuthorityError> {
        let tls = match options.address.is_encrypted {
            true => Some(TlsConnector::from(client_config(
                options.authorities.as_deref(),
            )?)),
            false => None,
        };
        Ok(Self {
            options,
            tls,
            network,
            supervisor: Supervisor::new(),
            connected: Mutex::new(None),
        })
    }

    /// Asks all pools in one round trip: an answer for each, in order. Without asks: whether the
    /// server is there.
    ///
    /// # Errors
    ///
    /// [`ValkeyError`]; what became of the asks is not known. The next exchange connects anew.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: the next exchange connects anew.
    pub async fn exchange(&self, asks: &[RateAsk]) -> Result<Vec<RateGiven>, ValkeyError> {
        let mut place = self.connected.lock().await;
        // Put back once it has answered: what fails or is given up is not used again.
        let mut connected = match place.take() {
            Some(connected) => connected,
            None => self.connect().await?,
        };
        let mut questions = Pipeline::with_capacity(asks.len().max(1));
        if asks.is_empty() {
            questions.cmd("PING").ignore();
        }
        for ask in asks {
            let units = [
                ask.terms.pace(),
                ask.terms.burst(),
                ask.least,
                ask.need,
                ask.want,
                ask.returned,
                ask.taken,
            ];
            let question = questions.cmd("EVALSHA").arg(&connected.rule).arg(1);
            question.arg(self.key(ask));
            for unit in units {
                question.arg(unit.min(UNITS_MAX));
            }
        }
        let answers: Vec<(i64, i64)> = questions.query_async(&mut connected.connection).await?;
        *place = Some(connected);
        if answers.len() != asks.len() {
            return Err(ValkeyError::Nonsense);
        }
        let given = asks.iter().zip(answers);
        given
            .map(|(ask, (granted, debt))| {
                let granted = u64::try_from(granted).ok();
                let granted = granted.filter(|granted| *granted <= ask.want);
                let debt = u64::try_from(debt).ok();
                match (granted, debt) {
                    (Some(granted), Some(debt)) => Ok(RateGiven { granted, debt }),
                    _ => Err(ValkeyError::Nonsense),
                }
            })
            .collect()
    }

    /// The pool's name: a tenant's id is in each, so that no two tenants' meet.
    fn key(&self, ask: &RateAsk) -> String {
        let kind = match ask.kind {
            RateKind::Requests => "requests",
            RateKind::Tokens => "tokens",
        };
        let limit = ask.limit.bits();
        format!("{}:{}:{limit:032x}:{kind}", self.options.prefix, ask.tenant)
    }

    async fn connect(&self) -> Result<Connected, ValkeyError> {
        let address = &self.options.address;
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        for socket in self.network.resolve(&address.host, address.port).await? {
            match self.network.connect(socket).await {
                Ok(stream) => return self.greet(stream).await,
                Err(error) => failed = error,
            }
        }
        Err(failed.into())
    }

    async fn greet(&self, stream: Box<dyn Stream>) -> Result<Connected, ValkeyError> {
        let address = &self.options.address;
        let stream = match &self.tls {
            None => stream,
            Some(tls) => {
                let name = ServerName::try_from(address.host.clone())?;
                Box::new(tls.connect(name, stream).await?) as Box<dyn Stream>
            }
        };
        let mut login = RedisConnectionInfo::default().set_db(address.database);
        if let Some(user) = &address.user {
            login = login.set_username(user);
        }
        if let Some(password) = &address.password {
            login = login.set_password(password.as_str());
        }
        let (mut connection, driver) =
            MultiplexedConnection::new_with_config(&login, stream, AsyncConnectionConfig::new())
                .await?;
        self.supervisor.spawn(driver);
        let rule = redis::cmd("SCRIPT")
            .arg("LOAD")
            .arg(ANSWER)
            .query_async(&mut connection)
            .await?;
        Ok(Connected { connection, rule })
    }
}

/// Without what it holds: the address has a password.
impl fmt::Debug for ValkeyRates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ValkeyRates")
            .finish_non_exhaustive()
    }
}
