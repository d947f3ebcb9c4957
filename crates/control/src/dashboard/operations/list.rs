//! What can be done besides, as a table: an operation of the admin API, in words, and the fields that
//! it takes. Its method, path and right come from the table of endpoints.

/// An operation of the admin API that has a form.
#[derive(Debug)]
pub(super) struct Operation {
    /// As the API's document calls it.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What it does, or what to know before; may be empty.
    pub(super) words: &'static str,
    pub(super) fields: &'static [Field],
    pub(super) gives: Gives,
}

/// What comes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    /// It was done.
    Done,
    /// It was done, and cannot be undone.
    DoneForGood,
    /// Something to look at.
    Page,
    /// A file, whose name ends so; empty where a field named `format` says it.
    File(&'static str),
}

/// A field of a form.
#[derive(Debug)]
pub(super) struct Field {
    /// As the API calls it. In a path, in a query or in a body: a path has it in braces, reading has
    /// a query.
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) kind: Kind,
    pub(super) need: Need,
}

/// Whether a form goes without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Required,
    Optional,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A UTC day.
    Day,
    Number,
    /// Yes or no.
    Check,
    /// Names, with commas between.
    Names,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// One of the visitor's own: what the page can list.
    Known(Known),
    /// Text that may come from a file.
    Long,
    /// JSON, as a field of the body.
    Json,
    /// JSON, as the whole body: what there is now is shown.
    Whole(Known),
}

/// What the page can list without asking anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Operators,
    PlatformChannels,
    Upstreams,
    Channels,
    Prompts,
    Budgets,
    /// The tenant itself.
    Tenant,
}

use Gives::{Done, DoneForGood, File, Page};
use Kind::{Check, Day, Json, Long, Names, Number, OneOf, Text, Whole};
use Need::{Optional, Required};

const fn field(name: &'static str, label: &'static str, kind: Kind, need: Need) -> Field {
    Field {
        name,
        label,
        kind,
        need,
    }
}

const fn known(name: &'static str, label: &'static str, known: Known) -> Field {
    field(name, label, Kind::Known(known), Required)
}

const FORMATS: Kind = OneOf(&["focus-csv", "focus-parquet", "openmeter", "stripe"]);
const EXPORT: &[Field] = &[
    field("format", "Format", FORMATS, Required),
    field("from", "From this day on (UTC)", Day, Required),
    field("to", "Up to this day, itself not included", Day, Required),
    field("issuer", "Who bills, for FOCUS", Text, Optional),
    field("customer", "Stripe's customer, for Stripe", Text, Optional),
];

macro_rules! operation {
    ($id:literal, $title:literal, $words:literal, $gives:expr, $fields:expr) => {
        Operation {
            id: $id,
            title: $title,
            words: $words,
            fields: $fields,
            gives: $gives,
        }
    };
}

/// The platform's.
pub(super) static OF_PLATFORM: &[Operation] = &[
    operation!(
        "apply",
        "Apply a declared catalogue",
        "As one version, or not at all. Say first only what would change.",
        Done,
        &[
            field(
                "resources",
                "Resources: a JSON list, as the export has it",
                Json,
                Required
            ),
            field("dry_run", "Only say what would change", Check, Optional),
            field("prune", "Remove what is not declared", Check, Optional),
            field("note", "Why", Text, Optional),
        ]
    ),
    operation!(
        "export",
        "Export the catalogue",
        "The whole of it, in the form that apply takes. Secrets are references; hashes are in it.",
        File("json"),
        &[]
    ),
    operation!(
        "import_prices",
        "Import prices",
        "Existing prices get a new entry where they differ.",
        Done,
        &[
            field("source", "Whose form it is", OneOf(&["litellm"]), Required),
            field("document", "The document, in JSON", Json, Required),
            field("providers", "Only of these providers", Names, Optional),
            field(
                "effective_from",
                "From then on: 2026-12-01T00:00:00Z; now if empty",
                Text,
                Optional
            ),
            field(
                "variants",
                "Prices that depend on length",
                OneOf(&["skip", "dearest"]),
                Required
            ),
            field(
                "ignore",
                "Fields that are never charged here",
                Names,
                Optional
            ),
            field("dry_run", "Only say what would change", Check, Optional),
        ]
    ),
    operation!(
        "import_bill",
        "Compare a provider's bill",
        "With the ledger, by day and model; the comparison is kept.",
        Done,
        &[
            field(
                "provider",
                "Whose export",
                OneOf(&["openai", "anthropic", "generic"]),
                Required
            ),
            field(
                "upstreams",
                "Upstreams on it; the provider's if empty",
                Names,
                Optional
            ),
            field(
                "names",
                "What the bill calls models, as a JSON object",
                Json,
                Optional
            ),
            field("csv", "The file, CSV", Long, Required),
        ]
    ),
    operation!(
        "list_reconciliations",
        "Comparisons with bills",
        "",
        Page,
        &[]
    ),
    operation!(
        "get_reconciliation",
        "One comparison with a bill",
        "",
        Page,
        &[field("id", "Its number", Number, Required)]
    ),
    operation!(
        "export_costs",
        "Export all tenants' costs",
        "",
        File(""),
        EXPORT
    ),
    operation!(
        "push_costs",
        "Push costs to the object store",
        "Days that are there are written anew.",
        Done,
        &[
            field("from", "From this day on (UTC)", Day, Required),
            field("to", "Up to this day, itself not included", Day, Required),
        ]
    ),
    operation!(
        "list_invoice_numbers",
        "Numbers that invoices took",
        "",
        Page,
        &[]
    ),
    operation!(
        "test_platform_channel",
        "Test a platform's channel",
        "It is told something harmless, now.",
        Done,
        &[known("name", "Channel", Known::PlatformChannels)]
    ),
    operation!(
        "upstream_status",
        "An upstream's state",
        "",
        Page,
        &[known("name", "Upstream", Known::Upstreams)]
    ),
    operation!(
        "list_replicas",
        "Replicas",
        "The processes that share the catalogue.",
        Page,
        &[]
    ),
    operation!(
        "forget_replica",
        "Forget a replica",
        "One that has ended, and whose journal is nowhere any more: what it had not posted is lost.",
        DoneForGood,
        &[field("id", "Its id", Text, Required)]
    ),
    operation!("list_servers", "PostgreSQL servers", "", Page, &[]),
    operation!(
        "verify_ledger",
        "Verify the ledger",
        "Reads the whole journal.",
        Page,
        &[]
    ),
    operation!(
        "export_platform_audit",
        "Export the platform's audit log",
        "For the offline verifier.",
        File("jsonl"),
        &[]
    ),
    operation!(
        "key_of_platform_audit",
        "The key of the platform's audit log",
        "Its checkpoints are signed with it.",
        File("txt"),
        &[]
    ),
    operation!(
        "get_platform_webhook_secret",
        "The platform's webhook secret",
        "That it was shown is on record.",
        Page,
        &[]
    ),
    operation!(
        "rotate_operator",
        "Rotate an operator's key",
        "The old one is good for nothing from then on.",
        DoneForGood,
        &[known("name", "Operator", Known::Operators)]
    ),
    operation!(
        "rotate_token_keys",
        "Rotate the keys that sign tokens",
        "Tokens that were signed before stay good until they end.",
        Done,
        &[]
    ),
    operation!(
        "rotate_root_key",
        "Rotate the root key",
        "All other keys are wrapped anew. Then name it in partywall.toml: the next start needs it.",
        DoneForGood,
        &[field(
            "root_key",
            "The new one: file:/path, env:NAME",
            Text,
            Required
        )]
    ),
    operation!(
        "reload",
        "Read secrets and configuration again",
        "A catalogue that cannot be served is refused, and the old one stays.",
        Done,
        &[]
    ),
];

/// A tenant's.
pub(super) static OF_TENANT: &[Operation] = &[
    operation!(
        "put_tenant",
        "Change the tenant itself",
        "Its tier, zone, region, retention, price book.",
        Done,
        &[field(
            "spec",
            "Specification, in JSON",
            Whole(Known::Tenant),
            Required
        )]
    ),
    operation!("get_cache", "Kept answers", "", Page, &[]),
    operation!(
        "clear_cache",
        "Clear the cache",
        "Kept answers are forgotten, those of calls under way included.",
        Done,
        &[]
    ),
    operation!(
        "render_prompt",
        "Try a prompt",
        "What a model would be told; nothing is called.",
        Page,
        &[
            known("name", "Prompt", Known::Prompts),
            field(
                "version",
                "Version; the active one if empty",
                Number,
                Optional
            ),
            field("variables", "Variables, as a JSON object", Json, Optional),
            field("feature", "Feature", Text, Optional),
            field("model", "Model", Text, Optional),
            field("user", "User", Text, Optional),
            field("team", "Team", Text, Optional),
        ]
    ),
    operation!(
        "test_channel",
        "Test a channel",
        "It is told something harmless, now.",
        Done,
        &[known("name", "Channel", Known::Channels)]
    ),
    operation!(
        "list_unsettled",
        "Calls whose cost is not known",
        "They count at their upper bound until somebody says what they cost.",
        Page,
        &[]
    ),
    operation!(
        "reconcile_call",
        "Settle a call",
        "By what the provider's bill says.",
        DoneForGood,
        &[
            field("id", "The call: att_…", Text, Required),
            field("cost", "What it cost, in dollars", Text, Required),
        ]
    ),
    operation!(
        "write_off_call",
        "Write a call off",
        "It stays at its upper bound, for good.",
        DoneForGood,
        &[
            field("id", "The call: att_…", Text, Required),
            field("reason", "Why", Text, Required),
        ]
    ),
    operation!(
        "reconcile_lease",
        "Give back what a crash left unreported",
        "Of a budget: what was found not to be spent, or all of it.",
        DoneForGood,
        &[
            known("budget", "Budget", Known::Budgets),
            field(
                "subject",
                "Subject, where the budget is for each: user:ada",
                Text,
                Optional
            ),
            field("unspent", "What was not spent, in dollars", Text, Optional),
            field("all", "All of it", Check, Optional),
        ]
    ),
    operation!(
        "rebuild_ledger",
        "Add up the ledger anew",
        "All sums from the lines; says what was corrected.",
        Done,
        &[]
    ),
    operation!("export_tenant_costs", "Export costs", "", File(""), EXPORT),
    operation!(
        "export_invoice",
        "Download an invoice",
        "",
        File(""),
        &[
            field("id", "Its number, or its month: 2026-11", Text, Required),
            field("format", "Format", OneOf(&["pdf", "csv", "json"]), Required),
        ]
    ),
    operation!("list_adjustments", "Adjustments", "", Page, &[]),
    operation!(
        "adjust_invoice",
        "Adjust a month",
        "A line of its invoice, before that is final.",
        DoneForGood,
        &[
            field("period", "Month: 2026-11", Text, Required),
            field("amount", "Dollars; negative gives back", Text, Required),
            field("description", "What the line says", Text, Required),
            field("reference", "Your reference: once only", Text, Required),
        ]
    ),
    operation!("list_credit_notes", "Credit notes", "", Page, &[]),
    operation!(
        "credit_invoice",
        "Credit a final invoice",
        "A credit note of its own number.",
        DoneForGood,
        &[
            field("id", "The invoice's number", Text, Required),
            field("amount", "Dollars", Text, Required),
            field("reason", "Why", Text, Required),
            field("reference", "Your reference: once only", Text, Required),
        ]
    ),
    operation!(
        "verify_tenant_audit",
        "Verify the tenant's audit log",
        "",
        Page,
        &[]
    ),
    operation!(
        "export_tenant_audit",
        "Export the tenant's audit log",
        "For the offline verifier.",
        File("jsonl"),
        &[]
    ),
    operation!(
        "key_of_tenant_audit",
        "The key of the tenant's audit log",
        "Its checkpoints are signed with it.",
        File("txt"),
        &[]
    ),
    operation!(
        "get_webhook_secret",
        "The tenant's webhook secret",
        "That it was shown is on record.",
        Page,
        &[]
    ),
    operation!(
        "rotate_tenant_salt",
        "Rotate the tenant's salt",
        "Engines find nothing again that they kept of its prompts.",
        Done,
        &[]
    ),
    operation!(
        "rotate_tenant_key",
        "Rotate the tenant's key",
        "All that it has is sealed anew, while it is served.",
        Done,
        &[]
    ),
];
