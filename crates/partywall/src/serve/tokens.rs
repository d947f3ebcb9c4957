//! The seeds of the keys that sign tokens: in the catalogue, sealed under the platform's key.

use anyhow::Context as _;
use base::Entropy;
use tenancy::{SealingKey, TokenKeys, TokenSeed, purpose};

use super::Opened;

/// The setting that keeps the current seed.
const CURRENT: &str = "token-signing-seed";

/// The keys that sign tokens; made at the first start.
pub(super) fn token_keys(
    installation: &Opened,
    entropy: &dyn Entropy,
) -> anyhow::Result<TokenKeys> {
    let sealing: SealingKey<purpose::TokenSigning> = installation.platform_keys.sealing_key();
    let catalogue = &installation.catalogue;
    let seed = match catalogue.setting(CURRENT)? {
        Some(sealed) => TokenSeed::open(&sealing, &sealed)
            .context("the seed of the token signing key is damaged")?,
        None => {
            let seed = TokenSeed::generate(entropy);
            catalogue.put_setting(CURRENT, &seed.seal(&sealing, entropy))?;
            seed
        }
    };
    let issuer = format!("urn:partywall:{}", installation.id_text());
    Ok(TokenKeys::new(&issuer, &seed))
}
