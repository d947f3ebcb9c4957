//! What each replica may spend of each budget: the rows by which budgets are shared.
//!
//! An exchange is one transaction in two round trips. It takes the replica's turn (a newer process
//! in its place, or a later exchange, makes it void), locks the accounts in order, reads their
//! rows, decides by [`ledger::allot`], and writes its own. Times are the server's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base::{PicoUsd, TenantId, Timestamp};
use ledger::{AccountId, ShareAsk, ShareGiven, ShareRow, allot};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::replicas::{Registered, ReplicaError};
use super::{CatalogueError, CatalogueServer};
use crate::database::DatabaseError;
use crate::postgres::Session;

/// Three seconds: whoever asks waits no longer than four.
const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = 3000; SET LOCAL lock_timeout = 3000";
/// Sets the keys of accounts apart from other locks: all have this bit.
const LOCK_BIT: u64 = 1 << 62;
/// 256 accounts at a time, as an exchange has.
const LEFT_BEHIND_MAX: i64 = 256;
/// 1,000 accounts of one question.
const PAGE_MAX: usize = 1_000;

const TURN: &str = "
INSERT INTO share_turns (replica, epoch, sequence)
SELECT id, epoch, $3 FROM replicas WHERE id = $1 AND epoch = $2
ON CONFLICT (replica) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence
WHERE (share_turns.epoch, share_turns.sequence) < (excluded.epoch, excluded.sequence)
RETURNING epoch";
const LOCK: &str = "
SELECT count(pg_advisory_xact_lock(keys.key)) FROM unnest($1::bigint[]) AS keys(key)";
const ROWS: &str = "
SELECT account, replica, share::text, spent::text, spent_until, calls, calls_used, is_short,
       frees_at, at
FROM budget_shares WHERE account = ANY($1::text[])";
const NOW: &str = "
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now,
       (SELECT count(*) FROM replicas
        WHERE id <> $1 AND NOT ended AND position('gateway' IN roles) > 0
          AND seen_at > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $2::bigint)";
const WRITE: &str = "
INSERT INTO budget_shares (replica, epoch, at, account, tenant, share, spent, spent_until, calls,
                           calls_used, is_short, frees_at)
SELECT $1, $2, $3, new.* FROM unnest($4::text[], $5::text[], $6::text[]::numeric[],
    $7::text[]::numeric[], $8::bigint[], $9::bigint[], $10::bigint[], $11::boolean[],
    $12::bigint[]) AS new
ON CONFLICT (account, replica) DO UPDATE SET
    epoch = excluded.epoch, at = excluded.at, share = excluded.share, spent = excluded.spent,
    spent_until = excluded.spent_until, calls = excluded.calls, calls_used = excluded.calls_used,
    is_short = excluded.is_short, frees_at = excluded.frees_at";
const REMOVE: &str = "
DELETE FROM budget_shares WHERE replica = $1 AND account = ANY($2::text[])";
const LEFT_BEHIND: &str = "
SELECT tenant, account FROM budget_shares WHERE replica = $1 AND epoch < $2 LIMIT $3";
const SWEEP: &str = "
DELETE FROM budget_shares
WHERE frees_at <= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// A replica's way to the shares of budgets. All methods block.
#[derive(Debug)]
pub struct BudgetShares {
    registered: Arc<Registered>,
    alive_for: Duration,
    /// Of the last exchange in this process.
    sequence: AtomicI64,
}

/// An exchange's answer.
#[derive(Debug, Clone)]
pub struct SharesGiven {
    /// An answer for each ask, in order.
    pub given: Vec<ShareGiven>,
    /// How many replicas serve clients, with this one.
    pub gateways: u32,
}

/// Why an exchange came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// Another process has taken this replica's place, or somebody has forgotten it.
    #[error(transparent)]
    Fenced(ReplicaError),
    /// A later exchange of the same process came first.
    #[error("a later exchange came first")]
    Late,
    /// The server cannot be asked. Whether the exchange took place is not known.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

impl From<DatabaseError> for ShareError {
    fn from(error: DatabaseError) -> Self {
        Self::Catalogue(error.into())
    }
}

impl BudgetShares {
    /// The shares of this replica. Others count as serving for `alive_for` after they said so.
    pub fn new(registered: Arc<Registered>, alive_for: Duration) -> Self {
        Self {
            registered,
            alive_for,
            sequence: AtomicI64::new(0),
        }
    }

    fn server(&self) -> &CatalogueServer {
        self.registered.server()
    }

    /// Tells how this replica's accounts stand, and asks for more.
    ///
    /// # Errors
    ///
    /// [`ShareError`]; but for a server that does not answer, nothing has changed.
    pub fn exchange(&self, asks: &[ShareAsk]) -> Result<SharesGiven, ShareError> {
        let sequence = self.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        self.exchange_as(sequence, asks)
    }

    fn exchange_as(&self, sequence: i64, asks: &[ShareAsk]) -> Result<SharesGiven, ShareError> {
        let lease = self.server().lease().map_err(CatalogueError::from)?;
        let session = lease.session();
        let exchanged = self.exchange_on(session, sequence, asks);
        if exchanged.is_err() && session.batch("ROLLBACK").is_err() {
            session.give_up();
        }
        exchanged
    }

    fn exchange_on(
        &self,
        session: &Session,
        sequence: i64,
        asks: &[ShareAsk],
    ) -> Result<SharesGiven, ShareError> {
        let (replica, epoch) = (self.registered.id().to_string(), self.registered.epoch());
        let alive_for = i64::try_from(self.alive_for.as_micros()).unwrap_or(i64::MAX);
        let accounts: Vec<String> = asks.iter().map(|ask| text(ask.account)).collect();
        let locks = lock_keys(asks);
        let (turn, lock, rows, now) = (
            session.prepare(TURN)?,
            session.prepare(LOCK)?,
            session.prepare(ROWS)?,
            session.prepare(NOW)?,
        );
        // Sent together, and done in this order.
        let (taken, rows, now) = session.run(|client| async {
            let turn_is: [&(dyn ToSql + Sync); 3] = [&replica, &epoch, &sequence];
            let locks_are: [&(dyn ToSql + Sync); 1] = [&locks];
            let rows_are: [&(dyn ToSql + Sync); 1] = [&accounts];
            let now_is: [&(dyn ToSql + Sync); 2] = [&replica, &alive_for];
            let (begun, taken, locked, rows, now) = tokio::join!(
                biased;
                client.batch_execute(BEGIN),
                client.query(&turn, &turn_is),
                client.query(&lock, &locks_are),
                client.query(&rows, &rows_are),
                client.query_one(&now, &now_is),
            );
            begun?;
            let taken = taken?;
            locked?;
            Ok((taken, rows?, now?))
        })?;
        if taken.is_empty() {
            return Err(self.refused(session, &replica)?);
        }
        let at: i64 = now.try_get(0).map_err(DatabaseError::from)?;
        let others: i64 = now.try_get(1).map_err(DatabaseError::from)?;
        let gateways = u32::try_from(others).unwrap_or(u32::MAX - 1) + 1;
        let decided = decide(asks, &read_others(&rows, &replica)?, gateways, at);
        self.write(session, asks, &decided, at)?;
        Ok(SharesGiven {
            given: decided.into_iter().map(|(_, given)| given).collect(),
            gateways,
        })
    }

    /// Why the turn was not to be had.
    fn refused(&self, session: &Session, replica: &str) -> Result<ShareError, ShareError> {
        let epochs = session.ask("SELECT epoch FROM replicas WHERE id = $1", &[&replica])?;
        let epoch = epochs.first().map(|row| row.try_get::<_, i64>(0));
        let epoch = epoch.transpose().map_err(DatabaseError::from)?;
        let id = self.registered.id();
        Ok(match epoch {
            Some(epoch) if epoch == self.registered.epoch() => ShareError::Late,
            _ => ShareError::Fenced(ReplicaError::Fenced { id }),
        })
    }

    fn write(
        &self,
        session: &Session,
        asks: &[ShareAsk],
        decided: &[(ShareRow, ShareGiven)],
        at: i64,
    ) -> Result<(), ShareError> {
        let (replica, epoch) = (self.registered.id().to_string(), self.registered.epoch());
        let (kept, empty): (Vec<_>, Vec<_>) = asks
            .iter()
            .zip(decided)
            .partition(|(_, (row, _))| !row.is_empty());
        let gone: Vec<String> = empty.iter().map(|(ask, _)| text(ask.account)).collect();
        let mut columns = Columns::default();
        for (ask, (row, _)) in kept {
            columns.push(ask, row);
        }
        let (write, remove) = (session.prepare(WRITE)?, session.prepare(REMOVE)?);
        session.run(|client| async {
            let columns = columns.parameters(&replica, &epoch, &at);
            let gone: [&(dyn ToSql + Sync); 2] = [&replica, &gone];
            // An error in the first makes the last a rollback, which is no error.
            let (written, removed, committed) = tokio::join!(
                biased;
                client.execute(&write, &columns),
                client.execute(&remove, &gone),
                client.batch_execute("COMMIT"),
            );
            written?;
            removed?;
            committed
        })?;
        Ok(())
    }

    /// Accounts of which an earlier process in this place has a share that this one has said
    /// nothing of: at most 256 of them.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn left_behind(&self) -> Result<Vec<(TenantId, AccountId)>, CatalogueError> {
        let replica = self.registered.id().to_string();
        let epoch = self.registered.epoch();
        let rows = self
            .server()
            .ask(LEFT_BEHIND, &[&replica, &epoch, &LEFT_BEHIND_MAX])?;
        let read = |row: &Row| Ok((TenantId::from_bits(bits(row, 0)?), account(row, 1)?));
        rows.iter().map(read).collect()
    }

    /// What the other replicas had spent of these accounts when they were last heard of.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn spent_by_others(
        &self,
        accounts: &[AccountId],
    ) -> Result<HashMap<AccountId, PicoUsd>, CatalogueError> {
        let replica = self.registered.id().to_string();
        let mut spent = HashMap::new();
        for page in accounts.chunks(PAGE_MAX) {
            let names: Vec<String> = page.iter().copied().map(text).collect();
            let lease = self.server().lease()?;
            let rows = lease.session().ask(ROWS, &[&names])?;
            let now = lease.session().ask(NOW, &[&replica, &0_i64])?;
            let now = now.first().map(|row| row.try_get::<_, i64>(0));
            let now = now.transpose().map_err(DatabaseError::from)?.unwrap_or(0);
            let now = Timestamp::from_micros(now);
            for (account, rows) in read_others(&rows, &replica)? {
                let of_all = rows.iter().map(|row| row.spent_at(now)).sum();
                spent.insert(account, of_all);
            }
        }
        Ok(spent)
    }

    /// Removes rows that count no more and that nobody has asked about since. Says how many.
    ///
    /// # Errors
    ///
    /// Database errors.
    pub fn sweep(&self) -> Result<u64, CatalogueError> {
        let lease = self.server().lease()?;
        let session = lease.session();
        let sweep = session.prepare(SWEEP)?;
        Ok(session.run(|client: &Client| client.execute(&sweep, &[]))?)
    }
}

/// What becomes of each ask, in order. No account is asked for twice.
fn decide(
    asks: &[ShareAsk],
    others: &BTreeMap<AccountId, Vec<ShareRow>>,
    gateways: u32,
    at: i64,
) -> Vec<(ShareRow, ShareGiven)> {
    let now = Timestamp::from_micros(at);
    asks.iter()
        .map(|ask| {
            let others = others.get(&ask.account).map_or(&[][..], Vec::as_slice);
            allot(ask, others, gateways, now)
        })
        .collect()
}

/// One number per account, in order, so that no two exchanges wait for each other.
fn lock_keys(asks: &[ShareAsk]) -> Vec<i64> {
    let key = |ask: &ShareAsk| (ask.account.bits() as u64 | LOCK_BIT) as i64;
    let mut keys: Vec<i64> = asks.iter().map(key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The rows of [`WRITE`], by column.
#[derive(Default)]
struct Columns {
    accounts: Vec<String>,
    tenants: Vec<String>,
    shares: Vec<String>,
    spent: Vec<String>,
    spent_until: Vec<Option<i64>>,
    calls: Vec<i64>,
    calls_used: Vec<i64>,
    is_short: Vec<bool>,
    frees_at: Vec<Option<i64>>,
}

impl Columns {
    fn push(&mut self, ask: &ShareAsk, row: &ShareRow) {
        self.accounts.push(text(ask.account));
        self.tenants.push(format!("{:032x}", ask.tenant.bits()));
        self.shares.push(row.share.pico().to_string());
        self.spent.push(row.spent.pico().to_string());
        self.spent_until
            .push(row.spent_until.map(Timestamp::as_micros));
        self.calls.push(i64::from(row.calls));
        self.calls_used.push(i64::from(row.calls_used));
        self.is_short.push(row.is_short);
        self.frees_at.push(row.frees_at.map(Timestamp::as_micros));
    }

    fn parameters<'p>(
        &'p self,
        replica: &'p String,
        epoch: &'p i64,
        at: &'p i64,
    ) -> [&'p (dyn ToSql + Sync); 12] {
        [
            replica,
            epoch,
            at,
            &self.accounts,
            &self.tenants,
            &self.shares,
            &self.spent,
            &self.spent_until,
            &self.calls,
            &self.calls_used,
            &self.is_short,
            &self.frees_at,
        ]
    }
}

/// The rows of other replicas than this one, by account.
fn read_others(
    rows: &[Row],
    replica: &str,
) -> Result<BTreeMap<AccountId, Vec<ShareRow>>, DatabaseError> {
    let mut others: BTreeMap<AccountId, Vec<ShareRow>> = BTreeMap::new();
    for row in rows {
        if row.try_get::<_, &str>(1)? == replica {
            continue;
        }
        let read = ShareRow {
            share: money(row, 2)?,
            spent: money(row, 3)?,
            spent_until: row
                .try_get::<_, Option<i64>>(4)?
                .map(Timestamp::from_micros),
            calls: count(row, 5)?,
            calls_used: count(row, 6)?,
            is_short: row.try_get(7)?,
            frees_at: row
                .try_get::<_, Option<i64>>(8)?
                .map(Timestamp::from_micros),
            at: Timestamp::from_micros(row.try_get(9)?),
        };
        others.entry(account(row, 0)?).or_default().push(read);
    }
    Ok(others)
}

fn text(account: AccountId) -> String {
    format!("{:032x}", account.bits())
}

fn account(row: &Row, column: usize) -> Result<AccountId, DatabaseError> {
    bits(row, column).map(AccountId::from_bits)
}

fn bits(row: &Row, column: usize) -> Result<u128, DatabaseError> {
    let text: &str = row.try_get(column)?;
    u128::from_str_radix(text, 16).map_err(|_| DatabaseError::BadColumn { column })
}

fn money(row: &Row, column: usize) -> Result<PicoUsd, DatabaseError> {
    let text: &str = row.try_get(column)?;
    let pico = text
        .parse()
        .map_err(|_| DatabaseError::BadColumn { column })?;
    Ok(PicoUsd::new(pico))
}

fn count(row: &Row, column: usize) -> Result<u32, DatabaseError> {
    let count: i64 = row.try_get(column)?;
    u32::try_from(count).map_err(|_| DatabaseError::BadColumn { column })
}
