//! The trend test agrees with independent implementations, alarms as often as it says, and sees small shifts.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::print_stdout, reason = "measured rates are worth reading")]

use sanderling_sketch::noise::{Channel, choose_weighted, rng_from_seed};
use sanderling_sketch::test::{TestResult, noised_counts_against_shares};
use sanderling_sketch::trend::{either, noised_trend_against_counts, noised_trend_against_shares};
use sanderling_types::Code;

const SHARES: [f64; 4] = [0.1, 0.2, 0.3, 0.4];

fn assert_close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs(), "found {found}, expected {expected}");
}

fn channel() -> Channel {
    Channel::new(2.0, 4).unwrap()
}

/// numpy 2.4.6 and scipy 1.17.1: `d ** 2 / v` with the difference `d` of mean ridits and its variance `v`, `chi2.sf(.., 1)`.
#[test]
fn a_baseline_gives_what_numpy_gives() {
    let noised = [175, 205, 290, 330];
    let result = noised_trend_against_shares(&noised, &SHARES, u64::MAX, &channel()).unwrap();
    assert_close(result.statistic, 0.7184958981699608);
    assert_close(result.p_value, 0.3966377254050123);
    assert_eq!(result.degrees_of_freedom, 1);
    let result = noised_trend_against_shares(&noised, &SHARES, 700, &channel()).unwrap();
    assert_close(result.statistic, 0.47679954683255227);
    assert_close(result.p_value, 0.48987557794844705);
}

/// scipy 1.17.1: `(n_a + n_b) * pearsonr(ridits, window).statistic ** 2`, `chi2.sf(.., 1)`: the Cochran-Armitage test.
#[test]
fn two_windows_give_the_cochran_armitage_test_of_scipy() {
    let result = noised_trend_against_counts(&[120, 90, 40, 50], &[200, 160, 150, 90], &channel()).unwrap();
    assert_close(result.statistic, 4.709681313375194);
    assert_close(result.p_value, 0.0299932111683008);
}

#[test]
fn too_few_answers_are_no_evidence_and_count_for_no_test() {
    let nothing = TestResult { statistic: 0.0, degrees_of_freedom: 0, p_value: 1.0 };
    let some = TestResult { statistic: 4.0, degrees_of_freedom: 1, p_value: 0.04 };
    let more = TestResult { statistic: 9.0, degrees_of_freedom: 3, p_value: 0.03 };
    assert_eq!(noised_trend_against_shares(&[0, 0, 0, 20], &SHARES, 10, &channel()).unwrap(), nothing);
    assert_eq!(noised_trend_against_counts(&[0, 0, 0, 20], &[50; 4], &channel()).unwrap(), nothing);
    assert_eq!((either(&some, &nothing), either(&nothing, &some)), (0.04, 0.04));
    assert_eq!((either(&some, &more), either(&nothing, &nothing)), (0.06, 1.0));
}

#[test]
fn refuses_what_does_not_belong_together() {
    let counts = [10, 20, 30, 40];
    let cases = [
        noised_trend_against_shares(&counts[..3], &SHARES, 9, &channel()),
        noised_trend_against_shares(&counts, &[0.5; 4], 9, &channel()),
        noised_trend_against_shares(&counts, &SHARES, 0, &channel()),
        noised_trend_against_counts(&counts, &counts[..3], &channel()),
    ];
    for result in cases {
        assert_eq!(result.unwrap_err().code(), Code::InvalidArgument);
    }
}

/// Share of windows in which the trend test, and the chi-squared test, have a p-value under `alpha`; devices hold
/// `truth` and the baseline is even.
fn rates(truth: &[u64; 5], alpha: f64, windows: u32) -> (f64, f64) {
    let channel = Channel::new(1.0, 5).unwrap();
    let (num_answers, num_devices) = (4_000, 5_000u32);
    let mut rng = rng_from_seed([9; 32]);
    let mut alarms = (0.0, 0.0);
    for _ in 0..windows {
        let mut baseline = [0.0; 5];
        for _ in 0..num_devices {
            baseline[choose_weighted(&[1; 5], &mut rng).unwrap()] += 1.0 / f64::from(num_devices);
        }
        let mut noised = [0; 5];
        for _ in 0..num_answers {
            noised[channel.randomise(choose_weighted(truth, &mut rng).unwrap(), &mut rng)] += 1;
        }
        let devices = u64::from(num_devices);
        let below = |result: TestResult| f64::from(u8::from(result.p_value < alpha)) / f64::from(windows);
        alarms.0 += below(noised_trend_against_shares(&noised, &baseline, devices, &channel).unwrap());
        alarms.1 += below(noised_counts_against_shares(&noised, &baseline, devices, &channel).unwrap());
    }
    alarms
}

#[test]
fn without_drift_the_false_alarm_rate_is_alpha() {
    let (alpha, windows) = (0.05, 1_000);
    let (trend, _) = rates(&[1; 5], alpha, windows);
    // 99.9 % of a binomial lie within 3.29 standard deviations.
    let spread = 3.29 * (alpha * (1.0 - alpha) / f64::from(windows)).sqrt();
    println!("{trend} of {windows} windows alarm");
    assert!((trend - alpha).abs() < spread, "{trend}");
}

#[test]
fn a_small_shift_along_the_bins_is_seen_where_bins_alone_hardly_show_it() {
    // A normal variable that moved up by 0.2 standard deviations, in quintiles of where it was.
    let (trend, chi_squared) = rates(&[149, 175, 194, 217, 265], 0.001, 200);
    println!("trend {trend}, chi-squared {chi_squared}");
    assert!(trend > chi_squared + 0.2, "trend {trend}, chi-squared {chi_squared}");
}
