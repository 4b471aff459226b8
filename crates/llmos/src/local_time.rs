//! The time on the wall.

use chrono::{Local, Offset};

/// Local time as seconds since 1970-01-01 00:00, by `TZ` or the system's zone.
pub(crate) fn seconds() -> i64 {
    let now = Local::now();
    now.timestamp() + i64::from(now.offset().fix().local_minus_utc())
}
