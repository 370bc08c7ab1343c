//! HTML reports of `train`, `evaluate` and `drift`: one file that needs no network and runs no script.

mod charts;
mod drift;
mod html;

use std::fs;
use std::path::Path;

use sanderling_core::Engine;
use sanderling_train::calibration::Calibration;
use sanderling_train::card::step_words;
use sanderling_train::data::Dataset;
use sanderling_train::details::Details;
use sanderling_train::evaluate::Evaluation;
use sanderling_train::importance::{FeatureImportance, FeatureWeight};
use sanderling_train::metrics::Metrics;
use sanderling_train::sequence::Epoch;
use sanderling_train::slices::Segments;
use sanderling_train::split::{self, Split, SplitKind};
use sanderling_train::train::Trained;
use sanderling_types::{Code, Error, Manifest, Metric, PackingStep, Result};

use crate::commands::{load_engine, table};
use charts::{Point, Row};
use html::Text;

pub(crate) use drift::write as write_drift;

/// Metrics that are shown; precision and recall would repeat `hr`.
const SHOWN: [&str; 6] = ["ndcg", "hr", "mrr", "coverage", "novelty", "gini"];

/// Writes the report of `engine` on `split`; `curve` is empty where nothing was trained.
///
/// # Errors
/// [`Code::Io`].
pub(crate) fn write(
    path: &Path,
    engine: &Engine,
    split: &Split,
    evaluation: &Evaluation,
    details: &Details,
    curve: &[Epoch],
) -> Result<()> {
    let manifest = engine.bundle().manifest();
    let sections = [
        head(engine, split, evaluation),
        metrics(&manifest.recommender, evaluation)?,
        slices(evaluation)?,
        learning(curve)?,
        calibration(&details.calibration)?,
        ranker(details.feature_weights.as_deref(), &details.importance)?,
        size(manifest)?,
        notes(manifest),
    ];
    write_page(path, &format!("{} version {}", manifest.name, manifest.version), &sections.concat())
}

fn write_page(path: &Path, title: &str, body: &str) -> Result<()> {
    fs::write(path, page(title, body)).map_err(|error| {
        Error::new(Code::Io, "the report cannot be written").found(path.display()).source_error(error)
    })
}

/// Writes the report of a bundle that was just made of `dataset`.
///
/// # Errors
/// As [`write()`].
pub(crate) fn write_of_bundle(
    path: &Path,
    bundle: &Path,
    dataset: &Dataset,
    kind: SplitKind,
    trained: &Trained,
) -> Result<()> {
    let engine = load_engine(bundle, None)?;
    let mut split = split::split(dataset, kind)?;
    split.exclude_seen = trained.manifest.policy.exclude_seen;
    write(path, &engine, &split, &trained.evaluation, &trained.details, &trained.curve)
}

/// The whole file. The policy in it forbids every script and every request, whatever the text is.
fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n\
         <style>\n{}@media (prefers-color-scheme: dark) {{ {} }}\n</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
         </body>\n</html>\n",
        Text(title),
        include_str!("report.css"),
        charts::dark_rules()
    )
}

fn head(engine: &Engine, split: &Split, evaluation: &Evaluation) -> String {
    let manifest = engine.bundle().manifest();
    let ndcg = |metrics: &Metrics| metrics.get("ndcg@10").copied();
    let best = evaluation
        .baselines
        .iter()
        .filter_map(|(name, metrics)| Some((name, ndcg(metrics)?)))
        .max_by(|a, b| a.1.value.total_cmp(&b.1.value));
    let ours = ndcg(&evaluation.metrics).map_or_else(String::new, words);
    let theirs =
        best.map_or_else(String::new, |(name, metric)| format!("; best baseline {name} {}", words(metric)));
    format!(
        "<h1>{} version {}</h1>\n<p class=\"soft\">{} recommender, {} items, {}, trained on {} interactions of {} users \
         or sessions</p>\n<p class=\"lead\"><strong>NDCG@10 {}</strong>{}</p>\n\
         <p class=\"soft\">{} test cases of the {} split, answered by the packed bundle. 95 % bootstrap \
         intervals over users.</p>\n<p class=\"soft\">Bundle <code>{}</code></p>\n",
        Text(&manifest.name),
        manifest.version,
        Text(&manifest.recommender),
        manifest.shapes.num_items,
        table::bytes(manifest.bundle_bytes()),
        manifest.training.num_interactions,
        manifest.training.num_users,
        Text(ours),
        Text(theirs),
        evaluation.num_cases,
        split.kind.as_str(),
        engine.bundle().hash()
    )
}

/// A metric in a sentence.
fn words(metric: Metric) -> String {
    format!("{:.4} ({:.4} to {:.4})", metric.value, metric.low, metric.high)
}

/// A metric in a table.
fn cell(metric: Option<&Metric>) -> String {
    metric.map_or_else(String::new, |metric| {
        format!("{:.4}<small>{:.3}–{:.3}</small>", metric.value, metric.low, metric.high)
    })
}

fn interval(label: String, metric: &Metric, strong: bool) -> Row {
    Row { label, span: (metric.low, metric.high), dot: Some(metric.value), under: None, strong }
}

fn metrics(recommender: &str, evaluation: &Evaluation) -> Result<String> {
    let all: Vec<(&str, &Metrics)> = std::iter::once((recommender, &evaluation.metrics))
        .chain(evaluation.baselines.iter().map(|(name, metrics)| (name.as_str(), metrics)))
        .collect();
    let mut figures = Vec::new();
    for name in SHOWN.map(|name| format!("{name}@10")) {
        let row = |(at, (label, metrics)): (usize, &(&str, &Metrics))| {
            let metric = metrics.get(&name)?;
            Some(interval(format!("{label} {:.4}", metric.value), metric, at == 0))
        };
        let rows: Vec<Row> = all.iter().enumerate().filter_map(row).collect();
        figures.push(html::figure(&name, &charts::rows(&name, &rows)?));
    }
    let rows: Vec<(String, Vec<String>)> = SHOWN
        .iter()
        .flat_map(|name| [format!("{name}@10"), format!("{name}@20")])
        .map(|name| {
            let cells = all.iter().map(|(_, metrics)| cell(metrics.get(&name))).collect();
            (name, cells)
        })
        .collect();
    let columns: Vec<&str> = std::iter::once("metric").chain(all.iter().map(|(name, _)| *name)).collect();
    Ok(format!(
        "<h2>Metrics beside the baselines</h2>\n{}\n{}\n",
        html::figures(&figures),
        html::table(&columns, &rows)
    ))
}

fn slices(evaluation: &Evaluation) -> Result<String> {
    let slices = &evaluation.slices;
    let named: [(&str, &Segments); 3] = [
        ("by length of the history", &slices.history_length),
        ("by what comes next", &slices.target),
        ("by user or session", &slices.user),
    ];
    let (mut figures, mut rows) = (Vec::new(), Vec::new());
    for (name, segments) in named {
        let caption = format!("NDCG@10 {name}");
        let row = |(segment, slice): (&&str, &sanderling_train::slices::Slice)| {
            interval(format!("{segment} (n = {})", slice.num_cases), &slice.ndcg10, true)
        };
        let marks: Vec<Row> = segments.iter().map(row).collect();
        figures.push(html::figure(&caption, &charts::rows(&caption, &marks)?));
        rows.extend(segments.iter().map(|(segment, slice)| {
            let cells = vec![slice.num_cases.to_string(), cell(Some(&slice.ndcg10)), cell(Some(&slice.hr10))];
            ((*segment).to_owned(), cells)
        }));
    }
    Ok(format!(
        "<h2>Whom and what it serves</h2>\n<p class=\"soft\">History: interactions known in the case. Head: the most \
         popular items that together have half of the training interactions; unseen: items that training does not \
         hold, a miss unless attributes gave them a vector. New: no training interactions.</p>\n{}\n{}\n",
        html::figures(&figures),
        html::table(&["segment", "cases", "ndcg@10", "hr@10"], &rows)
    ))
}

fn learning(curve: &[Epoch]) -> Result<String> {
    if curve.is_empty() {
        return Ok(String::new());
    }
    let loss: Vec<f64> = curve.iter().map(|epoch| epoch.loss).collect();
    let ndcg: Vec<f64> = curve.iter().map(|epoch| epoch.validation_ndcg10).collect();
    let names = ["Validation NDCG@10 by epoch", "Training loss by epoch"];
    let figures = [
        html::figure(names[0], &charts::curve(names[0], &ndcg)?),
        html::figure(names[1], &charts::curve(names[1], &loss)?),
    ];
    Ok(format!(
        "<h2>Learning curve</h2>\n<p class=\"soft\">Of the weights before packing, on the cases that early stopping \
         looks at; the best epoch is packed.</p>\n{}\n",
        html::figures(&figures)
    ))
}

fn ranker(weights: Option<&[FeatureWeight]>, importance: &[FeatureImportance]) -> Result<String> {
    let bar = |feature: &FeatureImportance| Row {
        label: feature.name.clone(),
        span: (feature.loss_ndcg10.min(0.0), feature.loss_ndcg10.max(0.0)),
        dot: None,
        under: None,
        strong: true,
    };
    let bars: Vec<Row> = importance.iter().map(bar).collect();
    let caption = "NDCG@10 lost without the feature";
    Ok(format!(
        "<h2>Ranker</h2>\n<p class=\"soft\">What NDCG@10 on candidate lists of the validation part loses when the values of \
         one feature are exchanged at random.</p>\n{}\n{}",
        html::figures(&[html::figure(caption, &charts::rows(caption, &bars)?)]),
        weights.map_or_else(|| Ok("<p>It is not linear.</p>\n".to_owned()), linear)?
    ))
}

fn linear(weights: &[FeatureWeight]) -> Result<String> {
    let row = |feature: &FeatureWeight| Row {
        label: feature.name.clone(),
        span: (0.0, feature.effect),
        dot: None,
        under: None,
        strong: true,
    };
    let marks: Vec<Row> = weights.iter().map(row).collect();
    let rows: Vec<(String, Vec<String>)> = weights
        .iter()
        .map(|feature| (feature.name.clone(), vec![signed(feature.weight), format!("{:.4}", feature.effect)]))
        .collect();
    let caption = "Effect: |weight| times deviation";
    Ok(format!(
        "<p class=\"soft\">It is linear. The effect of a feature is the size of its weight times its standard \
         deviation within a list of candidates: how far it moves their scores apart.</p>\n{}\n{}\n",
        html::figures(&[html::figure(caption, &charts::rows(caption, &marks)?)]),
        html::table(&["feature", "weight", "effect"], &rows)
    ))
}

/// Four digits with a sign, none for what rounds to zero.
fn signed(value: f64) -> String {
    if value.abs() < 5e-5 { "0.0000".to_owned() } else { format!("{value:+.4}") }
}

fn calibration(calibration: &Calibration) -> Result<String> {
    if calibration.bins.is_empty() {
        return Ok(String::new());
    }
    let points: Vec<Point> = calibration
        .bins
        .iter()
        .map(|bin| Point {
            x: bin.predicted,
            y: bin.observed.value,
            span: (bin.observed.low, bin.observed.high),
        })
        .collect();
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    let rows: Vec<(String, Vec<String>)> = calibration
        .bins
        .iter()
        .map(|bin| {
            let Metric { low, high, value } = bin.observed;
            let observed = format!("{}<small>{:.2}–{:.2}</small>", percent(value), 100.0 * low, 100.0 * high);
            (percent(bin.predicted), vec![observed, bin.num_recommendations.to_string()])
        })
        .collect();
    let caption = "Observed share by predicted probability";
    Ok(format!(
        "<h2>Calibration</h2>\n<p class=\"soft\">The predicted probability of a recommendation is its share of the \
         softmax over the scores of all candidates of its list; observed is how often it came next. First ten of the \
         lists of {} test cases, in bins of equally many. On the line scores say what happens; mean distance from it \
         {}.</p>\n{}\n{}\n",
        calibration.num_cases,
        percent(calibration.expected_error),
        html::figures(&[html::figure(caption, &charts::against_diagonal(caption, &points)?)]),
        html::table(&["predicted", "observed", "recommendations"], &rows)
    ))
}

fn size(manifest: &Manifest) -> Result<String> {
    let mut files: Vec<(&str, u64)> =
        manifest.device_files().map(|(_, file)| (file.path.as_str(), file.bytes)).collect();
    let listed: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    files.push(("manifest.json", manifest.bundle_bytes() - listed));
    files.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
    let row = |&(name, bytes): &(&str, u64)| Row {
        label: format!("{name} {}", table::bytes(bytes)),
        span: (0.0, bytes as f64 / 1e3),
        dot: None,
        under: None,
        strong: true,
    };
    let marks: Vec<Row> = files.iter().map(row).collect();
    let caption = "Kilobytes by file";
    let quantisation = &manifest.quantisation;
    let start = ("f32 weights".to_owned(), vec![format!("{:.4}", quantisation.ndcg10_f32), String::new()]);
    let step = |step: &PackingStep| {
        (step_words(step), vec![format!("{:.4}", step.ndcg10), table::bytes(step.saved_bytes)])
    };
    let steps: Vec<(String, Vec<String>)> =
        std::iter::once(start).chain(quantisation.steps.iter().map(step)).collect();
    Ok(format!(
        "<h2>Size</h2>\n<p class=\"soft\">{} that a device loads. What packing cost, as validation NDCG@10 in retrieval \
         order (without the ranker):</p>\n{}\n{}\n",
        table::bytes(manifest.bundle_bytes()),
        html::table(&["step", "NDCG@10 after it", "saved"], &steps),
        html::figures(&[html::figure(caption, &charts::rows(caption, &marks)?)])
    ))
}

fn notes(manifest: &Manifest) -> String {
    format!(
        "<h2>How to read this</h2>\n<p>Every number comes from the packed bundle run by the engine; baselines answer the same cases. With one right item a case, precision@k and recall@k equal hr@k. \
         novelty@k is in bits: more means less popular. gini@k is 0 when all items are listed equally often and 1 when \
         one item is listed to everybody. Intervals resample users, not training runs (seed {}).</p>\n",
        manifest.training.seed
    )
}
