//! Distances agree with an independent implementation and hold their bounds.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use proptest::prelude::*;
use sanderling_sketch::distance::{effect, jensen_shannon, kolmogorov_smirnov, psi, wasserstein_bins};
use sanderling_sketch::noise::{Channel, Estimate, choose_weighted, rng_from_seed};
use sanderling_sketch::test::noised_counts_against_counts;
use serde::Deserialize;

const EVEN: [f64; 4] = [0.25; 4];

fn assert_close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= 1e-12 * expected.abs().max(1.0),
        "found {found}, expected {expected}"
    );
}

/// A pair of histograms with what scipy and Evidently say of the samples: `tests/bench/peers/distances.py` wrote it.
#[derive(Deserialize)]
struct Measured {
    before: Vec<u64>,
    now: Vec<u64>,
    chi_squared: Option<f64>,
    chi_squared_p_value: Option<f64>,
    kolmogorov_smirnov: f64,
    wasserstein: f64,
    evidently_psi: f64,
    evidently_jensen_shannon: f64,
    evidently_wasserstein_norm: f64,
}

#[test]
fn without_noise_everything_equals_scipy_and_evidently() {
    let cases: Vec<Measured> = serde_json::from_str(include_str!("distances.json")).unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let shares = |counts: &[u64]| {
            let total: u64 = counts.iter().sum();
            counts.iter().map(|count| *count as f64 / total as f64).collect::<Vec<_>>()
        };
        let (before, now) = (shares(&case.before), shares(&case.now));
        let moments =
            |power: i32| before.iter().enumerate().map(|(bin, p)| (bin as f64).powi(power) * p).sum::<f64>();
        let spread = (moments(2) - moments(1).powi(2)).sqrt();
        let equal = |found: f64, expected: f64| {
            assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{found} {expected}");
        };
        equal(psi(&now, &before), case.evidently_psi);
        equal(jensen_shannon(&now, &before), case.evidently_jensen_shannon);
        equal(wasserstein_bins(&now, &before), case.wasserstein);
        equal(wasserstein_bins(&now, &before) / spread, case.evidently_wasserstein_norm);
        equal(kolmogorov_smirnov(&now, &before), case.kolmogorov_smirnov);
        if let Some(expected) = case.chi_squared {
            let channel = Channel::new(1.0, now.len()).unwrap();
            let result = noised_counts_against_counts(&case.before, &case.now, &channel).unwrap();
            equal(result.statistic, expected);
            equal(result.p_value, case.chi_squared_p_value.unwrap());
        }
    }
}

#[test]
fn reads_short_negative_and_unscaled_shares_as_documented() {
    assert_close(jensen_shannon(&[1.0], &[0.0, 3.0]), 1.0);
    assert_close(wasserstein_bins(&[2.0], &[0.0, 0.0, 0.0, 2.0]), 3.0);
    assert_close(psi(&[0.5, 0.5, -0.2], &[0.5, 0.5, 0.0]), 0.0);
    assert!(jensen_shannon(&[0.0, 0.0], &[0.5, 0.5]).is_nan());
    assert!(kolmogorov_smirnov(&[0.0, 0.0], &[0.5, 0.5]).is_nan());
    assert_eq!(wasserstein_bins(&[], &[]), 0.0);
}

fn shares() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(0.0..1.0_f64, 6)
        .prop_filter("no mass", |shares| shares.iter().sum::<f64>() > 1e-3)
}

proptest! {
    #[test]
    fn distances_are_symmetric_bounded_and_zero_only_at_equality(p in shares(), q in shares(), r in shares()) {
        for distance in [psi, jensen_shannon, wasserstein_bins, kolmogorov_smirnov] {
            prop_assert!((distance(&p, &q) - distance(&q, &p)).abs() < 1e-9);
            prop_assert!(distance(&p, &q) >= 0.0);
            prop_assert!(distance(&p, &p).abs() < 1e-7);
        }
        prop_assert!(jensen_shannon(&p, &q) <= 1.0);
        prop_assert!(wasserstein_bins(&p, &q) <= 5.0);
        let detour = jensen_shannon(&p, &r) + jensen_shannon(&r, &q);
        prop_assert!(jensen_shannon(&p, &q) <= detour + 1e-9);
    }
}

#[test]
fn the_effect_is_what_noise_does_not_explain() {
    let channel = Channel::new(1.0, 4).unwrap();
    let mut rng = rng_from_seed([5; 32]);
    let mut mean_effect = |weights: &[u64], num_answers: u32| {
        let runs = 300;
        let sum: f64 = (0..runs)
            .map(|_| {
                let mut counts = [0; 4];
                for _ in 0..num_answers {
                    counts[channel.randomise(choose_weighted(weights, &mut rng).unwrap(), &mut rng)] += 1;
                }
                effect(&channel.debias(&counts), &Estimate::counted(&EVEN, 1_000_000))
            })
            .sum();
        sum / f64::from(runs)
    };
    // Noise alone makes the raw divergence of 200 answers 0.17 on average.
    let unchanged = mean_effect(&[1, 1, 1, 1], 200);
    assert!(unchanged < 0.09, "no change looks like {unchanged}");
    // The true chi-squared divergence of the shift is 0.2; noise would make it 0.217.
    let shifted = mean_effect(&[1, 2, 3, 4], 2_000);
    assert!((shifted - 0.2).abs() < 0.012, "a shift of 0.2 looks like {shifted}");
}

#[test]
fn without_answers_there_is_no_effect() {
    let nothing = Estimate { shares: vec![0.0; 4], standard_errors: vec![f64::INFINITY; 4], num_answers: 0 };
    assert_eq!(effect(&nothing, &Estimate::counted(&EVEN, 10)), 0.0);
    assert_eq!(effect(&Estimate::counted(&EVEN, 10), &nothing), 0.0);
}
