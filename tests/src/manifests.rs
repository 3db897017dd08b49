//! Manifests of every kind, built byte by byte the same each time: what the fixtures push and the generator writes.

use serde_json::{Value, json};

use crate::content::{Seeded, digest_of};

/// Docker's image manifest, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's signed schema 1.
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
/// OCI's image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI's index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI's artifact manifest, withdrawn before 1.1.
pub const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";

const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The two families of media types that images come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Docker's schema 2 and manifest list.
    Docker,
    /// OCI's image manifest and index.
    Oci,
}

/// Bytes with their digest and media type: a layer, a config or a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// What a descriptor calls it.
    pub media_type: &'static str,
    /// The bytes as pushed.
    pub bytes: Vec<u8>,
    /// `sha256:…` of the bytes.
    pub digest: String,
}

impl Content {
    /// Takes bytes as content of a media type.
    pub fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        let digest = digest_of(&bytes);
        Self {
            media_type,
            bytes,
            digest,
        }
    }

    /// The bytes' length.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The descriptor by which a manifest names this content.
    pub fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "size": self.size(), "digest": self.digest})
    }
}

/// A layer of that many incompressible bytes.
pub fn layer(family: Family, seeded: &mut Seeded, length: u64) -> Content {
    let media_type = match family {
        Family::Docker => DOCKER_LAYER,
        Family::Oci => OCI_LAYER,
    };
    Content::new(media_type, seeded.bytes(length))
}

/// The config of an image of these layers; the architecture tells apart images that share all of them.
pub fn config(family: Family, architecture: &str, layers: &[&Content]) -> Content {
    let media_type = match family {
        Family::Docker => DOCKER_CONFIG,
        Family::Oci => OCI_CONFIG,
    };
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    Content::new(media_type, config.to_string().into_bytes())
}

/// The config of signatures and other referrers that have none to speak of: one blob for all of them.
pub fn empty_config() -> Content {
    Content::new("application/vnd.oci.empty.v1+json", b"{}".to_vec())
}

/// What BuildKit writes about the layers of a build cache.
pub fn cache_config() -> Content {
    Content::new(
        "application/vnd.buildkit.cacheconfig.v0",
        br#"{"layers":[],"records":[]}"#.to_vec(),
    )
}

/// An image manifest; `subject` makes it a referrer.
pub fn image(family: Family, config: &Content, layers: &[&Content], subject: Option<&Content>) -> Content {
    let layers = layers.iter().map(|layer| layer.descriptor()).collect();
    image_of_descriptors(family, config, layers, subject)
}

/// An image manifest whose layers are given as descriptors, for layers that are not in the registry.
pub fn image_of_descriptors(
    family: Family,
    config: &Content,
    layers: Vec<Value>,
    subject: Option<&Content>,
) -> Content {
    let media_type = match family {
        Family::Docker => DOCKER_MANIFEST,
        Family::Oci => OCI_MANIFEST,
    };
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config.descriptor(),
        "layers": layers,
    });
    if let Some(subject) = subject {
        manifest["subject"] = subject.descriptor();
    }
    Content::new(media_type, manifest.to_string().into_bytes())
}

/// The descriptor of a foreign layer: one that only its `urls` hold.
pub fn foreign_layer(layer: &Content, url: &str) -> Value {
    json!({"mediaType": DOCKER_FOREIGN_LAYER, "size": layer.size(), "digest": layer.digest, "urls": [url]})
}

/// A manifest list or index of children, each for a platform of its own.
pub fn index(family: Family, children: &[&Content]) -> Content {
    const ARCHITECTURES: [&str; 4] = ["amd64", "arm64", "s390x", "ppc64le"];
    let media_type = match family {
        Family::Docker => DOCKER_LIST,
        Family::Oci => OCI_INDEX,
    };
    let platforms = ARCHITECTURES.iter().cycle();
    let descriptors: Vec<Value> = children
        .iter()
        .zip(platforms)
        .map(|(child, architecture)| {
            let mut descriptor = child.descriptor();
            descriptor["platform"] = json!({"architecture": architecture, "os": "linux"});
            descriptor
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": descriptors});
    Content::new(media_type, index.to_string().into_bytes())
}

/// An OCI artifact manifest, which has `blobs` and no config.
pub fn artifact(blobs: &[&Content], subject: &Content) -> Content {
    let blobs: Vec<Value> = blobs.iter().map(|blob| blob.descriptor()).collect();
    let manifest = json!({
        "mediaType": OCI_ARTIFACT,
        "artifactType": "application/vnd.example.sbom.v1",
        "blobs": blobs,
        "subject": subject.descriptor(),
    });
    Content::new(OCI_ARTIFACT, manifest.to_string().into_bytes())
}

/// A schema 1 manifest as the registry stores it: the payload, three spaces deep as Docker wrote it, without the
/// signatures that the registry takes off and, on a pull, makes anew.
pub fn schema1(repository: &str, tag: &str, layers: &[&Content]) -> Content {
    let sums: Vec<String> = layers
        .iter()
        .map(|layer| format!("      {{\n         \"blobSum\": \"{}\"\n      }}", layer.digest))
        .collect();
    let history: Vec<String> = (0..layers.len())
        .map(|layer| {
            format!(
                "      {{\n         \"v1Compatibility\": \"{{\\\"id\\\":\\\"{layer:064}\\\"}}\"\n      }}"
            )
        })
        .collect();
    let manifest = format!(
        "{{\n   \"schemaVersion\": 1,\n   \"name\": \"{repository}\",\n   \"tag\": \"{tag}\",\n   \
         \"architecture\": \"amd64\",\n   \"fsLayers\": [\n{}\n   ],\n   \"history\": [\n{}\n   ]\n}}",
        sums.join(",\n"),
        history.join(",\n"),
    );
    Content::new(DOCKER_SCHEMA1, manifest.into_bytes())
}
