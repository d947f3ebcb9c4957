//! What service costs, and what is bounded.

use super::ticket::{Band, Tokens};

/// The cost of a token in units of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CostWeights {
    /// Of a token in.
    pub input: u32,
    /// Of a token out.
    pub output: u32,
}

impl CostWeights {
    /// Units of service that these tokens are.
    pub fn cost(self, tokens: Tokens) -> u64 {
        u64::from(self.input) * u64::from(tokens.input)
            + u64::from(self.output) * u64::from(tokens.output)
    }
}

impl Default for CostWeights {
    fn default() -> Self {
        // 1 and 2: VTC's own (section 5.1), after the prices of common providers.
        Self {
            input: 1,
            output: 2,
        }
    }
}

/// Bounds and shares of one upstream's scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FairnessOptions {
    /// What service costs.
    pub weights: CostWeights,
    /// Thousandths of the service that the band has at least while it waits: standard and
    /// background. The interactive band has what they leave.
    pub guaranteed_permille: [u16; 2],
    /// Calls of one tenant that may wait.
    pub waiting_per_tenant_max: u32,
    /// Calls that may wait. One tenant may never have more waiting than there is room left.
    pub waiting_max: u32,
    /// Units of service within which two counters count as equal, so that warmth and the places
    /// already held may decide. The mean cost of a call, and never more than this.
    pub quantum_max: u64,
}

impl Default for FairnessOptions {
    fn default() -> Self {
        Self {
            weights: CostWeights::default(),
            // A fifth and a twentieth: programs and batches go on while people are served, and
            // people keep three quarters.
            guaranteed_permille: [200, 50],
            // 256: with 32 tenants as busy and 100 calls a second, ten times what anybody waits.
            waiting_per_tenant_max: 256,
            // 8,192: half of the connections that a process may have (`GatewayBounds`), so that
            // one upstream's queue leaves room for the others. About 2 MB.
            waiting_max: 8_192,
            // 4,096: a call of 2,000 tokens in and 1,000 out. What one tenant may be ahead.
            quantum_max: 4_096,
        }
    }
}

impl FairnessOptions {
    /// Thousandths that a band has at least while it waits; none for the interactive one, which
    /// has the rest.
    pub(super) fn guaranteed(&self, band: Band) -> u16 {
        match band {
            Band::Interactive => 0,
            Band::Standard => self.guaranteed_permille[0],
            Band::Background => self.guaranteed_permille[1],
        }
    }

    /// Thousandths of the service that a band may count on while all wait.
    pub(super) fn share(&self, band: Band) -> u16 {
        let [standard, background] = self.guaranteed_permille;
        match band {
            Band::Interactive => 1_000_u16.saturating_sub(standard + background).max(1),
            Band::Standard => standard.max(1),
            Band::Background => background.max(1),
        }
    }
}
