//! Vectors.
//!
//! A vector is the sum of its words' directions, so that texts that share words are close to each
//! other and retrieval finds what it should.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::engine::EngineState;
use crate::tokens::{Draw, digest};

/// Numbers of a vector that a word moves. 16: enough that two words seldom move the same ones.
const NUMBERS_PER_WORD: usize = 16;

/// A text's vector by this model, of length 1.
pub(crate) fn vector(state: &EngineState, model: &str, text: &str, dimensions: usize) -> Vec<f32> {
    direction(
        text,
        dimensions,
        digest(state.config.seed, model.as_bytes()),
    )
}

/// How close two texts are to this model: from 0 to 1.
pub(crate) fn closeness(state: &EngineState, model: &str, left: &str, right: &str) -> f64 {
    let dimensions = state.config.embedding_dimensions.max(1);
    let [left, right] = [left, right].map(|text| vector(state, model, text, dimensions));
    let product: f32 = left
        .iter()
        .zip(&right)
        .map(|(left, right)| left * right)
        .sum();
    f64::from(product.clamp(0.0, 1.0))
}

fn direction(text: &str, dimensions: usize, seed: u64) -> Vec<f32> {
    let mut sum = vec![0_f32; dimensions];
    let mut add = |word: &str| {
        let mut draw = Draw::new(digest(seed, word.as_bytes()));
        for _ in 0..NUMBERS_PER_WORD {
            let step = if draw.below(2) == 0 { 1.0 } else { -1.0 };
            sum[draw.below(dimensions)] += step;
        }
    };
    let words = text.split(|character: char| !character.is_alphanumeric());
    for word in words.filter(|word| !word.is_empty()) {
        add(&word.to_lowercase());
    }
    let mut length = sum.iter().map(|number| number * number).sum::<f32>().sqrt();
    if length == 0.0 {
        // No word, or words that cancel each other out: the whole text as one direction.
        sum[digest(seed, text.as_bytes()) as usize % dimensions] = 1.0;
        length = 1.0;
    }
    sum.iter().map(|number| number / length).collect()
}

/// 32-bit little-endian floats, in base64.
pub(crate) fn in_base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closeness(left: &str, right: &str) -> f32 {
        let (left, right) = (direction(left, 384, 1), direction(right, 384, 1));
        left.iter()
            .zip(&right)
            .map(|(left, right)| left * right)
            .sum()
    }

    #[test]
    fn texts_that_share_words_are_closer() {
        assert!(closeness("the red house", "The red house!") > 0.999);
        let near = closeness("the red house by the river", "a house by a river");
        let far = closeness("the red house by the river", "invoices need approval");
        assert!(near > far + 0.2, "{near} {far}");
        assert!(closeness("—", "—") > 0.999);
    }
}
