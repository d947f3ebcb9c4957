//! What upstreams answer, and how clients read it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::{EmbeddingDialect, EmbeddingRequest, Encoding};
use crate::dialect::read::{At, Misread};
use crate::dialect::write::{self, ArrayWriter};
use crate::dialect::{UnreadableAnswer, checked};
use crate::envelope::Kind;
use crate::json::Json;

/// Vectors, one for each input, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingAnswer {
    /// The vectors.
    pub vectors: Vec<Vector>,
    /// What was read, if the upstream says so: Gemini's API and Cohere on Bedrock do not.
    pub input_tokens: Option<u64>,
}

/// One vector, as its upstream wrote it.
#[derive(Debug, Clone, PartialEq)]
pub enum Vector {
    /// An array of numbers.
    Numbers(Json),
    /// Base64 of 32-bit floats, little-endian.
    Base64(String),
}

impl EmbeddingAnswer {
    /// Reads an upstream's answer to `request`.
    ///
    /// # Errors
    /// It is not an answer of this dialect, or has not one vector for each input.
    pub fn read(
        dialect: EmbeddingDialect,
        request: &EmbeddingRequest,
        body: &[u8],
    ) -> Result<Self, UnreadableAnswer> {
        let root = checked(body)?;
        let answer = match dialect {
            EmbeddingDialect::OpenAi => read_openai(&root)?,
            EmbeddingDialect::Cohere | EmbeddingDialect::BedrockCohere => read_cohere(&root)?,
            EmbeddingDialect::Gemini => read_gemini(&root)?,
            EmbeddingDialect::Vertex => read_vertex(&root)?,
            EmbeddingDialect::BedrockTitan => read_titan(&root)?,
        };
        if answer.vectors.len() != request.inputs.len() {
            return Err(UnreadableAnswer::new(format!(
                "it has {} vectors for {} texts",
                answer.vectors.len(),
                request.inputs.len()
            )));
        }
        Ok(answer)
    }

    /// Writes a client's answer. `input_tokens` stands in for what the upstream did not say.
    ///
    /// # Errors
    /// A vector in base64 is none, and the client wants numbers.
    pub fn write(
        &self,
        model: &str,
        encoding: Encoding,
        input_tokens: u64,
    ) -> Result<Bytes, UnreadableAnswer> {
        let mut out = Vec::new();
        let tokens = self.input_tokens.unwrap_or(input_tokens);
        write::object(&mut out, |to| {
            to.set("object", "list");
            to.array("data", |to| {
                let mut vectors = self.vectors.iter().enumerate();
                vectors.try_for_each(|(index, vector)| write_vector(to, vector, index, encoding))
            })?;
            to.set("model", model);
            to.object("usage", |to| {
                to.set("prompt_tokens", tokens).set("total_tokens", tokens);
            });
            Ok::<_, UnreadableAnswer>(())
        })?;
        Ok(out.into())
    }
}

fn write_vector(
    to: &mut ArrayWriter<'_>,
    vector: &Vector,
    index: usize,
    encoding: Encoding,
) -> Result<(), UnreadableAnswer> {
    to.object(|to| {
        to.set("object", "embedding").set("index", index);
        match (vector, encoding) {
            (Vector::Numbers(numbers), Encoding::Float) => {
                to.json("embedding", numbers);
            }
            (Vector::Base64(text), Encoding::Base64) => {
                to.set("embedding", text);
            }
            (Vector::Numbers(numbers), Encoding::Base64) => {
                to.set("embedding", STANDARD.encode(floats(numbers)));
            }
            (Vector::Base64(text), Encoding::Float) => {
                to.set("embedding", from_base64(text)?);
            }
        }
        Ok(())
    })
}

/// The bytes of numbers as 32-bit floats: what is no number was refused when it was read.
fn floats(numbers: &Json) -> Vec<u8> {
    let numbers = numbers.raw().elements().filter_map(|number| {
        let text = std::str::from_utf8(number.bytes()).ok()?;
        let end = text
            .find([',', ']', ' ', '\n', '\r', '\t'])
            .unwrap_or(text.len());
        text[..end].parse::<f32>().ok()
    });
    numbers.flat_map(f32::to_le_bytes).collect()
}

fn from_base64(text: &str) -> Result<Vec<f32>, UnreadableAnswer> {
    let wrong = || UnreadableAnswer::new("a vector is no base64 of 32-bit floats");
    let bytes = STANDARD.decode(text).map_err(|_| wrong())?;
    let (floats, []) = bytes.as_chunks::<4>() else {
        return Err(wrong());
    };
    Ok(floats
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect())
}

/// `{"data": [{"index", "embedding"}], "usage": {"prompt_tokens"}}`
fn read_openai(root: &At<'_>) -> Result<EmbeddingAnswer, Misread> {
    let mut indexed = Vec::new();
    root.need("data")?.array(|one| {
        let index = one
            .get("index")
            .map_or(Ok(indexed.len() as u64), |index| index.u64())?;
        let embedding = one.need("embedding")?;
        let vector = match embedding.kind() {
            Kind::String => Vector::Base64(embedding.text()?),
            _ => read_numbers(&embedding)?,
        };
        indexed.push((index, vector));
        Ok::<_, Misread>(())
    })?;
    // In order, whatever order they came in.
    indexed.sort_by_key(|(index, _)| *index);
    let usage = root.get("usage");
    let tokens = usage.as_ref().and_then(|usage| usage.get("prompt_tokens"));
    Ok(EmbeddingAnswer {
        vectors: indexed.into_iter().map(|(_, vector)| vector).collect(),
        input_tokens: tokens.map(|tokens| tokens.u64()).transpose()?,
    })
}

/// `{"embeddings": {"float": […]}}`, or on Bedrock an array without types.
fn read_cohere(root: &At<'_>) -> Result<EmbeddingAnswer, Misread> {
    let embeddings = root.need("embeddings")?;
    let vectors = match embeddings.kind() {
        Kind::Array => read_vectors(&embeddings)?,
        _ => read_vectors(&embeddings.need("float")?)?,
    };
    let meta = root.get("meta");
    let units = meta.as_ref().and_then(|meta| meta.get("billed_units"));
    let tokens = units.as_ref().and_then(|units| units.get("input_tokens"));
    Ok(EmbeddingAnswer {
        vectors,
        input_tokens: tokens
            .map(|tokens| crate::dialect::cohere::whole(&tokens))
            .transpose()?,
    })
}

/// `{"embeddings": [{"values": […]}], "usageMetadata": {"promptTokenCount"}}`
fn read_gemini(root: &At<'_>) -> Result<EmbeddingAnswer, Misread> {
    let mut vectors = Vec::new();
    root.need("embeddings")?.array(|embedding| {
        vectors.push(read_numbers(&embedding.need("values")?)?);
        Ok::<_, Misread>(())
    })?;
    let usage = root.get("usageMetadata");
    let tokens = usage
        .as_ref()
        .and_then(|usage| usage.get("promptTokenCount"));
    Ok(EmbeddingAnswer {
        vectors,
        input_tokens: tokens.map(|tokens| tokens.u64()).transpose()?,
    })
}

/// `{"predictions": [{"embeddings": {"values", "statistics": {"token_count"}}}]}`
fn read_vertex(root: &At<'_>) -> Result<EmbeddingAnswer, Misread> {
    let mut vectors = Vec::new();
    let mut tokens: Option<u64> = None;
    root.need("predictions")?.array(|prediction| {
        let embeddings = prediction.need("embeddings")?;
        vectors.push(read_numbers(&embeddings.need("values")?)?);
        let statistics = embeddings.get("statistics");
        if let Some(count) = statistics
            .as_ref()
            .and_then(|known| known.get("token_count"))
        {
            let count = crate::dialect::cohere::whole(&count)?;
            tokens = Some(tokens.unwrap_or_default().saturating_add(count));
        }
        Ok::<_, Misread>(())
    })?;
    Ok(EmbeddingAnswer {
        vectors,
        input_tokens: tokens,
    })
}

/// `{"embedding": […], "inputTextTokenCount"}`
fn read_titan(root: &At<'_>) -> Result<EmbeddingAnswer, Misread> {
    let tokens = root.get("inputTextTokenCount");
    Ok(EmbeddingAnswer {
        vectors: vec![read_numbers(&root.need("embedding")?)?],
        input_tokens: tokens.map(|tokens| tokens.u64()).transpose()?,
    })
}

fn read_vectors(vectors: &At<'_>) -> Result<Vec<Vector>, Misread> {
    let mut read = Vec::new();
    vectors.array(|vector| {
        read.push(read_numbers(&vector)?);
        Ok::<_, Misread>(())
    })?;
    Ok(read)
}

fn read_numbers(vector: &At<'_>) -> Result<Vector, Misread> {
    vector.array(|number| match number.kind() {
        Kind::Number => Ok(()),
        _ => Err(number.refuse("must be a number")),
    })?;
    Ok(Vector::Numbers(vector.json()))
}
