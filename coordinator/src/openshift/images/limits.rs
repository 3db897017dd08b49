//! The largest image that a project allows, and quantities as Kubernetes writes them: `400Mi`, `1G`, `1e9`.

use std::collections::HashMap;

use serde_json::Value;

use crate::openshift::objects::LimitRange;

const OF_IMAGES: &str = "openshift.io/Image";
const STORAGE: &str = "storage";

/// The smallest limit on images of each namespace, in bytes.
#[derive(Debug, Clone, Default)]
pub struct Limits(HashMap<String, i128>);

impl Limits {
    /// Reads the limits of all namespaces. What cannot be read limits nothing.
    #[must_use]
    pub fn of(ranges: &[LimitRange]) -> Self {
        let mut limits: HashMap<String, i128> = HashMap::new();
        for range in ranges {
            let of_images = range.spec.limits.iter().filter(|limit| limit.of == OF_IMAGES);
            for bytes in of_images.filter_map(|limit| whole_bytes(limit.max.get(STORAGE)?)) {
                let least = limits.entry(range.metadata.namespace.clone()).or_insert(bytes);
                *least = bytes.min(*least);
            }
        }
        Self(limits)
    }

    /// Whether an image of so many bytes is too large for a namespace.
    #[must_use]
    pub fn exceeds(&self, namespace: &str, bytes: i64) -> bool {
        self.0
            .get(namespace)
            .is_some_and(|limit| *limit < i128::from(bytes))
    }
}

/// A quantity in whole bytes. A part of a byte is left away: it allows no more.
fn whole_bytes(quantity: &Value) -> Option<i128> {
    let text = match quantity {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let end = text
        .find(|letter: char| !letter.is_ascii_digit() && !matches!(letter, '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (numerator, denominator): (i128, i128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = u32::try_from(fraction.len()).ok()?;
    let number: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = denominator.checked_mul(10_i128.checked_pow(digits)?)?;
    Some(number.checked_mul(numerator)?.div_euclid(scale))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities() {
        for (quantity, bytes) in [
            (json!("400Mi"), 419_430_400),
            (json!("1.5Ki"), 1536),
            (json!("1G"), 1_000_000_000),
            (json!("12e3"), 12_000),
            (json!("1500m"), 1),
            (json!(77), 77),
        ] {
            assert_eq!(whole_bytes(&quantity), Some(bytes), "{quantity}");
        }
        assert_eq!(whole_bytes(&json!("x")), None);
    }
}
