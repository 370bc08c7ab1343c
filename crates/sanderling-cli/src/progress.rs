//! Progress on standard error: bars on a terminal, plain lines elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sanderling_train::sequence::Epoch;
use sanderling_train::train::Step;

/// Shows the steps of training.
#[derive(Debug)]
pub(crate) struct TrainingProgress {
    bar: Option<ProgressBar>,
    start: Instant,
    fitting: Duration,
    /// Epochs and tokens that an earlier run has done.
    before: (usize, u64),
}

impl TrainingProgress {
    /// Of a run that goes on after `epochs` and `tokens` of an earlier one.
    pub(crate) fn after(epochs: usize, tokens: u64) -> Self {
        Self { bar: None, start: Instant::now(), fitting: Duration::ZERO, before: (epochs, tokens) }
    }

    /// Shows one step. Always `true`: a person stops the program with a signal.
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
        true
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
