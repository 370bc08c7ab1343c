//! The `sanderling` program: arguments to library calls to printed results.
//!
//! Results go to standard output, one JSON object with `--json`; progress and logs go to standard
//! error. Exit codes: 0 done, 1 checked and found wanting, 2 failed.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod channel;
mod commands;
mod download;
mod interrupt;
mod location;
mod output;
mod progress;
mod report;
mod traces;
mod usage;

use commands::{
    bundle, channel as channels, collect, compare, data, drift, evaluate, golden, items, pack, privacy,
    recommend, retrain, serve, train, tune, verify,
};
use output::{Output, Verdict};

/// Private recommendations that run where the user is: train, check, serve, listen, retrain.
#[derive(Debug, Parser)]
#[command(name = "sanderling", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    /// Print one JSON object on standard output.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Import(data::Import),
    Validate(data::Validate),
    Synth(data::Synth),
    Train(train::Train),
    Pack(pack::Pack),
    Tune(tune::Tune),
    Evaluate(evaluate::Evaluate),
    Compare(compare::Compare),
    Items(items::Items),
    Recommend(recommend::Recommend),
    Inspect(bundle::Inspect),
    Keygen(bundle::Keygen),
    Sign(bundle::Sign),
    Verify(verify::Verify),
    Serve(serve::Serve),
    Collect(collect::Collect),
    Drift(drift::Drift),
    Retrain(retrain::Retrain),
    Promote(channels::Promote),
    Rollback(channels::Rollback),
    Status(channels::Status),
    Privacy(privacy::Privacy),
    Golden(golden::Golden),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    let result = match cli.command {
        Command::Import(args) => data::import(&args, &output),
        Command::Validate(args) => data::validate(&args, &output),
        Command::Synth(args) => data::synth(&args, &output),
        Command::Train(args) => train::run(&args, &output),
        Command::Pack(args) => pack::run(&args, &output),
        Command::Tune(args) => tune::run(&args, &output),
        Command::Evaluate(args) => evaluate::run(&args, &output),
        Command::Compare(args) => compare::run(&args, &output),
        Command::Items(args) => items::run(&args, &output),
        Command::Recommend(args) => recommend::run(&args, &output),
        Command::Inspect(args) => bundle::inspect(&args, &output),
        Command::Keygen(args) => bundle::keygen(&args, &output),
        Command::Sign(args) => bundle::sign(&args, &output),
        Command::Verify(args) => verify::run(&args, &output),
        Command::Serve(args) => serve::run(&args, &output),
        Command::Collect(args) => collect::run(&args, &output),
        Command::Drift(args) => drift::run(&args, &output),
        Command::Retrain(args) => retrain::run(&args, &output),
        Command::Promote(args) => channels::promote(&args, &output),
        Command::Rollback(args) => channels::rollback(&args, &output),
        Command::Status(args) => channels::status(&args, &output),
        Command::Privacy(args) => privacy::run(&args, &output),
        Command::Golden(args) => golden::run(&args, &output),
    };
    match result {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::Wanting) => ExitCode::from(1),
        Err(error) => {
            output.error(&error);
            ExitCode::from(2)
        }
    }
}
