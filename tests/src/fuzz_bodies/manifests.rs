//! R1 and R8: a manifest that is understood gives every digest in its descriptors; one that is not gives an error,
//! and a scan of its bytes finds at least what reading it would have found.

use std::collections::BTreeSet;

use hardprune_common::digest::scan_for_digests;
use hardprune_common::manifest::Manifest;
use serde_json::Value;

/// Checks one manifest.
///
/// # Panics
///
/// Where a digest is missed, or one made up.
pub fn check(bytes: &[u8]) {
    let scanned: BTreeSet<_> = scan_for_digests(bytes).collect();
    let Ok(manifest) = Manifest::parse(bytes) else {
        return;
    };
    let references: BTreeSet<_> = manifest.references().collect();

    // The only way to write a digest in JSON so that it does not stand there as it is.
    if !bytes.contains(&b'\\') {
        assert!(references.is_subset(&scanned), "{references:?} in {scanned:?}");
    }
    // A reading of its own, through a tree. Numbers that it has no type for are no concern of a manifest.
    let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let found = digests(&fields, &["config", "layers", "blobs", "manifests", "fslayers"]);
    assert_eq!(
        references
            .iter()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>(),
        found
    );
    let subject = digests(&fields, &["subject"]);
    assert_eq!(
        manifest
            .subject
            .iter()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>(),
        subject
    );
}

/// The digests in the descriptors of the fields of these names.
fn digests(fields: &serde_json::Map<String, Value>, names: &[&str]) -> BTreeSet<String> {
    fields
        .iter()
        .filter(|(name, _)| names.contains(&folded(name).as_str()))
        .flat_map(|(_, value)| match value {
            Value::Array(descriptors) => descriptors.iter().collect(),
            descriptor => vec![descriptor],
        })
        .filter_map(Value::as_object)
        .flat_map(|descriptor| {
            descriptor
                .iter()
                .filter(|(name, _)| matches!(folded(name).as_str(), "digest" | "blobsum"))
        })
        .filter_map(|(_, digest)| digest.as_str().map(str::to_owned))
        .collect()
}

/// Lower case by way of upper case, letter by letter, as Go compares the names of fields.
fn folded(name: &str) -> String {
    let upper = |letter: char| {
        let mut upper = letter.to_uppercase();
        if upper.len() == 1 {
            upper.next().unwrap_or(letter)
        } else {
            letter
        }
    };
    name.chars().map(upper).flat_map(char::to_lowercase).collect()
}
