//! `sanderling retrain --channel`: what the loop does by itself, one check at a time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use sanderling_collector::drift::{Aspect, Options as DriftOptions, judge};
use sanderling_collector::online::{Decision as OnlineDecision, Options as OnlineOptions};
use sanderling_collector::{RegisteredBundle, register_bundle};
use sanderling_train::data::Dataset;
use sanderling_types::{Canary, Channel, Code, Error, Manifest, Result, TimeKind};
use serde::Serialize;
use serde_json::{Value, json};

use super::channel::{compare_canary, current, with_canary_promoted};
use super::recommend::unix_now;
use super::retrain::{Reigning, Retrain, challenge};
use super::{bundle, drift};
use crate::channel::{ChannelFolder, DecisionKind};
use crate::interrupt::Interrupt;
use crate::location::StoreArgument;
use crate::output::{Output, Verdict};
use crate::progress;

const SECONDS_PER_DAY: f64 = 86_400.0;
/// What `--alpha` is the probability for.
const BUDGET_DAYS: f64 = 30.0;
/// How often a watch looks whether it was asked to stop.
const NAP: Duration = Duration::from_millis(200);

/// When the loop acts.
#[derive(Debug, Args)]
pub(crate) struct AdvanceArgs {
    /// Folder of a channel; instead of --champion and --out.
    #[arg(long, value_name = "FOLDER", requires = "store", conflicts_with_all = ["champion", "out"])]
    pub(super) channel: Option<PathBuf>,
    /// Check again every so many seconds, until stopped.
    #[arg(long, value_name = "SECONDS", requires = "channel", value_parser = clap::value_parser!(u64).range(1..))]
    watch: Option<u64>,
    /// File of a secret key to sign challengers with; may be given several times.
    #[arg(long, value_name = "FILE", requires = "channel")]
    key: Vec<PathBuf>,
    /// Part of the devices that load a canary, at most 0.5.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    canary_share: f64,
    /// Probability of a false alarm, and of a false roll-back: with --watch in 30 days, else at this check.
    #[arg(long, default_value_t = 0.01)]
    alpha: f64,
    /// Smallest effect of a shift that is drift, on the scale of the population stability index.
    #[arg(long, default_value_t = 0.1)]
    min_effect: f64,
    /// Days after the newest interaction that the champion was trained on, from when it is old.
    #[arg(long, value_name = "DAYS", default_value_t = 30.0)]
    max_age_days: f64,
    /// New interactions, over those that the champion was trained on, from when there are many.
    #[arg(long, value_name = "RATIO", default_value_t = 0.5)]
    max_new_ratio: f64,
    /// Days after a decision in which no challenger is trained.
    #[arg(long, value_name = "DAYS", default_value_t = 7.0)]
    cool_down_days: f64,
    /// Windows of a canary before it is promoted.
    #[arg(long, value_name = "N", default_value_t = 7)]
    canary_windows: u64,
    /// Time of the check in Unix seconds, for replays; now by default.
    #[arg(long, value_name = "SECONDS", requires = "channel", conflicts_with = "watch")]
    now: Option<i64>,
}

/// What a check came to.
#[derive(Debug, Serialize)]
struct Checked {
    /// `null` when nothing was decided.
    decision: Option<DecisionKind>,
    reason: String,
    evidence: Value,
    channel: Channel,
}

pub(super) fn run(args: &Retrain, channel: &Path, output: &Output) -> Result<Verdict> {
    let options = &args.advance;
    if !(options.canary_share > 0.0 && options.canary_share <= Channel::MAX_SHARE) {
        return Err(Error::new(Code::InvalidArgument, "--canary-share is out of range")
            .expected(format!("over 0, at most {}", Channel::MAX_SHARE))
            .found(options.canary_share));
    }
    // A watch would find the same fault at every check, and after the training.
    store(args)?.location()?;
    options.key.iter().try_for_each(|key| bundle::read_key(key).map(drop))?;
    let Some(seconds) = options.watch else {
        return print(&check(args, channel, options.now.unwrap_or_else(unix_now), output)?, output);
    };
    let asked = Interrupt::listen()?;
    while !asked.is_asked() {
        // What fails now may not fail at the next check: a store that is away, logs that are being written.
        match check(args, channel, unix_now(), output) {
            Ok(checked) => drop(print(&checked, output)?),
            Err(error) => output.error(&error),
        }
        let naps = Duration::from_secs(seconds).as_millis() / NAP.as_millis();
        for _ in 0..naps.max(1) {
            if asked.is_asked() {
                break;
            }
            std::thread::sleep(NAP);
        }
    }
    Ok(Verdict::Done)
}

fn print(checked: &Checked, output: &Output) -> Result<Verdict> {
    let what = match checked.decision {
        None => "nothing to do",
        Some(DecisionKind::Canary) => "canary",
        Some(DecisionKind::Promote) => "promoted",
        Some(DecisionKind::RollBack) => "rolled back",
        Some(DecisionKind::Refuse) => "refused",
        Some(DecisionKind::Champion) => "champion",
    };
    output.result(checked, &format!("{what}: {}", checked.reason))?;
    Ok(Verdict::wanting_if(matches!(checked.decision, Some(DecisionKind::RollBack | DecisionKind::Refuse))))
}

/// One check at the time `now`.
fn check(args: &Retrain, path: &Path, now: i64, output: &Output) -> Result<Checked> {
    let mut folder = ChannelFolder::open(path)?;
    let channel = current(&folder)?.clone();
    match channel.canary {
        Some(_) => check_canary(args, path, &mut folder, now),
        None => check_champion(args, &mut folder, now, output),
    }
}

/// The part of the monthly budget that one check may spend.
fn alpha_of_check(options: &AdvanceArgs) -> f64 {
    let part = options.watch.map_or(1.0, |seconds| seconds as f64 / SECONDS_PER_DAY / BUDGET_DAYS);
    options.alpha * part.min(1.0)
}

fn check_canary(args: &Retrain, path: &Path, folder: &mut ChannelFolder, now: i64) -> Result<Checked> {
    let (options, channel) = (&args.advance, current(folder)?.clone());
    let defaults = OnlineOptions::default();
    let online = OnlineOptions {
        alpha: alpha_of_check(options),
        min_windows: options.canary_windows,
        max_windows: defaults.max_windows.max(options.canary_windows),
        ..defaults
    };
    let compared = compare_canary(path, store(args)?, &channel, &online)?;
    let Some(comparison) = compared else {
        return Ok(nothing("no canary".to_owned(), Value::Null, &channel));
    };
    let (reason, evidence) = (comparison.reason.clone(), json!({ "comparison": comparison }));
    match comparison.decision {
        OnlineDecision::Wait => Ok(nothing(reason, evidence, &channel)),
        OnlineDecision::Promote => {
            let next = with_canary_promoted(folder, now)?;
            decide(folder, now, DecisionKind::Promote, reason, evidence, next)
        }
        OnlineDecision::RollBack => {
            let next = Channel { canary: None, ..channel };
            decide(folder, now, DecisionKind::RollBack, reason, evidence, next)
        }
    }
}

fn check_champion(args: &Retrain, folder: &mut ChannelFolder, now: i64, output: &Output) -> Result<Checked> {
    let channel = current(folder)?.clone();
    let champion = folder.bundle(&channel.champion);
    if args.advance.key.is_empty() && champion.join(Manifest::SIGNATURE_FILE_NAME).exists() {
        return Err(Error::new(
            Code::SignatureMissing,
            "the champion is signed, and its challengers would not be",
        )
        .hint(
            "give the secret key with --key: devices that ask for a signature refuse a bundle without one",
        ));
    }
    let last = folder.decisions().last().map_or(0, |decision| decision.at);
    let rested = (now - last) as f64 / SECONDS_PER_DAY;
    if rested < args.advance.cool_down_days {
        let reason = format!("{rested:.1} days after the last decision, of {}", args.advance.cool_down_days);
        return Ok(nothing(reason, Value::Null, &channel));
    }
    let (drifted, report) = drifted_fields(args, &champion)?;
    let reigning = Reigning::load(args, &champion)?;
    let dataset = progress::read_for(&args.data, &reigning.recipe)?;
    let manifest = RegisteredBundle::read(&champion)?.manifest().clone();
    let reasons = triggers(&args.advance, &drifted, &manifest, &dataset, now);
    if reasons.is_empty() {
        let reason = "no drift, not old, few new interactions".to_owned();
        return Ok(nothing(reason, json!({ "drift": report }), &channel));
    }
    output.note(&format!("training a challenger: {}", reasons.join("; ")));
    let (result, files) = challenge(args, &champion, &reigning, &dataset)?;
    let evidence = json!({ "triggers": reasons, "drift": report, "gate": result.gate, "reported": result.reported, "shared_sessions": result.shared_sessions });
    if !result.gate.promote {
        let failed = result.gate.checks.iter().filter(|check| !check.passed);
        let failed: Vec<String> = failed.map(|check| format!("{}: {}", check.name, check.found)).collect();
        return decide(folder, now, DecisionKind::Refuse, failed.join("; "), evidence, channel);
    }
    let manifest = Manifest::decode(files.get(Manifest::FILE_NAME).map_or(&[], |bytes| bytes))?;
    let release = folder.add(&files, &manifest, now)?;
    let challenger = folder.bundle(&release);
    if !args.advance.key.is_empty() {
        bundle::sign_manifest(&challenger, &manifest, &manifest, &args.advance.key)?;
    }
    // Devices may report as soon as they can load it.
    register_bundle(&store(args)?.location()?, &RegisteredBundle::read(&challenger)?)?;
    let next = Channel { canary: Some(Canary { release, share: args.advance.canary_share }), ..channel };
    decide(folder, now, DecisionKind::Canary, reasons.join("; "), evidence, next)
}

/// Fields that drifted in the last windows and that training may mend, with the report; nothing where no field has enough answers.
fn drifted_fields(args: &Retrain, champion: &Path) -> Result<(Vec<String>, Value)> {
    let (reader, bundle) = drift::open(store(args)?, champion)?;
    let alpha = alpha_of_check(&args.advance);
    let options = DriftOptions { alpha, min_effect: args.advance.min_effect, ..DriftOptions::default() };
    let report = judge(&reader, &bundle, args.windows.range(&reader, &bundle)?, &options)?;
    // No model makes devices faster.
    let mended = report.fields.iter().filter(|field| field.drifted && field.aspect != Aspect::Operation);
    let drifted = mended.map(|field| field.name.clone()).collect();
    let json = serde_json::to_value(&report).map_err(|error| {
        Error::new(Code::Internal, "a drift report cannot be written").source_error(error)
    })?;
    Ok((drifted, json))
}

/// Why a challenger should be trained.
fn triggers(
    options: &AdvanceArgs,
    drifted: &[String],
    champion: &Manifest,
    dataset: &Dataset,
    now: i64,
) -> Vec<String> {
    let mut reasons = Vec::new();
    if !drifted.is_empty() {
        reasons.push(format!("drift in {}", drifted.join(", ")));
    }
    let training = &champion.training;
    if training.time == TimeKind::UnixSeconds {
        let age_days = (now - training.last_timestamp) as f64 / SECONDS_PER_DAY;
        if age_days > options.max_age_days {
            reasons.push(format!("the champion's newest interaction is {age_days:.0} days old"));
        }
    }
    let num_new =
        dataset.interactions.timestamps().iter().filter(|time| **time > training.last_timestamp).count();
    let new_ratio = num_new as f64 / training.num_interactions.max(1) as f64;
    if new_ratio > options.max_new_ratio {
        reasons.push(format!("{num_new} new interactions, {new_ratio:.2} of the champion's"));
    }
    reasons
}

fn store(args: &Retrain) -> Result<&StoreArgument> {
    args.store.as_ref().ok_or_else(|| Error::new(Code::InvalidArgument, "a channel needs --store"))
}

fn nothing(reason: String, evidence: Value, channel: &Channel) -> Checked {
    Checked { decision: None, reason, evidence, channel: channel.clone() }
}

fn decide(
    folder: &mut ChannelFolder,
    now: i64,
    kind: DecisionKind,
    reason: String,
    evidence: Value,
    channel: Channel,
) -> Result<Checked> {
    let decision = folder.decide(now, kind, reason, evidence, channel)?;
    Ok(Checked {
        decision: Some(decision.decision),
        reason: decision.reason.clone(),
        evidence: decision.evidence.clone(),
        channel: decision.channel.clone(),
    })
}
