//! What upstreams answer, and how clients read it.

use bytes::Bytes;
use serde_json::Number;

use super::{RerankDialect, RerankDocument, RerankRequest};
use crate::dialect::read::{At, Misread};
use crate::dialect::write::{self, ObjectWriter};
use crate::dialect::{AnswerNames, UnreadableAnswer, checked};

/// The best documents, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankAnswer {
    /// The upstream's id, if it gave one.
    pub id: Option<String>,
    /// The documents' places and scores.
    pub results: Vec<Ranked>,
    /// What it cost, if the upstream says so.
    pub usage: RerankUsage,
}

/// One document's rank.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Its place in the request.
    pub index: usize,
    /// How relevant it is, as the upstream wrote it.
    pub score: Number,
}

/// What a ranking cost. Providers price it by tokens (Jina) or by searches (Cohere).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RerankUsage {
    /// Tokens read.
    pub input_tokens: Option<u64>,
    /// Cohere's units: a query with up to 100 documents of up to 500 tokens.
    pub search_units: Option<u64>,
}

impl RerankAnswer {
    /// Reads an upstream's answer to `request`.
    ///
    /// # Errors
    /// It is not an answer of this dialect, or ranks what was not asked.
    pub fn read(
        dialect: RerankDialect,
        request: &RerankRequest,
        body: &[u8],
    ) -> Result<Self, UnreadableAnswer> {
        let root = checked(body)?;
        let mut answer = match dialect {
            RerankDialect::Tei => read_tei(&root)?,
            RerankDialect::Cohere | RerankDialect::Jina | RerankDialect::Vllm => {
                read_results(&root)?
            }
        };
        answer.check(request.documents.len())?;
        // Stable: what is equally good stays in order.
        let score = |ranked: &Ranked| ranked.score.as_f64().unwrap_or_default();
        answer.results.sort_by(|a, b| score(b).total_cmp(&score(a)));
        if let Some(most) = request.top_n {
            answer
                .results
                .truncate(usize::try_from(most).unwrap_or(usize::MAX));
        }
        Ok(answer)
    }

    /// Each document is ranked once at most.
    fn check(&self, documents: usize) -> Result<(), UnreadableAnswer> {
        let mut seen = vec![false; documents];
        for ranked in &self.results {
            let Some(seen) = seen.get_mut(ranked.index) else {
                return Err(UnreadableAnswer::new(
                    "it ranks a document that is not there",
                ));
            };
            if std::mem::replace(seen, true) {
                return Err(UnreadableAnswer::new("it ranks a document twice"));
            }
        }
        Ok(())
    }

    /// Writes a client's answer, in the fields of both Cohere and Jina.
    pub fn write(&self, request: &RerankRequest, names: &AnswerNames) -> Bytes {
        let mut out = Vec::new();
        write::object(&mut out, |to| {
            to.set("id", self.id.as_ref().unwrap_or(&names.id));
            to.set("model", &names.model);
            to.array("results", |to| {
                for ranked in &self.results {
                    to.object(|to| write_ranked(to, ranked, request));
                }
            });
            if let Some(tokens) = self.usage.input_tokens {
                to.object("usage", |to| {
                    to.set("prompt_tokens", tokens).set("total_tokens", tokens);
                });
            }
            to.object("meta", |to| {
                if let Some(units) = self.usage.search_units {
                    to.object("billed_units", |to| {
                        to.set("search_units", units);
                    });
                }
                if let Some(tokens) = self.usage.input_tokens {
                    to.object("tokens", |to| {
                        to.set("input_tokens", tokens);
                    });
                }
            });
        });
        out.into()
    }
}

fn write_ranked(to: &mut ObjectWriter<'_>, ranked: &Ranked, request: &RerankRequest) {
    to.set("index", ranked.index);
    to.set("relevance_score", &ranked.score);
    if !request.return_documents {
        return;
    }
    match request.documents.get(ranked.index) {
        Some(RerankDocument::Text(text)) => to.object("document", |to| {
            to.set("text", text);
        }),
        Some(RerankDocument::Object(object)) => {
            to.json("document", object);
        }
        None => {}
    }
}

/// `{"results": [{"index", "relevance_score"}]}`, with the usage of any of them.
fn read_results(root: &At<'_>) -> Result<RerankAnswer, Misread> {
    let mut results = Vec::new();
    root.need("results")?.array(|result| {
        results.push(read_ranked(&result, "relevance_score")?);
        Ok::<_, Misread>(())
    })?;
    let id = root.get("id");
    Ok(RerankAnswer {
        id: id.map(|id| id.text()).transpose()?,
        results,
        usage: read_usage(root)?,
    })
}

/// `[{"index", "score"}]`
fn read_tei(root: &At<'_>) -> Result<RerankAnswer, Misread> {
    let mut results = Vec::new();
    root.array(|result| {
        results.push(read_ranked(&result, "score")?);
        Ok::<_, Misread>(())
    })?;
    Ok(RerankAnswer {
        id: None,
        results,
        usage: RerankUsage::default(),
    })
}

fn read_ranked(result: &At<'_>, score: &str) -> Result<Ranked, Misread> {
    let index = result.need("index")?;
    Ok(Ranked {
        index: usize::try_from(index.u64()?).map_err(|_| index.refuse("is too large"))?,
        score: result.need(score)?.number()?,
    })
}

fn read_usage(root: &At<'_>) -> Result<RerankUsage, Misread> {
    use crate::dialect::cohere::whole;
    let mut read = RerankUsage::default();
    if let Some(usage) = root.get("usage") {
        let tokens = usage
            .get("total_tokens")
            .or_else(|| usage.get("prompt_tokens"));
        read.input_tokens = tokens.map(|tokens| whole(&tokens)).transpose()?;
    }
    if let Some(meta) = root.get("meta") {
        if let Some(units) = meta.get("billed_units") {
            let units = units.get("search_units");
            read.search_units = units.map(|units| whole(&units)).transpose()?;
        }
        if let Some(tokens) = meta.get("tokens")
            && let Some(tokens) = tokens.get("input_tokens")
        {
            read.input_tokens = Some(whole(&tokens)?);
        }
    }
    Ok(read)
}
