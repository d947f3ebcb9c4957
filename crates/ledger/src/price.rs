//! What a call costs: exact afterwards, bounded beforehand.

use std::sync::Arc;

use base::{PicoUsd, Timestamp};
use serde::{Deserialize, Serialize};

/// Which version of a model's price a ledger line was charged by.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PriceVersion(pub u32);

/// What one model costs from a moment on. Amounts are per token, per image and per request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Names this price in ledger lines.
    pub version: PriceVersion,
    /// From when it holds, until a later one does.
    pub effective_from: Timestamp,
    /// Per input token that no cache served.
    pub input: PicoUsd,
    /// Per output token, reasoning included.
    pub output: PicoUsd,
    /// Per input token read from the provider's cache; `None`: as `input`.
    pub cached_read: Option<PicoUsd>,
    /// Per input token written to the provider's cache; `None`: as `input`.
    pub cached_write: Option<PicoUsd>,
    /// Per input token written to the provider's cache for an hour; `None`: as `cached_write`.
    pub cached_write_1h: Option<PicoUsd>,
    /// Per image beside its tokens; `None`: its tokens are all that it costs.
    pub image: Option<PicoUsd>,
    /// Per request, whatever its size.
    pub request: PicoUsd,
    /// What tokens cost instead where the input is long; `None`: the same.
    pub long_prompts: Option<LongPrompts>,
}

/// What all tokens of a call cost, its output's too, if its input is longer than so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongPrompts {
    /// The longest input, in tokens, that is not long; cached ones included.
    pub above_tokens: u64,
    /// Per input token that no cache served.
    pub input: PicoUsd,
    /// Per output token, reasoning included.
    pub output: PicoUsd,
    /// Per input token read from the provider's cache; `None`: as `input`.
    pub cached_read: Option<PicoUsd>,
    /// Per input token written to the provider's cache; `None`: as `input`.
    pub cached_write: Option<PicoUsd>,
    /// Per input token written to the provider's cache for an hour; `None`: as `cached_write`.
    pub cached_write_1h: Option<PicoUsd>,
}

/// What a token costs, whatever it is.
#[derive(Debug, Clone, Copy)]
struct Rates {
    input: PicoUsd,
    output: PicoUsd,
    cached_read: PicoUsd,
    cached_write: PicoUsd,
    cached_write_1h: PicoUsd,
}

impl Rates {
    fn new(
        (input, output): (PicoUsd, PicoUsd),
        cached_read: Option<PicoUsd>,
        cached_write: Option<PicoUsd>,
        cached_write_1h: Option<PicoUsd>,
    ) -> Self {
        let cached_write = cached_write.unwrap_or(input);
        Self {
            input,
            output,
            cached_read: cached_read.unwrap_or(input),
            cached_write,
            cached_write_1h: cached_write_1h.unwrap_or(cached_write),
        }
    }

    fn all(&self) -> [PicoUsd; 5] {
        [
            self.input,
            self.output,
            self.cached_read,
            self.cached_write,
            self.cached_write_1h,
        ]
    }

    /// The dearest that an input token can be.
    fn input_max(&self) -> PicoUsd {
        let written = self.cached_write.max(self.cached_write_1h);
        self.input.max(self.cached_read).max(written)
    }
}

/// What a call consumed, as the upstream reported or the gateway counted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Consumption {
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Of these, read from the provider's cache.
    pub cached_read_tokens: u64,
    /// Of these, written to the provider's cache.
    pub cached_write_tokens: u64,
    /// Of those written, those that stay for an hour.
    pub cached_write_1h_tokens: u64,
    /// Output tokens, over all choices, reasoning included.
    pub output_tokens: u64,
    /// Images.
    pub images: u32,
    /// Requests that the upstream bills.
    pub requests: u32,
}

/// More than a call can consume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConsumptionBound {
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Output tokens, over all choices.
    pub output_tokens: u64,
    /// Images.
    pub images: u32,
    /// Requests that the upstream bills.
    pub requests: u32,
}

impl ConsumptionBound {
    /// Whether `consumption` stays within this bound.
    pub const fn covers(&self, consumption: &Consumption) -> bool {
        consumption.input_tokens <= self.input_tokens
            && consumption.output_tokens <= self.output_tokens
            && consumption.images <= self.images
            && consumption.requests <= self.requests
    }
}

impl Price {
    fn image(&self) -> PicoUsd {
        self.image.unwrap_or(PicoUsd::ZERO)
    }

    /// Where the input is not long.
    fn rates(&self) -> Rates {
        let (read, write) = (self.cached_read, self.cached_write);
        Rates::new((self.input, self.output), read, write, self.cached_write_1h)
    }

    /// Where it is, if that makes a difference to an input of so many tokens.
    fn long_rates(&self, input_tokens: u64) -> Option<Rates> {
        let long = self.long_prompts.as_ref();
        let long = long.filter(|long| input_tokens > long.above_tokens)?;
        let (read, write) = (long.cached_read, long.cached_write);
        let rates = Rates::new((long.input, long.output), read, write, long.cached_write_1h);
        Some(rates)
    }

    /// The dearest that an input token and an output token can be, of an input of at most so many.
    fn rates_max(&self, input_tokens: u64) -> (PicoUsd, PicoUsd) {
        let rates = self.rates();
        let (input, output) = (rates.input_max(), rates.output);
        match self.long_rates(input_tokens) {
            Some(long) => (input.max(long.input_max()), output.max(long.output)),
            None => (input, output),
        }
    }
}

/// What `consumption` costs: exact. Cached tokens beyond the input count as the input's, reads
/// first, so that an upstream that reports nonsense is not charged beyond the bound.
pub fn cost(price: &Price, consumption: &Consumption) -> PicoUsd {
    let read = consumption.cached_read_tokens.min(consumption.input_tokens);
    let written = consumption
        .cached_write_tokens
        .min(consumption.input_tokens - read);
    let for_an_hour = consumption.cached_write_1h_tokens.min(written);
    let uncached = consumption.input_tokens - read - written;
    let long = price.long_rates(consumption.input_tokens);
    let rates = long.unwrap_or_else(|| price.rates());
    rates.input.times(uncached)
        + rates.cached_read.times(read)
        + rates.cached_write.times(written - for_an_hour)
        + rates.cached_write_1h.times(for_an_hour)
        + rates.output.times(consumption.output_tokens)
        + price.image().times(u64::from(consumption.images))
        + price.request.times(u64::from(consumption.requests))
}

/// More than any consumption within `bound` costs.
pub fn upper_bound(price: &Price, bound: &ConsumptionBound) -> PicoUsd {
    let (input, output) = price.rates_max(bound.input_tokens);
    input.times(bound.input_tokens)
        + output.times(bound.output_tokens)
        + price.image().times(u64::from(bound.images))
        + price.request.times(u64::from(bound.requests))
}

/// How many output tokens `money` pays for, rounded down, once all else in `bound` is paid.
pub fn affordable_output(price: &Price, bound: &ConsumptionBound, money: PicoUsd) -> u64 {
    let fixed = ConsumptionBound {
        output_tokens: 0,
        ..*bound
    };
    let left = money.saturating_sub(upper_bound(price, &fixed)).pico();
    let (_, output) = price.rates_max(bound.input_tokens);
    match output.pico() {
        ..=0 => u64::MAX,
        per_token => u64::try_from(left / per_token).unwrap_or(u64::MAX),
    }
}

/// A model's prices over time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PriceList {
    /// By the moment from which each holds, earliest first. Shared: each call under way keeps its
    /// own.
    prices: Vec<Arc<Price>>,
}

/// Why prices do not make a [`PriceList`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceListError {
    /// An amount is below zero, or above [`PRICE_MAX`].
    #[error("price version {} has an amount below 0 or above {PRICE_MAX} dollars a unit", .0.0)]
    OutOfRange(PriceVersion),
    /// Two prices hold from the same moment.
    #[error("price versions {} and {} hold from the same moment, {from}", .first.0, .second.0)]
    SameMoment {
        /// The moment.
        from: Timestamp,
        /// One of the two.
        first: PriceVersion,
        /// The other.
        second: PriceVersion,
    },
    /// Two prices have the same version.
    #[error("two prices have version {}", .0.0)]
    SameVersion(PriceVersion),
}

/// A million dollars a unit: with it 2⁶⁴ units of each kind still sum within 128 bits.
pub const PRICE_MAX: PicoUsd = PicoUsd::dollars(1_000_000);

impl PriceList {
    /// The list of `prices`, in any order.
    ///
    /// # Errors
    ///
    /// [`PriceListError`] says which price is wrong, and how.
    pub fn new(mut prices: Vec<Price>) -> Result<Self, PriceListError> {
        prices.sort_by_key(|price| (price.effective_from, price.version));
        for price in &prices {
            let long = price.long_rates(u64::MAX).map(|long| long.all());
            let amounts = price.rates().all().into_iter();
            let mut amounts = amounts
                .chain(long.into_iter().flatten())
                .chain([price.image(), price.request]);
            if amounts.any(|amount| amount.is_negative() || amount > PRICE_MAX) {
                return Err(PriceListError::OutOfRange(price.version));
            }
        }
        for pair in prices.windows(2) {
            if pair[0].effective_from == pair[1].effective_from {
                return Err(PriceListError::SameMoment {
                    from: pair[0].effective_from,
                    first: pair[0].version,
                    second: pair[1].version,
                });
            }
        }
        let mut versions: Vec<_> = prices.iter().map(|price| price.version).collect();
        versions.sort_unstable();
        if let Some(pair) = versions.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(PriceListError::SameVersion(pair[0]));
        }
        let prices = prices.into_iter().map(Arc::new).collect();
        Ok(Self { prices })
    }

    /// The price that holds at `now`; none before the first one does.
    pub fn at(&self, now: Timestamp) -> Option<&Arc<Price>> {
        let held_by_now = self
            .prices
            .partition_point(|price| price.effective_from <= now);
        held_by_now.checked_sub(1).map(|last| &self.prices[last])
    }

    /// The price that has this version.
    pub fn version(&self, version: PriceVersion) -> Option<&Price> {
        let mut prices = self.prices.iter().map(Arc::as_ref);
        prices.find(|price| price.version == version)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn long_prompts()(
            above_tokens in 0_u64..100_000,
            input in 0_i128..10_i128.pow(12), output in 0_i128..10_i128.pow(12),
            cached_read in proptest::option::of(0_i128..10_i128.pow(12)),
            cached_write in proptest::option::of(0_i128..10_i128.pow(12)),
        ) -> LongPrompts {
            LongPrompts {
                above_tokens,
                input: PicoUsd::new(input),
                output: PicoUsd::new(output),
                cached_read: cached_read.map(PicoUsd::new),
                cached_write: cached_write.map(PicoUsd::new),
                cached_write_1h: None,
            }
        }
    }

    prop_compose! {
        fn prices()(
            input in 0_i128..10_i128.pow(12), output in 0_i128..10_i128.pow(12),
            cached_read in proptest::option::of(0_i128..10_i128.pow(12)),
            cached_write in proptest::option::of(0_i128..10_i128.pow(12)),
            cached_write_1h in proptest::option::of(0_i128..10_i128.pow(12)),
            image in proptest::option::of(0_i128..10_i128.pow(12)),
            request in 0_i128..10_i128.pow(12),
            long_prompts in proptest::option::of(long_prompts()),
        ) -> Price {
            Price {
                version: PriceVersion(1),
                effective_from: Timestamp::default(),
                input: PicoUsd::new(input),
                output: PicoUsd::new(output),
                cached_read: cached_read.map(PicoUsd::new),
                cached_write: cached_write.map(PicoUsd::new),
                cached_write_1h: cached_write_1h.map(PicoUsd::new),
                image: image.map(PicoUsd::new),
                request: PicoUsd::new(request),
                long_prompts,
            }
        }
    }

    prop_compose! {
        /// Consumptions, of which some report more cached tokens than input.
        fn consumptions()(
            input_tokens in prop_oneof![0_u32..200_000, any::<u32>()], cached_read_tokens: u32, cached_write_tokens: u32,
            cached_write_1h_tokens: u32,
            output_tokens: u32, images in 0_u32..100, requests in 0_u32..4,
        ) -> Consumption {
            Consumption {
                input_tokens: input_tokens.into(),
                cached_read_tokens: cached_read_tokens.into(),
                cached_write_tokens: cached_write_tokens.into(),
                cached_write_1h_tokens: cached_write_1h_tokens.into(),
                output_tokens: output_tokens.into(),
                images,
                requests,
            }
        }
    }

    proptest! {
        #[test]
        fn invariant_5_no_consumption_within_the_bound_costs_more(
            price in prices(), actual in consumptions(),
            spare_input: u16, spare_output: u16, spare_images in 0_u32..3,
        ) {
            let bound = ConsumptionBound {
                input_tokens: actual.input_tokens + u64::from(spare_input),
                output_tokens: actual.output_tokens + u64::from(spare_output),
                images: actual.images + spare_images,
                requests: actual.requests,
            };
            prop_assert!(bound.covers(&actual));
            prop_assert!(cost(&price, &actual) <= upper_bound(&price, &bound));
        }

        #[test]
        fn affordable_output_is_the_most_that_fits(
            price in prices(), money in 0_i128..10_i128.pow(18), input_tokens in 0_u64..100_000,
        ) {
            let money = PicoUsd::new(money);
            let bound = ConsumptionBound { input_tokens, requests: 1, ..Default::default() };
            let count = affordable_output(&price, &bound, money);
            let with = |output_tokens| upper_bound(&price, &ConsumptionBound { output_tokens, ..bound });
            prop_assume!(with(1) > with(0) && with(0) <= money);
            prop_assert!(with(count) <= money && with(count + 1) > money);
        }
    }

    fn flat(version: u32, from: i64) -> Price {
        Price {
            version: PriceVersion(version),
            effective_from: Timestamp::from_micros(from),
            input: PicoUsd::new(2_500_000),
            output: PicoUsd::new(10_000_000),
            cached_read: Some(PicoUsd::new(1_250_000)),
            cached_write: None,
            cached_write_1h: None,
            image: None,
            request: PicoUsd::ZERO,
            long_prompts: None,
        }
    }

    /// Gemini's and OpenAI's: the whole call has another price, from the first token on.
    #[test]
    fn a_long_prompt_makes_the_whole_call_dearer() {
        let price = Price {
            long_prompts: Some(LongPrompts {
                above_tokens: 200_000,
                input: PicoUsd::new(5_000_000),
                output: PicoUsd::new(15_000_000),
                cached_read: Some(PicoUsd::new(2_500_000)),
                cached_write: None,
                cached_write_1h: None,
            }),
            ..flat(1, 0)
        };
        let of = |input_tokens| Consumption {
            input_tokens,
            cached_read_tokens: 1_000,
            output_tokens: 10,
            ..Consumption::default()
        };
        let at = 199_000 * 2_500_000 + 1_000 * 1_250_000 + 10 * 10_000_000;
        assert_eq!(cost(&price, &of(200_000)), PicoUsd::new(at));
        let above = 199_001 * 5_000_000 + 1_000 * 2_500_000 + 10 * 15_000_000;
        assert_eq!(cost(&price, &of(200_001)), PicoUsd::new(above));
        // A bound that reaches further has to be of the dearest.
        let bound = |input_tokens| ConsumptionBound {
            input_tokens,
            output_tokens: 10,
            ..ConsumptionBound::default()
        };
        let held = |tokens| upper_bound(&price, &bound(tokens)).pico();
        assert_eq!(held(200_000), 200_000 * 2_500_000 + 10 * 10_000_000);
        assert_eq!(held(200_001), 200_001 * 5_000_000 + 10 * 15_000_000);
    }

    #[test]
    fn cached_tokens_have_their_own_price() {
        let consumption = Consumption {
            input_tokens: 1_000,
            cached_read_tokens: 600,
            cached_write_tokens: 100,
            cached_write_1h_tokens: 30,
            output_tokens: 10,
            images: 0,
            requests: 1,
        };
        let expected = 400 * 2_500_000 + 600 * 1_250_000 + 10 * 10_000_000;
        assert_eq!(cost(&flat(1, 0), &consumption), PicoUsd::new(expected));
    }

    #[test]
    fn what_is_written_for_an_hour_has_its_own_price() {
        let written = |tokens, for_an_hour| Consumption {
            input_tokens: 100,
            cached_write_tokens: tokens,
            cached_write_1h_tokens: for_an_hour,
            ..Consumption::default()
        };
        let price = |five_minutes: i128, hour: Option<i128>| Price {
            input: PicoUsd::new(4),
            cached_read: None,
            cached_write: Some(PicoUsd::new(five_minutes)),
            cached_write_1h: hour.map(PicoUsd::new),
            ..flat(1, 0)
        };
        let costs = |price: &Price, consumption| cost(price, &consumption).pico();
        let both = price(5, Some(8));
        assert_eq!(costs(&both, written(50, 20)), 50 * 4 + 30 * 5 + 20 * 8);
        // Without a price of its own it is written like the rest.
        assert_eq!(costs(&price(5, None), written(50, 20)), 50 * 4 + 50 * 5);
        // An upstream that says more than it wrote is not believed.
        assert_eq!(costs(&both, written(50, 99)), 50 * 4 + 50 * 8);
        // The bound is of the dearest.
        let bound = ConsumptionBound {
            input_tokens: 100,
            ..ConsumptionBound::default()
        };
        assert_eq!(upper_bound(&both, &bound).pico(), 100 * 8);
    }

    #[test]
    fn the_price_of_the_moment_is_the_last_to_have_begun() {
        let list = PriceList::new(vec![flat(2, 200), flat(1, 100)]).unwrap();
        let version = |now| {
            list.at(Timestamp::from_micros(now))
                .map(|price| price.version.0)
        };
        assert_eq!(
            [99, 100, 199, 200].map(version),
            [None, Some(1), Some(1), Some(2)]
        );
    }

    #[test]
    fn wrong_lists_are_refused() {
        let negative = Price {
            output: PicoUsd::new(-1),
            ..flat(3, 0)
        };
        assert!(matches!(
            PriceList::new(vec![negative]),
            Err(PriceListError::OutOfRange(PriceVersion(3)))
        ));
        assert!(PriceList::new(vec![flat(1, 5), flat(2, 5)]).is_err());
        assert!(PriceList::new(vec![flat(1, 5), flat(1, 6)]).is_err());
    }
}
