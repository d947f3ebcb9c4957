//! Options of the daily push of costs to an object store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tenancy::catalogue::SecretRef;

/// Costs of all tenants, pushed every day to a bucket that speaks S3's API. Nothing is pushed without
/// `endpoint`, `bucket` and `credential`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExportsOptions {
    /// Where the store is: `https://s3.eu-west-1.amazonaws.com`. Buckets are addressed by path.
    pub(crate) endpoint: Option<String>,
    /// The bucket's name.
    pub(crate) bucket: Option<String>,
    /// The region that requests are signed for.
    pub(crate) region: String,
    /// What keys begin with: empty, or up to and including a `/`.
    pub(crate) prefix: String,
    /// `focus-csv` or `focus-parquet`.
    pub(crate) format: ExportsFormat,
    /// Where the credential is: `env:NAME` or `file:/path`, of JSON with `access_key_id`,
    /// `secret_access_key` and, if it is temporary, `session_token`. Read anew for each request.
    pub(crate) credential: Option<SecretRef>,
}

impl Default for ExportsOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            bucket: None,
            region: "us-east-1".to_owned(),
            prefix: String::new(),
            format: ExportsFormat::FocusCsv,
            credential: None,
        }
    }
}

/// In which form costs are pushed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ExportsFormat {
    /// FOCUS 1.4 as CSV.
    #[default]
    FocusCsv,
    /// FOCUS 1.4 as Parquet.
    FocusParquet,
}

impl ExportsOptions {
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let wrong = |key, message: &str| Some((key, message.to_owned()));
        let given = [
            self.endpoint.is_some(),
            self.bucket.is_some(),
            self.credential.is_some(),
        ];
        if given.contains(&true) && given.contains(&false) {
            return wrong(
                "exports",
                "`endpoint`, `bucket` and `credential` belong together: say all three",
            );
        }
        if self
            .endpoint
            .as_deref()
            .is_some_and(|it| !control::is_safe(it))
        {
            return wrong(
                "exports.endpoint",
                "an object store's address begins with https:// (or is on this machine)",
            );
        }
        // What a signature has no two ways of writing.
        let is_plain = |text: &str| {
            let mut bytes = text.bytes();
            bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        if self
            .bucket
            .as_deref()
            .is_some_and(|it| it.is_empty() || !is_plain(it))
        {
            return wrong(
                "exports.bucket",
                "a bucket's name has letters, digits, `-`, `_` and `.`",
            );
        }
        let parts: Vec<&str> = self.prefix.split('/').collect();
        let is_prefix = match parts.split_last() {
            Some((last, folders)) => {
                last.is_empty()
                    && folders
                        .iter()
                        .all(|it| is_plain(it) && !it.is_empty() && *it != "." && *it != "..")
            }
            None => true,
        };
        if !is_prefix {
            return wrong(
                "exports.prefix",
                "a prefix is empty, or folders of letters, digits, `-`, `_` and `.`, each with its `/`",
            );
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_pushed_to_is_said_at_the_start() {
        let whole = || ExportsOptions {
            endpoint: Some("https://s3.example".to_owned()),
            bucket: Some("finops".to_owned()),
            credential: "env:S3".parse().ok(),
            prefix: "pw/costs/".to_owned(),
            ..ExportsOptions::default()
        };
        assert_eq!(whole().problem(), None);
        assert_eq!(ExportsOptions::default().problem(), None);
        for (options, key) in [
            (
                ExportsOptions {
                    bucket: None,
                    ..whole()
                },
                "exports",
            ),
            (
                ExportsOptions {
                    endpoint: Some("http://s3.example".to_owned()),
                    ..whole()
                },
                "exports.endpoint",
            ),
            (
                ExportsOptions {
                    bucket: Some("a/b".to_owned()),
                    ..whole()
                },
                "exports.bucket",
            ),
            (
                ExportsOptions {
                    prefix: "a".to_owned(),
                    ..whole()
                },
                "exports.prefix",
            ),
            (
                ExportsOptions {
                    prefix: "../".to_owned(),
                    ..whole()
                },
                "exports.prefix",
            ),
            (
                ExportsOptions {
                    prefix: "a b/".to_owned(),
                    ..whole()
                },
                "exports.prefix",
            ),
        ] {
            assert_eq!(options.problem().map(|it| it.0), Some(key), "{options:?}");
        }
    }
}
