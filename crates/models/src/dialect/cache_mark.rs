//! Marks of what to cache, in Anthropic's form, which OpenRouter and others take in OpenAI's
//! dialect too: `{"type": "ephemeral", "ttl": "5m" | "1h"}`.

use super::read::{At, Misread};
use super::write::ObjectWriter;
use crate::conversation::{CacheMark, CacheTtl};

/// The value of `cache_control`.
pub(super) fn read_cache_mark(mark: &At<'_>) -> Result<CacheMark, Misread> {
    let mut read = CacheMark::default();
    mark.object(|name, value| {
        match name {
            "type" => value.word(&[("ephemeral", ())])?,
            "ttl" => {
                let ttls = [("5m", CacheTtl::FiveMinutes), ("1h", CacheTtl::OneHour)];
                read.ttl = Some(value.word(&ttls)?);
            }
            _ => return Err(value.unknown()),
        }
        Ok(())
    })?;
    Ok(read)
}

/// `cache_control`, if there is a mark.
pub(super) fn write_cache_mark(to: &mut ObjectWriter<'_>, mark: Option<CacheMark>) {
    if let Some(mark) = mark {
        to.object("cache_control", |to| {
            to.set("type", "ephemeral");
            to.maybe("ttl", mark.ttl.map(CacheTtl::as_str));
        });
    }
}
