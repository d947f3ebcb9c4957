//! `demo-data`: an installation with a month of believable traffic of twenty tenants, so that the
//! dashboard and the costs can be tried on something that looks alive. Nobody is called: the
//! month is made up by a seed, and goes through the real ledger, journal and stores in a time of
//! its own.

mod books;
mod people;
mod prices;
mod traffic;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base::{Clock as _, ManualClock, PicoUsd, Redacted, SystemClock, Timestamp};
use clap::Args;
use control::api::{ApplyReport, ApplyRequest, Manifest};
use serde_json::{Value, json};
use tenancy::catalogue::Kind;

use self::people::{EVERYBODY, Persona, TEAMS};
use self::traffic::{Call, Fate};
use super::declare::{DEMOS, manifest};
use super::operator_key;
use super::record::Record;
use super::setup;
use super::upstream::Choice;
use crate::client::{Client, Target};
use crate::commands::API;
use crate::config::InstallationConfig;
use crate::installation::{self, ensure_operator, write_config};
use crate::serve::{Process, Roles, World, blocking};
use crate::terminal::{Form, say, say_json};

/// What to make up.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoDataArgs {
    /// How many days
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=365), value_name = "N")]
    days: u32,
    /// Another seed makes another month
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// When it ends; now, if absent
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
}

/// Makes an installation in a new folder, and its month.
///
/// # Errors
///
/// If there is an installation already, or the disk refuses something.
pub(crate) async fn run(args: DemoDataArgs, data: &Path, form: Form) -> anyhow::Result<()> {
    let until = args.until.unwrap_or_else(|| SystemClock::new().now());
    let began = until.minus(Duration::from_secs(u64::from(args.days) * 24 * 3600));
    let calls = traffic::calls(args.seed, until, args.days);
    let mut config = InstallationConfig::default();
    data.clone_into(&mut config.storage.folder);
    declare(&config, data, began, limits(&calls, until)?).await?;
    let kept = blocking(move || {
        let world = World::of_this_machine();
        let installation = installation::open(&config, &world.clock, &world.entropy)?;
        books::keep(&installation, calls, began)
    })
    .await?;
    let (calls, over_budget, cost) = (kept.calls, kept.over_budget, kept.cost);
    match form {
        Form::Json => say_json(&json!({
            "tenants": EVERYBODY.len(), "days": args.days, "calls": calls,
            "over_budget": over_budget, "cost": cost, "from": began, "until": until,
        })),
        Form::People => say(format_args!(
            "{calls} calls of {tenants} tenants in {days} days, ${cost}; {over_budget} more found \
             no room in a budget.\nNow: partywall --data {folder} quickstart",
            tenants = EVERYBODY.len(),
            days = args.days,
            folder = data.display(),
        )),
    }
}

/// Makes the installation and declares everybody, by the admin API, as anybody would; as of the
/// month's beginning.
async fn declare(
    config: &InstallationConfig,
    data: &Path,
    began: Timestamp,
    limits: Vec<PicoUsd>,
) -> anyhow::Result<()> {
    let machine = World::of_this_machine();
    let world = World {
        clock: Arc::new(ManualClock::at(began)),
        ..machine.clone()
    };
    let installation = {
        let (config, world) = (config.clone(), world.clone());
        blocking(move || {
            let installation = installation::create(&config, &world.clock, &world.entropy)?;
            ensure_operator(&installation, &*world.clock, &*world.entropy)?;
            write_config(&config)?;
            Ok(installation)
        })
        .await?
    };
    let mut quiet = config.clone();
    quiet.listen.gateway.set_port(0);
    quiet.listen.admin.set_port(0);
    let mut served = Choice::Simulator.open(None, &machine).await?;
    for model in served.upstreams.iter_mut().flat_map(|it| &mut it.models) {
        if let Some(price) = prices::declared(model.name.as_str()) {
            model.price = price;
        }
    }
    let process = Process::start(&quiet, installation, world, &Roles::of(&[])).await?;
    let key = Redacted::new(operator_key(data)?);
    let mut client = Client::new(Target::parse(&process.admin_url())?, Some(key));
    let mut record = Record::read(data)?;
    setup::set_up(&mut client, &served.upstreams, &mut record).await?;
    record.simulator_port = served.simulator_port;
    record.write(data)?;
    let request = ApplyRequest {
        resources: everybody(&limits),
        note: Some("demo data".to_owned()),
        ..ApplyRequest::default()
    };
    client
        .post::<ApplyReport>(&format!("{API}/apply"), &request)
        .await
        .context("declaring the demo's tenants")?;
    process.stop().await?;
    served.stop().await;
    Ok(())
}

/// All that the twenty have. Two of them were made by the quickstart's own declaration.
fn everybody(limits: &[PicoUsd]) -> Vec<Manifest> {
    let enterprise = json!({
        "description": "for those with a contract",
        "weight": 4,
        "budgets": {"month": {"subject": "tenant", "limit": "2000.00", "window": "monthly"}},
    });
    let mut all = vec![manifest(Kind::Tier, None, "enterprise", enterprise)];
    for (persona, limit) in EVERYBODY.iter().zip(limits) {
        all.extend(tenant(persona, *limit));
    }
    all
}

fn tenant(persona: &Persona, limit: PicoUsd) -> Vec<Manifest> {
    let name = persona.name;
    let inside = |kind, what: &str, spec: Value| manifest(kind, Some(name), what, spec);
    let mut all = Vec::new();
    if !DEMOS.iter().any(|demo| demo.name == name) {
        let spec = json!({"tier": persona.tier});
        all.push(manifest(Kind::Tenant, None, name, spec));
    }
    for (team, people) in TEAMS {
        all.push(inside(Kind::Team, team, json!({})));
        for user in people {
            all.push(inside(Kind::User, user, json!({"team": team})));
        }
        let key = json!({"role": "service", "team": team});
        all.push(inside(Kind::Key, &format!("{team}-app"), key));
    }
    for feature in persona.features {
        let spec = json!({"description": feature.description});
        all.push(inside(Kind::Feature, feature.name, spec));
    }
    let month = json!({"subject": "tenant", "limit": limit.to_string(), "window": "monthly"});
    all.push(inside(Kind::Budget, "month", month));
    all
}

/// Everybody's budget for a month, so that it is as full as is said of them.
fn limits(calls: &[Call], until: Timestamp) -> anyhow::Result<Vec<PicoUsd>> {
    // A month has its number in the first seven letters of a date.
    let month = |at: Timestamp| at.to_string().chars().take(7).collect::<String>();
    let this_month = month(until);
    let mut spent = vec![PicoUsd::ZERO; EVERYBODY.len()];
    for call in calls {
        if call.fate != Fate::Refused && month(call.at) == this_month {
            let consumption = books::consumption(call);
            spent[call.tenant] += ledger::cost(&prices::price(call.model)?, &consumption);
        }
    }
    let of = |(persona, spent): (&Persona, PicoUsd)| {
        const CENT: i128 = 10_000_000_000;
        let used = i128::from(persona.budget_used_permille);
        let limit = spent.pico() * 1_000 / used;
        PicoUsd::new((limit / CENT).max(100) * CENT)
    };
    Ok(EVERYBODY.iter().zip(spent).map(of).collect())
}
