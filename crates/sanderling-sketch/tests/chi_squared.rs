//! The tests agree with independent implementations, alarm as often as they say, and see shifts.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::print_stdout, reason = "measured rates are worth reading")]

use sanderling_sketch::noise::{Channel, Rng, choose_weighted, rng_from_seed};
use sanderling_sketch::test::{
    TestResult, holm, noised_counts_against_counts, noised_counts_against_shares, normal_bound,
};
use sanderling_types::Code;

const SHARES: [f64; 4] = [0.1, 0.2, 0.3, 0.4];

fn assert_close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs(), "found {found}, expected {expected}");
}

fn channel() -> Channel {
    Channel::new(2.0, 4).unwrap()
}

/// scipy 1.17.1: `scipy.stats.chisquare(observed, n * (lie + gain * shares))`.
#[test]
fn an_exactly_known_baseline_gives_pearsons_test_of_scipy() {
    let result = noised_counts_against_shares(&[175, 205, 290, 330], &SHARES, u64::MAX, &channel()).unwrap();
    // The variance is estimated from answers and baseline together; with this many devices behind
    // the baseline that is the baseline.
    assert_close(result.statistic, 3.5549538679811477);
    assert_close(result.p_value, 0.31370441815208916);
    assert_eq!(result.degrees_of_freedom, 3);
}

/// numpy 2.4.6 and scipy 1.17.1: `d @ pinv(S) @ d` and `chi2.sf(.., 3)` with the covariance `S` of
/// 1,000 answers and 700 devices, both multinomial around the pooled estimate.
#[test]
fn a_sampled_baseline_widens_the_test_as_numpy_says() {
    let result = noised_counts_against_shares(&[175, 205, 290, 330], &SHARES, 700, &channel()).unwrap();
    assert_close(result.statistic, 2.4405495839150273);
    assert_close(result.p_value, 0.48613096810824696);
}

/// scipy 1.17.1: `scipy.stats.chi2_contingency([a, b], correction=False)`.
#[test]
fn two_windows_give_the_contingency_test_of_scipy() {
    let result = noised_counts_against_counts(&[120, 90, 40, 50], &[200, 160, 150, 90], &channel()).unwrap();
    assert_close(result.statistic, 16.55187969924812);
    assert_close(result.p_value, 0.000873695947699457);
    assert_eq!(result.degrees_of_freedom, 3);
}

/// scipy 1.17.1: `scipy.stats.norm.isf(alpha)`.
#[test]
fn bounds_of_a_normal_variable_equal_scipy() {
    for (alpha, expected) in
        [(0.01, 2.3263478740408408), (0.05, 1.6448536269514729), (0.0001, 3.719016485455709)]
    {
        assert_close(normal_bound(alpha), expected);
    }
}

/// statsmodels 0.15.0: `statsmodels.stats.multitest.multipletests(p, method='holm')`.
#[test]
fn holm_equals_statsmodels() {
    let adjusted = holm(&[0.001, 0.04, 0.03, 0.5, 0.0001, 0.03]);
    for (found, expected) in adjusted.iter().zip([0.005, 0.12, 0.12, 0.5, 0.0006, 0.12]) {
        assert_close(*found, expected);
    }
    assert_eq!(holm(&[]), Vec::<f64>::new());
    assert_eq!(holm(&[f64::NAN, 0.01]), [1.0, 0.02]);
}

#[test]
fn sparse_bins_are_tested_together() {
    let shares = [0.495, 0.495, 0.005, 0.005];
    let channel = Channel::new(10.0, 4).unwrap();
    let result = noised_counts_against_shares(&[297, 297, 3, 3], &shares, 1_000_000, &channel).unwrap();
    assert_eq!(result.degrees_of_freedom, 2, "two dense bins and one pooled");
    assert!(result.p_value > 0.99);
}

#[test]
fn too_few_answers_are_no_evidence() {
    let nothing = TestResult { statistic: 0.0, degrees_of_freedom: 0, p_value: 1.0 };
    assert_eq!(noised_counts_against_shares(&[0; 4], &SHARES, 10, &channel()).unwrap(), nothing);
    assert_eq!(noised_counts_against_shares(&[0, 0, 0, 4], &SHARES, 10, &channel()).unwrap(), nothing);
    assert_eq!(noised_counts_against_counts(&[0; 4], &[0; 4], &channel()).unwrap(), nothing);
    assert_eq!(noised_counts_against_counts(&[0; 4], &[50; 4], &channel()).unwrap(), nothing);
}

#[test]
fn refuses_what_does_not_belong_together() {
    let counts = [1, 2, 3, 4];
    let cases = [
        noised_counts_against_shares(&counts[..3], &SHARES, 9, &channel()),
        noised_counts_against_shares(&counts, &SHARES[..3], 9, &channel()),
        noised_counts_against_shares(&counts, &[0.5; 4], 9, &channel()),
        noised_counts_against_shares(&counts, &[1.5, -0.5, 0.0, 0.0], 9, &channel()),
        noised_counts_against_shares(&counts, &[f64::NAN; 4], 9, &channel()),
        noised_counts_against_shares(&counts, &SHARES, 0, &channel()),
        noised_counts_against_counts(&counts[..3], &counts, &channel()),
        noised_counts_against_counts(&counts, &counts[..3], &channel()),
    ];
    for result in cases {
        assert_eq!(result.unwrap_err().code(), Code::InvalidArgument);
    }
}

/// How many of `windows` alarm at level 0.05 when devices hold `truth` and the baseline's own
/// `num_devices` hold `SIMULATED`; `None` compares with a second window instead.
struct Simulation {
    truth: [u64; 6],
    epsilon: f64,
    num_answers: u64,
    num_devices: Option<u64>,
    seed: u8,
}

const SIMULATED: [u64; 6] = [40, 30, 15, 10, 4, 1];
const ALPHA: f64 = 0.05;

impl Simulation {
    fn noised(&self, truth: &[u64; 6], channel: &Channel, rng: &mut Rng) -> [u64; 6] {
        let mut counts = [0; 6];
        for _ in 0..self.num_answers {
            counts[channel.randomise(choose_weighted(truth, rng).unwrap(), rng)] += 1;
        }
        counts
    }

    fn window(&self, channel: &Channel, rng: &mut Rng) -> TestResult {
        let answers = self.noised(&self.truth, channel, rng);
        let Some(num_devices) = self.num_devices else {
            let before = self.noised(&SIMULATED, channel, rng);
            return noised_counts_against_counts(&before, &answers, channel).unwrap();
        };
        let mut baseline = [0.0; 6];
        for _ in 0..num_devices {
            baseline[choose_weighted(&SIMULATED, rng).unwrap()] += 1.0 / num_devices as f64;
        }
        noised_counts_against_shares(&answers, &baseline, num_devices, channel).unwrap()
    }

    fn alarms(&self, windows: u32) -> f64 {
        let channel = Channel::new(self.epsilon, 6).unwrap();
        let mut rng = rng_from_seed([self.seed; 32]);
        f64::from((0..windows).filter(|_| self.window(&channel, &mut rng).p_value < ALPHA).count() as u32)
    }
}

#[test]
fn without_drift_the_false_alarm_rate_is_alpha() {
    let windows = 2_000;
    // 99.9 % of a binomial(2000, 0.05) lie within 3.29 standard deviations.
    let spread = 3.29 * (f64::from(windows) * ALPHA * (1.0 - ALPHA)).sqrt();
    for (epsilon, num_answers, num_devices) in [
        (2.0, 600, Some(400)),
        (2.0, 600, Some(5_000)),
        (0.5, 800, Some(5_000)),
        (6.0, 400, Some(300)),
        (1.0, 500, None),
    ] {
        let simulation = Simulation { truth: SIMULATED, epsilon, num_answers, num_devices, seed: 3 };
        let (alarms, expected) = (simulation.alarms(windows), f64::from(windows) * ALPHA);
        println!("epsilon {epsilon}, {num_answers} answers, {num_devices:?} devices: {alarms} of {windows}");
        assert!(
            (alarms - expected).abs() < spread,
            "epsilon {epsilon}, {num_devices:?} devices: {alarms} alarms"
        );
    }
}

#[test]
fn a_shift_of_a_fifth_of_the_mass_is_seen() {
    let truth = [20, 30, 15, 10, 24, 1];
    for num_devices in [Some(2_000), None] {
        let simulation = Simulation { truth, epsilon: 2.0, num_answers: 1_000, num_devices, seed: 4 };
        let power = simulation.alarms(300) / 300.0;
        println!("{num_devices:?} devices: power {power}");
        assert!(power > 0.95, "{num_devices:?} devices: power {power}");
    }
}
