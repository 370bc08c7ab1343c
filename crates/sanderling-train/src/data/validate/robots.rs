//! Users who are not people.

use sanderling_types::TimeKind;

use super::{AnomalyCode, findings::Findings, interactions::Log};

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

/// What users are compared with.
#[derive(Debug)]
pub(super) struct Robots {
    /// Interactions of the median user.
    median: usize,
    time: TimeKind,
}

impl Robots {
    /// `starts`: where each user's rows begin, and the number of rows.
    pub(super) fn new(starts: &[usize], time: TimeKind) -> Self {
        let mut sizes: Vec<usize> = starts.windows(2).map(|ends| ends[1] - ends[0]).collect();
        sizes.sort_unstable();
        Self { median: sizes.get(sizes.len() / 2).copied().unwrap_or(0), time }
    }

    /// Notes a user whose interactions, `rows` in file order, are implausibly many or regular.
    pub(super) fn check(&self, log: &Log, user: u32, rows: &[u32], findings: &mut Findings) {
        let Some(reason) = self.suspicion(log, rows) else { return };
        let Some((path, line)) = rows.first().map(|&row| log.lines.of(row)) else { return };
        let detail = || format!("user `{}`: {reason}", log.rows.users.text(user));
        findings.note(AnomalyCode::Robot, path, Some(line), detail);
    }

    fn suspicion(&self, log: &Log, rows: &[u32]) -> Option<String> {
        if rows.len() >= MIN_MANY && rows.len() > TIMES_THE_MEDIAN * self.median {
            return Some(format!("{} interactions, the median user has {}", rows.len(), self.median));
        }
        if self.time != TimeKind::UnixSeconds || rows.len() <= MIN_REGULAR {
            return None;
        }
        let mut times: Vec<i64> = rows.iter().map(|&row| log.rows.timestamps()[row as usize]).collect();
        times.sort_unstable();
        if times.windows(MIN_BURST).any(|window| window[MIN_BURST - 1] - window[0] <= BURST_SECONDS) {
            return Some(format!("{MIN_BURST} interactions within {BURST_SECONDS} seconds"));
        }
        let mut pauses: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        pauses.sort_unstable();
        let longest_run = pauses.chunk_by(|a, b| a == b).max_by_key(|run| run.len())?;
        let regular = longest_run.len() as f64 >= REGULAR_SHARE * pauses.len() as f64 && longest_run[0] > 0;
        regular.then(|| {
            format!("{} of {} pauses last {} seconds", longest_run.len(), pauses.len(), longest_run[0])
        })
    }
}
