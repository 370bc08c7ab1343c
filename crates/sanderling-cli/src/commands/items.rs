//! `sanderling items add | list`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sanderling_core::Bundle;
use sanderling_train::additions::add_items;
use sanderling_train::{bundle, data};
use sanderling_types::{ItemIndex, Result};
use serde_json::json;

use crate::output::{Output, Verdict};

/// Show the items of a bundle, or change them without training.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sanderling items list bundles/shop --limit 20\n  sanderling items add bundles/shop new-items.csv --out bundles/shop-2"
)]
pub(crate) struct Items {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Add(Add),
    List(List),
}

/// Show what a bundle knows of its items, in the order of the fallback list.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling items list bundles/shop --limit 20")]
struct List {
    /// Bundle folder.
    bundle: PathBuf,
    /// How many items; by default all.
    #[arg(long)]
    limit: Option<usize>,
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
    match &args.command {
        Command::Add(args) => add(args, output),
        Command::List(args) => list(args, output),
    }
}

fn list(args: &List, output: &Output) -> Result<Verdict> {
    let bundle = Bundle::open(bundle::read(&args.bundle)?, None)?;
    let vocabulary = bundle.vocabulary();
    let limit = args.limit.unwrap_or(usize::MAX);
    let rows = (0..vocabulary.len() as u32).map(ItemIndex).take(limit);
    let items: Vec<serde_json::Value> = rows
        .map(|item| {
            json!({
                "item_id": vocabulary.item_id(item),
                "categories": bundle.category_names(item),
                "popularity": vocabulary.popularity(item),
                "price": vocabulary.price(item),
                "published_at": vocabulary.published_at(item),
            })
        })
        .collect();
    let cell = |value: &serde_json::Value| match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(names) => {
            names.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    let header = ["item_id", "popularity", "price", "published_at", "categories"];
    let line = |item: &serde_json::Value| header.map(|name| cell(&item[name])).join("\t");
    let lines: Vec<String> = std::iter::once(header.join("\t")).chain(items.iter().map(line)).collect();
    output.result(&json!({ "num_items": vocabulary.len(), "items": items }), &lines.join("\n"))?;
    Ok(Verdict::Done)
}

fn add(args: &Add, output: &Output) -> Result<Verdict> {
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
