//! The page of `drift --html`.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use sanderling_collector::RegisteredBundle;
use sanderling_collector::drift::{DriftReport, FieldDrift, Skipped, Windows};
use sanderling_types::Result;

use crate::commands::drift::{calm, learned, moved, verdict};

use super::charts::{self, Row};
use super::html::{self, Text};
use super::write_page;

/// Bins of a field that are drawn: of more, those that differ most.
const MAX_ROWS: usize = 12;
/// Standard errors on each side of a share: 95 % of a normal distribution.
const ERRORS: f64 = 1.96;

/// Writes the page of a verdict on `bundle`.
///
/// # Errors
/// [`sanderling_types::Code::Io`].
pub(crate) fn write(path: &Path, bundle: &RegisteredBundle, report: &DriftReport) -> Result<()> {
    let manifest = bundle.manifest();
    let name = format!("{} version {}", manifest.name, manifest.version);
    let figures = report.fields.iter().filter(|field| field.skipped.is_none());
    let figures = figures.map(|field| figure(field, bundle)).collect::<Result<Vec<_>>>()?;
    let body = format!(
        "<h1>Drift of {}</h1>\n{}<h2>Fields</h2>\n{}\n{}<h2>Shares by bin</h2>\n<p class=\"soft\">Grey: at training time, or in the windows \
         before. Dot and line: now, with the noise of the devices taken out, and its 95 % interval. Of fields with many bins the {MAX_ROWS} that \
         differ most.</p>\n{}\n{}",
        Text(&name),
        head(report),
        table(report),
        attribution(report),
        html::figures(&figures),
        NOTES
    );
    write_page(path, &format!("Drift of {name}"), &body)
}

/// 9999-12-31, Unix seconds.
const LAST_DAY: u64 = 253_402_214_400;
const NOTES: &str = "<h2>How to read this</h2>\n<p>A field has shifted when chance does not explain the difference (the adjusted p-value counts all fields), and \
    drifted when its effect is large enough to matter too. The effect is on the scale of the population stability index, without what sampling and noise \
    add to it. Concept: whether something is chosen as often as before at the same score. Devices that had no list or were told of no outcome answer untold, which \
    verdicts leave out: if nobody is told any more, such a field has too few answers.</p>\n";

fn head(report: &DriftReport) -> String {
    let reference = report.reference.as_ref().filter(|windows| windows.num_windows > 0);
    let against = reference.map_or_else(String::new, |windows| {
        format!(" What training cannot know is compared with {}.", spoken(windows))
    });
    format!(
        "<p class=\"lead\"><strong>{}</strong></p>\n<p class=\"soft\">{}.{} A field shifts by chance with probability {} in all; drift is a shift with an \
         effect of {} or more.</p>\n<p class=\"soft\">Bundle <code>{}</code></p>\n",
        Text(verdict(report)),
        Text(spoken(&report.windows)),
        Text(against),
        Text(format!("{:.4}", report.alpha)),
        report.min_effect,
        report.bundle_sha256
    )
}

/// Reports and days in words; windows without a beginning or an end have no days to name.
fn spoken(windows: &Windows) -> String {
    let days = day(windows.start).zip(day(windows.end));
    let when = days.map_or_else(String::new, |(from, to)| format!(" from {from} until {to} (UTC)"));
    format!("{} reports in {} windows{when}", windows.num_reports, windows.num_windows)
}

/// The date of a time in Unix seconds, as far as it is one of this age of the world.
fn day(time: i64) -> Option<String> {
    let since = Duration::from_secs(u64::try_from(time).ok().filter(|time| (1..LAST_DAY).contains(time))?);
    Some(humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()[..10].to_owned())
}

fn table(report: &DriftReport) -> String {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.4}"));
    let row = |field: &FieldDrift| {
        let verdict = match (field.skipped, field.drifted, field.shifted) {
            (Some(Skipped::TooFewAnswers), ..) => "too few answers",
            (Some(Skipped::TooFewReferenceAnswers), ..) => "too few answers before",
            (Some(Skipped::NoReference), ..) => "nothing before",
            (None, true, _) => "<strong>drift</strong>",
            (None, false, true) => "shift",
            (None, false, false) => "",
        };
        let cells = vec![
            field.aspect.as_str().to_owned(),
            field.num_answers.to_string(),
            number(field.psi),
            number(field.effect),
            number(field.adjusted_p_value),
            verdict.to_owned(),
        ];
        (field.name.clone(), cells)
    };
    let rows: Vec<_> = report.fields.iter().map(row).collect();
    html::table(&["field", "of", "answers", "psi", "effect", "adjusted p", "verdict"], &rows)
}

/// What moved of the fields that shifted, and what was learned of any.
fn attribution(report: &DriftReport) -> String {
    let lines = report.fields.iter().flat_map(|field| {
        let lines = moved(field).into_iter().chain(learned(field, report));
        lines.map(|line| format!("<li><code>{}</code> {}</li>\n", Text(&field.name), Text(line)))
    });
    let lines: String = lines.collect();
    let calm =
        calm(report).map_or_else(String::new, |calm| format!("<p class=\"soft\">{}.</p>\n", Text(calm)));
    if lines.is_empty() {
        calm
    } else {
        format!("<h2>What moved, and what is usual</h2>\n{calm}<ul>\n{lines}</ul>\n")
    }
}

fn figure(field: &FieldDrift, bundle: &RegisteredBundle) -> Result<String> {
    let labels = labels(field, bundle);
    let row = |bin: usize| {
        let (now, error) = (field.shares[bin], ERRORS * field.standard_errors[bin]);
        let share = |value: f64| 100.0 * value.clamp(0.0, 1.0);
        Row {
            label: labels[bin].clone(),
            span: (share(now - error), share(now + error)),
            dot: Some(share(now)),
            under: Some(share(field.baseline_shares[bin])),
            strong: field.shifted,
        }
    };
    let differs = |bin: &usize| (field.shares[*bin] - field.baseline_shares[*bin]).abs();
    let mut bins: Vec<usize> = (0..field.shares.len()).collect();
    bins.sort_by(|a, b| differs(b).total_cmp(&differs(a)));
    bins.truncate(MAX_ROWS);
    bins.sort_unstable();
    let caption = format!("{} (%)", field.name);
    Ok(html::figure(&caption, &charts::rows(&caption, &bins.into_iter().map(row).collect::<Vec<_>>())?))
}

/// What each bin holds: a label, or an interval between edges.
fn labels(field: &FieldDrift, bundle: &RegisteredBundle) -> Vec<String> {
    let declared = bundle.baseline().field(&field.name);
    let name = |bin: usize| declared.map_or_else(String::new, |declared| declared.bins.name_of_bin(bin));
    (0..field.shares.len()).map(|bin| shortened(&name(bin))).collect()
}

/// As much as the room beside a bar holds.
fn shortened(label: &str) -> String {
    const MAX_CHARS: usize = 24;
    if label.chars().count() <= MAX_CHARS {
        return label.to_owned();
    }
    label.chars().take(MAX_CHARS - 1).chain(['…']).collect()
}
