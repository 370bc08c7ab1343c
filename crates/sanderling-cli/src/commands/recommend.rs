//! `sanderling recommend`.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use sanderling_types::{Request, Result, SessionInteraction};

use crate::output::{Output, Verdict};

/// Recommend for a session given as item ids.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling recommend bundles/shop item-12 item-40 --limit 5")]
pub(crate) struct Recommend {
    /// Bundle folder.
    bundle: PathBuf,
    /// Items of the session, oldest first.
    items: Vec<String>,
    /// How many recommendations.
    #[arg(long, default_value_t = 10)]
    limit: u32,
    /// Time of the request in Unix seconds; by default the current time.
    #[arg(long)]
    now: Option<i64>,
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

pub(crate) fn run(args: &Recommend, output: &Output) -> Result<Verdict> {
    let engine = super::load_engine(&args.bundle, None)?;
    let now = args.now.unwrap_or_else(unix_now);
    let session = args
        .items
        .iter()
        .map(|item| SessionInteraction {
            item_id: item.as_str().into(),
            kind: "view".to_owned(),
            timestamp: now,
        })
        .collect();
    let request = Request { session, limit: args.limit, now, ..Request::default() };
    let response = engine.recommend(&request).response;
    let mut lines: Vec<String> = response
        .recommendations
        .iter()
        .map(|r| format!("{:>3}  {:<24}{:>9.4}  {:?}", r.position, r.item_id.as_str(), r.score, r.reasons))
        .collect();
    lines.extend(
        response.faults.iter().map(|fault| format!("fault {}: {}", fault.code.as_str(), fault.detail)),
    );
    output.result(&response, &lines.join("\n"))?;
    Ok(Verdict::Done)
}
