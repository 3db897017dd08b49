//! Figures as people read them.

/// Bytes in binary units, with four significant digits: `2.835 GiB`, as OpenShift's hard prune prints them.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    #[expect(clippy::cast_precision_loss, reason = "four digits are printed")]
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        return format!("{count} B");
    }
    let decimals = match value {
        value if value >= 1000.0 => 0,
        value if value >= 100.0 => 1,
        value if value >= 10.0 => 2,
        _ => 3,
    };
    let digits = format!("{value:.decimals$}");
    let digits = if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        &digits
    };
    format!("{digits} {}", UNITS[unit])
}

/// Text that may come from a registry, on one line and without what a terminal would obey.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { '\u{fffd}' } else { letter })
        .collect()
}

/// Text that may come from a registry or from NATS, on as many lines as it has.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_lines() {
        assert_eq!(printable_lines("a\n\u{1b}[2Jb\n"), "a\n\u{fffd}[2Jb\n");
    }

    #[test]
    fn nothing_for_a_terminal_to_obey() {
        assert_eq!(
            printable("a\u{1b}[31m\nb\u{9b}ä"),
            "a\u{fffd}[31m\u{fffd}b\u{fffd}ä"
        );
    }

    #[test]
    fn four_significant_digits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1 KiB");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3_044_058_071), "2.835 GiB");
        assert_eq!(bytes(12_345_678), "11.77 MiB");
        assert_eq!(bytes(1_000 * 1024), "1000 KiB");
        assert_eq!(bytes(u64::MAX), "16 EiB");
    }
}
