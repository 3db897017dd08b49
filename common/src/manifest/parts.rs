//! The parts of a manifest one by one, as whoever pulls it needs them: what each is for, and how large it is said to be.

use super::fields::Descriptor;
use super::{Kind, ManifestError, is_blob, is_foreign, read};
use crate::digest::Digest;

/// What something is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A manifest that an index lists.
    Child,
    /// The config of an image.
    Config,
    /// A layer, or another blob.
    Layer,
}

/// A part of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its digest.
    pub digest: Digest,
    /// What it is for.
    pub role: Role,
    /// Its bytes, as the manifest says. `None` where it does not.
    pub size: Option<u64>,
    /// As the manifest says; empty where it does not.
    pub media_type: String,
}

/// The parts of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The media type that the manifest is served as.
    pub media_type: String,
    /// What must be there for it to be pulled, in the manifest's order. Not its foreign layers: they are served by others.
    pub needed: Vec<Part>,
}

impl Parts {
    /// Reads a manifest's bytes, which the caller has checked against the digest.
    ///
    /// # Errors
    ///
    /// Bytes that are not understood in full.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let (kind, fields) = read(bytes)?;
        let lists = [
            (Role::Config, fields.config.map(|config| vec![config])),
            (Role::Layer, fields.layers),
            (Role::Layer, fields.blobs),
            (Role::Layer, fields.fs_layers),
            (Role::Child, fields.manifests),
        ];
        let mut needed = Vec::new();
        for (role, list) in lists {
            for descriptor in list.into_iter().flatten() {
                let media_type = descriptor.media_type.as_deref();
                if role == Role::Layer && is_foreign(media_type) {
                    continue;
                }
                let is_listed_blob = role == Role::Child && is_blob(media_type);
                needed.push(part(if is_listed_blob { Role::Layer } else { role }, descriptor)?);
            }
        }
        Ok(Self {
            media_type: kind.served_as(fields.media_type),
            needed,
        })
    }
}

fn part(role: Role, descriptor: Descriptor) -> Result<Part, ManifestError> {
    Ok(Part {
        digest: descriptor.digest.parse()?,
        role,
        size: descriptor.size,
        media_type: descriptor.media_type.unwrap_or_default(),
    })
}

impl Kind {
    /// The media type of a manifest of this kind that says so, or says nothing.
    fn served_as(self, said: Option<String>) -> String {
        match said {
            Some(said) if !said.is_empty() => said,
            _ => match self {
                Self::Image => "application/vnd.oci.image.manifest.v1+json",
                Self::Index => "application/vnd.oci.image.index.v1+json",
                Self::Artifact => "application/vnd.oci.artifact.manifest.v1+json",
                Self::Schema1 => "application/vnd.docker.distribution.manifest.v1+prettyjws",
            }
            .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;
    use crate::manifest::Manifest;

    fn digest(name: &str) -> Digest {
        Digest::of(Algorithm::Sha256, name.as_bytes())
    }

    fn parts(text: &str) -> Vec<(Role, Digest, Option<u64>)> {
        let parts = Parts::parse(text.as_bytes()).unwrap().needed;
        parts
            .into_iter()
            .map(|part| (part.role, part.digest, part.size))
            .collect()
    }

    #[test]
    fn each_part_is_what_it_is_for() {
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let image = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":7}},"layers":[{{"digest":"{}","size":8}},
                {{"digest":"{}","mediaType":"{foreign}","size":9}}],"subject":{{"digest":"{}","size":1}}}}"#,
            digest("c"),
            digest("l"),
            digest("f"),
            digest("s"),
        );
        assert_eq!(
            parts(&image),
            [
                (Role::Config, digest("c"), Some(7)),
                (Role::Layer, digest("l"), Some(8))
            ]
        );
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":5}},
                {{"digest":"{}","mediaType":"application/vnd.buildkit.cacheconfig.v0"}}]}}"#,
            digest("m"),
            digest("b")
        );
        assert_eq!(
            parts(&index),
            [
                (Role::Child, digest("m"), Some(5)),
                (Role::Layer, digest("b"), None)
            ]
        );
        let schema1 = format!(
            r#"{{"schemaVersion":1,"fsLayers":[{{"blobSum":"{}"}}]}}"#,
            digest("l")
        );
        assert_eq!(parts(&schema1), [(Role::Layer, digest("l"), None)]);
    }

    #[test]
    fn a_size_that_is_none_is_not_known_and_harms_nothing() {
        for size in [r#""12""#, "-1", "1.5", "null", r#"{"a":[1]}"#] {
            let image = format!(
                r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":{size}}}}}"#,
                digest("c")
            );
            assert_eq!(parts(&image), [(Role::Config, digest("c"), None)], "{size}");
            assert_eq!(Manifest::parse(image.as_bytes()).unwrap().blobs, [digest("c")]);
        }
    }
}
