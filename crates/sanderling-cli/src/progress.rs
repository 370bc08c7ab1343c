//! Progress on standard error: bars on a terminal, plain lines elsewhere.

use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sanderling_train::data::{ColumnMap, Dataset, Progress, Stage};
use sanderling_train::recipe::Recipe;
use sanderling_train::sequence::Epoch;
use sanderling_train::train::Step;
use sanderling_types::Result;

use crate::interrupt::Interrupt;
use crate::location::DataLocation;

/// Shows the steps of training.
#[derive(Debug)]
pub(crate) struct TrainingProgress {
    bar: Option<ProgressBar>,
    start: Instant,
    fitting: Duration,
    /// Epochs and tokens that an earlier run has done.
    before: (usize, u64),
    interrupt: Interrupt,
}

impl TrainingProgress {
    /// Of a run that goes on after `epochs` and `tokens` of an earlier one.
    ///
    /// # Errors
    /// As [`Interrupt::listen`].
    pub(crate) fn after(epochs: usize, tokens: u64) -> Result<Self> {
        let interrupt = Interrupt::listen()?;
        Ok(Self {
            bar: None,
            start: Instant::now(),
            fitting: Duration::ZERO,
            before: (epochs, tokens),
            interrupt,
        })
    }

    /// Shows one step; `false` when a signal asked to stop.
    pub(crate) fn show(&mut self, step: Step<'_>) -> bool {
        match step {
            Step::Epoch(epoch, _) => self.epoch(epoch),
            Step::Doing(what) => self.line(&format!("{what} …")),
            Step::Decided(what) => self.line(what),
            Step::Fitting(name) => self.line(&format!("fitting {name} …")),
            Step::Measured(contender) => {
                let value = contender.validation_ndcg10.value;
                self.line(&format!("{}: validation NDCG@10 {value:.4} packed and ranked", contender.name));
            }
        }
        !self.interrupt.is_asked()
    }

    /// Seconds of this run from its start to the end of the last epoch, looks at the validation part included.
    pub(crate) fn fit_wall_seconds(&self) -> f64 {
        self.fitting.as_secs_f64()
    }

    fn epoch(&mut self, epoch: Epoch) {
        let elapsed = self.start.elapsed();
        self.fitting = elapsed;
        let (epochs, tokens) = (epoch.epoch - self.before.0, epoch.tokens - self.before.1);
        let left = elapsed.mul_f64((epoch.max_epochs - epoch.epoch) as f64 / epochs as f64);
        let rate = tokens as f64 / elapsed.as_secs_f64();
        let message = format!(
            "epoch {}/{}  loss {:.4}  validation NDCG@10 {:.4}  {:.0} tokens/s  at most {} left",
            epoch.epoch,
            epoch.max_epochs,
            epoch.loss,
            epoch.validation_ndcg10,
            rate,
            minutes(left)
        );
        let bar = self.bar.get_or_insert_with(|| bar(epoch.max_epochs as u64, "{bar:24} {msg}"));
        bar.set_position(epoch.epoch as u64);
        bar.set_message(message.clone());
        if bar.is_hidden() {
            self.line(&message);
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) if !bar.is_hidden() => bar.println(text),
            _ => crate::output::Output::new(false).note(text),
        }
    }
}

impl Drop for TrainingProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}

/// Pause between two lines of progress where there is no terminal.
const LINE_PAUSE: Duration = Duration::from_secs(10);

/// Shows how far the reading, sorting, checking or writing of data is.
#[derive(Debug)]
pub(crate) struct DataProgress {
    bar: Option<ProgressBar>,
    /// The first report of the stage, and when it came: rates count from there.
    first: Option<(Progress, Instant)>,
    last_line: Instant,
}

impl DataProgress {
    pub(crate) fn new() -> Self {
        Self { bar: None, first: None, last_line: Instant::now() }
    }

    pub(crate) fn show(&mut self, progress: Progress) {
        let (first, since) = match self.first {
            Some((first, since)) if first.stage == progress.stage => (first, since),
            _ => {
                self.clear();
                self.first = Some((progress, Instant::now()));
                return;
            }
        };
        let bar = self.bar.get_or_insert_with(|| bar(progress.total, "{bar:24} {percent}% {msg}"));
        let message = data_message(first, progress, since.elapsed());
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(message.clone());
        if bar.is_hidden() && self.last_line.elapsed() >= LINE_PAUSE {
            self.last_line = Instant::now();
            let percent = progress.done * 100 / progress.total.max(1);
            crate::output::Output::new(false).note(&format!("{percent}% {message}"));
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for DataProgress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Shows how much of a download has come.
#[derive(Debug)]
pub(crate) struct DownloadProgress {
    bar: ProgressBar,
    last_line: Instant,
}

impl DownloadProgress {
    pub(crate) fn new(total_bytes: u64) -> Self {
        let template = "{bar:24} {percent}% fetching: {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        Self { bar: bar(total_bytes, template), last_line: Instant::now() }
    }

    pub(crate) fn advance(&mut self, bytes: u64) {
        self.bar.inc(bytes);
        if self.bar.is_hidden() && self.last_line.elapsed() >= LINE_PAUSE {
            self.last_line = Instant::now();
            let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
            let (rate, left) = (self.bar.per_sec() / 1e6, minutes(self.bar.eta()));
            let percent = done * 100 / total.max(1);
            crate::output::Output::new(false).note(&format!(
                "{percent}% fetching: {:.1} MB, {rate:.1} MB/s, {left} left",
                done as f64 / 1e6
            ));
        }
    }
}

impl Drop for DownloadProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `reading: 12.3 million interactions, 1.4 million/s, 0:42 left`.
fn data_message(first: Progress, now: Progress, elapsed: Duration) -> String {
    let stage = match now.stage {
        Stage::Reading => "reading",
        Stage::Sorting => "sorting",
        Stage::Checking => "checking",
        Stage::Writing => "writing",
    };
    let millions = now.interactions as f64 / 1e6;
    let since_first = now.interactions.saturating_sub(first.interactions) as f64 / 1e6;
    let rate = since_first / elapsed.as_secs_f64().max(1e-3);
    let to_go = now.total.saturating_sub(now.done) as f64;
    let left = minutes(elapsed.mul_f64(to_go / now.done.saturating_sub(first.done).max(1) as f64));
    format!("{stage}: {millions:.1} million interactions, {rate:.2} million/s, {left} left")
}

/// Reads a dataset and shows how far it is.
pub(crate) fn read_dataset(location: &DataLocation) -> Result<Dataset> {
    read_local(location.fetch()?.as_ref())
}

/// As [`read_dataset`], with what a recipe wants to know of it.
pub(crate) fn read_for(location: &DataLocation, recipe: &Recipe) -> Result<Dataset> {
    read_mapped(location.fetch()?.as_ref(), &recipe.columns())
}

/// As [`read_dataset`], of what is here already.
pub(crate) fn read_local(path: &Path) -> Result<Dataset> {
    read_mapped(path, &ColumnMap::default())
}

fn read_mapped(path: &Path, columns: &ColumnMap) -> Result<Dataset> {
    let mut progress = DataProgress::new();
    Dataset::read_mapped(path, columns, &mut |step| progress.show(step))
}

/// A bar with a template; hidden when standard error is no terminal.
pub(crate) fn bar(len: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len).with_style(style)
}

/// Minutes and seconds.
pub(crate) fn minutes(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_count_from_the_first_report_of_a_stage() {
        let at =
            |interactions, done| Progress { stage: Stage::Writing, interactions, done, total: 10_000_000 };
        let message =
            data_message(at(1_000_000, 1_000_000), at(4_000_000, 4_000_000), Duration::from_secs(30));
        assert_eq!(message, "writing: 4.0 million interactions, 0.10 million/s, 1:00 left");
    }
}
