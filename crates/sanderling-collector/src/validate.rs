//! What a report or a session has to fulfil beyond its own shape.

use sanderling_types::{Code, Error, Report, Result, SharedSession};

use crate::{Config, RegisteredBundle};

/// Checks a decoded report of `encoded_len` bytes against the bundle that it names, at the time
/// `now` in Unix seconds.
///
/// # Errors
/// [`Code::PrivacyViolation`] for other privacy constants than the bundle's (budget, window,
/// number of answers, padded length), [`Code::UnknownField`], [`Code::BinOutOfRange`],
/// [`Code::ReportTooEarly`], [`Code::ReportExpired`].
pub fn validate(
    report: &Report,
    encoded_len: usize,
    bundle: &RegisteredBundle,
    config: &Config,
    now: i64,
) -> Result<()> {
    check_constants(report, encoded_len, bundle)?;
    check_observations(report, bundle)?;
    check_time(report, config, now)
}

fn check_constants(report: &Report, encoded_len: usize, bundle: &RegisteredBundle) -> Result<()> {
    let constants = bundle.telemetry();
    let violation = |what: &str, expected: String, found: String| {
        Err(Error::new(Code::PrivacyViolation, format!("the report's {what} is not the bundle's"))
            .expected(expected)
            .found(found))
    };
    if report.epsilon != constants.epsilon {
        return violation("epsilon", constants.epsilon.to_string(), report.epsilon.to_string());
    }
    if report.window_seconds != constants.window_seconds {
        return violation("window", constants.window_seconds.to_string(), report.window_seconds.to_string());
    }
    let expected_answers = (constants.fields_per_report as usize).min(bundle.baseline().fields.len());
    if report.observations.len() != expected_answers {
        return violation(
            "number of answers",
            expected_answers.to_string(),
            report.observations.len().to_string(),
        );
    }
    if encoded_len != constants.report_bytes as usize {
        return violation("padded length", constants.report_bytes.to_string(), encoded_len.to_string());
    }
    Ok(())
}

fn check_observations(report: &Report, bundle: &RegisteredBundle) -> Result<()> {
    for observation in &report.observations {
        let field = bundle.baseline().field(&observation.field).ok_or_else(|| {
            Error::new(Code::UnknownField, "the bundle's baseline declares no such field")
                .found(format!("{:?}", observation.field))
        })?;
        if usize::from(observation.bin) >= field.bins.num_bins() {
            return Err(Error::new(Code::BinOutOfRange, format!("{:?} has no such bin", field.name))
                .expected(format!("a bin under {}", field.bins.num_bins()))
                .found(observation.bin));
        }
    }
    Ok(())
}

fn check_time(report: &Report, config: &Config, now: i64) -> Result<()> {
    if report.window_start > now.saturating_add(i64::from(config.early_tolerance_seconds)) {
        return Err(Error::new(Code::ReportTooEarly, "the report's window has not started")
            .expected(format!("at most {} s after {now}", config.early_tolerance_seconds))
            .found(report.window_start)
            .hint("check the device's clock"));
    }
    let oldest = oldest_window_start(now, config.retention_seconds, report.window_seconds);
    if report.window_start < oldest {
        return Err(Error::new(Code::ReportExpired, "the report's window is older than the retention")
            .expected(format!("a start of {oldest} or later"))
            .found(report.window_start));
    }
    Ok(())
}

/// Checks the day of a decoded session, at the time `now` in Unix seconds.
///
/// # Errors
/// [`Code::ReportTooEarly`], [`Code::ReportExpired`].
pub fn validate_session(session: &SharedSession, config: &Config, now: i64) -> Result<()> {
    if session.day > now.saturating_add(i64::from(config.early_tolerance_seconds)) {
        return Err(Error::new(Code::ReportTooEarly, "the session's day has not started")
            .expected(format!("at most {} s after {now}", config.early_tolerance_seconds))
            .found(session.day)
            .hint("check the device's clock"));
    }
    let oldest = oldest_day(now, config.retention_seconds);
    if session.day < oldest {
        return Err(Error::new(Code::ReportExpired, "the session's day is older than the retention")
            .expected(format!("a start of {oldest} or later"))
            .found(session.day));
    }
    Ok(())
}

/// As [`oldest_window_start`], for sessions: a day is a window of a day's length.
pub(crate) fn oldest_day(now: i64, retention_seconds: u32) -> i64 {
    oldest_window_start(now, retention_seconds, SharedSession::DAY_SECONDS)
}

/// The earliest window start that is still within the retention. Raw reports before it are
/// deleted, and new ones refused, by this one rule: a report whose id is forgotten can never be
/// counted again.
pub(crate) fn oldest_window_start(now: i64, retention_seconds: u32, window_seconds: u32) -> i64 {
    now.saturating_sub(i64::from(retention_seconds)).saturating_sub(i64::from(window_seconds))
}
