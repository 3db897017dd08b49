//! `dockerImageMetadata` of an image: the digest of its config, and its size.
//!
//! Its keys match in any case (`id` and `Id`), as they do where OpenShift reads it. Metadata that does not decode must not end
//! the list that it is in: it is kept as what it is, and ends the run with the image's name.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What the config of an image says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ImageMetadata {
    /// There is none.
    #[default]
    Absent,
    /// There is.
    Read {
        /// The digest of the config; may be empty.
        id: String,
        /// Bytes of layers and config together.
        size: i64,
    },
    /// It does not decode: why.
    Unreadable(String),
}

const TEXTS: [&str; 8] = [
    "id",
    "parent",
    "comment",
    "container",
    "dockerversion",
    "author",
    "architecture",
    "created",
];

impl<'de> Deserialize<'de> for ImageMetadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(match value {
            Value::Null => Self::Absent,
            value => Self::of(&value).unwrap_or_else(Self::Unreadable),
        })
    }
}

impl ImageMetadata {
    fn of(value: &Value) -> Result<Self, String> {
        let fields = value.as_object().ok_or("it is no object")?;
        let (mut id, mut size) = (String::new(), 0);
        for (name, value) in fields {
            let name = name.to_ascii_lowercase();
            if value.is_null() {
                continue;
            }
            if TEXTS.contains(&name.as_str()) {
                let text = value.as_str().ok_or_else(|| format!("{name} is no text"))?;
                match name.as_str() {
                    "id" => text.clone_into(&mut id),
                    "created" => {
                        let time: Result<Timestamp, _> = text.parse();
                        time.map_err(|error| format!("created is no time: {error}"))?;
                    }
                    _ => {}
                }
            } else if name == "size" {
                size = value.as_i64().ok_or("size is no integer")?;
            }
        }
        Ok(Self::Read { id, size })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> ImageMetadata {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn keys_match_in_any_case() {
        for key in ["Id", "id", "ID"] {
            let expected = ImageMetadata::Read {
                id: "sha256:1".into(),
                size: 7,
            };
            assert_eq!(
                read(json!({key: "sha256:1", "sIZE": 7, "Config": {"a": []}})),
                expected
            );
        }
    }

    #[test]
    fn what_does_not_decode_is_kept_as_that() {
        assert_eq!(read(Value::Null), ImageMetadata::Absent);
        for value in [
            json!("x"),
            json!([]),
            json!({"Id": 1}),
            json!({"Size": "1"}),
            json!({"Created": "x"}),
        ] {
            assert!(matches!(read(value), ImageMetadata::Unreadable(_)));
        }
    }
}
