//! The test inside of segments alarms as often as it says, whatever bands do, and sees rates move.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::print_stdout, reason = "measured rates are worth reading")]

use sanderling_sketch::noise;
use sanderling_sketch::noise::{Channel, choose_weighted, rng_from_seed};
use sanderling_sketch::segments::{Segments, SegmentsTest, Side, compare_segments};
use sanderling_sketch::{distance, test};
use sanderling_types::Code;

const RUNS: u32 = 2_000;

/// Two windows whose bands have two bins each, and a last bin for devices that were told of no outcome.
fn choices(before: &[u64], now: &[u64], channel: &Channel) -> SegmentsTest {
    let side = |counts| Side::noised(counts, 1.0, channel, 0).unwrap();
    compare_segments(&side(before), &side(now), Segments { num: now.len() / 2, len: 2 }).unwrap()
}

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
        choices(&a, &b, &channel).test.p_value < 0.05
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
    let test = choices(&[400, 100, 250, 250, 0], &[300, 200, 250, 250, 0], &channel);
    let close =
        |found: f64, expected: f64, within: f64| assert!((found - expected).abs() < within, "{found}");
    let [before, now] = test.segments[0].inside.as_ref().unwrap();
    close(before.shares[1], 0.2, 1e-3);
    close(now.shares[1], 0.4, 1e-3);
    close(test.segments[0].shares[0], 0.5, 1e-3);
    // (0.2 / sqrt(0.3 * 0.7 * 2 / 500))^2 = 47.62
    close(test.test.statistic, 47.62, 0.1);
    assert_eq!(test.test.degrees_of_freedom, 2);
    close(test.segments[0].test.statistic, 47.62, 0.1);
    assert_eq!(test.segments[1].test.degrees_of_freedom, 1);
    close(now.standard_errors[1], (0.21_f64 / 500.0).sqrt(), 1e-3);
    // Half of 0.2^2, less the noise of both bands, over the square of a mean rate of 0.35.
    close(test.rate_effect(), 0.5 * (0.04 - 0.42 / 500.0 - 0.5 / 500.0) / 0.35_f64.powi(2), 2e-3);
    close(test.segments[0].effect(), (0.04 - 0.42 / 500.0) * (1.0 / 0.2 + 1.0 / 0.8), 5e-3);
    close(test.effect(), test.segments[0].effect() / 2.0, 5e-3);
    close(test.shares()[1].iter().sum::<f64>(), 1.0, 1e-9);
}

#[test]
fn what_is_rarely_chosen_drifts_when_it_is_not_chosen_any_more() {
    let channel = Channel::new(10.0, 5).unwrap();
    let effect = |now: &[u64]| choices(&[9_500, 500, 9_500, 500, 0], now, &channel).rate_effect();
    assert!(effect(&[10_000, 0, 10_000, 0, 0]) > 0.9);
    assert!(effect(&[9_750, 250, 9_750, 250, 0]) > 0.2);
    assert!(effect(&[9_450, 550, 9_550, 450, 0]) < 0.02);
    assert_eq!(effect(&[19_000, 1_000, 950, 50, 40_000]), 0.0, "bands and silence are no concept");
}

#[test]
fn a_band_that_may_be_empty_says_nothing() {
    let channel = Channel::new(3.0, 5).unwrap();
    let test = choices(&[4_000, 1_000, 180, 190, 185], &[4_000, 1_000, 190, 180, 185], &channel);
    assert_eq!((test.segments[1].inside.as_ref(), test.test.degrees_of_freedom), (None, 1));
    let nothing = choices(&[0; 5], &[0; 5], &channel).test;
    assert_eq!((nothing.statistic, nothing.degrees_of_freedom, nothing.p_value), (0.0, 0, 1.0));
}

/// Of what few devices did, nothing is told; and of segments that nobody may be in, no shares.
#[test]
fn too_few_answers_of_a_segment_tell_nothing() {
    let channel = Channel::new(10.0, 5).unwrap();
    let counts = [60, 39, 600, 400, 10];
    let rate = |min_answers| Side::noised(&counts, 1.0, &channel, min_answers).unwrap().rate(2, &[1]);
    assert_eq!(rate(100), None);
    let (value, error) = rate(95).unwrap();
    assert!((value - 39.0 / 99.0).abs() < 0.01);
    let repeated = Side::noised(&counts, 4.0, &channel, 95).unwrap();
    let (same, twice) = repeated.rate(2, &[1]).unwrap();
    assert!(
        (same - value).abs() < 1e-12 && (twice - 2.0 * error).abs() < 1e-12,
        "answers count, and errors know"
    );
    let all = Side::noised(&counts, 1.7, &channel, 1_109).unwrap();
    assert!(
        all.rate(5, &[1]).is_some()
            && Side::noised(&counts, 1.7, &channel, 1_110).unwrap().rate(5, &[1]).is_none()
    );
    let told = |min_answers| {
        let side = || Side::noised(&counts, 1.0, &channel, min_answers).unwrap();
        let test = compare_segments(&side(), &side(), Segments { num: 2, len: 2 }).unwrap();
        test.segments.iter().map(|one| one.inside.is_some()).collect::<Vec<bool>>()
    };
    assert_eq!([told(95), told(100)], [[true, true], [false, true]]);
    let nobody = choices(&counts, &[0, 0, 0, 0, 1_000], &channel);
    assert_eq!((nobody.segments.len(), nobody.test.degrees_of_freedom), (0, 0));
    let noise = Channel::new(0.5, 5).unwrap();
    let nobody = choices(&[70, 68, 71, 66, 90], &[70, 68, 71, 66, 90], &noise);
    assert_eq!(nobody.segments.len(), 0, "shares of a sum that may be 0 could be anything");
}

/// The mean over 2000 runs without a change, with rates of 0.2: a clamp of each segment by itself would make 0.07 of it.
#[test]
fn noise_is_no_effect_on_average() {
    let (channel, mut rng) = (Channel::new(3.0, 11).unwrap(), rng_from_seed([4; 32]));
    let (even, rates) = ([1; 5], [0.2; 5]);
    let mut sum = 0.0;
    for _ in 0..RUNS {
        let before = sent(&even, &rates, 0.3, 4_000, &channel, &mut rng);
        let now = sent(&even, &rates, 0.3, 1_000, &channel, &mut rng);
        sum += choices(&before, &now, &channel).rate_effect() / f64::from(RUNS);
    }
    println!("mean effect {sum:.4}");
    assert!(sum < 0.055, "{sum}");
}

/// One segment of all bins but the last has the statistic of the usual test of homogeneity, where nobody falls into the last one and noise is next to none.
#[test]
fn one_segment_is_the_usual_test() {
    let (a, b) = ([500, 300, 150, 50, 0], [450, 300, 170, 80, 0]);
    let channel = Channel::new(10.0, 5).unwrap();
    let side = |counts| Side::noised(counts, 1.0, &channel, 0).unwrap();
    let found = compare_segments(&side(&a), &side(&b), Segments { num: 1, len: 4 }).unwrap();
    let four = Channel::new(10.0, 4).unwrap();
    let usual = test::noised_counts_against_counts(&a[..4], &b[..4], &four).unwrap();
    assert_eq!(found.test.degrees_of_freedom, usual.degrees_of_freedom);
    assert!((found.test.statistic / usual.statistic - 1.0).abs() < 0.02, "{found:?} {usual:?}");
    let usual = distance::effect(&four.debias(&b[..4]), &four.debias(&a[..4]));
    assert!((found.effect() / usual - 1.0).abs() < 0.1, "{} {usual}", found.effect());
}

/// Three segments of three bins: one is twice as frequent as at training time, another prefers its first bin now, and the third does neither.
#[test]
fn what_moves_inside_is_told_from_what_becomes_more_frequent() {
    let before = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1];
    let now = [3_000, 3_000, 3_000, 2_400, 600, 600, 1_200, 1_200, 1_200, 1_800];
    let (channel, mut rng) = (Channel::new(3.0, 10).unwrap(), rng_from_seed([3; 32]));
    let mut counts = vec![0; 10];
    for (bin, devices) in now.iter().enumerate() {
        (0..*devices).for_each(|_| counts[channel.randomise(bin, &mut rng)] += 1);
    }
    let sides = [Side::counted(&before, 5_000), Side::noised(&counts, 1.0, &channel, 0).unwrap()];
    let found = compare_segments(&sides[0], &sides[1], Segments { num: 3, len: 3 }).unwrap();
    let seen: Vec<bool> = found.segments.iter().map(|one| one.test.p_value < 0.001).collect();
    assert_eq!(seen, [false, true, false], "{found:?}");
    assert!(found.segments[1].effect() > 0.3 && found.segments[0].effect() < 0.02, "{found:?}");
    let [before, now] = found.segments[0].shares;
    assert!((before - 1.0 / 3.0).abs() < 1e-9 && (now - 9.0 / 16.2).abs() < 0.03, "{before} {now}");
}

/// Conditional shares behind noise against a baseline: 2000 runs at 0.05 give 100 rejections, 72 to 130 with probability 0.997.
#[test]
fn a_baseline_is_called_different_as_often_as_stated() {
    let weights = [4, 2, 2, 1, 3, 0, 2, 1, 5];
    let total: u64 = weights.iter().sum();
    let (channel, mut rng) = (Channel::new(2.0, weights.len()).unwrap(), rng_from_seed([5; 32]));
    let (devices, answers) = (3_000, 6_000);
    let mut wrong = 0;
    for _ in 0..RUNS {
        let mut drawn = vec![0.0; weights.len()];
        (0..devices)
            .for_each(|_| drawn[choose_weighted(&weights, &mut rng).unwrap()] += 1.0 / devices as f64);
        let mut counts = vec![0; weights.len()];
        // Only what is inside of the segments is as before: the first one is half as frequent.
        let mut now = weights.map(|weight| 2 * weight);
        now[..4].iter_mut().for_each(|weight| *weight /= 2);
        for _ in 0..answers {
            counts[channel.randomise(choose_weighted(&now, &mut rng).unwrap(), &mut rng)] += 1;
        }
        let (before, now) =
            (Side::counted(&drawn, devices), Side::noised(&counts, 1.0, &channel, 0).unwrap());
        let found = compare_segments(&before, &now, Segments { num: 2, len: 4 }).unwrap();
        wrong += u32::from(found.test.p_value < 0.05);
    }
    println!("{wrong} of {RUNS} with {total} parts");
    assert!((72..=130).contains(&wrong), "{wrong}");
}

/// The standard errors of [`Side::rate`] are those that 1000 runs have.
#[test]
fn shares_inside_are_unbiased_and_as_exact_as_they_say() {
    let (weights, answers) = ([6, 3, 1, 10], 4_000);
    let (channel, mut rng) = (Channel::new(1.5, 4).unwrap(), rng_from_seed([9; 32]));
    let runs = 1_000;
    let (mut sum, mut squares, mut stated) = ([0.0; 3], [0.0; 3], [0.0; 3]);
    for _ in 0..runs {
        let mut counts = vec![0; 4];
        for _ in 0..answers {
            counts[channel.randomise(choose_weighted(&weights, &mut rng).unwrap(), &mut rng)] += 1;
        }
        let side = Side::noised(&counts, 1.0, &channel, 0).unwrap();
        for (at, chosen) in [&[0][..], &[2], &[1, 2]].into_iter().enumerate() {
            let (rate, error) = side.rate(3, chosen).unwrap();
            sum[at] += rate / f64::from(runs);
            squares[at] += rate.powi(2) / f64::from(runs);
            stated[at] += error / f64::from(runs);
        }
    }
    for (bin, truth) in [0.6, 0.1, 0.4].into_iter().enumerate() {
        let error = (squares[bin] - sum[bin].powi(2)).sqrt();
        assert!((sum[bin] - truth).abs() < 4.0 * error / f64::from(runs).sqrt(), "{bin}: {}", sum[bin]);
        assert!((stated[bin] / error - 1.0).abs() < 0.1, "{bin}: {} stated, {error} found", stated[bin]);
    }
}

#[test]
fn segments_that_do_not_fit_are_refused() {
    let (side, other) = (Side::counted(&[0.25; 4], 10), Side::counted(&[0.2; 5], 10));
    let segments = |num, len| Segments { num, len };
    for (now, segments) in
        [(&side, segments(3, 2)), (&side, segments(0, 2)), (&side, segments(4, 1)), (&other, segments(2, 2))]
    {
        assert_eq!(compare_segments(&side, now, segments).unwrap_err().code(), Code::InvalidArgument);
    }
    let channel = Channel::new(3.0, 4).unwrap();
    assert_eq!(Side::noised(&[1; 3], 1.0, &channel, 0).unwrap_err().code(), Code::InvalidArgument);
}
