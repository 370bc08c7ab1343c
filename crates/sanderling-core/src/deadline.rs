//! Whether a request has time for another step.

use sanderling_types::{Fault, FaultCode};

/// How long the steps took last, in milliseconds; 0 for what is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct StepCosts {
    pub(crate) retrieval_ms: f64,
    pub(crate) ranking_ms: f64,
}

/// The deadline of a request and the caller's clock.
pub(crate) struct Deadline<'a> {
    deadline_ms: Option<f64>,
    elapsed_ms: &'a dyn Fn() -> f64,
}

impl<'a> Deadline<'a> {
    pub(crate) const NONE: Deadline<'static> = Deadline { deadline_ms: None, elapsed_ms: &|| 0.0 };

    pub(crate) fn new(deadline_ms: Option<f32>, elapsed_ms: &'a dyn Fn() -> f64) -> Self {
        let deadline_ms = deadline_ms.filter(|deadline| !deadline.is_nan()).map(f64::from);
        Self { deadline_ms, elapsed_ms }
    }

    /// Milliseconds since the request came; 0 where nobody asks for a deadline, which saves reading the clock.
    pub(crate) fn elapsed_ms(&self) -> f64 {
        if self.deadline_ms.is_some() { (self.elapsed_ms)() } else { 0.0 }
    }

    /// Notes how long a step took, where that was measured.
    pub(crate) fn note(&self, last_ms: &mut f64, took_ms: f64) {
        if self.deadline_ms.is_some() {
            *last_ms = took_ms;
        }
    }

    /// Allows a step that took `last_ms` the last time, if it would end in time; else gives the fault. Each refusal halves
    /// `last_ms`, so that one slow run does not shut a step out for ever.
    pub(crate) fn allow(&self, step: &str, last_ms: &mut f64) -> Result<(), Fault> {
        let Some(deadline_ms) = self.deadline_ms else { return Ok(()) };
        let elapsed_ms = self.elapsed_ms();
        if elapsed_ms < deadline_ms && elapsed_ms + *last_ms <= deadline_ms {
            return Ok(());
        }
        let expected_ms = std::mem::replace(last_ms, *last_ms / 2.0);
        let detail = format!(
            "{step} was left out: {} of {} ms were gone, and it takes about {} ms",
            tenths(elapsed_ms),
            tenths(deadline_ms),
            tenths(expected_ms)
        );
        Err(Fault { code: FaultCode::DeadlineExceeded, detail })
    }
}

/// A time from 0 with one decimal. The formatting of floats would be ten kilobytes of a page's download.
fn tenths(ms: f64) -> String {
    let tenths = (ms * 10.0).round() as u64;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_allowed_while_it_would_end_in_time() {
        let clock = std::cell::Cell::new(0.0);
        let elapsed = || clock.get();
        let deadline = Deadline::new(Some(10.0), &elapsed);
        let mut last_ms = 8.0;
        assert_eq!(deadline.allow("a step", &mut last_ms), Ok(()));
        clock.set(3.0);
        let fault = deadline.allow("a step", &mut last_ms).err();
        assert_eq!(fault.map(|fault| fault.code), Some(FaultCode::DeadlineExceeded));
        assert_eq!(
            deadline.allow("a step", &mut last_ms),
            Ok(()),
            "4 ms are left of the memory, 7 of the time"
        );
        clock.set(10.0);
        assert!(deadline.allow("a step", &mut 0.0).is_err(), "the time is up");
        for endless in [None, Some(f32::NAN)] {
            assert_eq!(Deadline::new(endless, &elapsed).allow("a step", &mut 1e9), Ok(()));
        }
        assert!(Deadline::new(Some(-1.0), &elapsed).allow("a step", &mut 0.0).is_err());
    }
}
