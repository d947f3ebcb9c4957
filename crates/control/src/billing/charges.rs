//! A price book applied to usage. Pure: what goes in is what a tenant's store has added up.

use base::{PicoUsd, Timestamp};
use store::UsageRow;
use tenancy::catalogue::{BASIS_POINTS, CacheHits, PriceBookEntry, RateSpec, VolumeTier};

use super::exact::{ExactUsd, TooLarge};
use crate::api::{InvoiceLine, LineKind};

/// What usage of one model for one feature is charged.
pub(crate) fn usage_line(
    entry: &PriceBookEntry,
    row: &UsageRow,
    time: Option<(Timestamp, Timestamp)>,
) -> Result<InvoiceLine, TooLarge> {
    let model = row.model.clone().unwrap_or_default();
    let feature = row.feature.clone().unwrap_or_default();
    let discount = entry
        .discounts
        .iter()
        .find(|discount| discount.fits(&model, &feature))
        .map_or(0, |discount| discount.basis_points);
    let gross = paid(entry, &model, row)?.plus(hits(entry, row)?)?;
    Ok(InvoiceLine {
        description: format!("{model} for {feature}"),
        calls: row.calls,
        cache_hits: row.cache_hits,
        input_tokens: row.input_tokens,
        cached_tokens: row.cached_tokens,
        cached_write_tokens: row.cached_write_tokens,
        output_tokens: row.output_tokens,
        images: row.images,
        billed_requests: row.billed_requests,
        cost: Some(row.cost),
        hit_cost: Some(row.hit_cost),
        hit_anew: Some(row.hit_anew),
        discount_basis_points: discount,
        from: time.map(|(from, _)| from),
        until: time.map(|(_, until)| until),
        model: Some(model),
        feature: Some(feature),
        ..InvoiceLine::of(LineKind::Usage, less(gross, discount)?)
    })
}

/// What upstreams were paid for, by the model's rate or by its cost and the mark-up.
fn paid(entry: &PriceBookEntry, model: &str, row: &UsageRow) -> Result<ExactUsd, TooLarge> {
    let rate = entry.rates.iter().find(|(name, _)| name.as_str() == model);
    match rate {
        Some((_, rate)) => by_rate(rate, row),
        None => marked_up(entry, ExactUsd::of(row.cost - row.hit_cost)?),
    }
}

fn by_rate(rate: &RateSpec, row: &UsageRow) -> Result<ExactUsd, TooLarge> {
    let read = row.cached_tokens.min(row.input_tokens);
    let written = row.cached_write_tokens.min(row.input_tokens - read);
    let parts = [
        (rate.input, row.input_tokens - read - written),
        (rate.cached_read.unwrap_or(rate.input), read),
        (rate.cached_write.unwrap_or(rate.input), written),
        (rate.output, row.output_tokens),
        (rate.image.unwrap_or_default(), row.images),
        (rate.request.unwrap_or_default(), row.billed_requests),
    ];
    parts
        .into_iter()
        .try_fold(ExactUsd::ZERO, |sum, (price, count)| {
            sum.plus(ExactUsd::times(price, count)?)
        })
}

/// What answers are charged that were given again.
fn hits(entry: &PriceBookEntry, row: &UsageRow) -> Result<ExactUsd, TooLarge> {
    match entry.cache_hits {
        CacheHits::Warmer => Ok(ExactUsd::ZERO),
        CacheHits::Amortised(percent) => {
            let shared = ExactUsd::of(row.hit_anew)?.part(u32::from(percent), 100)?;
            marked_up(entry, shared)
        }
    }
}

fn marked_up(entry: &PriceBookEntry, cost: ExactUsd) -> Result<ExactUsd, TooLarge> {
    cost.part(BASIS_POINTS + entry.markup_basis_points, BASIS_POINTS)
}

fn less(amount: ExactUsd, basis_points: u32) -> Result<ExactUsd, TooLarge> {
    amount.part(BASIS_POINTS - basis_points, BASIS_POINTS)
}

/// What a period's usage as a whole makes of its sum: what is included, volume discounts, the
/// minimum.
pub(crate) fn period_lines(
    terms: &PriceBookEntry,
    usage: ExactUsd,
) -> Result<Vec<InvoiceLine>, TooLarge> {
    let mut lines = Vec::new();
    let included = ExactUsd::of(terms.included)?.min(usage);
    if included > ExactUsd::ZERO {
        lines.push(InvoiceLine {
            description: format!("Included: up to {}", dollars(terms.included)),
            ..InvoiceLine::of(LineKind::Included, -included)
        });
    }
    let charged = usage - included;
    let volume = volume_lines(&terms.volume_tiers, charged)?;
    let discounted = charged + total(&volume);
    lines.extend(volume);
    let minimum = ExactUsd::of(terms.minimum)?;
    if discounted < minimum {
        lines.push(InvoiceLine {
            description: format!("Up to the minimum of {}", dollars(terms.minimum)),
            ..InvoiceLine::of(LineKind::Minimum, minimum - discounted)
        });
    }
    Ok(lines)
}

/// Graduated: each tier is for the part between its amount and the next one's.
fn volume_lines(tiers: &[VolumeTier], usage: ExactUsd) -> Result<Vec<InvoiceLine>, TooLarge> {
    let mut lines = Vec::new();
    for (place, tier) in tiers.iter().enumerate() {
        let above = ExactUsd::of(tier.above)?;
        let until = match tiers.get(place + 1) {
            Some(next) => ExactUsd::of(next.above)?.min(usage),
            None => usage,
        };
        let points = tier.discount_basis_points;
        if until <= above || points == 0 {
            continue;
        }
        let discount = (until - above).part(points, BASIS_POINTS)?;
        lines.push(InvoiceLine {
            description: format!(
                "Volume discount of {} above {}",
                percent(points),
                dollars(tier.above)
            ),
            discount_basis_points: points,
            ..InvoiceLine::of(LineKind::VolumeDiscount, -discount)
        });
    }
    Ok(lines)
}

/// What lines add up to.
pub(crate) fn total(lines: &[InvoiceLine]) -> ExactUsd {
    lines.iter().map(|line| line.amount).sum()
}

fn dollars(amount: PicoUsd) -> String {
    format!("{amount} USD")
}

/// Hundredths of a per cent, as people write them.
fn percent(basis_points: u32) -> String {
    let (whole, part) = (basis_points / 100, basis_points % 100);
    match part {
        0 => format!("{whole}%"),
        _ => format!("{whole}.{part:02}%"),
    }
}
