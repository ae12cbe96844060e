//! Where in a partition to begin: `start`, `end`, an offset, or a time.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use client::{Offset, OffsetSpec, Timestamp};

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first record that is there.
    Start,
    /// Behind the last record that is there.
    End,
    /// This offset.
    Offset(i64),
    /// The first record of this time or later, in milliseconds since 1970.
    Time(i64),
}

impl Place {
    /// The same for the client.
    pub(crate) fn spec(self) -> OffsetSpec {
        match self {
            Place::Start => OffsetSpec::Start,
            Place::End => OffsetSpec::End,
            Place::Offset(offset) => OffsetSpec::At(Offset(offset)),
            Place::Time(milliseconds) => OffsetSpec::Time(Timestamp(milliseconds)),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        match text {
            "start" => return Ok(Place::Start),
            "end" => return Ok(Place::End),
            _ => {}
        }
        if let Ok(offset) = text.parse::<i64>() {
            return if offset >= 0 { Ok(Place::Offset(offset)) } else { Err("offsets begin at 0".to_owned()) };
        }
        time(text).map(Place::Time).ok_or_else(|| {
            "must be start, end, an offset, @MILLISECONDS since 1970, or a time such as 2026-01-31T12:00:00Z".to_owned()
        })
    }
}

/// RFC 3339, the same without a zone (UTC) or without a time, or `@MILLISECONDS`.
fn time(text: &str) -> Option<i64> {
    if let Some(milliseconds) = text.strip_prefix('@') {
        return milliseconds.parse().ok();
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    let separated = text.replacen(' ', "T", 1);
    let local = separated.parse::<NaiveDateTime>().ok();
    let midnight = || text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0);
    Some(local.or_else(midnight)?.and_utc().timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn places_are_read() {
        let time = Place::Time(1_769_860_800_000);
        for (text, place) in [
            ("start", Place::Start),
            ("end", Place::End),
            ("0", Place::Offset(0)),
            ("42", Place::Offset(42)),
            ("@1769860800000", time),
            ("2026-01-31T12:00:00Z", time),
            ("2026-01-31T13:00:00+01:00", time),
            ("2026-01-31T12:00:00", time),
            ("2026-01-31 12:00:00", time),
            ("2026-01-31", Place::Time(1_769_817_600_000)),
        ] {
            assert_eq!(text.parse(), Ok(place), "{text}");
        }
        for wrong in ["-1", "beginning", "@", "", "2026-13-01"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
