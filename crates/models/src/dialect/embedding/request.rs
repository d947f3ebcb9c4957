//! What a client asks to embed, and how an upstream is asked.

use bytes::Bytes;

use super::EmbeddingDialect;
use crate::conversation::Extra;
use crate::dialect::Untranslatable;
use crate::dialect::read::{At, Misread};
use crate::dialect::write::{self, ArrayWriter, ObjectWriter};
use crate::envelope::{Envelope, Kind};
use crate::json::Json;

/// A request in OpenAI's words.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingRequest {
    /// What is to be embedded, in order.
    pub inputs: Vec<EmbeddingInput>,
    /// How long the vectors are to be; as long as the model likes, if it is not said.
    pub dimensions: Option<u64>,
    /// How the client reads vectors.
    pub encoding: Encoding,
    /// What the texts are for.
    pub purpose: Option<Purpose>,
    /// The client's own word for its user.
    pub user: Option<String>,
    /// Fields that have no place above.
    pub extras: Vec<Extra>,
}

/// One thing to embed.
#[derive(Debug, Clone, PartialEq)]
pub enum EmbeddingInput {
    /// A text.
    Text(String),
    /// Ids of tokens: an array. Only the model's own tokenizer knows what they mean.
    Tokens(Json),
}

/// How a client reads vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// Arrays of numbers.
    #[default]
    Float,
    /// Base64 of 32-bit floats, little-endian. What OpenAI's SDKs ask for by themselves.
    Base64,
}

/// What texts are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be found.
    Document,
    /// To find others by.
    Query,
    /// To be classified.
    Classification,
    /// To be grouped.
    Clustering,
    /// To be compared.
    Similarity,
}

const PURPOSES: &[(&str, Purpose)] = &[
    ("search_document", Purpose::Document),
    ("search_query", Purpose::Query),
    ("classification", Purpose::Classification),
    ("clustering", Purpose::Clustering),
    ("semantic_similarity", Purpose::Similarity),
    // Voyage's and Nvidia's words.
    ("document", Purpose::Document),
    ("passage", Purpose::Document),
    ("query", Purpose::Query),
];

impl EmbeddingRequest {
    /// Reads a client's request.
    ///
    /// # Errors
    /// A field is missing, or is not what it should be.
    pub fn read(envelope: &Envelope) -> Result<Self, Untranslatable> {
        let mut request = Self {
            inputs: Vec::new(),
            dimensions: None,
            encoding: Encoding::Float,
            purpose: None,
            user: None,
            extras: Vec::new(),
        };
        for field in envelope.fields() {
            if field.kind != Kind::Null {
                request.field(&field.name, &At::field(&field.name, field.value))?;
            }
        }
        if request.inputs.is_empty() {
            return Err(Untranslatable::new(
                "input",
                "is missing: say what to embed",
            ));
        }
        Ok(request)
    }

    fn field(&mut self, name: &str, value: &At<'_>) -> Result<(), Untranslatable> {
        match name {
            // The gateway says it.
            "model" => {}
            "input" => self.inputs = read_input(value)?,
            "dimensions" => self.dimensions = Some(value.u64()?),
            "encoding_format" => {
                let words = [("float", Encoding::Float), ("base64", Encoding::Base64)];
                self.encoding = value.word(&words)?;
            }
            "input_type" => self.purpose = Some(value.word(PURPOSES)?),
            "user" => self.user = Some(value.text()?),
            _ => self.extras.push(Extra {
                name: name.to_owned(),
                value: value.json(),
            }),
        }
        Ok(())
    }

    /// Writes an upstream's request.
    ///
    /// # Errors
    /// The request has what the upstream cannot hear: too many texts, token ids, a field.
    pub fn write(&self, dialect: EmbeddingDialect, model: &str) -> Result<Bytes, Untranslatable> {
        let count = self.inputs.len();
        let most = dialect.inputs_max();
        if count > most {
            let name = dialect.name();
            return Err(Untranslatable::new(
                "input",
                format!("has {count} texts, and {name} takes {most} a call: send fewer"),
            ));
        }
        let native = dialect == EmbeddingDialect::OpenAi;
        if let Some(extra) = self.extras.first().filter(|_| !native) {
            let name = dialect.name();
            let why = format!("cannot be said to {name}: remove it, or use another model");
            return Err(Untranslatable::new(&extra.name, why));
        }
        let mut out = Vec::new();
        write::object(&mut out, |to| match dialect {
            EmbeddingDialect::OpenAi => {
                self.write_openai(to, model);
                Ok(())
            }
            EmbeddingDialect::Cohere => {
                to.set("model", model);
                self.write_cohere(to)
            }
            EmbeddingDialect::BedrockCohere => self.write_cohere(to),
            EmbeddingDialect::Gemini => self.write_gemini(to, model),
            EmbeddingDialect::Vertex => self.write_vertex(to),
            EmbeddingDialect::BedrockTitan => self.write_titan(to, model),
        })?;
        Ok(out.into())
    }

    fn write_openai(&self, to: &mut ObjectWriter<'_>, model: &str) {
        to.set("model", model);
        to.array("input", |to| {
            for input in &self.inputs {
                match input {
                    EmbeddingInput::Text(text) => to.push(text),
                    EmbeddingInput::Tokens(ids) => to.json(ids),
                }
            }
        });
        to.maybe("dimensions", self.dimensions);
        let encoding = match self.encoding {
            Encoding::Float => "float",
            Encoding::Base64 => "base64",
        };
        to.set("encoding_format", encoding);
        to.maybe("input_type", self.purpose.map(cohere_word));
        to.maybe("user", self.user.as_deref());
        for extra in &self.extras {
            to.json(&extra.name, &extra.value);
        }
    }

    /// What is too long is refused there, not cut in silence.
    fn write_cohere(&self, to: &mut ObjectWriter<'_>) -> Result<(), Untranslatable> {
        let purpose = self.purpose.unwrap_or(Purpose::Document);
        if purpose == Purpose::Similarity {
            let why = "cannot be 'semantic_similarity' for Cohere: use 'clustering'";
            return Err(Untranslatable::new("input_type", why));
        }
        to.array("texts", |to| self.texts(to, |to, text| to.push(text)))?;
        to.set("input_type", cohere_word(purpose));
        to.set("embedding_types", ["float"]);
        to.maybe("output_dimension", self.dimensions);
        to.set("truncate", "NONE");
        Ok(())
    }

    fn write_gemini(&self, to: &mut ObjectWriter<'_>, model: &str) -> Result<(), Untranslatable> {
        to.array("requests", |to| {
            self.texts(to, |to, text| {
                to.object(|to| {
                    to.set("model", format!("models/{model}"));
                    to.object("content", |to| {
                        to.array("parts", |to| {
                            to.object(|to| {
                                to.set("text", text);
                            });
                        });
                    });
                    to.maybe("taskType", self.purpose.map(google_word));
                    to.maybe("outputDimensionality", self.dimensions);
                });
            })
        })
    }

    fn write_vertex(&self, to: &mut ObjectWriter<'_>) -> Result<(), Untranslatable> {
        to.array("instances", |to| {
            self.texts(to, |to, text| {
                to.object(|to| {
                    to.set("content", text);
                    to.maybe("task_type", self.purpose.map(google_word));
                });
            })
        })?;
        to.object("parameters", |to| {
            to.set("autoTruncate", false);
            to.maybe("outputDimensionality", self.dimensions);
        });
        Ok(())
    }

    fn write_titan(&self, to: &mut ObjectWriter<'_>, model: &str) -> Result<(), Untranslatable> {
        let [EmbeddingInput::Text(text)] = self.inputs.as_slice() else {
            return Err(tokens_refused());
        };
        to.set("inputText", text);
        // Its first version has one length, and takes no other field.
        if model.contains("embed-text-v1") || model.ends_with("titan-embed-g1-text-02") {
            if self.dimensions.is_some() {
                let why = "cannot be said to this model: remove it";
                return Err(Untranslatable::new("dimensions", why));
            }
            return Ok(());
        }
        to.maybe("dimensions", self.dimensions);
        to.set("normalize", true);
        Ok(())
    }

    /// Writes each text.
    fn texts(
        &self,
        to: &mut ArrayWriter<'_>,
        write: impl Fn(&mut ArrayWriter<'_>, &str),
    ) -> Result<(), Untranslatable> {
        self.inputs.iter().try_for_each(|input| match input {
            EmbeddingInput::Text(text) => {
                write(to, text);
                Ok(())
            }
            EmbeddingInput::Tokens(_) => Err(tokens_refused()),
        })
    }
}

fn tokens_refused() -> Untranslatable {
    Untranslatable::new(
        "input",
        "is token ids, which this model's provider would read otherwise: send text",
    )
}

/// A text, ids of tokens, or an array of either.
fn read_input(input: &At<'_>) -> Result<Vec<EmbeddingInput>, Misread> {
    if input.kind() == Kind::String {
        return Ok(vec![EmbeddingInput::Text(input.text()?)]);
    }
    let first = input.raw.elements().next();
    if first.and_then(|first| first.kind()) == Some(Kind::Number) {
        return Ok(vec![EmbeddingInput::Tokens(read_tokens(input)?)]);
    }
    let mut inputs = Vec::new();
    input.array(|element| {
        inputs.push(match element.kind() {
            Kind::Array => EmbeddingInput::Tokens(read_tokens(&element)?),
            _ => EmbeddingInput::Text(element.text()?),
        });
        Ok::<_, Misread>(())
    })?;
    Ok(inputs)
}

fn read_tokens(ids: &At<'_>) -> Result<Json, Misread> {
    ids.array(|id| id.u64().map(drop))?;
    Ok(ids.json())
}

fn cohere_word(purpose: Purpose) -> &'static str {
    let mut words = PURPOSES.iter();
    words
        .find(|(_, known)| *known == purpose)
        .map_or("search_document", |(word, _)| word)
}

fn google_word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Document => "RETRIEVAL_DOCUMENT",
        Purpose::Query => "RETRIEVAL_QUERY",
        Purpose::Classification => "CLASSIFICATION",
        Purpose::Clustering => "CLUSTERING",
        Purpose::Similarity => "SEMANTIC_SIMILARITY",
    }
}
