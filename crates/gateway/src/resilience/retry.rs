//! How many retries a tenant may cause.

/// How much retries may add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryOptions {
    /// Retries for each hundred calls.
    pub percent: u32,
    /// Retries that a tenant may have saved up at most; what it starts with.
    pub saved_max: u32,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            // 9: with the three that may be saved, an upstream sees at most 1.1 times the calls
            // over any 300 of them.
            percent: 9,
            // 3: a tenant with a call an hour can still retry the way SDKs do.
            saved_max: 3,
        }
    }
}

/// One tenant's retries: each call earns a part of one, each retry takes one.
///
/// Over any stretch of n calls there are at most 0.09 n + 3 retries. Only calls that were let
/// through to an upstream earn anything, so that a storm of refused calls buys no retries.
#[derive(Debug)]
pub struct RetryBudget {
    options: RetryOptions,
    /// Hundredths of a retry.
    hundredths: u32,
}

impl RetryBudget {
    /// A budget with everything saved that can be.
    pub fn new(options: RetryOptions) -> Self {
        Self {
            options,
            hundredths: options.saved_max * 100,
        }
    }

    /// A call went to an upstream for the first time.
    pub fn call(&mut self) {
        let saved_max = self.options.saved_max * 100;
        self.hundredths = (self.hundredths + self.options.percent).min(saved_max);
    }

    /// Takes a retry, if there is one.
    pub fn take(&mut self) -> Option<Retry> {
        self.hundredths = self.hundredths.checked_sub(100)?;
        Some(Retry(()))
    }

    /// Retries that are left.
    pub fn left(&self) -> u32 {
        self.hundredths / 100
    }
}

/// Leave to try once more.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "it has been paid for"]
pub struct Retry(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_nine_in_a_hundred_and_three() {
        let mut budget = RetryBudget::new(RetryOptions::default());
        let retries = (0..10_000)
            .filter(|_| {
                budget.call();
                budget.take().is_some()
            })
            .count();
        assert!((900..=903).contains(&retries), "{retries}");
    }

    #[test]
    fn peace_saves_no_more_than_the_floor() {
        let mut budget = RetryBudget::new(RetryOptions::default());
        for _ in 0..10_000 {
            budget.call();
        }
        assert_eq!(budget.left(), 3);
        let retries = (0..10).filter(|_| budget.take().is_some()).count();
        assert_eq!(retries, 3);
    }
}
