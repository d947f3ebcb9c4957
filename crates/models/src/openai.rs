//! Bodies that the gateway itself answers with.

use base::ModelName;
use bytes::Bytes;
use serde::Serialize;

/// A model as `/v1/models` shows it.
#[derive(Debug, Clone)]
pub struct ModelEntry {
    /// The name that clients say.
    pub id: ModelName,
    /// When the route was made, in seconds since 1970.
    pub created_s: i64,
    /// Who serves it, as the operator wants it shown.
    pub owned_by: String,
}

/// The body of `GET /v1/models`.
pub fn models_json(entries: &[ModelEntry]) -> Bytes {
    #[derive(Serialize)]
    struct List<'a> {
        object: &'static str,
        data: Vec<Model<'a>>,
    }
    let data = entries.iter().map(Model::from).collect();
    let object = "list";
    write(&List { object, data })
}

/// The body of `GET /v1/models/{id}`.
pub fn model_json(entry: &ModelEntry) -> Bytes {
    write(&Model::from(entry))
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a ModelName,
    object: &'static str,
    created: i64,
    owned_by: &'a str,
}

impl<'a> From<&'a ModelEntry> for Model<'a> {
    fn from(entry: &'a ModelEntry) -> Self {
        Self {
            id: &entry.id,
            object: "model",
            created: entry.created_s,
            owned_by: &entry.owned_by,
        }
    }
}

fn write(body: &impl Serialize) -> Bytes {
    let text = serde_json::to_vec(body).expect("texts and integers always have a JSON form");
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_openais() {
        let entry = ModelEntry {
            id: "openai/gpt-4o".parse().unwrap(),
            created_s: 1_715_367_049,
            owned_by: "partywall".to_owned(),
        };
        let one = r#"{"id":"openai/gpt-4o","object":"model","created":1715367049,"owned_by":"partywall"}"#;
        assert_eq!(model_json(&entry), one);
        let list = format!(r#"{{"object":"list","data":[{one}]}}"#);
        assert_eq!(models_json(&[entry]), list);
        assert_eq!(models_json(&[]), r#"{"object":"list","data":[]}"#);
    }
}
