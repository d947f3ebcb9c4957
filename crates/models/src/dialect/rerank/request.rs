//! What a client asks to rank, and how an upstream is asked.

use bytes::Bytes;

use super::RerankDialect;
use crate::conversation::Extra;
use crate::dialect::Untranslatable;
use crate::dialect::read::{At, Misread};
use crate::dialect::write::{self, ArrayWriter, ObjectWriter};
use crate::envelope::{Envelope, Kind};
use crate::json::Json;

/// A request in Cohere's and Jina's words.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankRequest {
    /// What to rank by.
    pub query: String,
    /// What to rank.
    pub documents: Vec<RerankDocument>,
    /// How many of the best are wanted; all, if it is not said.
    pub top_n: Option<u64>,
    /// Whether they are to be said again.
    pub return_documents: bool,
    /// How much of each document is read; the rest is cut off.
    pub max_tokens_per_doc: Option<u64>,
    /// Fields that have no place above.
    pub extras: Vec<Extra>,
}

/// One document.
#[derive(Debug, Clone, PartialEq)]
pub enum RerankDocument {
    /// A text: given as such, or as `{"text"}`.
    Text(String),
    /// Something else, which only its own provider knows: `{"image"}`, or fields to be ranked by.
    Object(Json),
}

impl RerankRequest {
    /// Reads a client's request.
    ///
    /// # Errors
    /// A field is missing, or is not what it should be.
    pub fn read(envelope: &Envelope) -> Result<Self, Untranslatable> {
        let mut request = Self {
            query: String::new(),
            documents: Vec::new(),
            top_n: None,
            return_documents: false,
            max_tokens_per_doc: None,
            extras: Vec::new(),
        };
        for field in envelope.fields() {
            if field.kind != Kind::Null {
                request.field(&field.name, &At::field(&field.name, field.value))?;
            }
        }
        if request.query.is_empty() {
            return Err(Untranslatable::new(
                "query",
                "is missing: say what to rank by",
            ));
        }
        if request.documents.is_empty() {
            return Err(Untranslatable::new(
                "documents",
                "is missing: say what to rank",
            ));
        }
        Ok(request)
    }

    fn field(&mut self, name: &str, value: &At<'_>) -> Result<(), Untranslatable> {
        match name {
            // The gateway says it.
            "model" => {}
            "query" => self.query = value.text()?,
            "documents" => value.array(|document| {
                self.documents.push(read_document(&document)?);
                Ok::<_, Misread>(())
            })?,
            "top_n" => self.top_n = Some(value.u64()?),
            "return_documents" => self.return_documents = value.bool()?,
            "max_tokens_per_doc" => self.max_tokens_per_doc = Some(value.u64()?),
            // Nobody's answer depends on it.
            "user" => {}
            _ => self.extras.push(Extra {
                name: name.to_owned(),
                value: value.json(),
            }),
        }
        Ok(())
    }

    /// Writes an upstream's request. Documents are never asked back: they are here already.
    ///
    /// # Errors
    /// The request has what the upstream cannot hear.
    pub fn write(&self, dialect: RerankDialect, model: &str) -> Result<Bytes, Untranslatable> {
        let name = dialect.name();
        let refuse = |field: &str| {
            let why = format!("cannot be said to {name}: remove it, or use another model");
            Err(Untranslatable::new(field, why))
        };
        let open = matches!(dialect, RerankDialect::Jina | RerankDialect::Vllm);
        if let Some(extra) = self.extras.first().filter(|_| !open) {
            return refuse(&extra.name);
        }
        if self.max_tokens_per_doc.is_some() && dialect != RerankDialect::Cohere {
            return refuse("max_tokens_per_doc");
        }
        let mut out = Vec::new();
        write::object(&mut out, |to| match dialect {
            RerankDialect::Tei => self.write_tei(to),
            _ => {
                to.set("model", model).set("query", &self.query);
                to.array("documents", |to| self.write_documents(to, open))?;
                to.maybe("top_n", self.top_n);
                to.maybe("max_tokens_per_doc", self.max_tokens_per_doc);
                if dialect == RerankDialect::Jina {
                    to.set("return_documents", false);
                }
                for extra in &self.extras {
                    to.json(&extra.name, &extra.value);
                }
                Ok(())
            }
        })?;
        Ok(out.into())
    }

    /// It ranks all, and knows no model: it serves one.
    fn write_tei(&self, to: &mut ObjectWriter<'_>) -> Result<(), Untranslatable> {
        to.set("query", &self.query);
        to.array("texts", |to| self.write_documents(to, false))?;
        to.set("raw_scores", false).set("return_text", false);
        Ok(())
    }

    fn write_documents(
        &self,
        to: &mut ArrayWriter<'_>,
        objects: bool,
    ) -> Result<(), Untranslatable> {
        for (index, document) in self.documents.iter().enumerate() {
            match document {
                RerankDocument::Text(text) => to.push(text),
                RerankDocument::Object(object) if objects => to.json(object),
                RerankDocument::Object(_) => {
                    return Err(Untranslatable::new(
                        format!("documents.{index}"),
                        "is more than a text, which this model's provider cannot rank",
                    ));
                }
            }
        }
        Ok(())
    }
}

fn read_document(document: &At<'_>) -> Result<RerankDocument, Misread> {
    if document.kind() == Kind::String {
        return Ok(RerankDocument::Text(document.text()?));
    }
    let object = document.json_object()?;
    let only_text = document.raw.fields().all(|(key, _)| key.is("text"));
    match document.get("text") {
        Some(text) if only_text => Ok(RerankDocument::Text(text.text()?)),
        _ => Ok(RerankDocument::Object(object)),
    }
}
