//! Amounts of bytes as people write them on a command line.

/// Reads an amount of bytes: `500GiB`, `300MB`, `2T`, or a plain number of bytes. No fractions.
///
/// `K`, `KiB` and so on are powers of 1024, `KB` and so on powers of 1000; upper and lower case are the same.
///
/// # Errors
///
/// What is none, or more than 2^64 bytes, with how to write it.
pub fn parse_byte_size(text: &str) -> Result<u64, String> {
    let how = || "write it as 256MiB, 500GiB, 2TiB or a number of bytes".to_owned();
    let digits = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| how())?;
    let unit: u64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "p" | "pib" => 1 << 50,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "pb" => 1_000_000_000_000_000,
        _ => return Err(how()),
    };
    number.checked_mul(unit).ok_or_else(how)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_bytes() {
        assert_eq!(parse_byte_size("0"), Ok(0));
        assert_eq!(parse_byte_size("64000000"), Ok(64_000_000));
        assert_eq!(parse_byte_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_byte_size("1 gib"), Ok(1 << 30));
        assert_eq!(parse_byte_size("2TB"), Ok(2_000_000_000_000));
        for wrong in [
            "",
            "lots",
            "-1",
            "1.5GiB",
            "5 apples",
            "18446744073709551615GiB",
            "99999999999999999999",
        ] {
            assert!(parse_byte_size(wrong).is_err(), "{wrong}");
        }
    }
}
