//! The flags of each kind: the fields that are set most often. All others are `--set PATH=VALUE`.

mod channel;
mod money;
mod platform;
mod price_book;
mod shared_cost;
mod tenant;

pub(crate) use channel::{ChannelFields, PlatformChannelFields};
pub(crate) use money::{BudgetFields, LimitFields, PriceFields};
pub(crate) use platform::{
    OperatorFields, RouteFields, SharingGroupFields, TierFields, UpstreamFields,
};
pub(crate) use price_book::PriceBookFields;
pub(crate) use shared_cost::SharedCostFields;
pub(crate) use tenant::{
    AdapterFields, ConfigFields, CredentialFields, FeatureFields, GuardrailFields, KeyFields,
    PromptFields, TeamFields, TenantFields, UserFields, text_or_file,
};

#[cfg(test)]
mod tests {
    use clap::Parser;

    use base::Timestamp;
    use serde_json::{Value, json};
    use tenancy::catalogue::SecretRef;

    use super::money::PerMillion;
    use super::tenant::When;
    use super::*;
    use crate::commands::resource::Fields;

    #[derive(Debug, Parser)]
    struct With<F: Fields> {
        #[command(flatten)]
        fields: F,
    }

    fn spec_of<F: Fields>(line: &str, mut spec: Value) -> Value {
        let words = std::iter::once("x").chain(line.split_whitespace());
        let parsed = With::<F>::try_parse_from(words).expect(line);
        let now = Timestamp::from_micros(0);
        parsed.fields.merge_into(&mut spec, now).expect(line);
        spec
    }

    #[test]
    fn flags_state_their_part_of_a_specification() {
        let key = spec_of::<KeyFields>(
            "--role service --model gpt-4o --model b --expires 30d",
            json!({"team": "core"}),
        );
        let expected = json!({
            "role": "service", "models": ["gpt-4o", "b"], "team": "core",
            "expires_at": "1970-01-31T00:00:00Z",
        });
        assert_eq!(key, expected);
        let budget = spec_of::<BudgetFields>(
            "--subject each:user --limit 25.00 --window monthly --downgrade-to small",
            json!({}),
        );
        let expected = json!({
            "subject": "each:user", "limit": "25.00", "window": "monthly",
            "on_exhausted": {"downgrade": "small"},
        });
        assert_eq!(budget, expected);
        assert_eq!(
            spec_of::<BudgetFields>("--soft-percent 5", json!({})),
            json!({"soft_percent": 5})
        );
        let route = spec_of::<RouteFields>("--target openai=gpt-4o", json!({}));
        assert_eq!(
            route,
            json!({"targets": [{"upstream": "openai", "model": "gpt-4o"}]})
        );
        let user = spec_of::<UserFields>("--disabled", json!({}));
        assert_eq!(user, json!({"disabled": true}));
        let config = spec_of::<ConfigFields>(
            "--cache exact --cache-requests all",
            json!({"cache": {"ttl_seconds": 60}}),
        );
        let expected = json!({"mode": "exact", "requests": "all", "ttl_seconds": 60});
        assert_eq!(config, json!({"cache": expected}));
        let kept = json!({"bodies": {"days": 7}});
        let config = spec_of::<ConfigFields>("--bodies on --bodies-days 3", kept.clone());
        assert_eq!(config, json!({"bodies": {"days": 3}}));
        let config = spec_of::<ConfigFields>("--bodies-operators", kept.clone());
        assert_eq!(config, json!({"bodies": {"days": 7, "operators": true}}));
        let config = spec_of::<ConfigFields>("--bodies on", json!({}));
        assert_eq!(config, json!({"bodies": {}}));
        let config = spec_of::<ConfigFields>("--bodies off", kept);
        assert_eq!(config, json!({}));
        assert_eq!(
            spec_of::<UserFields>("--disabled false", json!({})),
            json!({"disabled": false})
        );
    }

    #[test]
    fn a_guardrails_checks_are_json_and_the_rest_flags() {
        let line = r#"--looks-at both --on-failure open --feature chat --model m --checks [{"name":"it","action":"flag","check":{"pii":{}}}]"#;
        let spec = spec_of::<GuardrailFields>(line, json!({"checks": [], "models": ["old"]}));
        let expected = json!({
            "looks_at": "both", "on_failure": "open", "features": ["chat"], "models": ["m"],
            "checks": [{"name": "it", "action": "flag", "check": {"pii": {}}}],
        });
        assert_eq!(spec, expected);
        let words = ["x", "--checks", "[{"];
        let wrong = With::<GuardrailFields>::try_parse_from(words).expect("flags");
        let refused = wrong
            .fields
            .merge_into(&mut json!({}), Timestamp::from_micros(0));
        assert!(refused.is_err_and(|error| error.to_string().contains("not JSON")));
        let prompt = spec_of::<FeatureFields>("--prompt support@3", json!({}));
        assert_eq!(prompt, json!({"prompt": "support@3"}));
    }

    #[test]
    fn a_price_is_appended_and_history_stays() {
        let first = spec_of::<PriceFields>(
            "--input-per-million 2.50 --output-per-million 10 --source list",
            json!({}),
        );
        assert_eq!(first["entries"][0]["input"], "0.0000025");
        assert_eq!(first["entries"][0]["version"], 1);
        let line = "--output-per-million 8 --effective-from 2030-01-01T00:00:00Z";
        let second = spec_of::<PriceFields>(line, first.clone());
        assert_eq!(second["entries"][0], first["entries"][0]);
        let entry = &second["entries"][1];
        assert_eq!(
            (&entry["version"], &entry["input"]),
            (&json!(2), &json!("0.0000025"))
        );
        assert_eq!(entry["output"], "0.000008");
        assert_eq!(spec_of::<PriceFields>("", first.clone()), first);
        let line =
            "--long-above-tokens 200000 --long-input-per-million 5 --long-output-per-million 15";
        let long = spec_of::<PriceFields>(line, first.clone());
        assert_eq!(
            long["entries"][1]["long_prompts"],
            json!({"above_tokens": 200_000, "input": "0.000005", "output": "0.000015"})
        );
        let dearer = spec_of::<PriceFields>("--long-output-per-million 16", long.clone());
        let kept = &dearer["entries"][2]["long_prompts"];
        assert_eq!(
            (&kept["output"], &kept["input"]),
            (&json!("0.000016"), &json!("0.000005"))
        );
        let none = spec_of::<PriceFields>("--long-above-tokens 0", dearer);
        assert_eq!(none["entries"][3].get("long_prompts"), None);
        let words = ["x", "--long-above-tokens", "9"];
        let half = With::<PriceFields>::try_parse_from(words).unwrap();
        let refused = half
            .fields
            .merge_into(&mut first.clone(), Timestamp::from_micros(0));
        assert!(refused.is_err_and(|error| error.to_string().contains("--long-input-per-million")));
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_sent() {
        let refused = |line: &str| {
            let words = std::iter::once("x").chain(line.split_whitespace());
            With::<BudgetFields>::try_parse_from(words).is_err()
        };
        assert!(refused("--subject each:tenant"));
        assert!(refused("--limit 25,00"));
        assert!(refused("--window weekly"));
        assert!("0.0000001".parse::<PerMillion>().is_err());
        assert!("30 days".parse::<When>().is_err());
        assert!("sk-live".parse::<SecretRef>().is_err());
    }
}
