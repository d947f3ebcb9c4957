//! The two tenants, the three arms, and what one of the tenants sees.

use std::time::Duration;

use anyhow::{Context, ensure};
use base::{Entropy, SeededEntropy, SystemClock, Timestamp};
use serde_json::{Value, json};

use super::Target;
use crate::product::Product;
use crate::wire::{Connection, request};

/// Who guesses a prompt, and whose it is.
const ATTACKER: &str = "mallory";
const VICTIM: &str = "alice";

/// Who was there before the attacker with the prompt that it asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Primed {
    /// The attacker itself.
    Same,
    /// The other tenant.
    Other,
    /// Nobody: the other tenant sent a prompt of that length that has nothing in common with it.
    Nobody,
}

/// What the attacker saw in each arm, in the order of the rounds.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) same: Vec<Look>,
    pub(super) other: Vec<Look>,
    pub(super) unprimed: Vec<Look>,
}

/// One call as the attacker sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// To the first byte of the answer's first event.
    pub(super) first_token: Duration,
    /// What the engine says that it had of the prompt, if it says so.
    pub(super) cached_tokens: Option<u64>,
}

/// How the engine's cache is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Salts {
    /// Each tenant has its own salt.
    Derived,
    /// None, by the tenants' consent: what the salts are there to prevent.
    None,
}

impl Salts {
    fn name(self) -> &'static str {
        match self {
            Self::Derived => "derived",
            Self::None => "sharing-accepted",
        }
    }

    /// A name of its own, so that neither way of sharing finds what the other left.
    fn named(self, name: &str) -> String {
        format!("{name}-{}", self.name())
    }
}

/// The gateway with the two tenants.
pub(super) struct Neighbours<'a> {
    product: &'a Product,
    attacker: Caller,
    victim: Caller,
    entropy: SeededEntropy,
    prompt_bytes: usize,
}

impl<'a> Neighbours<'a> {
    /// Declares the engine, the route and the two tenants, and connects as both.
    pub(super) async fn move_in(
        product: &'a Product,
        target: &Target,
        salts: Salts,
        entropy: SeededEntropy,
    ) -> anyhow::Result<Self> {
        let body = json!({"resources": resources(target, salts)});
        let report = product
            .admin("POST", "/admin/v1/apply", Some(&body))
            .await?;
        let open = async |tenant: &str| Caller::open(product, &report, tenant, salts).await;
        Ok(Self {
            product,
            attacker: open(ATTACKER).await?,
            victim: open(VICTIM).await?,
            entropy,
            prompt_bytes: target.prompt_bytes,
        })
    }

    /// So many rounds, in each of which every arm has its turn, in an order by chance: what drifts
    /// while they run drifts for all.
    pub(super) async fn rounds(&mut self, count: usize, seen: &mut Seen) -> anyhow::Result<()> {
        for _ in 0..count {
            let mut arms = [Primed::Same, Primed::Other, Primed::Nobody];
            for last in (1..arms.len()).rev() {
                let chosen = self.entropy.next_u64() % (last as u64 + 1);
                arms.swap(last, chosen as usize);
            }
            for arm in arms {
                let look = self.look(arm).await.with_context(|| format!("{arm:?}"))?;
                match arm {
                    Primed::Same => seen.same.push(look),
                    Primed::Other => seen.other.push(look),
                    Primed::Nobody => seen.unprimed.push(look),
                }
            }
        }
        Ok(())
    }

    /// Somebody sends a prompt that nobody has sent before; then the attacker sends its guess.
    async fn look(&mut self, primed: Primed) -> anyhow::Result<Look> {
        let secret = self.prompt();
        let unrelated = self.prompt();
        let gateway = self.product.gateway;
        let before = match primed {
            Primed::Same => self.attacker.ask(gateway, &secret, "What now?").await,
            Primed::Other => self.victim.ask(gateway, &secret, "What now?").await,
            Primed::Nobody => self.victim.ask(gateway, &unrelated, "What now?").await,
        };
        before.context("the call before")?;
        self.attacker.ask(gateway, &secret, "Is it warm?").await
    }

    /// Words by chance, different from the first one on.
    fn prompt(&self) -> String {
        let mut prompt = String::with_capacity(self.prompt_bytes + 16);
        while prompt.len() < self.prompt_bytes {
            let mut word = self.entropy.next_u64();
            for _ in 0..3 {
                let consonant = b"bdfgklmnprstvz"[(word % 14) as usize];
                let vowel = b"aeiou"[(word / 14 % 5) as usize];
                prompt.extend([char::from(consonant), char::from(vowel)]);
                word /= 70;
            }
            prompt.push(' ');
        }
        prompt.truncate(self.prompt_bytes);
        prompt
    }
}

/// A tenant's client: one connection.
struct Caller {
    model: &'static str,
    key: String,
    connection: Connection,
    clock: SystemClock,
}

impl Caller {
    async fn open(
        product: &Product,
        report: &Value,
        tenant: &str,
        salts: Salts,
    ) -> anyhow::Result<Self> {
        let made = report["created_keys"].as_array().context("created keys")?;
        let name = salts.named(tenant);
        let made = made.iter().find(|key| key["tenant"] == name);
        let key = made.and_then(|made| made["key"].as_str());
        Ok(Self {
            model: salts.name(),
            key: key.context("a key was made")?.to_owned(),
            connection: Connection::open(product.gateway).await?,
            clock: SystemClock::new(),
        })
    }

    async fn ask(
        &mut self,
        gateway: std::net::SocketAddr,
        prompt: &str,
        question: &str,
    ) -> anyhow::Result<Look> {
        let body = json!({
            "model": self.model, "max_tokens": 1, "stream": true,
            "stream_options": {"include_usage": true},
            "messages": [
                {"role": "system", "content": prompt},
                {"role": "user", "content": question},
            ],
        });
        let body = body.to_string();
        let path = "/v1/chat/completions";
        let request = request("POST", gateway, path, &self.key, Some(body.as_bytes()));
        let answer = self.connection.call(&self.clock, &request).await?;
        let text = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 200, "{}: {text}", answer.status);
        Ok(Look {
            first_token: answer.first_byte,
            cached_tokens: cached_tokens(&text)?,
        })
    }
}

/// What the last event says of the cache. The stream has to be whole.
fn cached_tokens(stream: &str) -> anyhow::Result<Option<u64>> {
    let events = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    let usage = events
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
        .filter_map(|mut event| Some(event.get_mut("usage")?.take()))
        .rfind(Value::is_object)
        .with_context(|| format!("a stream without usage: {stream}"))?;
    Ok(usage["prompt_tokens_details"]["cached_tokens"].as_u64())
}

/// The engine, the route to it and the tenants. Nothing else may stand in the way: no limit, no
/// budget, a price of nothing.
fn resources(target: &Target, salts: Salts) -> Vec<Value> {
    let upstream = json!({
        "engine": target.engine, "base_url": target.url, "provider": "timing",
        "credential": target.credential, "salting": salts.name(), "allow_private_address": true,
    });
    let always = Timestamp::from_micros(0);
    let price = json!({"version": 1, "effective_from": always, "input": "0", "output": "0"});
    let tenant = json!({"tier": "timing", "accepts_shared_cache": salts == Salts::None});
    let route = json!({"targets": [{"upstream": salts.name(), "model": target.model}]});
    let named =
        |kind: &str, name: &str, spec: Value| json!({"kind": kind, "name": name, "spec": spec});
    let mut all = vec![
        named("tier", "timing", json!({"description": "without limits"})),
        named("upstream", salts.name(), upstream),
        named(
            "price",
            &format!("timing/{}", target.model),
            json!({"entries": [price]}),
        ),
        named("route", salts.name(), route),
    ];
    for tenant_name in [ATTACKER, VICTIM].map(|name| salts.named(name)) {
        all.push(named("tenant", &tenant_name, tenant.clone()));
        all.push(json!({
            "kind": "key", "tenant": tenant_name, "name": "app", "spec": {"role": "service"},
        }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_usage_says_what_was_cached() {
        let stream = "data: {\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":\
                      {\"prompt_tokens_details\":{\"cached_tokens\":64}}}\n\ndata: [DONE]\n\n";
        assert_eq!(cached_tokens(stream).expect("usage"), Some(64));
        let silent = "data: {\"usage\":{\"prompt_tokens\":3}}\n\ndata: [DONE]\n\n";
        assert_eq!(cached_tokens(silent).expect("usage"), None);
        assert!(cached_tokens("data: {\"choices\":[]}\n\n").is_err());
    }
}
