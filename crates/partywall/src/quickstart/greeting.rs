//! What a quickstart prints: where it is, the keys, a line that works when pasted, what to try.

use std::collections::BTreeMap;
use std::path::Path;

use base::Name;
use serde_json::json;

use super::record::RECORD_FILE;
use super::upstream::Upstream;
use crate::config::DATA_FOLDER;
use crate::terminal::{Form, Paint, say as say_line, say_json};

/// What there is to say.
pub(super) struct Greeting<'a> {
    pub(super) base_url: String,
    pub(super) admin_url: String,
    /// What signs the operator in to the dashboard, once; it follows the admin API's address.
    pub(super) sign_in_path: String,
    pub(super) operator_key: String,
    pub(super) upstreams: &'a [Upstream],
    pub(super) tenants: &'a BTreeMap<Name, String>,
    pub(super) data: &'a Path,
}

/// Says it.
///
/// # Errors
///
/// If standard output cannot be written.
pub(super) fn say(greeting: &Greeting<'_>, form: Form) -> anyhow::Result<()> {
    match form {
        Form::Json => say_json(&json!({
            "base_url": greeting.base_url,
            "admin_url": greeting.admin_url,
            "dashboard_url": format!("{}/dashboard", greeting.admin_url),
            "dashboard_link": format!("{}{}", greeting.admin_url, greeting.sign_in_path),
            "operator_key": greeting.operator_key,
            "tenants": greeting
                .tenants
                .iter()
                .map(|(name, key)| json!({"name": name, "key": key}))
                .collect::<Vec<_>>(),
        })),
        Form::People => say_line(for_people(greeting, &program(), Paint::for_stdout())),
    }
}

/// This program, as it was called: it may not be on the path.
fn program() -> String {
    std::env::args()
        .next()
        .unwrap_or_else(|| "partywall".to_owned())
}

fn for_people(greeting: &Greeting<'_>, program: &str, paint: Paint) -> String {
    let Greeting {
        base_url,
        admin_url,
        sign_in_path,
        operator_key,
        upstreams,
        tenants,
        data,
    } = greeting;
    let models: Vec<&str> = upstreams
        .iter()
        .flat_map(|upstream| &upstream.models)
        .map(|model| model.name.as_str())
        .collect();
    // An engine may list what only embeds among the rest: the example is a chat.
    let chats = models
        .iter()
        .find(|name| !name.contains("embed"))
        .or(models.first());
    let model = chats.copied().unwrap_or_default();
    let some_models = models
        .iter()
        .take(8)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    let others = models.len().saturating_sub(8);
    let more_models = if others > 0 {
        format!(" and {others} more")
    } else {
        String::new()
    };
    let described: Vec<String> = upstreams
        .iter()
        .map(|upstream| format!("  upstream   {}", upstream.description))
        .collect();
    let keys: Vec<String> = tenants
        .iter()
        .map(|(name, key)| format!("  {:<10} {key}", name.as_str()))
        .collect();
    let key = tenants
        .values()
        .next()
        .map(String::as_str)
        .unwrap_or_default();
    let program = if data.as_os_str() == DATA_FOLDER {
        program.to_owned()
    } else {
        format!("{program} --data {}", data.display())
    };
    let heading = |text: &str| paint.bold(text);
    format!(
        "\
{title}
  gateway    {base_url}
  admin API  {admin_url}
  dashboard  {admin_url}{sign_in_path}
             (signs you in once, within ten minutes; then: {program} dashboard link)
{described}
  models     {some_models}{more_models}

{keys_title}
{keys}
  operator   {operator_key}

{try_title}
  curl -s {base_url}/chat/completions \\
    -H 'authorization: Bearer {key}' -H 'content-type: application/json' \\
    -d '{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"What is a party wall?\"}}]}}'

{next_title}
  {program} usage --by tenant,model      who spent what
  {program} budget status --tenant acme  what is left of it
  {program} tenant list                  who is here
  {program} audit list                   who did what
  {program} export -o configuration      all of it as files; `apply -f` brings changes back

Keys are shown once; these are kept for the demo in {record} (mode 0600).
Ctrl-C stops it; the next quickstart finds everything again.",
        title = heading("Partywall is ready"),
        described = described.join("\n"),
        keys_title = heading("Keys"),
        keys = keys.join("\n"),
        try_title = heading("Try it"),
        next_title = heading("Then"),
        record = data.join(RECORD_FILE).display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quickstart::upstream::Model;

    #[test]
    fn the_printed_call_names_a_model_that_chats_and_a_key() {
        let models = ["text-embed", "chatty"].map(|name| Model {
            name: name.parse().unwrap(),
            there: name.parse().unwrap(),
            price: json!({}),
            output_tokens_max: 1,
            image_tokens_max: None,
        });
        let upstreams = [Upstream {
            name: "engine",
            spec: json!({}),
            models: models.to_vec(),
            shares_cache: false,
            description: "d".to_owned(),
        }];
        let tenants = BTreeMap::from([("acme".parse().unwrap(), "pw_acme".to_owned())]);
        let greeting = Greeting {
            base_url: "http://127.0.0.1:1/v1".to_owned(),
            admin_url: "http://127.0.0.1:2".to_owned(),
            sign_in_path: "/dashboard/link?token=t".to_owned(),
            operator_key: "pw_root".to_owned(),
            upstreams: &upstreams,
            tenants: &tenants,
            data: Path::new("/d"),
        };
        let text = for_people(&greeting, "partywall", Paint::OFF);
        assert!(
            text.contains("curl -s http://127.0.0.1:1/v1/chat/completions"),
            "{text}"
        );
        assert!(
            text.contains("Bearer pw_acme'") && text.contains("\"model\":\"chatty\""),
            "{text}"
        );
        assert!(text.contains("partywall --data /d usage"), "{text}");
        assert!(text.contains("/d/quickstart.json"), "{text}");
        let link = "http://127.0.0.1:2/dashboard/link?token=t\n";
        assert!(text.contains(link), "{text}");
    }
}
