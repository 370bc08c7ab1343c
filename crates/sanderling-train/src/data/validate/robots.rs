//! Users who are not people.

use sanderling_types::TimeKind;

use super::{
    AnomalyCode,
    findings::Findings,
    interactions::{Log, LogRow},
};

/// A user is suspicious with this many times the median user's interactions …
const TIMES_THE_MEDIAN: usize = 50;
/// … but not with fewer than this.
const MIN_MANY: usize = 500;
/// Interactions within [`BURST_SECONDS`] that no person makes.
const MIN_BURST: usize = 1_000;
const BURST_SECONDS: i64 = 3_600;
/// A user is suspicious when this share of at least [`MIN_REGULAR`] pauses has the same length, in seconds,
/// other than zero (people often rate a page of items in one second).
const REGULAR_SHARE: f64 = 0.8;
const MIN_REGULAR: usize = 30;

/// Notes every user whose interactions are implausibly many or regular.
pub(super) fn check(log: &Log, findings: &mut Findings) {
    let mut by_user: Vec<Vec<&LogRow>> = vec![Vec::new(); log.users.len()];
    for row in &log.rows {
        by_user[row.user as usize].push(row);
    }
    let mut sizes: Vec<usize> = by_user.iter().map(Vec::len).collect();
    sizes.sort_unstable();
    let median = sizes.get(sizes.len() / 2).copied().unwrap_or(0);
    for (user, rows) in by_user.iter().enumerate() {
        let Some(reason) = suspicion(rows, median, log.time) else { continue };
        let line = rows.first().map(|row| row.line);
        let detail = || format!("user `{}`: {reason}", log.users.name(user as u32));
        findings.note(AnomalyCode::Robot, &log.path, line, detail);
    }
}

fn suspicion(rows: &[&LogRow], median: usize, time: TimeKind) -> Option<String> {
    if rows.len() >= MIN_MANY && rows.len() > TIMES_THE_MEDIAN * median {
        return Some(format!("{} interactions, the median user has {median}", rows.len()));
    }
    if time != TimeKind::UnixSeconds || rows.len() <= MIN_REGULAR {
        return None;
    }
    let mut times: Vec<i64> = rows.iter().map(|row| row.timestamp).collect();
    times.sort_unstable();
    if times.windows(MIN_BURST).any(|window| window[MIN_BURST - 1] - window[0] <= BURST_SECONDS) {
        return Some(format!("{MIN_BURST} interactions within {BURST_SECONDS} seconds"));
    }
    let mut pauses: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    pauses.sort_unstable();
    let longest_run = pauses.chunk_by(|a, b| a == b).max_by_key(|run| run.len())?;
    let regular = longest_run.len() as f64 >= REGULAR_SHARE * pauses.len() as f64 && longest_run[0] > 0;
    regular
        .then(|| format!("{} of {} pauses last {} seconds", longest_run.len(), pauses.len(), longest_run[0]))
}
