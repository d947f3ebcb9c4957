//! Embeddings, rankings and counts of tokens: asked in the upstream's words, answered in the client's, and what
//! providers bill for them.

use bytes::Bytes;
use models::conversation::Extra;
use models::{
    AnswerNames, EmbeddingAnswer, EmbeddingDialect, EmbeddingRequest, Envelope, Json, RerankAnswer,
    RerankDialect, RerankDocument, RerankRequest, UnreadableAnswer, Untranslatable, Usage,
    count_tokens_json, read_count_tokens,
};
use tenancy::CacheSalt;

use super::compile::Compiled;
use super::whole_answer::Read;
use crate::speech::Speech;

/// Documents of one of Cohere's search units.
const UNIT_DOCUMENTS: u64 = 100;
/// A document that is longer, its query included, counts once for each part of so many tokens.
const UNIT_DOCUMENT_TOKENS: u64 = 500;
/// What Cohere reads of a document unless `max_tokens_per_doc` says otherwise.
const DOCUMENT_TOKENS_READ: u64 = 4_096;

/// What is asked of an upstream that embeds in its own words.
pub(super) fn embedding_request(
    envelope: &Envelope,
    dialect: EmbeddingDialect,
    model: &str,
) -> Result<Bytes, Untranslatable> {
    EmbeddingRequest::read(envelope)?.write(dialect, model)
}

/// A count of tokens, as Anthropic's clients read it. It costs nothing.
pub(super) fn read_count(speech: Speech, body: &[u8]) -> Option<Read> {
    let tokens = match speech {
        Speech::Count(dialect) => dialect.read(body),
        _ => read_count_tokens(body),
    };
    Some(Read {
        body: count_tokens_json(tokens?),
        usage: Some(Usage::default()),
        requests: Some(0),
    })
}

/// What is asked of an upstream that ranks; the salt stands in the field that the engine takes.
pub(super) fn rerank_request(
    envelope: &Envelope,
    dialect: RerankDialect,
    model: &str,
    salt: Option<(&'static str, CacheSalt)>,
) -> Result<Bytes, Untranslatable> {
    let mut request = RerankRequest::read(envelope)?;
    if let Some((field, salt)) = salt {
        request.extras.push(Extra {
            name: field.to_owned(),
            value: Json::from(salt.as_str()),
        });
    }
    request.write(dialect, model)
}

/// The client's answer. Where the upstream says no count, the bound stands for it, as it is what
/// the call is charged by.
pub(super) fn read_embeddings(
    envelope: &Envelope,
    dialect: EmbeddingDialect,
    body: &[u8],
    model: &str,
    input_bound: u64,
) -> Result<Read, UnreadableAnswer> {
    let request = EmbeddingRequest::read(envelope).map_err(changed)?;
    let answer = EmbeddingAnswer::read(dialect, &request, body)?;
    Ok(Read {
        body: answer.write(model, request.encoding, input_bound)?,
        usage: answer.input_tokens.map(input),
        requests: None,
    })
}

/// The client's answer, with the search units that the provider bills.
pub(super) fn read_ranking(
    envelope: &Envelope,
    dialect: RerankDialect,
    body: &[u8],
    names: &AnswerNames,
) -> Result<Read, UnreadableAnswer> {
    let request = RerankRequest::read(envelope).map_err(changed)?;
    let answer = RerankAnswer::read(dialect, &request, body)?;
    let units = answer.usage.search_units;
    let units = units.filter(|_| dialect == RerankDialect::Cohere);
    Ok(Read {
        body: answer.write(&request, names),
        usage: answer.usage.input_tokens.map(input),
        requests: units.map(|units| u32::try_from(units).unwrap_or(u32::MAX)),
    })
}

fn input(input_tokens: u64) -> Usage {
    Usage {
        input_tokens,
        ..Usage::default()
    }
}

/// The request was read before it was sent: that it cannot be now would be a bug.
fn changed(error: Untranslatable) -> UnreadableAnswer {
    UnreadableAnswer::new(format!("its request cannot be read again: {error}"))
}

impl Compiled {
    /// The most requests that the upstream can bill: Cohere bills a ranking by its size.
    pub(super) fn requests_bound(&self) -> u32 {
        if self.said.speech != Speech::Rerank(RerankDialect::Cohere) {
            return 1;
        }
        // It was read when the call was said to its target.
        RerankRequest::read(&self.envelope).map_or(1, |request| search_units_bound(&request))
    }
}

/// More of Cohere's search units than a ranking takes. A token has a byte at least.
fn search_units_bound(request: &RerankRequest) -> u32 {
    let query = request.query.len() as u64;
    let part = UNIT_DOCUMENT_TOKENS.saturating_sub(query).max(1);
    let read = request.max_tokens_per_doc.unwrap_or(DOCUMENT_TOKENS_READ);
    let parts = |document: &RerankDocument| {
        let length = match document {
            RerankDocument::Text(text) => text.len(),
            RerankDocument::Object(object) => object.raw().bytes().len(),
        };
        (length as u64).min(read).div_ceil(part).max(1)
    };
    let parts: u64 = request.documents.iter().map(parts).sum();
    u32::try_from(parts.div_ceil(UNIT_DOCUMENTS)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(query: &str, documents: Vec<String>) -> RerankRequest {
        RerankRequest {
            query: query.to_owned(),
            documents: documents.into_iter().map(RerankDocument::Text).collect(),
            top_n: None,
            return_documents: false,
            max_tokens_per_doc: None,
            extras: Vec::new(),
        }
    }

    #[test]
    fn a_search_unit_is_a_hundred_short_documents() {
        let short = |count| vec!["wall".to_owned(); count];
        for (documents, units) in [(1, 1), (100, 1), (101, 2), (1_000, 10)] {
            let bound = search_units_bound(&ranking("a wall", short(documents)));
            assert_eq!(bound, units, "{documents} documents");
        }
        // A hundred documents of two parts each, and of no more than is read of one.
        let long = |length: usize| vec!["w".repeat(length); 100];
        assert_eq!(search_units_bound(&ranking("q", long(998))), 2);
        assert_eq!(search_units_bound(&ranking("q", long(999))), 3);
        let most = search_units_bound(&ranking("q", long(1 << 20)));
        assert_eq!(most, 9);
    }
}
