//! The fields of a manifest that hold digests, read with names in any case, each at most once.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The fields of any kind of manifest. `None` for those that are absent or null.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub schema_version: Option<u64>,
    pub media_type: Option<String>,
    pub config: Option<Descriptor>,
    pub layers: Option<Vec<Descriptor>>,
    pub blobs: Option<Vec<Descriptor>>,
    pub manifests: Option<Vec<Descriptor>>,
    pub fs_layers: Option<Vec<Descriptor>>,
    pub subject: Option<Descriptor>,
}

/// The digest of a descriptor, not parsed yet, and what it is said to be of. In schema 1 the field is called `blobSum`.
#[derive(Debug, Default)]
pub(super) struct Descriptor {
    pub digest: String,
    pub media_type: Option<String>,
    /// `None` also for what is no size: nothing is decided by it.
    pub size: Option<u64>,
}

/// A JSON object of which some fields are read.
trait Object: Default {
    const WHAT: &'static str;

    /// Reads the value of the field of this (lower-case) name, or ignores it.
    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;

    fn check<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }
}

fn once<'de, A: MapAccess<'de>, V: Deserialize<'de>>(
    slot: &mut Option<V>,
    name: &str,
    map: &mut A,
) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(A::Error::custom(format_args!("field {name:?} stands twice")));
    }
    *slot = map.next_value()?;
    Ok(())
}

impl Object for Fields {
    const WHAT: &'static str = "a manifest";

    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "schemaversion" => once(&mut self.schema_version, name, map),
            "mediatype" => once(&mut self.media_type, name, map),
            "config" => once(&mut self.config, name, map),
            "layers" => once(&mut self.layers, name, map),
            "blobs" => once(&mut self.blobs, name, map),
            "manifests" => once(&mut self.manifests, name, map),
            "fslayers" => once(&mut self.fs_layers, name, map),
            "subject" => once(&mut self.subject, name, map),
            _ => map.next_value::<IgnoredAny>().map(|_| ()),
        }
    }
}

impl Object for Descriptor {
    const WHAT: &'static str = "a descriptor";

    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "mediatype" => once(&mut self.media_type, name, map),
            "size" => {
                self.size = map.next_value::<serde_json::Value>()?.as_u64();
                Ok(())
            }
            "digest" | "blobsum" if !self.digest.is_empty() => {
                Err(A::Error::custom("a descriptor has two digests"))
            }
            "digest" | "blobsum" => {
                self.digest = map.next_value()?;
                Ok(())
            }
            _ => map.next_value::<IgnoredAny>().map(|_| ()),
        }
    }

    fn check<E: Error>(self) -> Result<Self, E> {
        if self.digest.is_empty() {
            Err(E::custom("a descriptor has no digest"))
        } else {
            Ok(self)
        }
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Object> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WHAT)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut object = T::default();
        while let Some(name) = map.next_key::<FoldedName>()? {
            object.read(&name.0, &mut map)?;
        }
        object.check()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// A field's name, folded as Go's `encoding/json` folds it: ASCII case, and the two letters outside ASCII whose
/// other case lies inside.
struct FoldedName(String);

impl<'de> Deserialize<'de> for FoldedName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = FoldedName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<FoldedName, E> {
                let fold = |letter| match letter {
                    '\u{17f}' => 's',
                    '\u{212a}' => 'k',
                    other => other.to_ascii_lowercase(),
                };
                Ok(FoldedName(name.chars().map(fold).collect()))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}
