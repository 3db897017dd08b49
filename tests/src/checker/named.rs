//! What a manifest names, told from the fields that it has and not from its media type.

use std::collections::BTreeMap;

use serde_json::Value;

/// The digests in a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// Config, layers and blobs, with the size that the manifest gives; those that only URLs hold are left out.
    pub blobs: BTreeMap<String, Option<u64>>,
    /// Children of an index.
    pub children: Vec<String>,
    /// What a referrer is about.
    pub subject: Option<String>,
}

/// Reads a manifest; `None` if it is none of a known shape.
pub(crate) fn read(bytes: &[u8]) -> Option<Named> {
    let manifest: Value = serde_json::from_slice(bytes).ok()?;
    let mut named = Named::default();
    let mut known = false;
    if let Some(config) = present(&manifest, "config") {
        known = true;
        named.blob(config)?;
    }
    for field in ["layers", "blobs"] {
        if let Some(descriptors) = present(&manifest, field) {
            known = true;
            for descriptor in descriptors.as_array()? {
                named.blob(descriptor)?;
            }
        }
    }
    if let Some(children) = present(&manifest, "manifests") {
        known = true;
        for child in children.as_array()? {
            let media_type = child.get("mediaType").and_then(Value::as_str).unwrap_or_default();
            if media_type.contains("layer") || media_type.contains("cacheconfig") {
                named.blob(child)?;
            } else {
                named.children.push(child.get("digest")?.as_str()?.to_string());
            }
        }
    }
    if let Some(layers) = present(&manifest, "fsLayers") {
        known = true;
        for layer in layers.as_array()? {
            named
                .blobs
                .insert(layer.get("blobSum")?.as_str()?.to_string(), None);
        }
    }
    if let Some(subject) = present(&manifest, "subject") {
        named.subject = Some(subject.get("digest")?.as_str()?.to_string());
    }
    known.then_some(named)
}

/// A field that is there and not null: Go writes null for an empty list.
fn present<'a>(manifest: &'a Value, field: &str) -> Option<&'a Value> {
    manifest.get(field).filter(|value| !value.is_null())
}

impl Named {
    fn blob(&mut self, descriptor: &Value) -> Option<()> {
        let has_urls = descriptor
            .get("urls")
            .and_then(Value::as_array)
            .is_some_and(|urls| !urls.is_empty());
        if !has_urls {
            let digest = descriptor.get("digest")?.as_str()?.to_string();
            self.blobs
                .insert(digest, descriptor.get("size").and_then(Value::as_u64));
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_names_what_it_needs() {
        let image = br#"{"config":{"digest":"sha256:c","size":2},"layers":[{"digest":"sha256:l","size":3},
            {"digest":"sha256:foreign","size":4,"urls":["http://x"]}],"subject":{"digest":"sha256:s"}}"#;
        let named = read(image).unwrap();
        let blobs = [
            ("sha256:c".to_string(), Some(2)),
            ("sha256:l".to_string(), Some(3)),
        ];
        assert_eq!(named.blobs, BTreeMap::from(blobs));
        assert_eq!(named.subject.unwrap(), "sha256:s");
        let index = read(br#"{"manifests":[{"digest":"sha256:m"}]}"#).unwrap();
        assert_eq!(index.children, ["sha256:m"]);
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        let cache = format!(r#"{{"manifests":[{{"mediaType":"{layer}","digest":"sha256:l"}}]}}"#);
        let cache = read(cache.as_bytes()).unwrap();
        assert!(cache.children.is_empty() && cache.blobs.contains_key("sha256:l"));
        let old = read(br#"{"fsLayers":[{"blobSum":"sha256:o"}]}"#).unwrap();
        assert!(old.blobs.contains_key("sha256:o"));
        let artifact = read(br#"{"blobs":[{"digest":"sha256:b","size":1}]}"#).unwrap();
        assert!(artifact.blobs.contains_key("sha256:b"));
    }

    #[test]
    fn what_is_no_manifest_is_not_taken_for_an_empty_one() {
        for bytes in [
            "",
            "{}",
            "[]",
            "{\"layers\":{}}",
            "{\"config\":7}",
            "{\"manifests\":[{}]}",
        ] {
            assert_eq!(read(bytes.as_bytes()), None, "{bytes}");
        }
    }
}
