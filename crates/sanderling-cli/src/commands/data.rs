//! `sanderling import | validate | synth`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use sanderling_train::data::{
    self, ColumnMap, ImportOptions, ImportSummary, LAYOUTS, SynthConfig, Validation,
};
use sanderling_train::split::{self, SplitKind};
use sanderling_types::{Code, Error, Result};
use serde::Serialize;
use serde_json::json;

use super::recipe::SplitArg;
use crate::location::DataLocation;
use crate::output::{Output, Verdict};
use crate::progress::{self, DataProgress};
use crate::usage::Usage;

/// Turn logs of a known layout into a data folder.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sanderling import --from ml-1m $SANDERLING_DATA/ml-1m --out data/ml-1m\n  \
    sanderling import --from csv events.csv.gz --column user=visitor --column item=sku --out data/shop\n  \
    sanderling import --from parquet s3://shop-logs/2026-11/ --out data/shop"
)]
pub(crate) struct Import {
    /// Layout of the source.
    #[arg(long, value_name = "LAYOUT", value_parser = layouts())]
    from: String,
    /// File, or folder that holds the layout's files, or the object-store URL of one; .xz, .gz and .zst are read as
    /// they are.
    path: DataLocation,
    /// Name of a column, as MEANING=COLUMN; meanings: user, item, kind, timestamp, value, split, context.
    #[arg(long, value_name = "MEANING=COLUMN")]
    column: Vec<String>,
    /// Separator of the table's fields; guessed by default.
    #[arg(long)]
    delimiter: Option<char>,
    /// Data folder to write.
    #[arg(long, value_name = "DATA")]
    out: PathBuf,
}

/// Check a data folder; exit 1 when it has errors.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling validate data/shop --json")]
pub(crate) struct Validate {
    /// Data folder, or a bare table of interactions, or the object-store URL of one.
    data: DataLocation,
    /// Time against which timestamps are in the future, Unix seconds; by default the current time.
    #[arg(long)]
    now: Option<i64>,
    /// Also divide the data as `train` would and count what that gives.
    #[arg(long, value_enum)]
    split: Option<SplitArg>,
}

/// Generate the embedded world: a synthetic shop whose truth is known.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sanderling synth --out data/world\n  \
    sanderling synth --days 74 --drift-day 60 --device-days 60:67 --out data/drifted")]
pub(crate) struct Synth {
    /// Seed of every random choice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Items that exist before the first day.
    #[arg(long)]
    items: Option<u32>,
    /// Users.
    #[arg(long)]
    users: Option<u32>,
    /// Days to generate.
    #[arg(long)]
    days: Option<u32>,
    /// First day whose interactions are written, from 0.
    #[arg(long, default_value_t = 0)]
    first_day: u32,
    /// Unix seconds of the first midnight; by default 2026-01-01.
    #[arg(long)]
    start: Option<i64>,
    /// Day from which on tastes are different.
    #[arg(long)]
    drift_day: Option<u32>,
    /// How much changes at the drift, 0 to 1.
    #[arg(long)]
    drift_strength: Option<f64>,
    /// Also write devices.jsonl with what devices did on these days, for replay.
    #[arg(long, value_name = "FROM:TO")]
    device_days: Option<String>,
    /// Data folder to write.
    #[arg(long, value_name = "DATA")]
    out: PathBuf,
}

fn layouts() -> PossibleValuesParser {
    PossibleValuesParser::new(LAYOUTS.iter().map(|(name, help)| PossibleValue::new(*name).help(*help)))
}

pub(crate) fn import(args: &Import, output: &Output) -> Result<Verdict> {
    let start = Instant::now();
    let mut columns = ColumnMap::default();
    for pair in &args.column {
        let (meaning, column) = pair.split_once('=').ok_or_else(|| {
            Error::new(Code::InvalidArgument, "--column cannot be read")
                .expected("MEANING=COLUMN")
                .found(pair)
        })?;
        columns.set(meaning, column)?;
    }
    let options = ImportOptions { columns, delimiter: args.delimiter, ..ImportOptions::default() };
    let source = args.path.fetch()?;
    let mut progress = DataProgress::new();
    let mut show = |step| progress.show(step);
    let (dataset, summary) = data::import(&args.from, source.as_ref(), &options, &mut show)?;
    dataset.write_from(&args.out, &args.from, &mut show)?;
    drop(progress);
    let text = format!(
        "{} interactions of {} users with {} items ({} in the catalogue) in {}{}",
        summary.num_interactions,
        summary.num_users,
        summary.num_items,
        summary.num_catalogue_items,
        args.out.display(),
        summary.notes.iter().map(|note| format!("\nnote: {note}")).collect::<String>()
    );
    output.result(&ImportResult { summary, usage: Usage::since(start) }, &text)?;
    Ok(Verdict::Done)
}

fn validation_text(validation: &Validation) -> String {
    let time = |timestamp: Option<i64>| timestamp.map_or("-".to_owned(), |timestamp| timestamp.to_string());
    let mut lines = vec![format!(
        "{} interactions of {} users with {} items, {} in the catalogue, timestamps {} to {}",
        validation.num_interactions,
        validation.num_users,
        validation.num_items,
        validation.num_catalogue_items,
        time(validation.first_timestamp),
        time(validation.last_timestamp)
    )];
    for anomaly in &validation.anomalies {
        let places: Vec<String> = anomaly.lines.iter().map(u64::to_string).collect();
        lines.push(format!(
            "{:?} {:?}: {} times in {} (lines {}): {}\n  fix: {}",
            anomaly.severity,
            anomaly.code,
            anomaly.count,
            anomaly.file,
            places.join(", "),
            anomaly.detail,
            anomaly.suggested_fix
        ));
    }
    lines.push(if validation.has_errors() { "errors were found".to_owned() } else { "no errors".to_owned() });
    lines.join("\n")
}

/// What `import --json` prints.
#[derive(Debug, Serialize)]
struct ImportResult {
    #[serde(flatten)]
    summary: ImportSummary,
    #[serde(flatten)]
    usage: Usage,
}

/// What `validate --json` prints.
#[derive(Debug, Serialize)]
struct ValidateResult {
    #[serde(flatten)]
    validation: Validation,
    /// What `--split` gives; `null` without it, and where errors were found.
    division: Option<Division>,
    #[serde(flatten)]
    usage: Usage,
}

/// What there is to train on and to measure with.
#[derive(Debug, Serialize)]
struct Division {
    split: &'static str,
    training_users: u64,
    training_interactions: u64,
    vocabulary_items: usize,
    validation_cases: usize,
    test_cases: usize,
}

impl Division {
    fn of(data: &Path, kind: SplitKind) -> Result<Self> {
        let split = split::split(&progress::read_local(data)?, kind)?;
        let (_, _, training_users, training_interactions) = split.training_counts();
        Ok(Self {
            split: kind.as_str(),
            training_users,
            training_interactions,
            vocabulary_items: split.vocabulary.len(),
            validation_cases: split.validation.len(),
            test_cases: split.test.len(),
        })
    }

    fn text(&self) -> String {
        format!(
            "\nsplit {}: {} interactions of {} users train, {} items in the vocabulary, {} validation cases, {} test cases",
            self.split,
            self.training_interactions,
            self.training_users,
            self.vocabulary_items,
            self.validation_cases,
            self.test_cases
        )
    }
}

pub(crate) fn validate(args: &Validate, output: &Output) -> Result<Verdict> {
    let start = Instant::now();
    let now = args.now.unwrap_or_else(super::recommend::unix_now);
    let data = args.data.fetch()?;
    let mut progress = DataProgress::new();
    let validation = data::validate(data.as_ref(), now, &mut |step| progress.show(step))?;
    drop(progress);
    let wanted = args.split.filter(|_| !validation.has_errors());
    let division = wanted.map(|split| Division::of(data.as_ref(), split.into())).transpose()?;
    let text = validation_text(&validation) + &division.as_ref().map_or_else(String::new, Division::text);
    let has_errors = validation.has_errors();
    output.result(&ValidateResult { validation, division, usage: Usage::since(start) }, &text)?;
    Ok(Verdict::wanting_if(has_errors))
}

pub(crate) fn synth(args: &Synth, output: &Output) -> Result<Verdict> {
    let standard = SynthConfig::default();
    let config = SynthConfig {
        seed: args.seed,
        num_items: args.items.unwrap_or(standard.num_items),
        num_users: args.users.unwrap_or(standard.num_users),
        days: args.days.unwrap_or(standard.days),
        start_timestamp: args.start.unwrap_or(standard.start_timestamp),
        drift_day: args.drift_day,
        drift_strength: args.drift_strength.unwrap_or(standard.drift_strength),
        ..standard
    };
    let device_days = args.device_days.as_deref().map(parse_days).transpose()?;
    let world = data::synth(&config);
    let counts = world.write_days(&args.out, args.first_day..config.days, device_days)?;
    let json = json!({ "config": world.config(), "counts": counts, "synthetic": true });
    let text = format!(
        "synthetic world in {}: {} interactions of {} users with {} items over days {} to {}",
        args.out.display(),
        counts.interactions,
        counts.users,
        counts.items,
        args.first_day,
        config.days
    );
    output.result(&json, &text)?;
    Ok(Verdict::Done)
}

fn parse_days(text: &str) -> Result<std::ops::Range<u32>> {
    let days = text.split_once(':').and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    days.ok_or_else(|| {
        Error::new(Code::InvalidArgument, "--device-days cannot be read")
            .expected("FROM:TO, two days")
            .found(text)
    })
}
