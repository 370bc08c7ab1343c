//! `sanderling items add`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sanderling_train::additions::add_items;
use sanderling_train::{bundle, data};
use sanderling_types::Result;
use serde_json::json;

use crate::output::{Output, Verdict};

/// Change the items of a bundle without training.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling items add bundles/shop new-items.csv --out bundles/shop-2")]
pub(crate) struct Items {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(Add),
}

/// Add items that nobody has touched yet; their vectors come from their attributes.
///
/// Writes the next version of the bundle, unsigned. Exit 1 when no item could be added.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sanderling items add bundles/shop new-items.csv --out bundles/shop-2\n  \
    sanderling sign bundles/shop-2 --key shop.key"
)]
struct Add {
    /// Bundle folder; trained with a catalogue that has attributes.
    bundle: PathBuf,
    /// Table of items as in docs/formats/interactions.md.
    items: PathBuf,
    /// Folder to write the new bundle to.
    #[arg(long, value_name = "BUNDLE")]
    out: PathBuf,
}

pub(crate) fn run(args: &Items, output: &Output) -> Result<Verdict> {
    let Command::Add(args) = &args.command;
    let items = data::read_catalogue(&args.items)?;
    let result = add_items(&bundle::read(&args.bundle)?, &items)?;
    if result.added.is_empty() {
        output.note("no item was added");
    } else {
        bundle::write(&result.files, &args.out)?;
    }
    let json = json!({
        "added": result.added,
        "known": result.known,
        "unplaced": result.unplaced,
        "bundle_hash": result.manifest.bundle_hash(),
        "num_items": result.manifest.shapes.num_items,
        "version": result.manifest.version,
    });
    let text = format!(
        "{} items added, {} known before, {} without a known attribute\nversion {} with {} items, {}",
        result.added.len(),
        result.known.len(),
        result.unplaced.len(),
        result.manifest.version,
        result.manifest.shapes.num_items,
        result.manifest.bundle_hash()
    );
    output.result(&json, &text)?;
    Ok(if result.added.is_empty() { Verdict::Wanting } else { Verdict::Done })
}
