//! The tables, and every step that led to them. A step is never changed once released: the next
//! one is appended. SQL is the subset that SQLite and PostgreSQL share: `$1` in order of first
//! appearance, `ON CONFLICT … DO UPDATE`, times as integer microseconds; but for `WITHOUT ROWID`
//! and `INTEGER` as a primary key's type, which say only how SQLite lays a table out. Brackets
//! hold what tables that tenants share have besides.

use crate::database::sql;
use crate::steps::{Migration, Steps};

/// A tenant's tables. Where they are its own, no row says whose it is: the file, schema or database
/// does. The last step adds an index: the program before it does not miss that, and neither does
/// this one.
pub(crate) const TENANT: Steps = Steps {
    all: &[
        TENANT_1,
        AUDIT_1,
        RESPONSES_1,
        CONVERSATIONS_1,
        BILLING_1,
        PAST_HOURS_1,
        MOVING_1,
        BODIES_1,
        CONVERSATIONS_2,
    ],
    served_from: 8,
    open_to: 8,
};

/// The platform's tables. They are brought to the newest step when the program starts. The last step
/// adds a table that the program before it does not miss.
pub(crate) const CATALOGUE: Steps = Steps {
    all: &[
        CATALOGUE_1,
        AUDIT_1,
        REPLICAS_1,
        SHARES_1,
        NUMBERS_1,
        ALERTS_1,
        BILLS_1,
        REPLICA_MINUTES_1,
    ],
    served_from: 8,
    open_to: 7,
};

/// Every paid call makes a line, so that a line has no row of its own: a row of `ledger_lines` is
/// a block of those that were dispatched in one second and posted together (see
/// `tenant/block.rs`), numbered by that second; what they have in common is a row of
/// `usage_dims`. Rows come in the order of time, as they stand. `ledger_posted` says up to which
/// LSN of each replica's journal lines are here, `unsettled_lines` which of them a later one is
/// going to replace. `usage_sums` are the lines added up by hours, days and months, UTC (see
/// `tenant/sums.rs`), and `usage_kept` says from when on there are lines and hours, where older
/// ones were forgotten. Ids and
/// names are text in `usage_dims`, where they are rare; absent ones are `''`, so that they can be
/// part of a key. An amount is `major · 10⁹ + minor` pico-dollars, so that sums of either half
/// stay below 2⁶³.
const TENANT_1: Migration = sql!(
    "
CREATE TABLE usage_dims (
    [tenant UUID NOT NULL,]
    id      INTEGER NOT NULL,
    team    TEXT NOT NULL,
    user_id TEXT NOT NULL,
    key_id  TEXT NOT NULL,
    feature TEXT NOT NULL,
    model   TEXT NOT NULL,
    hop     TEXT NOT NULL,
    upstream      TEXT NOT NULL,
    version       TEXT NOT NULL,
    price_version BIGINT NOT NULL,
    UNIQUE ([tenant, ]team, user_id, key_id, feature, model, hop, upstream, version,
            price_version),
    PRIMARY KEY ([tenant, ]id)
);
CREATE TABLE provisioned (
    [tenant UUID NOT NULL,]
    single BIGINT NOT NULL,
    PRIMARY KEY ([tenant, ]single)
);
CREATE TABLE ledger_lines (
    [tenant UUID NOT NULL,]
    id    INTEGER NOT NULL,
    lines BYTEA NOT NULL,
    PRIMARY KEY ([tenant, ]id)
);
CREATE TABLE ledger_posted (
    [tenant UUID NOT NULL,]
    replica TEXT NOT NULL,
    lsn     BIGINT NOT NULL,
    PRIMARY KEY ([tenant, ]replica)
);
CREATE TABLE unsettled_lines (
    [tenant UUID NOT NULL,]
    attempt    BYTEA NOT NULL,
    started_at BIGINT NOT NULL,
    PRIMARY KEY ([tenant, ]attempt)
) WITHOUT ROWID;

CREATE TABLE usage_sums (
    [tenant UUID NOT NULL,]
    grain         BIGINT NOT NULL,
    start         BIGINT NOT NULL,
    dims          BIGINT NOT NULL,
    requests      BIGINT NOT NULL,
    calls         BIGINT NOT NULL,
    unsettled     BIGINT NOT NULL,
    cache_hits    BIGINT NOT NULL,
    input_tokens  BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    cached_write_tokens    BIGINT NOT NULL,
    cached_write_1h_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    images        BIGINT NOT NULL,
    billed        BIGINT NOT NULL,
    cost_major    BIGINT NOT NULL,
    cost_minor    BIGINT NOT NULL,
    hit_cost_major BIGINT NOT NULL,
    hit_cost_minor BIGINT NOT NULL,
    hit_anew_major BIGINT NOT NULL,
    hit_anew_minor BIGINT NOT NULL,
    PRIMARY KEY ([tenant, ]grain, start, dims)
) WITHOUT ROWID;
CREATE TABLE usage_kept (
    [tenant UUID NOT NULL,]
    what  BIGINT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY ([tenant, ]what)
);

CREATE TABLE idempotency (
    [tenant UUID NOT NULL,]
    key_hash     TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    state        TEXT NOT NULL,
    response     BYTEA,
    expires_at   BIGINT NOT NULL,
    PRIMARY KEY ([tenant, ]key_hash)
);
CREATE INDEX idempotency_by_expiry ON idempotency ([tenant, ]expires_at);
"
);

/// What a tenant's clients may go on from, and how much it is in all.
const RESPONSES_1: Migration = sql!(
    "
CREATE TABLE responses (
    [tenant UUID NOT NULL,]
    id         TEXT NOT NULL,
    previous   TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    bytes      BIGINT NOT NULL,
    input      BYTEA NOT NULL,
    body       BYTEA NOT NULL,
    PRIMARY KEY ([tenant, ]id)
);
CREATE INDEX responses_by_expiry ON responses ([tenant, ]expires_at);
CREATE TABLE responses_total (
    [tenant UUID NOT NULL,]
    single BIGINT NOT NULL,
    count  BIGINT NOT NULL,
    bytes  BIGINT NOT NULL,
    PRIMARY KEY ([tenant, ]single)
);
"
);

/// What a tenant's responses are added to, and how much it is in all. `next` is the position of
/// the next item: positions are never used again.
const CONVERSATIONS_1: Migration = sql!(
    "
CREATE TABLE conversations (
    [tenant UUID NOT NULL,]
    id         TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    items      BIGINT NOT NULL,
    next       BIGINT NOT NULL,
    bytes      BIGINT NOT NULL,
    metadata   BYTEA NOT NULL,
    PRIMARY KEY ([tenant, ]id)
);
CREATE TABLE conversation_items (
    [tenant UUID NOT NULL,]
    conversation TEXT NOT NULL,
    position     BIGINT NOT NULL,
    id           TEXT NOT NULL,
    body         BYTEA NOT NULL,
    PRIMARY KEY ([tenant, ]conversation, position)
) WITHOUT ROWID;
CREATE UNIQUE INDEX conversation_items_by_id ON conversation_items ([tenant, ]conversation, id);
CREATE TABLE conversations_total (
    [tenant UUID NOT NULL,]
    single BIGINT NOT NULL,
    count  BIGINT NOT NULL,
    bytes  BIGINT NOT NULL,
    PRIMARY KEY ([tenant, ]single)
);
"
);

/// What is forgotten of conversations goes by their age.
const CONVERSATIONS_2: Migration = sql!(
    "
CREATE INDEX conversations_by_age ON conversations ([tenant, ]created_at, id);
"
);

/// What a tenant was billed.
const BILLING_1: Migration = sql!(
    "
CREATE TABLE billing_documents (
    [tenant UUID NOT NULL,]
    id   TEXT NOT NULL,
    at   BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY ([tenant, ]id)
);
"
);

/// Which numbers of which series were taken for what. `pending` is a document that its tenant's
/// store may lack.
const NUMBERS_1: Migration = sql!(
    "
CREATE TABLE billing_numbers (
    series   TEXT NOT NULL,
    number   BIGINT NOT NULL,
    tenant   TEXT NOT NULL,
    document TEXT NOT NULL,
    at       BIGINT NOT NULL,
    digest   BYTEA NOT NULL,
    pending  BYTEA,
    PRIMARY KEY (series, number)
);
CREATE UNIQUE INDEX billing_numbers_by_document ON billing_numbers (tenant, document);
"
);

/// How the calls of each hour went, as each replica saw it.
const PAST_HOURS_1: Migration = sql!(
    "
CREATE TABLE past_hours (
    [tenant UUID NOT NULL,]
    hour    BIGINT NOT NULL,
    replica TEXT NOT NULL,
    calls   BIGINT NOT NULL,
    failed  BIGINT NOT NULL,
    refused BIGINT NOT NULL,
    p95_ms  BIGINT NOT NULL,
    PRIMARY KEY ([tenant, ]hour, replica)
) WITHOUT ROWID;
"
);

/// Whether this is the tenant's store, or is being copied, left or filled (see `postgres/gate.rs`),
/// by which move; and what was changed since it is copied, a row for each transaction.
const MOVING_1: Migration = sql!(
    "
ALTER TABLE provisioned ADD COLUMN state BIGINT NOT NULL DEFAULT 0;
ALTER TABLE provisioned ADD COLUMN mover TEXT NOT NULL DEFAULT '';
ALTER TABLE provisioned ADD COLUMN logged BIGINT NOT NULL DEFAULT 0;
CREATE TABLE move_changes (
    [tenant UUID NOT NULL,]
    position BIGINT NOT NULL,
    changes  BYTEA NOT NULL,
    PRIMARY KEY ([tenant, ]position)
);
"
);

/// What calls asked and were answered, where the tenant has that kept, and how much it is in all.
const BODIES_1: Migration = sql!(
    "
CREATE TABLE call_bodies (
    [tenant UUID NOT NULL,]
    request  TEXT NOT NULL,
    at       BIGINT NOT NULL,
    bytes    BIGINT NOT NULL,
    marks    BIGINT NOT NULL,
    asked    BYTEA NOT NULL,
    answered BYTEA NOT NULL,
    PRIMARY KEY ([tenant, ]request)
);
CREATE INDEX call_bodies_by_time ON call_bodies ([tenant, ]at);
CREATE TABLE call_bodies_total (
    [tenant UUID NOT NULL,]
    single BIGINT NOT NULL,
    count  BIGINT NOT NULL,
    bytes  BIGINT NOT NULL,
    PRIMARY KEY ([tenant, ]single)
);
"
);

/// What providers' bills were compared with, and how shared costs were split.
const BILLS_1: Migration = sql!(
    "
CREATE TABLE reconciliations (
    id   BIGINT PRIMARY KEY,
    at   BIGINT NOT NULL,
    body BYTEA NOT NULL
);
CREATE TABLE shared_splits (
    name   TEXT NOT NULL,
    period TEXT NOT NULL,
    body   BYTEA NOT NULL,
    PRIMARY KEY (name, period)
);
"
);

/// A resource's row is valid from `version` until `superseded`, exclusive; a row without a spec
/// says that the resource is gone.
const CATALOGUE_1: Migration = sql!(
    "
CREATE TABLE versions (
    version BIGINT PRIMARY KEY,
    at      BIGINT NOT NULL,
    actor   TEXT NOT NULL,
    note    TEXT NOT NULL
);
CREATE TABLE resources (
    kind       TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    name       TEXT NOT NULL,
    version    BIGINT NOT NULL,
    superseded BIGINT,
    spec       BYTEA,
    PRIMARY KEY (kind, tenant, name, version)
);
CREATE INDEX resources_current ON resources (kind, tenant, name) WHERE superseded IS NULL;

CREATE TABLE wrapped_keys (
    tenant     TEXT PRIMARY KEY,
    wrapped    BYTEA NOT NULL,
    generation BIGINT NOT NULL
);
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value BYTEA NOT NULL
);
"
);

/// For a catalogue that several processes share, on a server: who they are, and what makes the
/// installation theirs. `feed` counts the changes of settings. Times are the server's.
const REPLICAS_1: Migration = sql!(
    "
CREATE TABLE installation (
    single       BIGINT PRIMARY KEY,
    id           TEXT NOT NULL,
    platform_key BYTEA NOT NULL
);
CREATE TABLE replicas (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    roles      TEXT NOT NULL,
    program    TEXT NOT NULL,
    epoch      BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    ended      BOOLEAN NOT NULL
);
CREATE TABLE feed (
    single     BIGINT PRIMARY KEY,
    generation BIGINT NOT NULL
);
"
);

/// What each replica may spend of each account, and what it had spent; and of each replica the
/// last exchange that counted. Amounts have up to 39 digits. Ids are hexadecimal digits. Only
/// replicas have rows here. No index has a column that each exchange changes: rows are then
/// rewritten in place.
const SHARES_1: Migration = sql!(
    "
CREATE TABLE budget_shares (
    account     TEXT NOT NULL,
    replica     TEXT NOT NULL,
    tenant      TEXT NOT NULL,
    epoch       BIGINT NOT NULL,
    share       NUMERIC(39, 0) NOT NULL,
    spent       NUMERIC(39, 0) NOT NULL,
    spent_until BIGINT,
    calls       BIGINT NOT NULL,
    calls_used  BIGINT NOT NULL,
    is_short    BOOLEAN NOT NULL,
    frees_at    BIGINT,
    at          BIGINT NOT NULL,
    PRIMARY KEY (account, replica)
);
CREATE INDEX budget_shares_by_replica ON budget_shares (replica, epoch);
CREATE TABLE share_turns (
    replica  TEXT PRIMARY KEY,
    epoch    BIGINT NOT NULL,
    sequence BIGINT NOT NULL
);
"
);

/// How calls went at each replica, by the minute of its process. Only replicas have rows here, of an
/// hour at most. `began_at` is by the replica's clock, `told_at` by the server's.
const REPLICA_MINUTES_1: Migration = sql!(
    "
CREATE TABLE replica_minutes (
    replica  TEXT NOT NULL,
    epoch    BIGINT NOT NULL,
    minute   BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    began_at BIGINT NOT NULL,
    told_at  BIGINT NOT NULL,
    body     BYTEA NOT NULL,
    PRIMARY KEY (replica, epoch, minute)
);
"
);

/// What is so that somebody should know, and what is still to be told of it.
const ALERTS_1: Migration = sql!(
    "
CREATE TABLE alerts (
    id          TEXT PRIMARY KEY,
    tenant      TEXT NOT NULL,
    opened_at   BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL,
    told_at     BIGINT NOT NULL,
    resolved_at BIGINT,
    about       BYTEA NOT NULL
);
CREATE INDEX alerts_by_tenant ON alerts (tenant, opened_at);
CREATE TABLE alert_messages (
    id      TEXT PRIMARY KEY,
    tenant  TEXT NOT NULL,
    channel TEXT NOT NULL,
    tries   BIGINT NOT NULL,
    due_at  BIGINT NOT NULL,
    text    BYTEA NOT NULL
);
CREATE INDEX alert_messages_by_due ON alert_messages (due_at);
"
);

/// An audit log: the entries, the roots of all complete subtrees, the signed head, and the
/// checkpoints that were given out.
const AUDIT_1: Migration = sql!(
    "
CREATE TABLE audit_entries (
    [tenant UUID NOT NULL,]
    position BIGINT NOT NULL,
    entry    BYTEA NOT NULL,
    PRIMARY KEY ([tenant, ]position)
);
CREATE TABLE audit_nodes (
    [tenant UUID NOT NULL,]
    level    BIGINT NOT NULL,
    position BIGINT NOT NULL,
    hash     BYTEA NOT NULL,
    PRIMARY KEY ([tenant, ]level, position)
);
CREATE TABLE audit_head (
    [tenant UUID NOT NULL,]
    single     BIGINT NOT NULL,
    size       BIGINT NOT NULL,
    checkpoint TEXT NOT NULL,
    PRIMARY KEY ([tenant, ]single)
);
CREATE TABLE audit_checkpoints (
    [tenant UUID NOT NULL,]
    size       BIGINT NOT NULL,
    checkpoint TEXT NOT NULL,
    PRIMARY KEY ([tenant, ]size)
);
"
);
