//! Durations as people write them: `90d`, `12h`, `10s`, `200ms`.

use std::time::Duration;

/// A duration that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("duration {found:?}: expected a whole number and one of ms, s, m, h, d, such as 7d")]
pub struct DurationError {
    /// What was given.
    pub found: String,
}

/// Reads a duration.
///
/// # Errors
/// [`DurationError`] for anything but a whole number and a unit.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError {
        found: text.to_owned(),
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
    let (number, unit) = text.split_at(digits);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(error()),
    };
    let number: u64 = number.parse().map_err(|_| error())?;
    // A hundred years is more than any policy means, and keeps every later sum in range.
    let total = number
        .checked_mul(millis)
        .filter(|ms| *ms <= 36_500 * 86_400_000)
        .ok_or_else(error)?;
    Ok(Duration::from_millis(total))
}

/// Writes a duration in its largest whole unit; [`parse_duration`] reads it back.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ] {
        if millis > 0 && millis.is_multiple_of(size) {
            return format!("{}{unit}", millis / size);
        }
    }
    format!("{millis}ms")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(millis in 0u64..36_500 * 86_400_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,30}") {
            let _ = parse_duration(&text);
        }
    }

    #[test]
    fn hostile_durations_are_refused() {
        for bad in [
            "",
            "7",
            "d",
            "-7d",
            "7 d",
            "7w",
            "99999999999999999999d",
            "40000d",
            "1.5h",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
