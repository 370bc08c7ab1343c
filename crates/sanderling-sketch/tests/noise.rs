//! The channel keeps its privacy promise exactly, its estimates are unbiased, its draws uniform.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use proptest::prelude::*;
use sanderling_sketch::noise::{Channel, Rng, choose, choose_weighted, rng_from_seed};
use sanderling_types::Code;
use statrs::function::gamma::gamma_ur;

fn rng(seed: u64) -> Rng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    rng_from_seed(bytes)
}

/// P(output | input) as declared.
fn probability(channel: &Channel, input: usize, output: usize) -> f64 {
    if input == output { channel.keep_probability() } else { channel.lie_probability() }
}

fn goodness_of_fit(counts: &[u64], probabilities: &[f64]) -> f64 {
    let n: u64 = counts.iter().sum();
    let statistic: f64 = counts
        .iter()
        .zip(probabilities)
        .map(|(count, p)| (*count as f64 - n as f64 * p).powi(2) / (n as f64 * p))
        .sum();
    gamma_ur((counts.len() - 1) as f64 / 2.0, statistic / 2.0)
}

proptest! {
    #[test]
    fn no_output_tells_two_inputs_apart_by_more_than_e_to_the_epsilon(
        epsilon in 0.01..10.0_f64,
        num_bins in 2..65_usize,
    ) {
        let channel = Channel::new(epsilon, num_bins).unwrap();
        for output in 0..num_bins {
            for a in 0..num_bins {
                for b in 0..num_bins {
                    let ratio = probability(&channel, a, output) / probability(&channel, b, output);
                    prop_assert!(ratio <= epsilon.exp(), "{ratio} > e^{epsilon}");
                }
            }
        }
        let all: f64 = (0..num_bins).map(|output| probability(&channel, 0, output)).sum();
        prop_assert!((all - 1.0).abs() < 1e-12);
        let published = epsilon.exp() / (epsilon.exp() + num_bins as f64 - 1.0);
        prop_assert!((channel.keep_probability() - published).abs() < 1e-8);
    }

    #[test]
    fn applying_the_channel_to_a_distribution_gives_a_distribution_and_debias_inverts_it(
        epsilon in 0.1..10.0_f64,
        weights in proptest::collection::vec(0..1000_u32, 2..40),
    ) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let sum: u32 = weights.iter().sum();
        let shares: Vec<f64> = weights.iter().map(|weight| f64::from(*weight) / f64::from(sum)).collect();
        let channel = Channel::new(epsilon, shares.len()).unwrap();
        let applied = channel.apply(&shares);
        prop_assert!((applied.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        prop_assert!(applied.iter().all(|share| *share > 0.0));
        let counts: Vec<u64> = applied.iter().map(|share| (share * 1e15).round() as u64).collect();
        for (estimate, share) in channel.debias(&counts).shares.iter().zip(&shares) {
            prop_assert!((estimate - share).abs() < 1e-9);
        }
    }

    #[test]
    fn nothing_outside_the_domain_leaves(bin in any::<usize>(), seed in any::<u64>(), num_bins in 2..65_usize) {
        let channel = Channel::new(0.5, num_bins).unwrap();
        prop_assert!(channel.randomise(bin, &mut rng(seed)) < num_bins);
    }
}

#[test]
fn randomise_follows_the_declared_distribution() {
    for (seed, (epsilon, num_bins)) in [(2.0, 2), (0.3, 7), (1.0, 16), (4.0, 5)].into_iter().enumerate() {
        let channel = Channel::new(epsilon, num_bins).unwrap();
        let mut rng = rng(100 + seed as u64);
        for input in 0..num_bins {
            let mut counts = vec![0; num_bins];
            (0..50_000).for_each(|_| counts[channel.randomise(input, &mut rng)] += 1);
            let declared: Vec<f64> =
                (0..num_bins).map(|output| probability(&channel, input, output)).collect();
            let p_value = goodness_of_fit(&counts, &declared);
            assert!(p_value > 1e-4, "epsilon {epsilon}, {num_bins} bins, input {input}: p = {p_value}");
        }
    }
}

#[test]
fn debiased_shares_are_unbiased_and_their_standard_errors_true() {
    let shares = [0.5, 0.3, 0.15, 0.05, 0.0];
    let (runs, devices) = (2_000, 400);
    let channel = Channel::new(1.0, shares.len()).unwrap();
    let mut rng = rng(7);
    let mut sums = [0.0; 5];
    let mut squares = [0.0; 5];
    let mut errors = [0.0; 5];
    for _ in 0..runs {
        let mut counts = [0_u64; 5];
        for _ in 0..devices {
            let truth = choose_weighted(&[50, 30, 15, 5, 0], &mut rng).unwrap();
            counts[channel.randomise(truth, &mut rng)] += 1;
        }
        let estimate = channel.debias(&counts);
        assert_eq!(estimate.num_answers, devices);
        for bin in 0..5 {
            sums[bin] += estimate.shares[bin];
            squares[bin] += estimate.shares[bin].powi(2);
            errors[bin] += estimate.standard_errors[bin];
        }
    }
    let n = f64::from(runs);
    for bin in 0..5 {
        let mean = sums[bin] / n;
        let spread = (squares[bin] / n - mean * mean).sqrt();
        let z = (mean - shares[bin]) / (spread / n.sqrt());
        assert!(z.abs() < 4.0, "bin {bin}: mean {mean}, z = {z}");
        let stated = errors[bin] / n;
        assert!((stated / spread - 1.0).abs() < 0.06, "bin {bin}: stated {stated}, observed {spread}");
    }
}

#[test]
fn without_answers_nothing_is_known() {
    let estimate = Channel::new(1.0, 3).unwrap().debias(&[0, 0, 0]);
    assert_eq!(estimate.shares, [0.0; 3]);
    assert!(estimate.standard_errors.iter().all(|error| error.is_infinite()));
}

#[test]
fn draws_are_uniform_and_weighted_draws_follow_their_weights() {
    let mut rng = rng(11);
    let mut counts = vec![0; 7];
    (0..70_000).for_each(|_| counts[choose(7, &mut rng)] += 1);
    assert!(goodness_of_fit(&counts, &[1.0 / 7.0; 7]) > 1e-4);

    let mut counts = vec![0; 3];
    (0..60_000)
        .for_each(|_| counts[choose_weighted(&[1, 0, 3, 2], &mut rng).unwrap().saturating_sub(1)] += 1);
    assert!(goodness_of_fit(&counts, &[1.0 / 6.0, 0.5, 2.0 / 6.0]) > 1e-4);
    assert_eq!(choose_weighted(&[0, 0], &mut rng), None);
    assert_eq!(choose_weighted(&[], &mut rng), None);
    assert_eq!(choose(0, &mut rng), 0);
}

#[test]
fn the_same_seed_gives_the_same_draws_on_every_platform() {
    let channel = Channel::new(2.0, 10).unwrap();
    let mut rng = rng_from_seed([42; 32]);
    let sent: Vec<usize> = (0..16).map(|bin| channel.randomise(bin % 10, &mut rng)).collect();
    assert_eq!(sent, SENT_BY_SEED_42);
}

/// What an independent implementation of ChaCha20 and of the sampling rule (plain Python) draws.
const SENT_BY_SEED_42: [usize; 16] = [0, 8, 5, 7, 4, 5, 6, 7, 5, 9, 5, 2, 9, 6, 4, 9];

#[test]
fn refuses_budgets_and_domains_out_of_range() {
    for (epsilon, num_bins) in [
        (0.0, 4),
        (-1.0, 4),
        (f64::NAN, 4),
        (f64::INFINITY, 4),
        (10.1, 4),
        (1e-12, 4),
        (1.0, 1),
        (1.0, 0),
        (1.0, 70_000),
    ] {
        let error = Channel::new(epsilon, num_bins).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "epsilon {epsilon}, {num_bins} bins");
    }
}

/// numpy 2.4.6: the square of the second singular value of `diag(p) ** -.5 @ joint @ diag(q) ** -.5`.
#[test]
fn answers_of_a_device_correlate_as_the_second_singular_value_says() {
    let channel = Channel::new(1.0, 4).unwrap();
    let even = channel.answer_correlation(&[0.25; 4]);
    assert!((even - channel.gain().powi(2)).abs() < 1e-9, "{even}");
    for (shares, expected) in [
        ([0.1, 0.2, 0.3, 0.4], 0.11190733721784012),
        ([0.9, 0.1, 0.0, 0.0], 0.05790396970942163),
        ([0.01, 0.01, 0.01, 0.97], 0.010558006306260867),
    ] {
        let found = channel.answer_correlation(&shares);
        assert!((found - expected).abs() < 1e-6, "{shares:?}: {found}, expected {expected}");
    }
}
