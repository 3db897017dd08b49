//! Makes an image known to the cluster again, as OpenShift's own registry does when it is pushed: an `ImageStreamMapping` with what
//! the manifest and the config in the storage say, under a tag of its own. The tag that it had is not in the storage.

use std::time::Duration;

use hardprune_common::layout::blob_key;
use hardprune_common::manifest::{Parts, Role};
use hardprune_common::store::{Store, StoreError};
use kube::api::PostParams;
use kube::core::Request;
use serde_json::{Value, json};

use super::cluster::{KnownCluster, stream_of};
use super::read_manifests::{BlobRead, ManifestRead, read_manifest, read_small_blob};
use super::records::Lost;
use crate::openshift::list_objects::{ApiError, IMAGE_STREAM_MAPPINGS, IMAGE_STREAMS, ask};

/// So often one is tried while others change the stream.
const MOST_TRIES: u32 = 5;
const CONFLICT_PAUSE: Duration = Duration::from_millis(10);
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";
const SCHEMA_1_LAYER: &str = "application/vnd.docker.container.image.rootfs.diff+x-gtar";

/// An image that can be restored.
#[derive(Debug)]
pub(super) struct Image {
    namespace: String,
    stream: String,
    tag: String,
    pub is_index: bool,
    document: Value,
}

impl Image {
    /// In the words of OpenShift's own tool.
    pub fn in_words(&self, what: &str) -> String {
        format!(
            "{what} to imagestream \"{}/{}\" with tag \"{}\"",
            self.namespace, self.stream, self.tag
        )
    }
}

/// Reads from the storage what the cluster is to be told. `Err` inside: why it cannot be.
///
/// # Errors
///
/// A store that fails.
pub(super) async fn read_image(
    registry: &dyn Store,
    cluster: &KnownCluster,
    lost: &Lost,
) -> Result<Result<Image, String>, StoreError> {
    let Some((namespace, stream)) = stream_of(&lost.repository) else {
        return Ok(Err("its repository is no NAMESPACE/STREAM".to_owned()));
    };
    let (bytes, parts) = match read_manifest(registry, &lost.manifest).await? {
        (bytes, ManifestRead::Understood(parts)) => (bytes, parts),
        (_, ManifestRead::Missing) => return Ok(Err("its manifest is missing".to_owned())),
        (_, ManifestRead::Broken(_, detail)) => return Ok(Err(detail)),
    };
    let Ok(manifest) = String::from_utf8(bytes.to_vec()) else {
        return Ok(Err("its manifest is no text".to_owned()));
    };
    let config = match read_config(registry, &parts).await? {
        Ok(config) => config,
        Err(why) => return Ok(Err(why)),
    };
    let layers = layers(registry, &parts).await?;
    let digest = lost.manifest;
    let mut image = json!({
        "apiVersion": "image.openshift.io/v1",
        "kind": "Image",
        "metadata": {
            "name": digest.to_string(),
            "annotations": {
                "openshift.io/image.managed": "true",
                "image.openshift.io/manifestBlobStored": "true",
                "image.openshift.io/dockerLayersOrder": "ascending",
            },
        },
        "dockerImageReference": format!("{}/{namespace}/{stream}@{digest}", cluster.registry_host),
        "dockerImageManifest": manifest,
        "dockerImageManifestMediaType": parts.media_type,
        "dockerImageLayers": layers,
    });
    if let Some(config) = config {
        image["dockerImageConfig"] = config.into();
    }
    let tag = format!("lost-found-{}", digest.hex());
    let document = json!({
        "apiVersion": "image.openshift.io/v1",
        "kind": "ImageStreamMapping",
        "metadata": {"namespace": namespace, "name": stream},
        "image": image,
        "tag": tag,
    });
    Ok(Ok(Image {
        namespace: namespace.to_owned(),
        stream: stream.to_owned(),
        tag,
        is_index: parts.needed.iter().any(|part| part.role == Role::Child),
        document,
    }))
}

/// The config's text, where there is one.
async fn read_config(
    registry: &dyn Store,
    parts: &Parts,
) -> Result<Result<Option<String>, String>, StoreError> {
    let Some(config) = parts.needed.iter().find(|part| part.role == Role::Config) else {
        return Ok(Ok(None));
    };
    let bytes = match read_small_blob(registry, &config.digest).await? {
        BlobRead::Verified(bytes) => bytes,
        BlobRead::Missing => return Ok(Err("its config is missing".to_owned())),
        BlobRead::TooLarge(size) => return Ok(Err(format!("its config has {size} bytes"))),
        BlobRead::Corrupt(..) => return Ok(Err("its config is corrupt".to_owned())),
    };
    let text = String::from_utf8(bytes.to_vec());
    Ok(text.map(Some).map_err(|_| "its config is no text".to_owned()))
}

/// Its layers, the oldest first. Schema 1 names them the other way round, and without their sizes.
async fn layers(registry: &dyn Store, parts: &Parts) -> Result<Vec<Value>, StoreError> {
    let is_schema_1 = parts.media_type.starts_with(SCHEMA_1);
    let mut layers = Vec::new();
    for part in parts.needed.iter().filter(|part| part.role == Role::Layer) {
        let size = match part.size {
            Some(size) => size,
            None => registry.get(&blob_key(&part.digest), 0, 1).await?.size,
        };
        let media_type = if is_schema_1 {
            SCHEMA_1_LAYER
        } else {
            &part.media_type
        };
        layers.push(json!({"name": part.digest, "size": size, "mediaType": media_type}));
    }
    if is_schema_1 {
        layers.reverse();
    }
    Ok(layers)
}

/// Makes it known, with a stream where there is none.
///
/// # Errors
///
/// A cluster that refuses.
pub(super) async fn restore(cluster: &KnownCluster, image: &Image) -> Result<(), ApiError> {
    let path = IMAGE_STREAM_MAPPINGS.path(Some(&image.namespace));
    let mut tries = 0;
    loop {
        tries += 1;
        match create(cluster, &path, &image.document).await {
            Err(error) if error.code() == Some(409) && tries < MOST_TRIES => {
                tokio::time::sleep(CONFLICT_PAUSE).await;
            }
            // A namespace that is not there says the same, and again when the stream is made.
            Err(error) if error.code() == Some(404) && tries < MOST_TRIES => {
                make_stream(cluster, image).await?;
            }
            other => return other,
        }
    }
}

async fn make_stream(cluster: &KnownCluster, image: &Image) -> Result<(), ApiError> {
    let path = IMAGE_STREAMS.path(Some(&image.namespace));
    let stream = json!({
        "apiVersion": "image.openshift.io/v1",
        "kind": "ImageStream",
        "metadata": {"namespace": image.namespace, "name": image.stream},
    });
    match create(cluster, &path, &stream).await {
        // Somebody else was faster.
        Err(error) if error.code() == Some(409) => Ok(()),
        other => other,
    }
}

async fn create(cluster: &KnownCluster, path: &str, document: &Value) -> Result<(), ApiError> {
    let bytes = document.to_string().into_bytes();
    let request = Request::new(path).create(&PostParams::default(), bytes);
    ask::<Value>(&cluster.cluster.client, request, path)
        .await
        .map(|_| ())
}
