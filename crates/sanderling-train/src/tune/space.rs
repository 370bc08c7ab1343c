//! What a trial may be.

use rand_chacha::ChaCha20Rng;

use crate::draw::below;
use crate::recipe::ModelRecipe;

const DIMS: [usize; 5] = [32, 48, 64, 96, 128];
const LAYERS: [usize; 3] = [1, 2, 3];
const HEADS: [usize; 3] = [1, 2, 4];
const DROPOUTS: [f32; 5] = [0.1, 0.2, 0.3, 0.4, 0.5];
const LEARNING_RATES: [f32; 4] = [5e-4, 1e-3, 2e-3, 4e-3];
const NUM_NEGATIVES: [usize; 4] = [256, 512, 1024, 2048];
const BATCH_TOKENS: [usize; 3] = [256, 512, 1024];
/// Tenths of the longest history that the data asks for.
const SESSION_LEN_TENTHS: [usize; 3] = [5, 10, 20];

/// Draws a model, every key uniform over its values and independent of the others; what is not in the
/// space stays as in `base`. `session_len` is the longest history by data.
pub(super) fn draw(rng: &mut ChaCha20Rng, base: &ModelRecipe, session_len: usize) -> ModelRecipe {
    fn pick<T: Copy>(rng: &mut ChaCha20Rng, values: &[T]) -> T {
        values[below(rng, values.len())]
    }
    ModelRecipe {
        dim: pick(rng, &DIMS),
        layers: pick(rng, &LAYERS),
        heads: pick(rng, &HEADS),
        hidden: None,
        dropout: Some(pick(rng, &DROPOUTS)),
        learning_rate: pick(rng, &LEARNING_RATES),
        num_negatives: pick(rng, &NUM_NEGATIVES),
        batch_tokens: Some(pick(rng, &BATCH_TOKENS)),
        max_session_len: Some((session_len * pick(rng, &SESSION_LEN_TENTHS) / 10).clamp(5, 1024)),
        ..base.clone()
    }
}
