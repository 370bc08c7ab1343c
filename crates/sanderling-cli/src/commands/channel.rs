//! `sanderling promote | rollback | status`.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use sanderling_collector::online::{Comparison, Options, compare};
use sanderling_collector::{Reader, RegisteredBundle};
use sanderling_types::{Channel, Code, Error, FORMAT_VERSION, Release, Result};
use serde_json::{Value, json};

use super::recommend::unix_now;
use crate::channel::{ChannelFolder, Decision, DecisionKind, decisions};
use crate::location::StoreArgument;
use crate::output::{Output, Verdict};

/// Make a bundle, or the canary, the champion of a channel.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sanderling promote bundles/shop --channel live\n  \
    sanderling promote --channel live\n\n\
    The first makes a copy of the bundle the champion, and makes the channel when there is none; the second promotes the canary.")]
pub(crate) struct Promote {
    /// Bundle folder; without one the channel's canary.
    bundle: Option<PathBuf>,
    /// Folder of the channel.
    #[arg(long, value_name = "FOLDER")]
    channel: PathBuf,
    /// Time of the decision in Unix seconds, for replays; now by default.
    #[arg(long, value_name = "SECONDS")]
    now: Option<i64>,
}

/// Take the canary of a channel back, or without one return to the champion before.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling rollback --channel live\n\n\
    Devices that have seen a larger rollback index refuse the bundle before: sign one of those with a larger one instead.")]
pub(crate) struct Rollback {
    /// Folder of the channel.
    #[arg(long, value_name = "FOLDER")]
    channel: PathBuf,
    /// Time of the decision in Unix seconds, for replays; now by default.
    #[arg(long, value_name = "SECONDS")]
    now: Option<i64>,
}

/// Show what a channel serves, how its canary does, and what was decided.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling status --channel live --store reports.db")]
pub(crate) struct Status {
    /// Folder of the channel.
    #[arg(long, value_name = "FOLDER")]
    channel: PathBuf,
    /// Database of the collector, as for `collect`, to compare the canary with the champion.
    #[arg(long, value_name = "FILE_OR_URL")]
    store: Option<StoreArgument>,
}

pub(crate) fn promote(args: &Promote, output: &Output) -> Result<Verdict> {
    let open = if args.bundle.is_some() { ChannelFolder::make } else { ChannelFolder::open };
    let mut folder = open(&args.channel)?;
    let now = args.now.unwrap_or_else(unix_now);
    let (kind, reason, channel) = match &args.bundle {
        Some(bundle) => (DecisionKind::Champion, "by hand", with_champion(&folder, bundle, now)?),
        None => (DecisionKind::Promote, "the canary, by hand", with_canary_promoted(&folder, now)?),
    };
    let decision = folder.decide(now, kind, reason.to_owned(), Value::Null, channel)?;
    print(decision, output)
}

pub(crate) fn rollback(args: &Rollback, output: &Output) -> Result<Verdict> {
    let mut folder = ChannelFolder::open(&args.channel)?;
    let now = args.now.unwrap_or_else(unix_now);
    let channel = current(&folder)?.clone();
    let (reason, channel) = match channel.canary {
        Some(_) => ("the canary, by hand", Channel { canary: None, ..channel }),
        None => ("the champion, by hand", before_champion(&folder, now)?),
    };
    let decision = folder.decide(now, DecisionKind::RollBack, reason.to_owned(), Value::Null, channel)?;
    print(decision, output)
}

pub(crate) fn status(args: &Status, output: &Output) -> Result<Verdict> {
    let decisions = decisions(&args.channel)?;
    let Some(last) = decisions.last() else { return Err(no_channel(&args.channel)) };
    let comparison = match &args.store {
        Some(store) => compare_canary(&args.channel, store, &last.channel, &Options::default())?,
        None => None,
    };
    let mut lines = channel_lines(&last.channel);
    lines.extend(comparison.as_ref().map(comparison_line));
    lines.extend(decisions.iter().rev().take(10).map(|one| format!("  {}", decision_line(one))));
    let json = json!({ "channel": last.channel, "comparison": comparison, "decisions": decisions });
    output.result(&json, &lines.join("\n"))?;
    Ok(Verdict::Done)
}

/// The canary against the champion in the windows since it is served; `None` without one.
pub(crate) fn compare_canary(
    folder: &Path,
    store: &StoreArgument,
    channel: &Channel,
    options: &Options,
) -> Result<Option<Comparison>> {
    let Some(canary) = &channel.canary else { return Ok(None) };
    let reader = Reader::open(&store.location()?)?;
    let champion = RegisteredBundle::read(&folder.join(&channel.champion.path))?;
    let challenger = RegisteredBundle::read(&folder.join(&canary.release.path))?;
    // A window that had begun before has devices with the champion alone.
    let window_seconds = i64::from(challenger.telemetry().window_seconds);
    let first =
        canary.release.since.saturating_add(window_seconds - 1).div_euclid(window_seconds) * window_seconds;
    compare(&reader, &champion, &challenger, first..i64::MAX, options).map(Some)
}

/// What the channel serves.
pub(crate) fn current(folder: &ChannelFolder) -> Result<&Channel> {
    folder.channel().ok_or_else(|| {
        Error::new(Code::NotFound, "the channel has no champion yet")
            .hint("give it one with `sanderling promote BUNDLE --channel FOLDER`")
    })
}

/// The channel with its canary as the champion.
pub(crate) fn with_canary_promoted(folder: &ChannelFolder, now: i64) -> Result<Channel> {
    let channel = current(folder)?;
    let Some(canary) = &channel.canary else {
        return Err(Error::new(Code::NotFound, "the channel has no canary").hint("name a bundle to promote"));
    };
    let mut champion = canary.release.clone();
    champion.since = now;
    Ok(Channel { canary: None, champion, ..channel.clone() })
}

fn with_champion(folder: &ChannelFolder, bundle: &Path, now: i64) -> Result<Channel> {
    // Only what opens without error is worth serving.
    let engine = super::load_engine(bundle, None)?;
    let manifest = engine.bundle().manifest();
    if let Some(channel) = folder.channel().filter(|channel| channel.name != manifest.name) {
        return Err(Error::new(Code::InvalidArgument, "the bundle has another name than the channel's")
            .expected(&channel.name)
            .found(&manifest.name)
            .hint("devices keep histories by name: make another channel"));
    }
    let champion = folder.add(&sanderling_train::bundle::read(bundle)?, manifest, now)?;
    Ok(Channel { canary: None, champion, format_version: FORMAT_VERSION, name: manifest.name.clone() })
}

/// The channel with the champion that the present one first took over from, so that going back twice does not come back.
fn before_champion(folder: &ChannelFolder, now: i64) -> Result<Channel> {
    let channel = current(folder)?;
    let champions: Vec<&Release> =
        folder.decisions().iter().map(|decision| &decision.channel.champion).collect();
    let first = champions.iter().position(|one| one.bundle_sha256 == channel.champion.bundle_sha256);
    let Some(before) = first.and_then(|first| first.checked_sub(1)).map(|before| champions[before]) else {
        return Err(Error::new(Code::NotFound, "the channel has had no champion before this one"));
    };
    let champion = Release { since: now, ..before.clone() };
    Ok(Channel { canary: None, champion, ..channel.clone() })
}

fn no_channel(path: &Path) -> Error {
    Error::new(Code::NotFound, format!("{} is no channel", path.display()))
        .hint("make one with `sanderling promote BUNDLE --channel FOLDER`")
}

/// Prints a decision.
pub(crate) fn print(decision: &Decision, output: &Output) -> Result<Verdict> {
    let mut lines = vec![decision_line(decision)];
    lines.extend(channel_lines(&decision.channel));
    output.result(decision, &lines.join("\n"))?;
    Ok(Verdict::Done)
}

fn channel_lines(channel: &Channel) -> Vec<String> {
    let champion = &channel.champion;
    let mut lines =
        vec![format!("{}: champion version {} in {}", channel.name, champion.version, champion.path)];
    lines.extend(channel.canary.as_ref().map(|canary| {
        let release = &canary.release;
        format!("canary version {} in {}, {} of devices", release.version, release.path, canary.share)
    }));
    lines
}

fn comparison_line(comparison: &Comparison) -> String {
    let rate = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    format!(
        "hit rate {} ({} reports) against {} ({} reports): {}",
        rate(comparison.canary.hit_rate.value),
        comparison.canary.num_reports,
        rate(comparison.champion.hit_rate.value),
        comparison.champion.num_reports,
        comparison.reason
    )
}

/// A time in Unix seconds for people; the number where it is of no year that has a date.
fn date(seconds: i64) -> String {
    const YEAR_10000: u64 = 253_402_300_800;
    match u64::try_from(seconds) {
        Ok(at) if at < YEAR_10000 => {
            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at)).to_string()
        }
        _ => seconds.to_string(),
    }
}

fn decision_line(decision: &Decision) -> String {
    // Every kind is a unit variant, so its text is a JSON string.
    let kind = serde_json::to_value(decision.decision).ok();
    let kind = kind.as_ref().and_then(Value::as_str).unwrap_or("?");
    let at = date(decision.at);
    let champion = &decision.channel.champion;
    format!("{at}  {kind}: {}; champion version {} in {}", decision.reason, champion.version, champion.path)
}
