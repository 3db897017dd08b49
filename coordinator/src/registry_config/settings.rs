//! The settings of one section, read with the types that the registry gives them.

use super::error::{Place, RegistryConfigError};
use super::secret::Secret;
use super::yaml::{Mapping, Meaning, Node, Scalar, Value};

/// A section of the configuration and its full name (`storage.s3`).
pub(super) struct Settings<'n> {
    pub(super) name: String,
    pub(super) place: Place,
    mapping: Option<&'n Mapping>,
}

impl<'n> Settings<'n> {
    /// `node` may be null: a section without settings.
    pub(super) fn of(name: impl Into<String>, node: &'n Node) -> Result<Self, RegistryConfigError> {
        let name = name.into();
        let place = node.place.clone();
        match &node.value {
            Value::Mapping(mapping) => Ok(Self {
                name,
                place,
                mapping: Some(mapping),
            }),
            _ if node.is_null() => Ok(Self {
                name,
                place,
                mapping: None,
            }),
            _ => Err(RegistryConfigError::WrongKind {
                place,
                setting: name,
                expected: "a section with settings of its own",
            }),
        }
    }

    /// The setting as it stands there; none where it is null.
    pub(super) fn node(&self, setting: &str) -> Option<&'n Node> {
        self.mapping?.entries.get(setting).filter(|node| !node.is_null())
    }

    /// A section inside this one.
    pub(super) fn section(&self, setting: &str) -> Result<Option<Self>, RegistryConfigError> {
        self.node(setting)
            .map(|node| Self::of(self.full_name(setting), node))
            .transpose()
    }

    /// Text, or what the registry prints of a number or boolean. May be empty.
    pub(super) fn text(&self, setting: &str) -> Result<Option<&'n str>, RegistryConfigError> {
        let Some(node) = self.node(setting) else {
            return Ok(None);
        };
        self.text_of(setting, node).map(Some)
    }

    pub(super) fn text_of(&self, setting: &str, node: &'n Node) -> Result<&'n str, RegistryConfigError> {
        let Value::Scalar(scalar) = &node.value else {
            return Err(self.wrong_kind(setting, node, "text"));
        };
        match scalar.meaning() {
            Meaning::Text | Meaning::Integer | Meaning::Null => Ok(&scalar.text),
            Meaning::Bool(value) if scalar.text == value.to_string() => Ok(&scalar.text),
            Meaning::Bool(_) | Meaning::Number => Err(RegistryConfigError::NeedsQuotes {
                place: node.place.clone(),
                setting: self.full_name(setting),
            }),
            Meaning::Tagged => Err(self.wrong_kind(setting, node, "text without a YAML tag")),
        }
    }

    /// Text that is there and not empty.
    pub(super) fn filled(&self, setting: &str) -> Result<Option<String>, RegistryConfigError> {
        Ok(self
            .text(setting)?
            .filter(|text| !text.is_empty())
            .map(str::to_owned))
    }

    /// As [`Settings::filled`], for a credential.
    pub(super) fn secret(&self, setting: &str) -> Result<Option<Secret>, RegistryConfigError> {
        Ok(self.filled(setting)?.map(Secret::new))
    }

    /// As [`Settings::filled`], for a setting that must be there.
    pub(super) fn required(&self, setting: &str) -> Result<String, RegistryConfigError> {
        self.filled(setting)?.ok_or_else(|| self.missing(setting, ""))
    }

    /// A boolean, also as text in the forms of Go's `strconv.ParseBool`.
    pub(super) fn boolean(&self, setting: &str) -> Result<Option<bool>, RegistryConfigError> {
        let Some(node) = self.node(setting) else {
            return Ok(None);
        };
        let value = match scalar(node).map(|scalar| (scalar.meaning(), scalar.text.as_str())) {
            Some((Meaning::Bool(value), _)) => Some(value),
            Some((Meaning::Text, "1" | "t" | "T" | "TRUE" | "true" | "True")) => Some(true),
            Some((Meaning::Text, "0" | "f" | "F" | "FALSE" | "false" | "False")) => Some(false),
            _ => None,
        };
        value
            .map(Some)
            .ok_or_else(|| self.wrong_kind(setting, node, "true or false"))
    }

    /// A boolean without quotes: where the registry takes nothing else.
    pub(super) fn strict_boolean(&self, setting: &str) -> Result<Option<bool>, RegistryConfigError> {
        let Some(node) = self.node(setting) else {
            return Ok(None);
        };
        match scalar(node).map(Scalar::meaning) {
            Some(Meaning::Bool(value)) => Ok(Some(value)),
            _ => Err(self.wrong_kind(setting, node, "true or false, without quotes")),
        }
    }

    pub(super) fn missing(&self, setting: &str, hint: &'static str) -> RegistryConfigError {
        RegistryConfigError::Missing {
            place: self.place.clone(),
            setting: self.full_name(setting),
            hint,
        }
    }

    pub(super) fn wrong_kind(
        &self,
        setting: &str,
        node: &Node,
        expected: &'static str,
    ) -> RegistryConfigError {
        RegistryConfigError::WrongKind {
            place: node.place.clone(),
            setting: self.full_name(setting),
            expected,
        }
    }

    pub(super) fn unsupported(&self, setting: &str, problem: &'static str) -> RegistryConfigError {
        let place = self.node(setting).map_or(&self.place, |node| &node.place).clone();
        RegistryConfigError::Unsupported {
            place,
            setting: self.full_name(setting),
            problem,
        }
    }

    fn full_name(&self, setting: &str) -> String {
        format!("{}.{setting}", self.name)
    }
}

fn scalar(node: &Node) -> Option<&Scalar> {
    match &node.value {
        Value::Scalar(scalar) => Some(scalar),
        _ => None,
    }
}
