//! `sanderling tune`.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use sanderling_train::recipe::ModelRecipe;
use sanderling_train::tune::{self, Progress, TrialRecord, Tuned};
use sanderling_types::{Code, Error, Result};
use serde::Serialize;

use super::recipe::RecipeArgs;
use super::table;
use super::train::with_threads;
use crate::interrupt::Interrupt;
use crate::location::DataLocation;
use crate::output::{self, Output, Verdict};
use crate::progress::{self, minutes};
use crate::usage::Usage;

/// Search for a better model by successive halving, without looking at the test part.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sanderling tune data/shop --trials 12 --log shop-tune.jsonl --out shop.toml\n  \
    sanderling train data/shop --recipe shop.toml --out bundles/shop\n\n\
    Interrupt it at will: the same command goes on after the last line of the log. See docs/tuning.md."
)]
pub(crate) struct Tune {
    /// Data folder, or a bare table of interactions, or the object-store URL of one.
    data: DataLocation,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Models to try, the recipe as it is among them.
    #[arg(long, default_value_t = 12, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    trials: usize,
    /// Stop after so many minutes with the best so far.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: Option<u64>,
    /// JSON Lines file of the trials; gone on with if it is there.
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// Recipe file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Threads; the result does not depend on it. By default one a core.
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: Option<usize>,
}

/// What `tune --json` prints.
#[derive(Debug, Serialize)]
struct TuneResult {
    best: TrialRecord,
    trials: Vec<TrialRecord>,
    complete: bool,
    #[serde(flatten)]
    usage: Usage,
}

pub(crate) fn run(args: &Tune, output: &Output) -> Result<Verdict> {
    let start = Instant::now();
    output::check_path(Some(&args.out))?;
    let recipe = args.recipe.recipe()?;
    let dataset = progress::read_for(&args.data, &recipe)?;
    let end = args.minutes.map(|minutes| start + Duration::from_secs(60 * minutes));
    let mut pace = Pace { start: Instant::now(), epochs: 0 };
    let interrupt = Interrupt::listen()?;
    let mut watch = |progress: &Progress<'_>| {
        output.note(&pace.words(progress));
        !interrupt.is_asked() && end.is_none_or(|end| Instant::now() < end)
    };
    let tuned =
        with_threads(args.threads, || tune::tune(&dataset, &recipe, args.trials, &args.log, &mut watch))??;
    let text = toml::to_string(&tuned.recipe).map_err(|error| {
        Error::new(Code::Internal, "the recipe cannot be written as TOML").source_error(error)
    })?;
    std::fs::write(&args.out, text).map_err(|error| {
        Error::new(Code::Io, "the recipe cannot be written").found(args.out.display()).source_error(error)
    })?;
    let text = text_of(&tuned);
    let result = TuneResult {
        best: tuned.best,
        trials: tuned.records,
        complete: tuned.complete,
        usage: Usage::since(start),
    };
    output.result(&result, &text)?;
    Ok(Verdict::Done)
}

/// How fast it goes in this run.
struct Pace {
    start: Instant,
    epochs: u32,
}

impl Pace {
    fn words(&mut self, progress: &Progress<'_>) -> String {
        match progress {
            Progress::Epoch { trial, rung, until, epoch, epochs_left } => {
                self.epochs += 1;
                let left =
                    self.start.elapsed() / self.epochs * u32::try_from(*epochs_left).unwrap_or(u32::MAX);
                format!(
                    "rung {} trial {trial}  epoch {}/{until}  validation NDCG@10 {:.4}  about {} left",
                    rung + 1,
                    epoch.epoch,
                    epoch.validation_ndcg10,
                    minutes(left)
                )
            }
            Progress::Trial { record, known } => {
                let known = if *known { ", from the log" } else { "" };
                format!("rung {} trial {}: {:.4}{known}", record.rung + 1, record.trial, record.ndcg10)
            }
        }
    }
}

/// The last record of every trial, best first.
fn text_of(tuned: &Tuned) -> String {
    let mut last: Vec<&TrialRecord> = Vec::new();
    for record in &tuned.records {
        last.retain(|before| before.trial != record.trial);
        last.push(record);
    }
    last.sort_by(|a, b| b.rung.cmp(&a.rung).then(b.ndcg10.total_cmp(&a.ndcg10)).then(a.trial.cmp(&b.trial)));
    let mut out = "validation NDCG@10; of the packed bundle in the last rung, of f32 weights before it\n\
                   trial  rung  epochs  ndcg@10     bytes  model"
        .to_owned();
    for record in last {
        let bytes = record.bundle_bytes.map_or_else(String::new, table::bytes);
        let TrialRecord { trial, rung, epochs, ndcg10, .. } = record;
        let model = words(&record.model);
        let _ = write!(out, "\n{trial:>5}{:>6}{epochs:>8}{ndcg10:>9.4}{bytes:>10}  {model}", rung + 1);
    }
    let state = if tuned.complete { "complete" } else { "stopped; the same command goes on" };
    let _ = write!(out, "\nbest: trial {} ({state})", tuned.best.trial);
    out
}

fn words(model: &ModelRecipe) -> String {
    let by_data = |value: Option<String>| value.unwrap_or_else(|| "by data".to_owned());
    format!(
        "dim {} layers {} heads {} dropout {} rate {} negatives {} step {} history {}",
        model.dim,
        model.layers,
        model.heads,
        by_data(model.dropout.map(|value| value.to_string())),
        model.learning_rate,
        model.num_negatives,
        by_data(model.batch_tokens.map(|value| value.to_string())),
        by_data(model.max_session_len.map(|value| value.to_string()))
    )
}
