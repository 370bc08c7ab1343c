//! `sanderling pack`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use sanderling_train::bundle;
use sanderling_train::external::{self, ExternalModel, LeftOut};
use sanderling_types::Result;
use serde::Serialize;

use super::choice::CostMeter;
use super::recipe::RecipeArgs;
use super::train::TrainResult;
use crate::location::DataLocation;
use crate::output::{self, Output, Verdict};
use crate::progress;
use crate::report;
use crate::usage::Usage;

/// Check a model that was trained elsewhere, measure it against baselines, write its bundle.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sanderling pack --encoder encoder.onnx --items vectors.npy --item-ids ids.txt \\\n    \
    --data data/shop --out bundles/shop --json\n\n\
    The encoder turns item vectors f32 [1, len, dim], oldest first, into a query f32 [1, dim] whose dot product\n\
    with an item vector is the item's score. See docs/bring-your-own-model.md, with an example in PyTorch."
)]
pub(crate) struct Pack {
    /// ONNX file of the encoder.
    #[arg(long, value_name = "FILE")]
    encoder: PathBuf,
    /// Item vectors f32 [items, dim], as numpy.save writes them.
    #[arg(long, value_name = "FILE")]
    items: PathBuf,
    /// Text file with the item id of each row, one a line.
    #[arg(long, value_name = "FILE")]
    item_ids: PathBuf,
    /// ONNX file of a ranker, features f32 [candidates, features] to scores f32 [candidates, 1]; without one
    /// a linear ranker is fitted.
    #[arg(long, value_name = "FILE")]
    ranker: Option<PathBuf>,
    /// Data folder, a bare table of interactions, or the object-store URL of one; the model must have seen its training part only.
    #[arg(long)]
    data: DataLocation,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Longest history that the encoder reads; overrides the recipe.
    #[arg(long, value_name = "ITEMS")]
    max_session_len: Option<usize>,
    /// Folder to write the bundle to.
    #[arg(long, value_name = "BUNDLE")]
    out: PathBuf,
    /// Also write the result as a page for people: one HTML file that needs no network.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What `pack --json` prints.
#[derive(Debug, Serialize)]
struct PackResult {
    left_out: LeftOut,
    #[serde(flatten)]
    packed: TrainResult,
}

pub(crate) fn run(args: &Pack, output: &Output) -> Result<Verdict> {
    let start = Instant::now();
    output::check_path(args.report.as_deref())?;
    let mut recipe = args.recipe.recipe()?;
    recipe.model.max_session_len = args.max_session_len.or(recipe.model.max_session_len);
    let model = ExternalModel::read(&args.encoder, &args.items, &args.item_ids, args.ranker.as_deref())?;
    let dataset = progress::read_for(&args.data, &recipe)?;
    let mut doing = |what| output.note(&format!("{what} …"));
    let (packed, left_out) = external::pack(&dataset, &recipe, &model, &mut doing)?;
    bundle::write(&packed.files, &args.out)?;
    if let Some(path) = &args.report {
        report::write_of_bundle(path, &args.out, &dataset, recipe.split, &packed)?;
    }
    let result = PackResult {
        left_out,
        packed: TrainResult::new(&packed, &CostMeter::new(start), 0.0, Usage::since(start)),
    };
    let text = format!(
        "{}\n\nleft out: {} items of the training part without a vector ({:.2} % of its interactions), {} with a \
         vector that the data does not know",
        result.packed.text(),
        left_out.num_without_vector,
        100.0 * left_out.interaction_share,
        left_out.num_unknown
    );
    output.result(&result, &text)?;
    Ok(Verdict::Done)
}
