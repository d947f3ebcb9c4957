//! From files to manifests. Every value is checked here, where its line is known.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use base::Name;
use control::api::Manifest;
use serde::Deserialize as _;
use serde_json::Value;
use tenancy::catalogue::{
    AdapterSpec, BudgetSpec, ChannelSpec, CredentialSpec, FeatureSpec, GuardrailSpec, KeySpec,
    Kind, LimitSpec, OperatorSpec, PriceBookSpec, PriceSpec, PromptSpec, RouteSpec, SecretRef,
    SharedCostSpec, SharingGroupSpec, Spec, TeamSpec, TenantChannelSpec, TenantConfig, TenantSpec,
    TierSpec, UpstreamSpec, UserSpec,
};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::{FolderError, TENANTS};
use crate::config::{Diagnosis, nearest};

/// 16 MiB: what the admin API takes at once.
const FILE_BYTES_MAX: u64 = 16 << 20;

type Table<'a> = DeTable<'a>;
type SpannedValue<'a> = Spanned<DeValue<'a>>;

/// What the files in `folder` declare.
///
/// # Errors
///
/// [`FolderError::Wrong`] with every mistake of every file, and where it is.
pub(crate) fn read(folder: &Path) -> Result<Vec<Manifest>, FolderError> {
    let mut manifests = Vec::new();
    let mut wrong = Vec::new();
    let mut file_count = 0;
    for path in toml_files(folder)? {
        file_count += 1;
        read_file(&path, None, &mut manifests, &mut wrong)?;
    }
    let tenants = folder.join(TENANTS);
    if tenants.is_dir() {
        for path in toml_files(&tenants)? {
            file_count += 1;
            let tenant = tenant_of(&path)?;
            read_file(&path, Some(&tenant), &mut manifests, &mut wrong)?;
        }
    }
    match (wrong.is_empty(), file_count) {
        (false, _) => Err(FolderError::Wrong(wrong)),
        (true, 0) => Err(FolderError::Empty {
            path: folder.to_owned(),
        }),
        (true, _) => Ok(manifests),
    }
}

fn toml_files(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let refused = |cause| FolderError::Read {
        path: folder.to_owned(),
        cause,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(refused)? {
        let path = entry.map_err(refused)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
            && path.is_file()
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn tenant_of(path: &Path) -> Result<Name, FolderError> {
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    stem.parse().map_err(|_| FolderError::TenantName {
        path: path.to_owned(),
    })
}

fn read_file(
    path: &Path,
    tenant: Option<&Name>,
    manifests: &mut Vec<Manifest>,
    wrong: &mut Vec<Diagnosis>,
) -> Result<(), FolderError> {
    let refused = |cause| FolderError::Read {
        path: path.to_owned(),
        cause,
    };
    if std::fs::metadata(path).map_err(refused)?.len() > FILE_BYTES_MAX {
        return Err(refused(std::io::ErrorKind::FileTooLarge.into()));
    }
    let text = std::fs::read_to_string(path).map_err(refused)?;
    let mut reader = Reader {
        source_name: path.display().to_string(),
        text: &text,
        tenant,
        manifests,
        wrong,
    };
    reader.read();
    Ok(())
}

/// Reads one file.
struct Reader<'a> {
    source_name: String,
    text: &'a str,
    tenant: Option<&'a Name>,
    manifests: &'a mut Vec<Manifest>,
    wrong: &'a mut Vec<Diagnosis>,
}

impl<'a> Reader<'a> {
    fn read(&mut self) {
        let document = match Table::parse(self.text) {
            Ok(document) => document.into_inner(),
            Err(error) => return self.refuse_as(&error),
        };
        for (key, value) in document {
            match self.kind_of(key.get_ref()) {
                Some(kind) => self.read_kind(kind, value),
                None => self.refuse_key(&key),
            }
        }
    }

    /// The kind that a table's name says, if such a resource belongs in this file.
    fn kind_of(&self, key: &str) -> Option<Kind> {
        let is_tenants_file = self.tenant.is_some();
        key.parse()
            .ok()
            .filter(|kind: &Kind| belongs(*kind, is_tenants_file))
    }

    fn read_kind(&mut self, kind: Kind, value: SpannedValue<'a>) {
        if matches!(kind, Kind::Tenant | Kind::Config) {
            let name = match self.tenant {
                Some(tenant) if kind == Kind::Tenant => tenant.as_str(),
                _ => kind.as_str(),
            };
            return self.read_one(kind, name.to_owned(), value);
        }
        let span = value.span();
        let DeValue::Table(named) = value.into_inner() else {
            return self.refuse(span, format!("write [{kind}.NAME] and the {kind} below it"));
        };
        for (name, value) in named {
            self.read_one(kind, name.into_inner().into_owned(), value);
        }
    }

    fn read_one(&mut self, kind: Kind, name: String, value: SpannedValue<'a>) {
        match check(kind, value) {
            Ok(spec) => self.manifests.push(Manifest {
                kind,
                tenant: self.tenant.filter(|_| kind != Kind::Tenant).cloned(),
                name,
                spec,
            }),
            Err(error) => self.refuse_as(&error),
        }
    }

    fn refuse_key(&mut self, key: &Spanned<Cow<'a, str>>) {
        let is_tenants_file = self.tenant.is_some();
        let name = key.get_ref();
        let here = Kind::ALL
            .into_iter()
            .filter(|kind| belongs(*kind, is_tenants_file));
        let message = match name.parse::<Kind>() {
            Ok(kind) if is_tenants_file => {
                format!(
                    "a {kind} is the platform's: it belongs into {}.toml",
                    kind.plural()
                )
            }
            Ok(kind) => format!("a {kind} is a tenant's: it belongs into {TENANTS}/NAME.toml"),
            Err(_) => match nearest(name, here.map(Kind::as_str)) {
                Some(near) => format!("unknown key `{name}`; did you mean `{near}`?"),
                None => format!("unknown key `{name}`"),
            },
        };
        self.refuse(key.span(), message);
    }

    fn refuse(&mut self, span: Range<usize>, message: String) {
        self.wrong.push(Diagnosis::at(
            &self.source_name,
            self.text,
            span.start,
            message,
        ));
    }

    fn refuse_as(&mut self, error: &toml::de::Error) {
        self.wrong
            .push(Diagnosis::of(&self.source_name, self.text, error));
    }
}

/// Whether a kind is written in a tenant's file or in the platform's.
fn belongs(kind: Kind, is_tenants_file: bool) -> bool {
    (kind.is_in_tenant() || kind == Kind::Tenant) == is_tenants_file
}

/// The specification in its one JSON form, without what the server gives and the file does not.
fn check(kind: Kind, value: SpannedValue<'_>) -> Result<Value, toml::de::Error> {
    match kind {
        Kind::Tier => check_as::<TierSpec>(value),
        Kind::Upstream => check_as::<UpstreamSpec>(value),
        Kind::Price => check_as::<PriceSpec>(value),
        Kind::Route => check_as::<RouteSpec>(value),
        Kind::Operator => check_as::<OperatorSpec>(value),
        Kind::SharingGroup => check_as::<SharingGroupSpec>(value),
        Kind::PriceBook => check_as::<PriceBookSpec>(value),
        Kind::PlatformChannel => check_as::<ChannelSpec>(value),
        Kind::SharedCost => check_as::<SharedCostSpec>(value),
        Kind::Tenant => check_as::<TenantSpec>(value),
        Kind::Team => check_as::<TeamSpec>(value),
        Kind::User => check_as::<UserSpec>(value),
        Kind::Feature => check_as::<FeatureSpec>(value),
        Kind::Key => check_as::<KeySpec>(value),
        Kind::Budget => check_as::<BudgetSpec>(value),
        Kind::Limit => check_as::<LimitSpec>(value),
        Kind::Credential => check_credential(value),
        Kind::Guardrail => check_as::<GuardrailSpec>(value),
        Kind::Adapter => check_as::<AdapterSpec>(value),
        Kind::Prompt => check_as::<PromptSpec>(value),
        Kind::Channel => check_as::<TenantChannelSpec>(value),
        Kind::Config => check_as::<TenantConfig>(value),
    }
}

fn check_as<S: Spec>(mut value: SpannedValue<'_>) -> Result<Value, toml::de::Error> {
    dates_to_text(value.get_mut());
    let mut stood_in = Vec::new();
    let span = value.span();
    if let DeValue::Table(table) = value.get_mut() {
        for (field, text) in given_by_the_server(S::KIND) {
            if !table.contains_key(*field) {
                let stand_in = DeValue::String(Cow::Borrowed(*text));
                table.insert(
                    Spanned::new(span.clone(), Cow::Borrowed(*field)),
                    Spanned::new(span.clone(), stand_in),
                );
                stood_in.push(*field);
            }
        }
    }
    let spec = S::deserialize(ValueDeserializer::from(value))?;
    let mut json = serde_json::to_value(spec).expect("specifications have string keys");
    if let Value::Object(fields) = &mut json {
        for field in stood_in {
            fields.remove(field);
        }
    }
    Ok(json)
}

/// A credential's secret is a reference, which is followed here: the server is told the value. Left
/// out, what the server has stays.
fn check_credential(mut value: SpannedValue<'_>) -> Result<Value, toml::de::Error> {
    let mut has_secret = false;
    if let DeValue::Table(table) = value.get_mut() {
        // What an export writes for people to see.
        table.remove("hint");
        if let Some(secret) = table.get_mut("secret") {
            has_secret = true;
            let reference = SecretRef::deserialize(ValueDeserializer::from(secret.clone()))?;
            let text = follow(&reference).map_err(|error| {
                serde::de::Error::custom(format!("{reference} cannot be read: {error}"))
            })?;
            *secret.get_mut() = DeValue::String(Cow::Owned(text));
        } else {
            let span = 0..0;
            table.insert(
                Spanned::new(span.clone(), Cow::Borrowed("secret")),
                Spanned::new(span, DeValue::String(Cow::Borrowed("left out"))),
            );
        }
    }
    let mut json = check_as::<CredentialSpec>(value)?;
    if let (false, Value::Object(fields)) = (has_secret, &mut json) {
        fields.remove("secret");
    }
    Ok(json)
}

/// The text that a reference leads to on this machine.
pub(crate) fn follow(reference: &SecretRef) -> anyhow::Result<String> {
    let text = match reference {
        SecretRef::Env(name) => std::env::var(name)?,
        SecretRef::File(path) => std::fs::read_to_string(path)?,
    };
    Ok(text.trim().to_owned())
}

/// The fields that the server gives, with a value that parses in their place.
fn given_by_the_server(kind: Kind) -> &'static [(&'static str, &'static str)] {
    const HASH: (&str, &str) = (
        "hash",
        "0000000000000000000000000000000000000000000000000000000000000000",
    );
    match kind {
        Kind::Tenant => &[("id", "tnt_00000000000000000000000000")],
        Kind::Team => &[("id", "tem_00000000000000000000000000")],
        Kind::User => &[("id", "usr_00000000000000000000000000")],
        Kind::Key => &[("id", "key_00000000000000000000000000"), HASH],
        Kind::Operator => &[HASH],
        _ => &[],
    }
}

/// TOML has dates of its own; the catalogue writes them as text.
fn dates_to_text(value: &mut DeValue<'_>) {
    match value {
        DeValue::Datetime(date) => *value = DeValue::String(Cow::Owned(date.to_string())),
        DeValue::Array(items) => items
            .iter_mut()
            .for_each(|item| dates_to_text(item.get_mut())),
        DeValue::Table(table) => {
            table
                .iter_mut()
                .for_each(|(_, value)| dates_to_text(value.get_mut()));
        }
        _ => {}
    }
}
