//! The test of choices by band alarms as often as it says, whatever bands do, and sees rates move.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::print_stdout, reason = "measured rates are worth reading")]

use sanderling_sketch::choices::compare_choices;
use sanderling_sketch::noise;
use sanderling_sketch::noise::{Channel, choose_weighted, rng_from_seed};
use sanderling_types::Code;

const RUNS: u32 = 2_000;

/// Counts `[2 * bands + 1]` of `n` devices behind the channel, of which a share `untold` was told of no outcome.
fn sent(
    bands: &[u64],
    rates: &[f64],
    untold: f64,
    n: u64,
    channel: &Channel,
    rng: &mut noise::Rng,
) -> Vec<u64> {
    let mut counts = vec![0; 2 * bands.len() + 1];
    for _ in 0..n {
        let band = choose_weighted(bands, rng).unwrap();
        let mut happens = |chance: f64| noise::choose(1_000_000, rng) < (chance * 1e6) as usize;
        let (chosen, untold) = (happens(rates[band]), happens(untold));
        let bin = if untold { 2 * bands.len() } else { 2 * band + usize::from(chosen) };
        counts[channel.randomise(bin, rng)] += 1;
    }
    counts
}

/// Runs in which equal rates look different under p 0.05; more devices than before are told of no outcome.
fn rejected(before: (&[u64], &[f64]), now: (&[u64], &[f64]), epsilon: f64, n: u64) -> u32 {
    let channel = Channel::new(epsilon, 7).unwrap();
    let mut rng = rng_from_seed([7; 32]);
    let mut run = || {
        let (a, b) = (
            sent(before.0, before.1, 0.1, n, &channel, &mut rng),
            sent(now.0, now.1, 0.4, n, &channel, &mut rng),
        );
        compare_choices(&a, &b, &channel).unwrap().test.p_value < 0.05
    };
    (0..RUNS).map(|_| u32::from(run())).sum()
}

/// 2000 runs at 0.05 give 100 rejections, 72 to 130 with probability 0.997.
#[test]
fn equal_rates_are_called_different_as_often_as_stated_even_where_bands_move() {
    let rates = [0.1, 0.3, 0.5];
    for (bands, epsilon) in [([1, 1, 1], 3.0), ([5, 3, 2], 3.0), ([1, 2, 2], 1.0), ([5, 3, 2], 10.0)] {
        let found = rejected((&[1, 1, 1], &rates), (&bands, &rates), epsilon, 4_000);
        println!("bands {bands:?}, epsilon {epsilon}: {found} of {RUNS}");
        assert!((72..=130).contains(&found), "{found}");
    }
    let never = [0.0; 3];
    let found = rejected((&[1, 1, 1], &never), (&[1, 1, 1], &never), 3.0, 4_000);
    assert!(found <= 130, "rates at their end are no evidence: {found}");
}

#[test]
fn rates_that_fall_are_seen_where_bands_stay() {
    let (even, rates) = ([1, 1, 1], [0.1, 0.3, 0.5]);
    let found = rejected((&even, &rates), (&even, &[0.1, 0.2, 0.3]), 3.0, 4_000);
    assert!(found >= RUNS * 95 / 100, "{found}");
}

/// Worked out by hand, without noise to speak of: rates 0.2 and 0.4, pooled 0.3 in the first band, 0.5 in the other.
#[test]
fn rates_and_statistic_are_those_of_two_proportions() {
    let channel = Channel::new(10.0, 5).unwrap();
    let test = compare_choices(&[400, 100, 250, 250, 0], &[300, 200, 250, 250, 0], &channel).unwrap();
    let close =
        |found: f64, expected: f64, within: f64| assert!((found - expected).abs() < within, "{found}");
    close(test.before[0].unwrap(), 0.2, 1e-3);
    close(test.now[0].unwrap(), 0.4, 1e-3);
    close(test.band_shares[0], 0.5, 1e-3);
    // (0.2 / sqrt(0.3 * 0.7 * 2 / 500))^2 = 47.62
    close(test.test.statistic, 47.62, 0.1);
    assert_eq!(test.test.degrees_of_freedom, 2);
    close(test.standard_errors[1][0], (0.21_f64 / 500.0).sqrt(), 1e-3);
    // Half of it (0.2^2 - 2 * 0.21 / 500) over the square of a mean rate of 0.35.
    close(test.effect(), 0.5 * (0.04 - 0.42 / 500.0) / 0.35_f64.powi(2), 2e-3);
    close(test.shares()[1].iter().sum::<f64>(), 1.0, 1e-9);
}

#[test]
fn what_is_rarely_chosen_drifts_when_it_is_not_chosen_any_more() {
    let channel = Channel::new(10.0, 5).unwrap();
    let effect = |now: &[u64]| compare_choices(&[9_500, 500, 9_500, 500, 0], now, &channel).unwrap().effect();
    assert!(effect(&[10_000, 0, 10_000, 0, 0]) > 0.9);
    assert!(effect(&[9_750, 250, 9_750, 250, 0]) > 0.2);
    assert!(effect(&[9_450, 550, 9_550, 450, 0]) < 0.02);
    assert_eq!(effect(&[19_000, 1_000, 950, 50, 40_000]), 0.0, "bands and silence are no concept");
}

#[test]
fn a_band_that_may_be_empty_says_nothing() {
    let channel = Channel::new(3.0, 5).unwrap();
    let test =
        compare_choices(&[4_000, 1_000, 180, 190, 185], &[4_000, 1_000, 190, 180, 185], &channel).unwrap();
    assert_eq!((test.now[1], test.test.degrees_of_freedom), (None, 1));
    let nothing = compare_choices(&[0; 5], &[0; 5], &channel).unwrap().test;
    assert_eq!((nothing.statistic, nothing.degrees_of_freedom, nothing.p_value), (0.0, 0, 1.0));
    let even = Channel::new(3.0, 4).unwrap();
    for (counts, channel) in [([1; 4].as_slice(), &even), (&[1; 3], &channel), (&[1; 7], &channel)] {
        assert_eq!(compare_choices(counts, counts, channel).unwrap_err().code(), Code::InvalidArgument);
    }
}
