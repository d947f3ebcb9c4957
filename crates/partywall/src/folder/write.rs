//! From manifests to files.

use std::collections::BTreeMap;
use std::path::Path;

use control::api::Manifest;
use serde_json::Value;
use tenancy::catalogue::Kind;

use super::{FolderError, TENANTS};

/// What to do about files that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// The folder must be empty or new.
    Refuse,
    /// They are replaced, and files of tenants that are no more are removed.
    Replace,
}

/// Writes `manifests` as files into `folder`; returns how many files.
///
/// # Errors
///
/// [`FolderError`] if the folder is not empty and must be, or cannot be written.
pub(crate) fn write(
    folder: &Path,
    manifests: &[Manifest],
    existing: Existing,
) -> Result<usize, FolderError> {
    let files = compose(manifests)?;
    let tenants = folder.join(TENANTS);
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |cause| FolderError::Write { path, cause }
    };
    std::fs::create_dir_all(&tenants).map_err(refused(&tenants))?;
    let leftovers: Vec<_> = [folder, &tenants]
        .into_iter()
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    if !leftovers.is_empty() && existing == Existing::Refuse {
        return Err(FolderError::NotEmpty {
            path: folder.to_owned(),
        });
    }
    for (name, text) in &files {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(refused(&path))?;
    }
    let is_stale = |path: &&std::path::PathBuf| {
        path.parent() == Some(&tenants) && !files.keys().any(|name| folder.join(name) == **path)
    };
    for path in leftovers.iter().filter(is_stale) {
        std::fs::remove_file(path).map_err(refused(path))?;
    }
    Ok(files.len())
}

/// The text of each file, by its name inside the folder.
fn compose(manifests: &[Manifest]) -> Result<BTreeMap<String, String>, FolderError> {
    let mut documents: BTreeMap<String, toml::Table> = BTreeMap::new();
    for manifest in manifests {
        let Manifest {
            kind, tenant, name, ..
        } = manifest;
        let file = match (kind, tenant) {
            (Kind::Tenant, _) => format!("{TENANTS}/{name}.toml"),
            (_, Some(tenant)) => format!("{TENANTS}/{tenant}.toml"),
            (kind, None) => format!("{}.toml", kind.plural()),
        };
        let spec = to_toml(&manifest.spec).map_err(|message| FolderError::Unwritable {
            address: format!("{file}: {kind} {name}"),
            message,
        })?;
        let document = documents.entry(file).or_default();
        if matches!(kind, Kind::Tenant | Kind::Config) {
            document.insert(kind.as_str().to_owned(), spec);
        } else if let toml::Value::Table(named) = document
            .entry(kind.as_str())
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
        {
            named.insert(name.clone(), spec);
        }
    }
    documents
        .into_iter()
        .map(|(file, document)| {
            let text =
                toml::to_string_pretty(&document).map_err(|error| FolderError::Unwritable {
                    address: file.clone(),
                    message: error.to_string(),
                })?;
            Ok((file, text))
        })
        .collect()
}

/// JSON as TOML, which has no null: such a field is left out.
fn to_toml(value: &Value) -> Result<toml::Value, String> {
    Ok(match value {
        Value::Null => return Err("a list has an empty place".to_owned()),
        Value::Bool(switch) => toml::Value::Boolean(*switch),
        Value::String(text) => toml::Value::String(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => toml::Value::Integer(whole),
            (None, Some(real)) if !number.is_u64() => toml::Value::Float(real),
            _ => return Err(format!("{number} is larger than TOML's numbers")),
        },
        Value::Array(items) => {
            toml::Value::Array(items.iter().map(to_toml).collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            let table = fields.map(|(name, value)| Ok((name.clone(), to_toml(value)?)));
            toml::Value::Table(table.collect::<Result<_, String>>()?)
        }
    })
}
