//! Measures the drift verdict on simulated devices, with the code that judges real ones: how often it alarms without drift, which
//! shifts it sees, and whether debiased counts are right. Prints JSON; `./build.sh bench telemetry` makes docs/telemetry.md of it.
//!
//! `drift_figures [CURVE.svg]`
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of the benchmark"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::Instant;

use plotters::prelude::*;
use sanderling_collector::drift::{DriftReport, JudgedWindows, Options, judge_merged};
use sanderling_collector::{Merged, RegisteredBundle};
use sanderling_sketch::Histogram;
use sanderling_sketch::noise::{Channel, Rng, choose, choose_weighted, rng_from_seed};
use sanderling_types::{Baseline, BaselineField, FORMAT_VERSION, FieldKind, TelemetryConstants};
use serde_json::{Value, json};

/// Fields of the baseline, one of which a report answers.
const NUM_FIELDS: usize = 40;
/// Quintiles of a standard normal variable.
const EDGES: [f32; 4] = [-0.841_621_2, -0.253_347_1, 0.253_347_1, 0.841_621_2];
const NUM_BINS: usize = EDGES.len() + 1;
/// Users behind the baseline.
const BASELINE_DEVICES: u64 = 5_000;
const DAYS: u64 = 30;
const ALPHA: f64 = 0.01;

/// Devices whose values never change: what a device resembles itself most in.
#[derive(Clone, Copy)]
struct Fleet {
    num_devices: u64,
    epsilon: f64,
}

impl Fleet {
    fn channel(self) -> Channel {
        Channel::new(self.epsilon, NUM_BINS).unwrap()
    }

    /// A baseline as measured on other users of the same world.
    fn bundle(self, rng: &mut Rng) -> RegisteredBundle {
        let field = |at: usize| {
            let mut shares = [0u64; NUM_BINS];
            (0..BASELINE_DEVICES).for_each(|_| shares[choose(NUM_BINS, rng)] += 1);
            BaselineField {
                name: name(at),
                bins: FieldKind::Numeric { edges: EDGES.to_vec() },
                shares: Some(shares.iter().map(|count| *count as f64 / BASELINE_DEVICES as f64).collect()),
                num_devices: BASELINE_DEVICES,
            }
        };
        let fields = (0..NUM_FIELDS).map(field).collect();
        let baseline = Baseline { format_version: FORMAT_VERSION, fields }.encode();
        let telemetry = TelemetryConstants {
            epsilon: self.epsilon,
            fields_per_report: 1,
            ..TelemetryConstants::default()
        };
        RegisteredBundle::decode(&support::manifest(1, telemetry, &baseline).encode(), &baseline).unwrap()
    }

    /// Answers of `days` days to the fields under `num_simulated`, each device one a day; the others get what is expected of them.
    /// The first field is moved by `shift` standard deviations.
    fn answers(self, days: u64, shift: f64, num_simulated: usize, rng: &mut Rng) -> Vec<Vec<u64>> {
        let channel = self.channel();
        let expected = self.num_devices * days / (NUM_FIELDS * NUM_BINS) as u64;
        let mut counts = vec![vec![0; NUM_BINS]; NUM_FIELDS];
        counts[num_simulated..].iter_mut().for_each(|field| field.fill(expected));
        let shifted = weights(shift);
        for _ in 0..self.num_devices {
            let mut bins = [None; NUM_FIELDS];
            for _ in 0..days {
                let field = choose(NUM_FIELDS, rng);
                if field >= num_simulated {
                    continue;
                }
                let bin = *bins[field].get_or_insert_with(|| match field {
                    0 => choose_weighted(&shifted, rng).unwrap(),
                    _ => choose(NUM_BINS, rng),
                });
                counts[field][channel.randomise(bin, rng)] += 1;
            }
        }
        counts
    }
}

fn name(field: usize) -> String {
    format!("feature.f{field}")
}

/// Shares of a moved normal variable in the bins, in billionths.
fn weights(shift: f64) -> [u64; NUM_BINS] {
    let below = |edge: f64| 0.5 * erfc((shift - edge) / std::f64::consts::SQRT_2);
    let mut ends: Vec<f64> = EDGES.iter().map(|edge| below(f64::from(*edge))).collect();
    ends.push(1.0);
    let mut start = 0.0;
    std::array::from_fn(|bin| {
        let share = ends[bin] - start;
        start = ends[bin];
        (share * 1e9).round() as u64
    })
}

/// Abramowitz and Stegun 7.1.26: to 1.5e-7, far under what shares of a simulation need.
fn erfc(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.327_591_1 * x.abs());
    let poly = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let tail = poly.iter().fold(0.0, |sum, factor| (sum + factor) * t) * (-x * x).exp();
    if x >= 0.0 { tail } else { 2.0 - tail }
}

fn merged(counts: &[Vec<u64>], num_windows: u64) -> Merged {
    let answers: BTreeMap<String, Histogram> = counts
        .iter()
        .enumerate()
        .map(|(at, counts)| (name(at), Histogram::from_counts(counts.clone())))
        .collect();
    let num_reports = answers.values().map(Histogram::total).sum();
    Merged { num_windows, num_reports, answers }
}

fn verdict(bundle: &RegisteredBundle, merged: &Merged) -> DriftReport {
    let options = Options { alpha: ALPHA, ..Options::default() };
    judge_merged(bundle, JudgedWindows { starts: &(0..1), merged }, None, &[], &options).unwrap()
}

/// Sums of `run` over `runs` numbers, on all processors; the same whatever their number.
fn count<const N: usize>(runs: u64, run: impl Fn(u64) -> [bool; N] + Sync) -> [u64; N] {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let part = |thread: u64| {
        let mut sums = [0; N];
        for number in (thread..runs).step_by(threads as usize) {
            let results = run(number);
            sums.iter_mut().zip(results).for_each(|(sum, result)| *sum += u64::from(result));
        }
        sums
    };
    let part = &part;
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        parts.into_iter().fold([0; N], |mut sums, part| {
            sums.iter_mut().zip(part.join().unwrap()).for_each(|(sum, part)| *sum += part);
            sums
        })
    })
}

fn seed(case: u8, run: u64) -> Rng {
    let mut seed = [case; 32];
    seed[..8].copy_from_slice(&run.to_le_bytes());
    rng_from_seed(seed)
}

/// Months of a fleet in which nothing drifts.
fn false_alarms() -> Value {
    let (windows, fleet) = (2_000, Fleet { num_devices: 10_000, epsilon: 1.0 });
    let [shifted, drifted] = count(windows, |run| {
        let mut rng = seed(1, run);
        let bundle = fleet.bundle(&mut rng);
        let report = verdict(&bundle, &merged(&fleet.answers(DAYS, 0.0, NUM_FIELDS, &mut rng), DAYS));
        [report.shifted, report.drifted]
    });
    json!({ "windows": windows, "fields": NUM_FIELDS, "devices": fleet.num_devices, "days": DAYS, "epsilon": fleet.epsilon, "alpha": ALPHA,
        "alarms": shifted, "drifts": drifted })
}

/// After two calm months one field moves; at the end of each month the last three are judged together. How often the shift is seen by
/// the end of the first, second and third month, and called drift by the third.
fn power(fleet: Fleet, shift: f64, runs: u64) -> [u64; 4] {
    count(runs, |run| {
        let mut rng = seed(2, run);
        let bundle = fleet.bundle(&mut rng);
        let mut months = vec![fleet.answers(DAYS, 0.0, 1, &mut rng), fleet.answers(DAYS, 0.0, 1, &mut rng)];
        let mut seen = [false; 4];
        for month in 0..3 {
            months.push(fleet.answers(DAYS, shift, 1, &mut rng));
            let last = &months[months.len() - 3..];
            let sums: Vec<Vec<u64>> = (0..NUM_FIELDS)
                .map(|field| {
                    (0..NUM_BINS).map(|bin| last.iter().map(|month| month[field][bin]).sum()).collect()
                })
                .collect();
            let report = verdict(&bundle, &merged(&sums, 3 * DAYS));
            seen[month] = report.fields[0].shifted || (month > 0 && seen[month - 1]);
            seen[3] |= report.fields[0].drifted;
        }
        seen
    })
}

/// Debiased shares of 1,000 answers in 1,000 runs: the farthest mean from the truth in standard errors, and the measured variance over
/// that of the formula.
fn debiasing() -> Value {
    let (runs, num_answers, truth) = (1_000u64, 1_000u64, [50u64, 25, 15, 10, 0]);
    let cases = [0.5, 1.0, 3.0].map(|epsilon| {
        let channel = Channel::new(epsilon, truth.len()).unwrap();
        let mut rng = seed(3, epsilon.to_bits());
        let (mut sums, mut squares) = ([0.0; NUM_BINS], [0.0; NUM_BINS]);
        for _ in 0..runs {
            let mut counts = vec![0; NUM_BINS];
            for _ in 0..num_answers {
                counts[channel.randomise(choose_weighted(&truth, &mut rng).unwrap(), &mut rng)] += 1;
            }
            for (bin, share) in channel.debias(&counts).shares.into_iter().enumerate() {
                let error = share - truth[bin] as f64 / 100.0;
                sums[bin] += error;
                squares[bin] += error * error;
            }
        }
        let by_bin = (0..NUM_BINS).map(|bin| {
            let sent = channel.apply(&truth.map(|count| count as f64 / 100.0))[bin];
            let variance = sent * (1.0 - sent) / num_answers as f64 / channel.gain().powi(2);
            (sums[bin] / runs as f64 / (variance / runs as f64).sqrt(), squares[bin] / runs as f64 / variance)
        });
        let by_bin: Vec<(f64, f64)> = by_bin.collect();
        json!({ "epsilon": epsilon, "z": by_bin.iter().map(|(z, _)| *z).collect::<Vec<_>>(),
            "variance_ratio": by_bin.iter().map(|(_, ratio)| *ratio).collect::<Vec<_>>() })
    });
    json!({ "runs": runs, "answers": num_answers, "cases": cases })
}

/// Share of runs in which a shift was seen within three months, by shift; a line for each fleet.
fn draw(path: &str, lines: &[(Fleet, Vec<(f64, f64)>)]) {
    let root = SVGBackend::new(path, (760, 420)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..0.52, 0.0..1.0)
        .unwrap();
    let mesh = &mut chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .x_desc("shift of one field, standard deviations")
        .y_desc("seen within three months")
        .draw()
        .unwrap();
    let colours = [RGBColor(0x0a, 0x6c, 0x8c), RGBColor(0xc2, 0x57, 0x1a), RGBColor(0x4a, 0x7d, 0x2c)];
    for (at, (fleet, points)) in lines.iter().enumerate() {
        let style = colours[at / 3].stroke_width([1, 2, 3][at % 3]);
        let label = format!("{} devices, epsilon {}", fleet.num_devices, fleet.epsilon);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))
            .unwrap()
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    let labels = &mut chart.configure_series_labels();
    labels
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()
        .unwrap();
    root.present().unwrap();
}

fn main() {
    let start = Instant::now();
    let false_alarms = false_alarms();
    eprintln!("false alarms: {:?}", start.elapsed());
    let fleet = Fleet { num_devices: 10_000, epsilon: 1.0 };
    let runs = 400;
    let seen = power(fleet, 0.2, runs);
    eprintln!("power: {:?}", start.elapsed());
    let mut lines = Vec::new();
    for epsilon in [0.5, 1.0, 3.0] {
        for num_devices in [1_000, 10_000, 50_000] {
            let fleet = Fleet { num_devices, epsilon };
            let runs = (1_000_000 / num_devices).clamp(40, 100);
            let shares = [0.05, 0.1, 0.2, 0.3, 0.5]
                .map(|shift| (shift, power(fleet, shift, runs)[2] as f64 / runs as f64));
            eprintln!("{num_devices} devices, epsilon {epsilon}: {:?}", start.elapsed());
            lines.push((fleet, shares.to_vec()));
        }
    }
    if let Some(path) = std::env::args().nth(1) {
        draw(&path, &lines);
    }
    let curve = lines.iter().map(
        |(fleet, points)| json!({ "devices": fleet.num_devices, "epsilon": fleet.epsilon, "points": points }),
    );
    let out = json!({
        "false_alarms": false_alarms,
        "power": { "runs": runs, "shift": 0.2, "devices": fleet.num_devices, "epsilon": fleet.epsilon, "seen_by_month": &seen[..3], "drift": seen[3] },
        "curve": curve.collect::<Vec<_>>(),
        "debiasing": debiasing(),
    });
    println!("{out:#}");
}
