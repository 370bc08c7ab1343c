//! Timestamps as they are found in logs.

use serde::{Deserialize, Serialize};

const SECONDS_PER_DAY: i64 = 86_400;

/// How the numbers of a timestamp column are to be read. Text such as `2026-01-31T08:00:00Z` is
/// understood under every unit but [`TimeUnit::Position`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// By magnitude, value by value: under 1e11 seconds, under 1e14 milliseconds, under 1e17
    /// microseconds, else nanoseconds.
    #[default]
    Auto,
    /// Unix seconds.
    Seconds,
    /// Unix milliseconds.
    Milliseconds,
    /// Unix microseconds.
    Microseconds,
    /// Positions in a sequence; never converted.
    Position,
}

/// Reads one timestamp as Unix seconds (or as a position); `None` when it is neither a number
/// nor an ISO-8601 date. Fractions of a second are cut off towards the past.
pub(crate) fn parse(text: &str, unit: TimeUnit) -> Option<i64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return Some(to_seconds(number, unit));
    }
    if let Some(seconds) = (unit != TimeUnit::Position).then(|| parse_iso(text)).flatten() {
        return Some(seconds);
    }
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && number.abs() < 9.0e18)?;
    Some(to_seconds(number.floor() as i64, unit))
}

/// The unit that [`TimeUnit::Auto`] sees in a number.
pub(crate) fn magnitude(number: i64) -> TimeUnit {
    match number.unsigned_abs() {
        0..100_000_000_000 => TimeUnit::Seconds,
        100_000_000_000..100_000_000_000_000 => TimeUnit::Milliseconds,
        _ => TimeUnit::Microseconds,
    }
}

fn to_seconds(number: i64, unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Seconds | TimeUnit::Position => number,
        TimeUnit::Milliseconds => number.div_euclid(1_000),
        TimeUnit::Microseconds => number.div_euclid(1_000_000),
        TimeUnit::Auto if number.unsigned_abs() >= 100_000_000_000_000_000 => {
            number.div_euclid(1_000_000_000)
        }
        TimeUnit::Auto => to_seconds(number, magnitude(number)),
    }
}

/// Unix seconds of the first moment of a year.
pub(crate) fn year_start(year: i64) -> i64 {
    days_from_civil(year, 1, 1) * SECONDS_PER_DAY
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; `month` 1 to 12, `day` 1 to 31.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // Years are counted from March, so that the leap day is the last day of a year.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = shifted_year.div_euclid(4) - shifted_year.div_euclid(100) + shifted_year.div_euclid(400);
    shifted_year * 365 + leap_days + (153 * shifted_month + 2) / 5 + day - 1 - 719_468
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// `YYYY-MM-DD`, optionally followed by `T` or a space, `HH:MM[:SS[.fraction]]` and `Z`, `UTC` or an
/// offset. A time without an offset is UTC.
fn parse_iso(text: &str) -> Option<i64> {
    let date = text.get(..10)?;
    let separator = date.as_bytes()[4];
    if !matches!(separator, b'-' | b'/') || date.as_bytes()[7] != separator {
        return None;
    }
    let (year, month, day) = (digits(&date[..4])?, digits(&date[5..7])?, digits(&date[8..])?);
    if !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * SECONDS_PER_DAY;
    let rest = text.get(10..)?;
    if rest.is_empty() {
        return Some(midnight);
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, offset) = split_offset(rest)?;
    Some(midnight + parse_clock(clock)? - offset)
}

/// Splits `08:00:00+02:00` into the clock and the offset in seconds.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    for suffix in ["Z", "z", " UTC", "UTC"] {
        if let Some(clock) = text.strip_suffix(suffix) {
            return Some((clock, 0));
        }
    }
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, 0)) };
    let sign = if text.as_bytes()[at] == b'-' { -1 } else { 1 };
    let digits_only: String = text[at + 1..].chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = match digits_only.len() {
        2 => (digits(&digits_only)?, 0),
        4 => (digits(&digits_only[..2])?, digits(&digits_only[2..])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then(|| (text[..at].trim_end(), sign * (hours * 3_600 + minutes * 60)))
}

fn parse_clock(clock: &str) -> Option<i64> {
    let whole = match clock.split_once(['.', ',']) {
        Some((whole, fraction)) if !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit()) => {
            whole
        }
        Some(_) => return None,
        None => clock,
    };
    let mut parts = whole.split(':');
    let (hours, minutes) = (digits(parts.next()?)?, digits(parts.next()?)?);
    let seconds = parts.next().map_or(Some(0), digits)?;
    let in_range = hours <= 24 && minutes < 60 && seconds <= 60 && parts.next().is_none();
    in_range.then_some(hours * 3_600 + minutes * 60 + seconds)
}

fn digits(text: &str) -> Option<i64> {
    let ok = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    ok.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{TimeUnit, parse, year_start};

    #[test]
    fn timestamps_are_read_in_every_form() {
        let at = 1_767_225_600; // 2026-01-01T00:00:00Z
        for (text, expected) in [
            ("1767225600", Some(at)),
            ("1767225600000", Some(at)),
            ("1767225600000000", Some(at)),
            ("1767225600000000000", Some(at)),
            ("1767225600.75", Some(at)),
            ("1.7672256e9", Some(at)),
            ("-1", Some(-1)),
            ("2026-01-01", Some(at)),
            ("2026/01/01", Some(at)),
            ("2026-01-01T00:00:00Z", Some(at)),
            ("2026-01-01 00:00:00", Some(at)),
            ("2026-01-01 00:00:00 UTC", Some(at)),
            ("2026-01-01T02:00:00.123+02:00", Some(at)),
            ("2025-12-31T19:30-0430", Some(at)),
            ("2024-02-29", Some(1_709_164_800)),
            ("2023-02-29", None),
            ("1969-12-31T23:59:59Z", Some(-1)),
            ("2026-13-01", None),
            ("2026-01-01T25:00:00Z", None),
            ("2026-01-01X", None),
            ("yesterday", None),
            ("NaN", None),
            ("", None),
            ("é2026-01-0é", None),
        ] {
            assert_eq!(parse(text, TimeUnit::Auto), expected, "{text}");
        }
    }

    #[test]
    fn a_stated_unit_overrules_the_magnitude() {
        assert_eq!(parse("5000", TimeUnit::Milliseconds), Some(5));
        assert_eq!(parse("5000000", TimeUnit::Microseconds), Some(5));
        assert_eq!(parse("1767225600000", TimeUnit::Seconds), Some(1_767_225_600_000));
        assert_eq!(parse("1767225600000", TimeUnit::Position), Some(1_767_225_600_000));
        assert_eq!(parse("2026-01-01", TimeUnit::Position), None);
    }

    #[test]
    fn years_start_where_calendars_say() {
        assert_eq!(year_start(1970), 0);
        assert_eq!(year_start(2000), 946_684_800);
        assert_eq!(year_start(1995), 788_918_400);
    }
}
