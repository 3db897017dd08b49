//! How the objects of a recorded case look on a real cluster, and how `hardprune` sees them.
//!
//! A cluster sets `creationTimestamp` itself: the recorded one is kept in an annotation, and put in its place in whatever is read.
//! Names of custom resources hold no colon: where images are such, `sha256:HEX` is `sha256.HEX` there. OpenShift's own images are not.

use serde_json::Value;

const CREATED: &str = "hardprune.test/created";

const IMAGES: &str = "/apis/image.openshift.io/v1/images";

/// Both ways.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mask {
    pub images_are_custom: bool,
}

impl Mask {
    /// The path, with its query, on the cluster.
    pub fn path(self, asked: &str) -> String {
        match asked.strip_prefix(IMAGES) {
            Some(rest) if self.images_are_custom => format!("{IMAGES}{}", rest.replacen(':', ".", 1)),
            _ => asked.to_owned(),
        }
    }

    /// An object that is written, as the cluster is to have it.
    pub fn hide(self, object: &mut Value) {
        if self.images_are_custom && object["kind"] == "Image" {
            rename(object.pointer_mut("/metadata/name"), ':', '.');
        }
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        if let Some(created) = metadata.remove("creationTimestamp") {
            let annotations = metadata.entry("annotations").or_insert(Value::Null);
            annotations[CREATED] = created;
        }
    }

    /// A document that was read: an object, a list, an event of a watch, a status.
    pub fn show(self, document: &mut Value) {
        if let Some(items) = document.get_mut("items").and_then(Value::as_array_mut) {
            items.iter_mut().for_each(|item| self.show_object(item));
        } else if let Some(of_event) = document.get_mut("object") {
            self.show_object(of_event);
        } else {
            self.show_object(document);
        }
    }

    fn show_object(self, object: &mut Value) {
        if self.images_are_custom {
            match object["kind"].as_str() {
                Some("Image") => rename(object.pointer_mut("/metadata/name"), '.', ':'),
                Some("Status") => {
                    rename(object.pointer_mut("/details/name"), '.', ':');
                    if let Some(message) = object["message"].as_str() {
                        object["message"] = message.replace("\"sha256.", "\"sha256:").into();
                    }
                }
                _ => {}
            }
        }
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else {
            return;
        };
        let created = annotations.remove(CREATED);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
        if let Some(created) = created {
            metadata.insert("creationTimestamp".to_owned(), created);
        }
    }
}

fn rename(name: Option<&mut Value>, from: char, to: char) {
    let Some(name) = name else {
        return;
    };
    let digest = name
        .as_str()
        .and_then(|name| name.strip_prefix("sha256")?.strip_prefix(from));
    if let Some(digest) = digest {
        *name = format!("sha256{to}{digest}").into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for images_are_custom in [true, false] {
            let mask = Mask { images_are_custom };
            let image = json!({
                "kind": "Image",
                "metadata": {"name": "sha256:ab", "creationTimestamp": "2020-01-01T00:00:00Z", "annotations": {"a": "b"}},
            });
            let stream = json!({
                "kind": "ImageStream", "metadata": {"name": "s", "creationTimestamp": "2020-01-01T00:00:00Z"},
                "status": {"tags": [{"items": [{"image": "sha256:ab"}]}]},
            });
            for object in [image, stream] {
                let mut there = object.clone();
                mask.hide(&mut there);
                assert_eq!(there["metadata"]["creationTimestamp"], Value::Null);
                assert_eq!(there["status"], object["status"]);
                // The cluster's own time.
                there["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
                let shown = |mut document: Value| {
                    mask.show(&mut document);
                    document
                };
                assert_eq!(shown(there.clone()), object);
                assert_eq!(
                    shown(json!({"kind": "List", "items": [there]})),
                    json!({"kind": "List", "items": [object]})
                );
                assert_eq!(
                    shown(json!({"type": "ADDED", "object": there})),
                    json!({"type": "ADDED", "object": object})
                );
            }
        }
    }

    #[test]
    fn names_of_images() {
        let custom = Mask {
            images_are_custom: true,
        };
        let own = Mask {
            images_are_custom: false,
        };
        let path = format!("{IMAGES}/sha256:ab");
        assert_eq!(custom.path(&path), format!("{IMAGES}/sha256.ab"));
        assert_eq!(own.path(&path), path);
        let of_another = "/api/v1/namespaces/a/pods/sha256:ab";
        assert_eq!(custom.path(of_another), of_another);
        let mut status = json!({
            "kind": "Status", "message": "images.image.openshift.io \"sha256.ab\" not found", "details": {"name": "sha256.ab"},
        });
        custom.show(&mut status);
        assert_eq!(
            status["message"],
            "images.image.openshift.io \"sha256:ab\" not found"
        );
        assert_eq!(status["details"]["name"], "sha256:ab");
    }
}
