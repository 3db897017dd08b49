//! Manifests: from bytes to the digests they need.
//!
//! Upholds R1 and R8: what is not understood is an error, never an empty list. Fields are taken wherever they stand,
//! whatever the media type says, and their names are matched as Go matches them (in any case), because that is what
//! registries and clients do.

mod fields;
mod parts;

use serde::Deserialize;

use crate::digest::{Digest, DigestError};
use fields::{Descriptor, Fields};

pub use parts::{Part, Parts, Role};

/// Registries refuse to take larger manifests (4 MiB).
pub const LARGEST_MANIFEST: u64 = 4 << 20;

/// What a manifest needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// Config, layers and other blobs.
    pub blobs: Vec<Digest>,
    /// Those of them that are foreign layers: whoever serves them is somewhere else, and their blob need not be here.
    pub foreign: Vec<Digest>,
    /// Manifests that an index lists.
    pub children: Vec<Digest>,
    /// What an index lists and calls no manifest: the layers of `BuildKit`'s build caches.
    pub listed_blobs: Vec<Digest>,
    /// The manifest that this one describes: a signature's image.
    pub subject: Option<Digest>,
}

/// Why bytes are not a manifest that is understood.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or fields of the wrong type, or one field twice.
    #[error("not readable as a manifest: {0}")]
    NotReadable(#[from] serde_json::Error),
    /// Neither its media type nor its shape is known.
    #[error("of no known type (media type {media_type:?}, schema version {schema_version:?})")]
    UnknownType {
        /// As the manifest says.
        media_type: Option<String>,
        /// As the manifest says.
        schema_version: Option<u64>,
    },
    /// A digest in it is none.
    #[error("names what is no digest: {0}")]
    Digest(#[from] DigestError),
}

/// The kinds of manifest, by what each must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Index,
    Artifact,
    Schema1,
}

impl Kind {
    fn of_media_type(media_type: &str) -> Option<Self> {
        Some(match media_type {
            "application/vnd.docker.distribution.manifest.v2+json"
            | "application/vnd.oci.image.manifest.v1+json" => Self::Image,
            "application/vnd.docker.distribution.manifest.list.v2+json"
            | "application/vnd.oci.image.index.v1+json" => Self::Index,
            "application/vnd.oci.artifact.manifest.v1+json" => Self::Artifact,
            "application/vnd.docker.distribution.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v1+prettyjws" => Self::Schema1,
            _ => return None,
        })
    }

    fn of_shape(fields: &Fields) -> Option<Self> {
        match fields.schema_version {
            Some(1) => Some(Self::Schema1),
            Some(2) if fields.manifests.is_some() => Some(Self::Index),
            Some(2) => Some(Self::Image),
            _ => None,
        }
    }

    fn has_what_it_must(self, fields: &Fields) -> bool {
        match self {
            Self::Image => fields.config.is_some(),
            Self::Index => fields.manifests.is_some(),
            Self::Artifact => true,
            Self::Schema1 => fields.fs_layers.is_some(),
        }
    }
}

fn read(bytes: &[u8]) -> Result<(Kind, Fields), ManifestError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let fields = Fields::deserialize(&mut deserializer)?;
    deserializer.end()?;

    let kind = match fields.media_type.as_deref() {
        None | Some("") => Kind::of_shape(&fields),
        Some(media_type) => Kind::of_media_type(media_type),
    };
    match kind.filter(|kind| kind.has_what_it_must(&fields)) {
        Some(kind) => Ok((kind, fields)),
        None => Err(ManifestError::UnknownType {
            media_type: fields.media_type,
            schema_version: fields.schema_version,
        }),
    }
}

impl Manifest {
    /// Reads a manifest's bytes, which the caller has checked against the digest.
    ///
    /// # Errors
    ///
    /// Bytes that are not understood in full: the caller freezes the repository (R8).
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let (_, fields) = read(bytes)?;
        let parse_all = |descriptors: Option<Vec<Descriptor>>| -> Result<Vec<Digest>, DigestError> {
            descriptors
                .into_iter()
                .flatten()
                .map(|descriptor| descriptor.digest.parse())
                .collect()
        };
        let (children, listed_blobs): (Vec<_>, Vec<_>) = fields
            .manifests
            .into_iter()
            .flatten()
            .partition(|descriptor| !is_blob(descriptor.media_type.as_deref()));
        let foreign = fields
            .layers
            .iter()
            .flatten()
            .filter(|layer| is_foreign(layer.media_type.as_deref()))
            .map(|layer| layer.digest.parse())
            .collect::<Result<_, _>>()?;
        let mut blobs = parse_all(fields.config.map(|config| vec![config]))?;
        blobs.extend(parse_all(fields.layers)?);
        blobs.extend(parse_all(fields.blobs)?);
        blobs.extend(parse_all(fields.fs_layers)?);
        Ok(Self {
            blobs,
            foreign,
            children: parse_all(Some(children))?,
            listed_blobs: parse_all(Some(listed_blobs))?,
            subject: fields.subject.map(|subject| subject.digest.parse()).transpose()?,
        })
    }

    /// Everything that a live manifest needs. Not its subject: a signature is whole without the image.
    pub fn references(&self) -> impl Iterator<Item = Digest> + '_ {
        let Self {
            blobs,
            // Among the blobs: if there is a blob of one, it is needed.
            foreign: _,
            children,
            listed_blobs,
            subject: _,
        } = self;
        blobs.iter().chain(children).chain(listed_blobs).copied()
    }
}

/// Whether a media type is that of a layer which registries take a manifest without (Docker's foreign layers, those that OCI
/// calls non-distributable): of Windows' base images, mostly.
fn is_foreign(media_type: Option<&str>) -> bool {
    const FOREIGN: [&str; 2] = [
        "application/vnd.docker.image.rootfs.foreign.",
        "application/vnd.oci.image.layer.nondistributable.",
    ];
    media_type.is_some_and(|media_type| FOREIGN.iter().any(|prefix| media_type.starts_with(prefix)))
}

/// Whether a media type is certainly that of a blob. Any other may be that of a manifest, known or not.
fn is_blob(media_type: Option<&str>) -> bool {
    const BLOBS: [&str; 4] = [
        "application/octet-stream",
        "application/vnd.buildkit.cacheconfig.v0",
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.oci.image.config.v1+json",
    ];
    const LAYERS: [&str; 2] = [
        "application/vnd.docker.image.rootfs.",
        "application/vnd.oci.image.layer.",
    ];
    media_type.is_some_and(|media_type| {
        BLOBS.contains(&media_type) || LAYERS.iter().any(|prefix| media_type.starts_with(prefix))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Algorithm;

    fn digest(name: &str) -> Digest {
        Digest::of(Algorithm::Sha256, name.as_bytes())
    }

    fn descriptor(name: &str) -> String {
        format!(r#"{{"mediaType":"x","size":1,"digest":"{}"}}"#, digest(name))
    }

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(text.as_bytes())
    }

    #[test]
    fn image_manifests() {
        for media_type in [
            r#""mediaType":"application/vnd.docker.distribution.manifest.v2+json","#,
            r#""mediaType":"application/vnd.oci.image.manifest.v1+json","#,
            "",
        ] {
            let manifest = parse(&format!(
                r#"{{"schemaVersion":2,{media_type}"config":{},"layers":[{},{}],"subject":{}}}"#,
                descriptor("c"),
                descriptor("l1"),
                descriptor("l2"),
                descriptor("s"),
            ))
            .unwrap();
            assert_eq!(manifest.blobs, [digest("c"), digest("l1"), digest("l2")]);
            assert_eq!(manifest.subject, Some(digest("s")));
        }
    }

    #[test]
    fn indexes_artifacts_and_schema_1() {
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor("m"));
        assert_eq!(parse(&index).unwrap().children, [digest("m")]);
        let cache = index.replace("\"x\"", "\"application/vnd.oci.image.layer.v1.tar+gzip\"");
        let cache = parse(&cache).unwrap();
        assert_eq!(
            (cache.children.as_slice(), cache.listed_blobs.as_slice()),
            (&[][..], &[digest("m")][..])
        );
        assert!(cache.references().eq([digest("m")]));
        let artifact = format!(
            r#"{{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[{}],"subject":{}}}"#,
            descriptor("b"),
            descriptor("s")
        );
        assert_eq!(parse(&artifact).unwrap().blobs, [digest("b")]);
        let schema1 = format!(
            r#"{{"schemaVersion":1,"name":"a","fsLayers":[{{"blobSum":"{}"}}],"history":[],"signatures":[]}}"#,
            digest("l")
        );
        assert_eq!(parse(&schema1).unwrap().blobs, [digest("l")]);
    }

    #[test]
    fn foreign_layers_are_references_that_need_not_be_there() {
        for media_type in [
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        ] {
            let foreign = descriptor("f").replace("\"x\"", &format!("\"{media_type}\""));
            let manifest = parse(&format!(
                r#"{{"schemaVersion":2,"config":{},"layers":[{foreign},{}]}}"#,
                descriptor("c"),
                descriptor("l")
            ))
            .unwrap();
            assert_eq!(manifest.foreign, [digest("f")]);
            assert!(manifest.references().eq([digest("c"), digest("f"), digest("l")]));
        }
    }

    #[test]
    fn names_are_matched_as_go_matches_them() {
        let manifest = parse(&format!(
            r#"{{"SchemaVersion":2,"CONFIG":{},"layer\u017f":[{}]}}"#,
            descriptor("c"),
            descriptor("l").replace("digest", "Digest")
        ))
        .unwrap();
        assert_eq!(manifest.blobs, [digest("c"), digest("l")]);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let config = descriptor("c");
        for text in [
            "",
            "{",
            "null",
            "[]",
            "{}",
            "<html></html>",
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":3,"config":{"digest":"x"}}"#,
            r#"{"schemaVersion":2,"config":{"digest":"sha256:ab"}}"#,
            r#"{"schemaVersion":2,"config":{}}"#,
            &format!(r#"{{"schemaVersion":2,"mediaType":"application/x","config":{config}}}"#),
            &format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{{"digest":"blake3:00"}}]}}"#),
            &format!(r#"{{"schemaVersion":2,"config":{config},"layers":{config}}}"#),
            &format!(r#"{{"schemaVersion":2,"config":{config}}} trailing"#),
            &format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"Layers":[{config}]}}"#),
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail_without_a_panic(bytes: Vec<u8>) {
            let _ = Manifest::parse(&bytes);
        }

        #[test]
        fn every_digest_of_an_understood_manifest_is_found(names in prop::collection::vec("[a-z]{1,4}", 0..20)) {
            let layers = names.iter().map(|name| descriptor(name)).collect::<Vec<_>>().join(",");
            let manifest =
                parse(&format!(r#"{{"schemaVersion":2,"config":{},"layers":[{layers}]}}"#, descriptor("c"))).unwrap();
            let expected: Vec<_> = ["c"].into_iter().chain(names.iter().map(String::as_str)).map(digest).collect();
            prop_assert_eq!(manifest.blobs, expected);
        }
    }
}
