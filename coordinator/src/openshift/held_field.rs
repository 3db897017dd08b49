//! A field of an object's `spec` that is `true` for a while. What was there before stands in an annotation of the same object, written in
//! the same request, so that no crash can part the two.

use kube::api::DynamicObject;
use serde_json::{Map, Value};

/// Such a field, and where its earlier value is kept.
#[derive(Debug, Clone, Copy)]
pub struct HeldField {
    /// The field's name.
    pub field: &'static str,
    /// The annotation's.
    pub annotation: &'static str,
    /// What the annotation's JSON calls the earlier value.
    pub earlier: &'static str,
}

impl HeldField {
    /// Sets it, and keeps what was there. Returns whether that changed anything.
    pub fn hold(&self, object: &mut DynamicObject) -> bool {
        let annotations = object.metadata.annotations.get_or_insert_default();
        let is_ours = annotations.contains_key(self.annotation);
        let value = object.data["spec"][self.field].as_bool();
        if is_ours && value == Some(true) {
            return false;
        }
        if !is_ours {
            let earlier = Map::from_iter([(self.earlier.to_owned(), Value::from(value))]);
            annotations.insert(self.annotation.to_owned(), Value::from(earlier).to_string());
        }
        object.data["spec"][self.field] = true.into();
        true
    }

    /// Takes the annotation away. Returns the value that it kept, `None` within where there was none. `None` where nothing is held.
    ///
    /// # Errors
    ///
    /// An annotation that cannot be read.
    pub fn release(&self, object: &mut DynamicObject) -> Result<Option<Option<bool>>, String> {
        let annotations = object.metadata.annotations.get_or_insert_default();
        let Some(earlier) = annotations.remove(self.annotation) else {
            return Ok(None);
        };
        let read = |text: &str| -> Result<Option<bool>, serde_json::Error> {
            let mut earlier: Map<String, Value> = serde_json::from_str(text)?;
            serde_json::from_value(earlier.remove(self.earlier).unwrap_or_default())
        };
        let value = read(&earlier).map_err(|error| {
            format!(
                "its annotation {} cannot be read ({error}): set spec.{} by hand, and remove the annotation",
                self.annotation, self.field
            )
        })?;
        Ok(Some(value))
    }

    /// Writes an earlier value.
    pub fn put_back(&self, object: &mut DynamicObject, earlier: Option<bool>) {
        if let Some(spec) = object.data["spec"].as_object_mut() {
            match earlier {
                Some(value) => drop(spec.insert(self.field.to_owned(), value.into())),
                None => drop(spec.remove(self.field)),
            }
        }
    }
}
