//! The state of a fit between two epochs, and its bytes: what a checkpoint holds.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sanderling_types::{Code, Error, Result, Sha256Hash};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fit::{Epoch, FitData, FitOptions, Schedule};
use super::params::Weights;
use super::step::Optimiser;

/// Version of the encoding; another release may keep other state.
const VERSION: u32 = 2;

/// Everything that the rest of a fit depends on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FitState {
    version: u32,
    /// Hash of the data and the options that this state belongs to.
    of: Sha256Hash,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) schedule: Schedule,
    pub(crate) weights: Weights,
    pub(crate) optimiser: Optimiser,
    /// Validation NDCG@10 and weights of the best epoch.
    pub(crate) best: Option<(f64, Weights)>,
    pub(crate) curve: Vec<Epoch>,
    pub(crate) steps: usize,
    pub(crate) since_best: usize,
}

impl FitState {
    /// Before the first epoch.
    pub(crate) fn new(data: &FitData<'_>, options: &FitOptions) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(options.seed);
        let num_features = data.content.num_features;
        let weights =
            Weights::init(options.shape, data.num_items, num_features, options.unit_items, &mut rng);
        let tokens = data.sequences.iter().map(|sequence| sequence.len().saturating_sub(1)).sum();
        Self {
            version: VERSION,
            of: hash_of(data, options),
            rng,
            schedule: Schedule::new(options, tokens),
            optimiser: Optimiser::new(&weights),
            weights,
            best: None,
            curve: Vec::new(),
            steps: 0,
            since_best: 0,
        }
    }

    /// Gives the state back when it belongs to this data and these options.
    pub(crate) fn checked(self, data: &FitData<'_>, options: &FitOptions) -> Result<Self> {
        let expected = hash_of(data, options);
        if self.of == expected {
            return Ok(self);
        }
        Err(Error::new(Code::InvalidArgument, "the checkpoint is of other data or another recipe")
            .expected(expected)
            .found(self.of)
            .hint("train with the data, recipe, split and seed that it was made with, or remove it"))
    }

    /// Epochs that are done.
    #[must_use]
    pub fn epochs(&self) -> usize {
        self.curve.len()
    }

    /// Training tokens of those epochs.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.curve.last().map_or(0, |last| last.tokens)
    }

    /// The bytes of a checkpoint, the hash of what follows first.
    ///
    /// # Panics
    /// Never: numbers and vectors always encode.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Unwrap safety: see above.
        let body = postcard::to_allocvec(self).expect("the state encodes");
        [Sha256::digest(&body).as_slice(), &body].concat()
    }

    /// Reads a checkpoint that [`FitState::encode`] wrote.
    ///
    /// # Errors
    /// [`Code::HashMismatch`] for other bytes, [`Code::UnsupportedFormatVersion`] for another version.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = || {
            Error::new(Code::HashMismatch, "the checkpoint is damaged or none")
                .hint("remove it to start anew")
        };
        let (hash, body) = bytes.split_at_checked(32).ok_or_else(damaged)?;
        if Sha256::digest(body).as_slice() != hash {
            return Err(damaged());
        }
        let other = || {
            Error::new(Code::UnsupportedFormatVersion, "the checkpoint has another format version")
                .expected(VERSION)
                .hint("go on with the release that wrote it, or remove it to start anew")
        };
        let (version, _) = postcard::take_from_bytes::<u32>(body).map_err(|_| other())?;
        if version != VERSION {
            return Err(other().found(version));
        }
        postcard::from_bytes(body).map_err(|_| other())
    }
}

fn hash_of(data: &FitData<'_>, options: &FitOptions) -> Sha256Hash {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    // Unwrap safety: numbers always encode.
    add(&serde_json::to_vec(options).expect("options encode"));
    // Unwrap safety: numbers always encode.
    add(&postcard::to_allocvec(data.content).expect("content encodes"));
    add(&[u8::from(data.exclude_seen)]);
    add(&(data.num_items as u64).to_le_bytes());
    for sequence in data.sequences {
        add(&sequence.iter().flat_map(|item| item.to_le_bytes()).collect::<Vec<u8>>());
    }
    for case in data.validation {
        add(&case
            .history
            .iter()
            .chain([&case.target])
            .flat_map(|item| item.to_le_bytes())
            .collect::<Vec<u8>>());
    }
    add(&data.target_weights.iter().flat_map(|weight| weight.to_le_bytes()).collect::<Vec<u8>>());
    Sha256Hash::of(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::{FitCase, ItemContent, Shape, fit};

    fn options() -> FitOptions {
        FitOptions {
            shape: Shape { dim: 16, layers: 1, heads: 2, hidden: 32, max_len: 16 },
            learning_rate: 1e-2,
            dropout: 0.1,
            unit_items: true,
            id_dropout: 0.1,
            num_negatives: 16,
            batch_tokens: 256,
            max_epochs: 12,
            patience: 3,
            seed: 5,
        }
    }

    /// An interrupted fit is one that was never interrupted, through the bytes of its checkpoint.
    #[test]
    fn a_resumed_fit_ends_with_the_same_weights() {
        let sequences: Vec<Vec<u32>> =
            (0..60u32).map(|s| (0..9).map(|i| (s * 7 + i * i) % 90).collect()).collect();
        let validation =
            [FitCase { history: vec![1, 2], target: 5 }, FitCase { history: vec![8], target: 9 }];
        let content = ItemContent::new(7, (0..90).map(|i| vec![i % 7]));
        let data = FitData {
            sequences: &sequences,
            num_items: 90,
            content: &content,
            target_weights: &[],
            validation: &validation,
            exclude_seen: true,
        };
        let mut kept: Vec<Vec<u8>> = Vec::new();
        let whole = fit(&data, &options(), None, &mut |_, state| {
            kept.push(state.encode());
            true
        })
        .expect("fits");
        assert!(whole.curve.len() > 4, "some epochs to interrupt, {}", whole.curve.len());
        for bytes in [&kept[0], &kept[3], &kept[kept.len() - 1]] {
            let state = FitState::decode(bytes).expect("decodes");
            let resumed = fit(&data, &options(), Some(state), &mut |_, _| true).expect("goes on");
            assert_eq!(resumed.curve, whole.curve);
            assert_eq!(resumed.weights.items, whole.weights.items);
            assert_eq!(resumed.weights.dense, whole.weights.dense);
            assert_eq!(resumed.weights.content, whole.weights.content);
        }
        let state = || FitState::decode(&kept[0]).expect("decodes");
        let other = FitOptions { seed: 6, ..options() };
        let refused = fit(&data, &other, Some(state()), &mut |_, _| true).expect_err("another seed");
        assert_eq!(refused.code(), Code::InvalidArgument);
        let fewer = FitData { sequences: &sequences[1..], ..data };
        let refused = fit(&fewer, &options(), Some(state()), &mut |_, _| true).expect_err("other data");
        assert_eq!(refused.code(), Code::InvalidArgument);
        let mut flipped = kept[0].clone();
        flipped[100] ^= 1;
        assert_eq!(FitState::decode(&flipped).expect_err("damaged").code(), Code::HashMismatch);
        assert_eq!(FitState::decode(&kept[0][..20]).expect_err("cut").code(), Code::HashMismatch);
    }
}
