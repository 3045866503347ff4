//! Timestamps as people read them.
//!
//! A certificate may carry any date that DER can write, from the year 0 to 9999, and a clock may be
//! set to anything. humantime panics before 1970 and after 9999, so dates from outside this program
//! are formatted here.

use std::fmt;
use std::time::{Duration, SystemTime};

/// Displays `time` as RFC 3339 in UTC, to the second: `2026-11-27T20:35:00Z`. Never fails: years
/// before 0 have a minus sign, and years after 9999 have more digits.
pub fn rfc3339(time: SystemTime) -> Rfc3339 {
    Rfc3339 {
        seconds: seconds_since_1970(time),
    }
}

/// Returns the time `seconds` after the start of 1970, or the nearest one that this system can
/// represent.
pub fn from_seconds(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds >= 0 {
        true => SystemTime::UNIX_EPOCH.checked_add(distance),
        false => SystemTime::UNIX_EPOCH.checked_sub(distance),
    };
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Returns the whole seconds from the start of 1970 to `time`, rounded down.
pub fn seconds_since_1970(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let whole = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            -whole - i64::from(before.subsec_nanos() > 0)
        }
    }
}

/// A timestamp to be displayed.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339 {
    seconds: i64,
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.seconds.div_euclid(DAY));
        let second = self.seconds.rem_euclid(DAY);
        let sign = if year < 0 { "-" } else { "" };
        write!(
            f,
            "{sign}{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            year.unsigned_abs(),
            second / 3600,
            second / 60 % 60,
            second % 60
        )
    }
}

/// Returns year, month and day of the proleptic Gregorian calendar, `days` after 1970-01-01.
/// Years begin in March here, so that a leap day is the last day of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    // From 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let era = days.div_euclid(DAYS_IN_ERA);
    let day_of_era = days.rem_euclid(DAYS_IN_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year_of_era + next_year, month, day)
}

const DAY: i64 = 24 * 3600;
/// 400 years.
const DAYS_IN_ERA: i64 = 146_097;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> String {
        rfc3339(from_seconds(seconds)).to_string()
    }

    #[test]
    fn every_date_that_der_can_write_is_displayed() {
        let cases = [
            (-62_167_219_200, "0000-01-01T00:00:00Z"),
            (-62_135_596_801, "0000-12-31T23:59:59Z"),
            (-2_208_988_800, "1900-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_511_654_528, "2017-11-26T00:02:08Z"),
            (2_524_608_000, "2050-01-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (253_402_300_800, "10000-01-01T00:00:00Z"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(at(seconds), expected);
        }
    }

    #[test]
    fn it_agrees_with_humantime_where_that_does_not_panic() {
        for day in 0..40_000 {
            let seconds = day * DAY + day % DAY;
            let theirs = humantime::format_rfc3339_seconds(from_seconds(seconds));
            assert_eq!(at(seconds), theirs.to_string());
        }
    }

    #[test]
    fn no_time_of_this_system_panics() {
        for seconds in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
            let _ = at(seconds);
        }
        let just_before = SystemTime::UNIX_EPOCH - Duration::from_nanos(1);
        assert_eq!(rfc3339(just_before).to_string(), "1969-12-31T23:59:59Z");
        assert_eq!(seconds_since_1970(just_before), -1);
    }
}
