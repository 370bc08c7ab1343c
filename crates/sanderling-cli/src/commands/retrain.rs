//! `sanderling retrain`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use sanderling_collector::drift::estimate;
use sanderling_collector::{Merged, Reader, RegisteredBundle};
use sanderling_core::{BundleFiles, Engine};
use sanderling_train::baseline::{CATEGORY_FIELD, ITEM_FIELD, OTHER, UNKNOWN};
use sanderling_train::bundle;
use sanderling_train::data::Dataset;
use sanderling_train::recipe::Recipe;
use sanderling_train::reported::{Reported, Share};
use sanderling_train::retrain::{Gate, News, inherit, retrain};
use sanderling_train::split::SessionsUsed;
use sanderling_train::train::Step;
use sanderling_types::{Code, Error, FieldKind, Result};
use serde::Serialize;

use super::advance::{self, AdvanceArgs};
use super::choice::CostMeter;
use super::drift::{self, WindowArgs};
use super::evaluate;
use super::train::TrainResult;
use crate::location::{DataLocation, StoreArgument};
use crate::output::{Output, Verdict};
use crate::progress::{self, TrainingProgress};
use crate::usage::Usage;

/// Train a challenger on logs and reports, gate it against the champion, write the next version;
/// exit 1 when the gate refuses. With --channel: decide whether to, and whether a canary stays.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sanderling retrain data/shop --champion bundles/shop --store reports.db \\\n    \
    --out bundles/shop-next --json\n  \
    sanderling retrain data/shop --channel live --store reports.db --key shop.key --watch 86400\n\n\
    With --channel one check is made, or with --watch one every so many seconds: a canary is compared online with the champion and\n\
    promoted, rolled back or left; without a canary a challenger is trained when the reports drifted, the champion is old or there are\n\
    many new interactions, and becomes the canary when it passes the gate. Each decision is a line of FOLDER/decisions.jsonl."
)]
pub(crate) struct Retrain {
    /// Data folder with fresh logs, or the object-store URL of one.
    pub(super) data: DataLocation,
    /// Bundle that is served now.
    #[arg(long, value_name = "BUNDLE", required_unless_present = "channel", requires = "out")]
    champion: Option<PathBuf>,
    /// Database of the collector, as for `collect`, for what devices reported, and sessions that users shared.
    #[arg(long, value_name = "FILE_OR_URL")]
    pub(super) store: Option<StoreArgument>,
    #[command(flatten)]
    pub(super) windows: WindowArgs,
    /// Recipe file; without one the champion's name, recommender, split, telemetry constants, policy, limits and keys of segments stay.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Most passes over the data; overrides the recipe.
    #[arg(long)]
    max_epochs: Option<usize>,
    /// Folder to write the challenger to when the gate lets it pass.
    #[arg(long, value_name = "BUNDLE", requires = "champion")]
    out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) advance: AdvanceArgs,
}

#[derive(Debug, Serialize)]
pub(super) struct RetrainResult {
    pub(super) gate: Gate,
    pub(super) reported: Reported,
    pub(super) shared_sessions: SessionsUsed,
    #[serde(flatten)]
    challenger: TrainResult,
}

/// What devices told: shares of categories and items in reports of the champion, and sessions of every bundle.
fn news(args: &Retrain, champion: &Path) -> Result<News> {
    let Some(store) = &args.store else { return Ok(News::default()) };
    let (reader, bundle) = drift::open(store, champion)?;
    Ok(News {
        reported: reported(args, &reader, &bundle)?,
        sessions: reader.shared_sessions(None, 0..i64::MAX)?,
    })
}

/// Debiased shares of interactions by category and by item, from merged reports: what devices did lately.
fn reported(args: &Retrain, reader: &Reader, bundle: &RegisteredBundle) -> Result<Reported> {
    let merged = reader.merged(bundle.hash(), bundle.baseline(), args.windows.range(reader, bundle)?)?;
    Ok(Reported {
        categories: shares(bundle, &merged, CATEGORY_FIELD)?,
        items: shares(bundle, &merged, ITEM_FIELD)?,
    })
}

/// By label, without those of the rest; none where too few answered.
fn shares(bundle: &RegisteredBundle, merged: &Merged, field: &str) -> Result<BTreeMap<String, Share>> {
    let declared = bundle.baseline().field(field).map(|field| &field.bins);
    let estimate = estimate(bundle, merged, field, drift_options().min_answers)?;
    let (Some(FieldKind::Categorical { labels }), Some(estimate)) = (declared, estimate) else {
        return Ok(BTreeMap::new());
    };
    let shares = estimate.shares.iter().zip(&estimate.standard_errors);
    let shares = shares.map(|(&value, &standard_error)| Share { value, standard_error });
    let named = labels.iter().cloned().zip(shares);
    Ok(named.filter(|(label, _)| ![OTHER, UNKNOWN].contains(&label.as_str())).collect())
}

fn drift_options() -> sanderling_collector::drift::Options {
    sanderling_collector::drift::Options::default()
}

fn text(result: &RetrainResult) -> String {
    let gate = &result.gate;
    let mut lines = vec![format!(
        "champion NDCG@10 {:.4}, challenger {:.4}, paired difference {:.4} ({:.4} to {:.4})",
        gate.champion_ndcg10.value,
        gate.challenger_ndcg10.value,
        gate.difference_ndcg10.value,
        gate.difference_ndcg10.low,
        gate.difference_ndcg10.high
    )];
    lines.extend(gate.checks.iter().map(|check| {
        let mark = if check.passed { "pass" } else { "FAIL" };
        format!("{mark}  {:<10}{}; found {}", check.name, check.required, check.found)
    }));
    let sessions = &result.shared_sessions;
    if sessions.found > 0 {
        lines.push(format!(
            "trained on {} of {} shared sessions too, {} interactions",
            sessions.used, sessions.found, sessions.interactions
        ));
    }
    lines.push(if gate.promote { "promote".to_owned() } else { "keep the champion".to_owned() });
    lines.join("\n")
}

pub(crate) fn run(args: &Retrain, output: &Output) -> Result<Verdict> {
    if let Some(channel) = &args.advance.channel {
        return advance::run(args, channel, output);
    }
    let (Some(champion), Some(out)) = (&args.champion, &args.out) else {
        return Err(Error::new(Code::InvalidArgument, "--champion and --out belong together"));
    };
    let reigning = Reigning::load(args, champion)?;
    let dataset = progress::read_for(&args.data, &reigning.recipe)?;
    let (result, files) = challenge(args, champion, &reigning, &dataset)?;
    if result.gate.promote {
        bundle::write(&files, out)?;
    }
    output.result(&result, &text(&result))?;
    Ok(Verdict::wanting_if(!result.gate.promote))
}

/// The champion, and the recipe of its challengers.
pub(super) struct Reigning {
    engine: Engine,
    pub(super) recipe: Recipe,
}

impl Reigning {
    pub(super) fn load(args: &Retrain, champion: &Path) -> Result<Self> {
        let engine = super::load_engine(champion, None)?;
        let mut recipe =
            args.recipe.as_ref().map_or_else(|| Ok(Recipe::default()), |file| Recipe::read(file))?;
        if args.recipe.is_none() {
            let manifest = engine.bundle().manifest();
            inherit(&mut recipe, manifest, engine.bundle().segments());
            recipe.split = evaluate::split_kind(&manifest.training.split)?;
        }
        recipe.model.max_epochs = args.max_epochs.or(recipe.model.max_epochs);
        Ok(Self { engine, recipe })
    }
}

/// Trains a challenger of the bundle in `champion` and judges it; nothing is written.
pub(super) fn challenge(
    args: &Retrain,
    champion: &Path,
    reigning: &Reigning,
    dataset: &Dataset,
) -> Result<(RetrainResult, BundleFiles)> {
    let start = Instant::now();
    let news = news(args, champion)?;
    let reported = news.reported.clone();
    let mut progress = TrainingProgress::after(0, 0)?;
    let mut costs = CostMeter::new(start);
    let mut watch = |step: Step<'_>| {
        costs.note(step);
        progress.show(step)
    };
    let (challenger, gate) = retrain(&reigning.engine, dataset, &reigning.recipe, news, &mut watch)?;
    let fit_wall_seconds = progress.fit_wall_seconds();
    drop(progress);
    let result = TrainResult::new(&challenger, &costs, fit_wall_seconds, Usage::since(start));
    let shared_sessions = challenger.sessions;
    Ok((RetrainResult { gate, reported, shared_sessions, challenger: result }, challenger.files))
}
