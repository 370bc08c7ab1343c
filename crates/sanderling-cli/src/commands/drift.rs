//! `sanderling drift`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;
use sanderling_collector::drift::{DriftReport, FieldDrift, Move, Options, judge, last_windows};
use sanderling_collector::{Reader, RegisteredBundle};
use sanderling_types::{Code, Error, Result};

use crate::location::StoreArgument;
use crate::output::{Output, Verdict};
use crate::report;

/// Compare what devices reported in the last windows with the bundle's baseline; exit 1 on drift, 2
/// when no field has enough answers to be judged.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling drift --store reports.db --bundle bundles/shop\n  \
    sanderling drift --store reports.db --bundle bundles/shop --from 1767225600 --to 1767830400 --json\n  \
    sanderling drift --store reports.db --bundle bundles/shop --html drift.html\n  \
    sanderling drift --store reports.db --bundle bundles/shop --reference-from 1764547200 --reference-to 1767225600")]
pub(crate) struct Drift {
    /// Database of the collector, as for `collect`.
    #[arg(long, value_name = "FILE_OR_URL")]
    store: StoreArgument,
    /// Bundle folder.
    #[arg(long, value_name = "BUNDLE")]
    bundle: PathBuf,
    #[command(flatten)]
    windows: WindowArgs,
    /// First window start of calm windows, Unix seconds. What training has no counterpart of (outcomes, calibration, latency,
    /// faults) is compared with them, by default with the 28 windows before the judged ones; and no field drifts by less than
    /// it does in them, if they are at least twice as long as what is judged.
    #[arg(long, value_name = "SECONDS", requires = "reference_to")]
    reference_from: Option<i64>,
    /// First window start after the calm windows, Unix seconds.
    #[arg(long, value_name = "SECONDS", requires = "reference_from")]
    reference_to: Option<i64>,
    /// Probability that any field shifts by chance.
    #[arg(long, default_value_t = 0.01)]
    alpha: f64,
    /// Smallest effect of a shift that is drift, on the scale of the population stability index.
    #[arg(long, default_value_t = 0.1)]
    min_effect: f64,
    /// Also write a page with a chart of every field; needs no network.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Which windows to add up.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct WindowArgs {
    /// How many windows to add up, ending with the latest that has reports.
    #[arg(long, value_name = "N", default_value_t = 7, conflicts_with_all = ["from", "to"],
        value_parser = clap::value_parser!(u32).range(1..))]
    windows: u32,
    /// First window start to include, Unix seconds; instead of --windows.
    #[arg(long, value_name = "SECONDS")]
    from: Option<i64>,
    /// First window start to leave out, Unix seconds; instead of --windows.
    #[arg(long, value_name = "SECONDS")]
    to: Option<i64>,
}

impl WindowArgs {
    /// The range of window starts.
    pub(crate) fn range(self, reader: &Reader, bundle: &RegisteredBundle) -> Result<Range<i64>> {
        if self.from.is_some() || self.to.is_some() {
            return Ok(self.from.unwrap_or(0)..self.to.unwrap_or(i64::MAX));
        }
        last_windows(reader, bundle, self.windows)
    }
}

/// Opens a collector's database for a bundle that it knows.
pub(crate) fn open(store: &StoreArgument, bundle: &Path) -> Result<(Reader, RegisteredBundle)> {
    let (reader, bundle) = (Reader::open(&store.location()?)?, RegisteredBundle::read(bundle)?);
    if reader.bundle(bundle.hash())?.is_none() {
        return Err(Error::new(Code::UnknownBundle, "the store has no reports of this bundle")
            .found(bundle.hash())
            .hint("give the collector this bundle with --bundle"));
    }
    Ok((reader, bundle))
}

/// Silence is not the absence of drift.
fn nothing_judged(report: &DriftReport) -> Error {
    Error::new(Code::EmptyData, "no field has enough answers to be judged")
        .expected(format!("at least {} answers of a field", report.min_answers))
        .found(format!("{} reports in {} windows", report.num_reports, report.windows.num_windows))
        .hint("add up more windows with --windows, or wait for more reports")
}

fn text(report: &DriftReport) -> String {
    let mut lines = vec![format!(
        "{} reports in {} windows; a shift under p {}, drift from effect {}",
        report.num_reports, report.windows.num_windows, report.alpha, report.min_effect
    )];
    lines.push(format!("{:<32}{:>9}{:>10}{:>10}{:>12}", "field", "answers", "psi", "effect", "adjusted p"));
    for field in &report.fields {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        lines.push(format!(
            "{:<32}{:>9}{:>10}{:>10}{:>12}{}",
            field.name,
            field.num_answers,
            number(field.psi),
            number(field.effect),
            number(field.adjusted_p_value),
            match (field.drifted, field.shifted) {
                (true, _) => "  DRIFT",
                (_, true) => "  shift",
                _ => "",
            }
        ));
        lines.extend(moved(field).into_iter().map(|moved| format!("    {moved}")));
        lines.extend(learned(field, report).map(|learned| format!("    {learned}")));
    }
    lines.extend(calm(report));
    lines.push(verdict(report));
    lines.join("\n")
}

/// What moved of a field that shifted, a line for each segment that has a part in it.
pub(crate) fn moved(field: &FieldDrift) -> Vec<String> {
    let words = |moves: &[Move]| {
        let word = |one: &Move| format!("{}: {:.3} -> {:.3}", one.label, one.baseline_share, one.share);
        moves.iter().map(word).collect::<Vec<_>>().join(", ")
    };
    let whole = Some(words(&field.moves)).filter(|moves| !moves.is_empty());
    let segments = field.segments.iter().filter(|segment| segment.shifted);
    let segments = segments.map(|segment| match words(&segment.moves) {
        none if none.is_empty() => format!("{}, no bin by itself", segment.name),
        moves => format!("{}, {moves}", segment.name),
    });
    whole.into_iter().chain(segments).collect()
}

/// What the named windows were good for.
pub(crate) fn calm(report: &DriftReport) -> Option<String> {
    let named = report.reference.as_ref().filter(|_| report.reference_is_named)?;
    Some(match report.num_calm_parts {
        0 => format!(
            "no least effects were learned: {} windows are less than two parts as long as what is judged",
            named.num_windows
        ),
        parts => format!("least effects were learned from {parts} calm parts"),
    })
}

/// That a field does more in calm windows than the least effect of the options.
pub(crate) fn learned(field: &FieldDrift, report: &DriftReport) -> Option<String> {
    (field.skipped.is_none() && field.min_effect > report.min_effect)
        .then(|| format!("drifts from effect {:.4}, which it has in calm windows", field.min_effect))
}

/// The verdict in words, and what it is that drifted.
pub(crate) fn verdict(report: &DriftReport) -> String {
    let drifted = report.fields.iter().filter(|field| field.drifted).map(|field| field.aspect.as_str());
    match (report.drifted, report.shifted) {
        (true, _) => {
            let aspects: Vec<&str> = drifted.collect::<BTreeSet<_>>().into_iter().collect();
            format!("drift of {}", aspects.join(" and "))
        }
        (_, true) => "no drift, a small shift".to_owned(),
        _ => "no drift".to_owned(),
    }
}

pub(crate) fn run(args: &Drift, output: &Output) -> Result<Verdict> {
    let (reader, bundle) = open(&args.store, &args.bundle)?;
    let reference = args.reference_from.zip(args.reference_to).map(|(from, to)| from..to);
    let options = Options { alpha: args.alpha, min_effect: args.min_effect, reference, ..Options::default() };
    let report = judge(&reader, &bundle, args.windows.range(&reader, &bundle)?, &options)?;
    if report.fields.iter().all(|field| field.skipped.is_some()) {
        return Err(nothing_judged(&report));
    }
    if let Some(path) = &args.html {
        report::write_drift(path, &bundle, &report)?;
    }
    output.result(&report, &text(&report))?;
    Ok(Verdict::wanting_if(report.drifted))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A verdict on one field, as JSON has it.
    fn report(field: &serde_json::Value) -> DriftReport {
        let windows = serde_json::json!({"start": 0, "end": 1, "num_windows": 1, "num_reports": 900});
        serde_json::from_value(serde_json::json!({
            "format_version": 1, "bundle_sha256": "0".repeat(64), "windows": windows, "reference": windows,
            "reference_is_named": true, "num_calm_parts": 4, "num_reports": 900, "fields": [field],
            "shifted": true, "drifted": false, "alpha": 0.01, "min_effect": 0.1, "min_answers": 100,
        }))
        .expect("a verdict")
    }

    #[test]
    fn a_verdict_says_what_moved_for_whom_and_what_is_usual() {
        let moved = |label, from, to| serde_json::json!({"label": label, "baseline_share": from, "share": to, "standard_error": 0.01});
        let segment = |name, shifted, moves| {
            serde_json::json!({"name": name, "baseline_share": 0.5, "share": 0.5, "moves": moves,
                "effect": 0.2, "adjusted_p_value": 0.001, "shifted": shifted})
        };
        let mut field = serde_json::json!({
            "name": "transition.category", "aspect": "data", "num_answers": 900, "skipped": null, "psi": 0.2,
            "jensen_shannon": 0.2, "wasserstein": null, "effect": 0.1234, "min_effect": 0.15,
            "kolmogorov_smirnov": null, "statistic": 9.0, "degrees_of_freedom": 2, "trend_statistic": null,
            "p_value": 0.001, "adjusted_p_value": 0.001, "shifted": true, "drifted": false,
            "moves": [moved("hats > hats", 0.2, 0.05)],
            "segments": [segment("after hats", true, vec![moved("hats", 0.4, 0.1), moved("shoes", 0.1, 0.4)]),
                segment("after bags", true, vec![]), segment("after shoes", false, vec![])],
            "shares": [0.5, 0.5], "standard_errors": [0.1, 0.1], "baseline_shares": [0.5, 0.5],
        });
        let found = text(&report(&field));
        let lines: Vec<&str> = found.lines().skip(2).map(str::trim).collect();
        assert!(lines[0].ends_with("shift"), "{found}");
        let expected = [
            "hats > hats: 0.200 -> 0.050",
            "after hats, hats: 0.400 -> 0.100, shoes: 0.100 -> 0.400",
            "after bags, no bin by itself",
            "drifts from effect 0.1500, which it has in calm windows",
            "least effects were learned from 4 calm parts",
            "no drift, a small shift",
        ];
        assert_eq!(lines[1..], expected);
        field["shifted"] = false.into();
        (field["moves"], field["segments"], field["min_effect"]) =
            (serde_json::json!([]), serde_json::json!([]), 0.1.into());
        let mut calm = report(&field);
        (calm.shifted, calm.num_calm_parts, calm.reference_is_named) = (false, 0, false);
        assert_eq!(text(&calm).lines().count(), 4, "{}", text(&calm));
    }
}
