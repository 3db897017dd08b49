//! Values of options as `oc` reads them, with its messages.

use jiff::SignedDuration;

/// Reads a boolean.
///
/// # Errors
///
/// A text that is none.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// Reads an integer.
///
/// # Errors
///
/// A text that is none, or one too large.
pub(super) fn integer(text: &str) -> Result<i64, String> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        let problem = match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {text:?}: {problem}")
    })
}

/// Reads a duration: `60m`, `1h30m`, `1.5h`, `0`.
///
/// # Errors
///
/// A text that is none.
pub(super) fn duration(text: &str) -> Result<SignedDuration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.split_at_checked(1) {
        Some(("-", rest)) => (-1, rest),
        Some(("+", rest)) => (1, rest),
        _ => (1, text),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanoseconds: i128 = 0;
    while !rest.is_empty() {
        let length = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(length);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(invalid());
        }
        let length = after
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(length);
        let unit: i128 = match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        let whole: i128 = format!("0{whole}").parse().map_err(|_| invalid())?;
        // Finer than a nanosecond is nothing.
        let fraction = fraction.get(..fraction.len().min(18)).unwrap_or_default();
        let digits = u32::try_from(fraction.len()).map_err(|_| invalid())?;
        let fraction: i128 = format!("0{fraction}").parse().map_err(|_| invalid())?;
        let amount = whole.checked_mul(unit).ok_or_else(invalid)?;
        nanoseconds = nanoseconds
            .checked_add(amount + fraction * unit / 10_i128.pow(digits))
            .ok_or_else(invalid)?;
        rest = after;
    }
    let nanoseconds = i64::try_from(nanoseconds * sign).map_err(|_| invalid())?;
    Ok(SignedDuration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let seconds = |text| duration(text).unwrap().as_secs_f64();
        assert_eq!(seconds("60m"), 3600.0);
        assert_eq!(seconds("1h30m"), 5400.0);
        assert_eq!(seconds("-1.5h"), -5400.0);
        assert_eq!((seconds("0"), seconds("0s"), seconds(".5s")), (0.0, 0.0, 0.5));
        let error = |text| duration(text).unwrap_err();
        assert_eq!(
            error("3days"),
            "time: unknown unit \"days\" in duration \"3days\""
        );
        assert_eq!(error("3"), "time: missing unit in duration \"3\"");
        for text in ["", "-", "h", ".h", "1..5h", "9999999999h"] {
            assert_eq!(error(text), format!("time: invalid duration {text:?}"));
        }
    }

    #[test]
    fn integers_and_booleans() {
        assert_eq!(integer("-1"), Ok(-1));
        assert_eq!(
            integer("x").unwrap_err(),
            "strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        assert!(
            integer("99999999999999999999")
                .unwrap_err()
                .ends_with("value out of range")
        );
        assert_eq!((boolean("t"), boolean("False")), (Ok(true), Ok(false)));
        assert!(boolean("yes").is_err());
    }
}
