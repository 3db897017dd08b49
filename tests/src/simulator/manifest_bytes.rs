//! The bytes of a manifest, written by hand: there are millions of them.

use super::Hash;
use super::population::Kind;

/// What a manifest names: digest and size.
pub(super) type Named = (Hash, u64);

const DOCKER: &str = "application/vnd.docker.";
const OCI: &str = "application/vnd.oci.";

/// Writes an image, an artifact or a schema 1 manifest. The first of `layers` is the config.
pub(super) fn image(kind: Kind, withdrawn_form: bool, layers: &[Named], subject: Option<&Named>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(400 + 160 * layers.len());
    match kind {
        Kind::Schema1 => schema1(&mut bytes, layers),
        Kind::Artifact if withdrawn_form => {
            bytes.extend_from_slice(
                b"{\"mediaType\":\"application/vnd.oci.artifact.manifest.v1+json\",\
                \"artifactType\":\"application/vnd.example.sbom.v1\",\"blobs\":",
            );
            descriptors(&mut bytes, OCI, "image.layer.v1.tar+gzip", layers);
            named_subject(&mut bytes, subject);
            bytes.push(b'}');
        }
        Kind::DockerImage => image_of(
            &mut bytes,
            DOCKER,
            "distribution.manifest.v2+json",
            ("container.image.v1+json", "image.rootfs.diff.tar.gzip"),
            layers,
            subject,
        ),
        _ => image_of(
            &mut bytes,
            OCI,
            "image.manifest.v1+json",
            ("image.config.v1+json", "image.layer.v1.tar+gzip"),
            layers,
            subject,
        ),
    }
    bytes
}

/// Writes an index of images.
pub(super) fn index(kind: Kind, children: &[Named]) -> Vec<u8> {
    let (vendor, index, image) = match kind {
        Kind::DockerList => (
            DOCKER,
            "distribution.manifest.list.v2+json",
            "distribution.manifest.v2+json",
        ),
        _ => (OCI, "image.index.v1+json", "image.manifest.v1+json"),
    };
    let mut bytes = Vec::with_capacity(1024);
    head(&mut bytes, vendor, index);
    bytes.extend_from_slice(b",\"manifests\":[");
    for (place, child) in children.iter().enumerate() {
        if place > 0 {
            bytes.push(b',');
        }
        descriptor_begin(&mut bytes, vendor, image, child);
        let architecture: &[u8] = if place == 0 { b"amd64" } else { b"arm64" };
        bytes.extend_from_slice(b",\"platform\":{\"architecture\":\"");
        bytes.extend_from_slice(architecture);
        bytes.extend_from_slice(b"\",\"os\":\"linux\"}}");
    }
    bytes.extend_from_slice(b"]}");
    bytes
}

fn image_of(
    bytes: &mut Vec<u8>,
    vendor: &str,
    manifest: &str,
    (config, layer): (&str, &str),
    layers: &[Named],
    subject: Option<&Named>,
) {
    head(bytes, vendor, manifest);
    let (first, rest) = layers.split_first().expect("every image has a config");
    bytes.extend_from_slice(b",\"config\":");
    descriptor_begin(bytes, vendor, config, first);
    bytes.extend_from_slice(b"},\"layers\":");
    descriptors(bytes, vendor, layer, rest);
    named_subject(bytes, subject);
    bytes.push(b'}');
}

fn head(bytes: &mut Vec<u8>, vendor: &str, media_type: &str) {
    bytes.extend_from_slice(b"{\"schemaVersion\":2,\"mediaType\":\"");
    bytes.extend_from_slice(vendor.as_bytes());
    bytes.extend_from_slice(media_type.as_bytes());
    bytes.push(b'"');
}

fn named_subject(bytes: &mut Vec<u8>, subject: Option<&Named>) {
    if let Some(subject) = subject {
        bytes.extend_from_slice(b",\"subject\":");
        descriptor_begin(bytes, OCI, "image.manifest.v1+json", subject);
        bytes.push(b'}');
    }
}

fn descriptors(bytes: &mut Vec<u8>, vendor: &str, media_type: &str, all: &[Named]) {
    bytes.push(b'[');
    for (place, named) in all.iter().enumerate() {
        if place > 0 {
            bytes.push(b',');
        }
        descriptor_begin(bytes, vendor, media_type, named);
        bytes.push(b'}');
    }
    bytes.push(b']');
}

/// Writes a descriptor up to before its closing brace.
fn descriptor_begin(bytes: &mut Vec<u8>, vendor: &str, media_type: &str, (digest, size): &Named) {
    bytes.extend_from_slice(b"{\"mediaType\":\"");
    bytes.extend_from_slice(vendor.as_bytes());
    bytes.extend_from_slice(media_type.as_bytes());
    bytes.extend_from_slice(b"\",\"size\":");
    bytes.extend_from_slice(size.to_string().as_bytes());
    bytes.extend_from_slice(b",\"digest\":\"");
    push_digest(bytes, digest);
    bytes.push(b'"');
}

fn push_digest(bytes: &mut Vec<u8>, digest: &Hash) {
    bytes.extend_from_slice(b"sha256:");
    let begin = bytes.len();
    bytes.resize(begin + 64, 0);
    let encoded = hex::encode_to_slice(digest, &mut bytes[begin..]);
    encoded.expect("64 digits are what 32 bytes have");
}

fn schema1(bytes: &mut Vec<u8>, layers: &[Named]) {
    bytes.extend_from_slice(
        b"{\n   \"schemaVersion\": 1,\n   \"name\": \"simulated\",\n   \"tag\": \"old\",\n   \
        \"architecture\": \"amd64\",\n   \"fsLayers\": [",
    );
    for (place, (digest, _)) in layers.iter().enumerate() {
        bytes.extend_from_slice(if place > 0 { b"," } else { b"" });
        bytes.extend_from_slice(b"\n      {\n         \"blobSum\": \"");
        push_digest(bytes, digest);
        bytes.extend_from_slice(b"\"\n      }");
    }
    bytes.extend_from_slice(b"\n   ],\n   \"history\": [");
    for place in 0..layers.len() {
        bytes.extend_from_slice(if place > 0 { b"," } else { b"" });
        bytes.extend_from_slice(b"\n      {\n         \"v1Compatibility\": \"{}\"\n      }");
    }
    bytes.extend_from_slice(b"\n   ]\n}");
}
