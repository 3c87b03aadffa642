//! Times as people read them.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// The time in UTC and whole seconds, and how far it is from `now`.
pub(super) fn moment(time: SystemTime, now: SystemTime) -> String {
    let distance = match time.duration_since(now) {
        Ok(ahead) => distance(seconds(ahead)),
        Err(behind) => distance(-seconds(behind.duration())),
    };
    format!("{} ({distance})", timestamp(time))
}

/// The time in UTC and whole seconds (RFC 3339).
pub(super) fn timestamp(time: SystemTime) -> String {
    let timestamp = Timestamp::try_from(time).and_then(|exact| Timestamp::from_second(exact.as_second()));
    timestamp.map_or_else(|_| "beyond the calendar".to_owned(), |whole| whole.to_string())
}

/// Seconds from now, in the unit that fits: `in 3 days`, `5 min ago`.
pub(super) fn distance(seconds: i64) -> String {
    let span = span(seconds.unsigned_abs());
    if seconds < 0 { format!("{span} ago") } else { format!("in {span}") }
}

/// Seconds in the unit that fits.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_time_is_shown_with_its_distance_in_the_unit_that_fits() {
        let now = UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        assert_eq!(moment(now + Duration::from_secs(90), now), "2026-11-18T11:08:10Z (in 90 s)");
        assert_eq!(moment(now - Duration::from_secs(600), now), "2026-11-18T10:56:40Z (10 min ago)");
        assert_eq!(distance(7_200), "in 2 h");
        assert_eq!(distance(-3 * 86_400), "3 days ago");
        assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(1 << 60)), "beyond the calendar");
    }
}
