//! `ImageStreamMapping`: adds an image to a stream, and makes the image where there is none, as OpenShift's API server does.

use serde_json::{Value, json};

use super::answer::{Answer, Call, failure, now};
use super::objects::Objects;
use super::resources::Target;

/// Carries one out.
pub(super) fn create(objects: &mut Objects, call: &Call, target: &Target) -> Answer {
    let mapping = &call.body;
    let name = mapping["metadata"]["name"].as_str().unwrap_or_default();
    let of =
        |kind: &str, namespace: &str, name: &str| (kind.to_owned(), namespace.to_owned(), name.to_owned());
    let (image, tag) = (&mapping["image"], mapping["tag"].as_str().unwrap_or_default());
    let digest = image["metadata"]["name"].as_str().unwrap_or_default();
    if name.is_empty() || digest.is_empty() || tag.is_empty() {
        return failure(422, "Invalid", "a name, an image and a tag are required");
    }
    let stream = Target {
        resource: super::resources::of_kind(None, "ImageStream").expect("a kind that is known"),
        name: name.to_owned(),
        ..target.clone()
    };
    let Some(mut stream) = objects.get(&stream).cloned() else {
        let message = format!("imagestreammappings.image.openshift.io {name:?} not found");
        return failure(404, "NotFound", &message);
    };
    let image_key = of("Image", "", digest);
    if !objects.has(&image_key) {
        objects.write(image_key, with_metadata(image));
    }
    let item = json!({
        "created": now(), "generation": 1, "image": digest,
        "dockerImageReference": image["dockerImageReference"],
    });
    let tags = &mut stream["status"]["tags"];
    if !tags.is_array() {
        *tags = json!([]);
    }
    let tags = tags.as_array_mut().expect("it was made one");
    match tags.iter_mut().find(|found| found["tag"] == tag) {
        Some(found) => {
            let items = found["items"].as_array_mut().expect("a tag has items");
            if items.first().is_none_or(|first| first["image"] != digest) {
                items.insert(0, item);
            }
        }
        None => tags.push(json!({"tag": tag, "items": [item]})),
    }
    let stream_key = of("ImageStream", &target.namespace, name);
    objects.write(stream_key, stream);
    Answer::Document(
        201,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}),
    )
}

/// What the server makes of the manifest by itself.
fn with_metadata(image: &Value) -> Value {
    let mut image = image.clone();
    image["apiVersion"] = "image.openshift.io/v1".into();
    image["kind"] = "Image".into();
    image["metadata"]["creationTimestamp"] = now().into();
    let text = image["dockerImageManifest"].as_str().unwrap_or_default();
    let manifest: Value = serde_json::from_str(text).unwrap_or_default();
    if let Some(config) = manifest["config"]["digest"].as_str() {
        image["dockerImageMetadata"] = json!({"kind": "DockerImage", "apiVersion": "1.0", "Id": config});
    }
    if let Some(children) = manifest["manifests"].as_array() {
        let children = children.iter().map(|child| json!({"digest": child["digest"]}));
        image["dockerImageManifests"] = children.collect();
        image["dockerImageMetadata"] = json!({"kind": "DockerImage", "apiVersion": "1.0"});
    }
    image
}
