//! The records' bytes. They are of one process, and nobody else reads them.

use hardprune_common::digest::Digest;
use hardprune_common::segment::{Record, decode_name, encode_name};

use super::{Broken, BrokenTag, Fault, Known, Link, LinkKind, Lost, Need, Proof, Role, Root, Tagged};

impl Record for Root {
    const MAGIC: [u8; 4] = *b"HPF1";
    const EXTENSION: &'static str = "roots";

    fn encode(&self, to: &mut Vec<u8>) {
        self.manifest.encode(to);
        encode_name(&self.repository, to);
        to.push(u8::from(self.in_stream));
    }

    fn decode(from: &mut &[u8]) -> Option<Self> {
        Some(Self {
            manifest: Digest::decode(from)?,
            repository: decode_name(from)?,
            in_stream: at_place(&NO_YES, from)?,
        })
    }
}

impl Record for Known {
    const MAGIC: [u8; 4] = *b"HPF7";
    const EXTENSION: &'static str = "images";

    fn encode(&self, to: &mut Vec<u8>) {
        self.manifest.encode(to);
        to.push(u8::from(self.is_managed));
    }

    fn decode(from: &mut &[u8]) -> Option<Self> {
        Some(Self {
            manifest: Digest::decode(from)?,
            is_managed: at_place(&NO_YES, from)?,
        })
    }
}

impl Record for Lost {
    const MAGIC: [u8; 4] = *b"HPF8";
    const EXTENSION: &'static str = "lost";

    fn encode(&self, to: &mut Vec<u8>) {
        self.manifest.encode(to);
        encode_name(&self.repository, to);
        to.push(u8::from(self.is_known));
    }

    fn decode(from: &mut &[u8]) -> Option<Self> {
        Some(Self {
            manifest: Digest::decode(from)?,
            repository: decode_name(from)?,
            is_known: at_place(&NO_YES, from)?,
        })
    }
}

impl Record for Tagged {
    const MAGIC: [u8; 4] = *b"HPF2";
    const EXTENSION: &'static str = "tags";

    fn encode(&self, to: &mut Vec<u8>) {
        self.manifest.encode(to);
        encode_name(&self.repository, to);
        encode_name(&self.tag, to);
    }

    fn decode(from: &mut &[u8]) -> Option<Self> {
        Some(Self {
            manifest: Digest::decode(from)?,
            repository: decode_name(from)?,
            tag: decode_name(from)?,
        })
    }
}

impl Record for BrokenTag {
    const MAGIC: [u8; 4] = *b"HPF3";
    const EXTENSION: &'static str = "broken-tags";

    fn encode(&self, to: &mut Vec<u8>) {
        encode_name(&self.repository, to);
        encode_name(&self.tag, to);
    }

    fn decode(from: &mut &[u8]) -> Option<Self> {
        Some(Self {
            repository: decode_name(from)?,
            tag: decode_name(from)?,
        })
    }
}

impl Record for Link {
    const MAGIC: [u8; 4] = *b"HPF4";
    const EXTENSION: &'static str = "all-links";

    fn encode(&self, to: &mut Vec<u8>) {
        self.digest.encode(to);
        encode_name(&self.repository, to);
        let kind = place(&LINK_KINDS, &self.kind);
        to.extend([kind, place(&PROOFS, &self.proof)]);
    }

    fn decode(from: &mut &[u8]) -> Option<Self> {
        Some(Self {
            digest: Digest::decode(from)?,
            repository: decode_name(from)?,
            kind: at_place(&LINK_KINDS, from)?,
            proof: at_place(&PROOFS, from)?,
        })
    }
}

impl Record for Need {
    const MAGIC: [u8; 4] = *b"HPF5";
    const EXTENSION: &'static str = "needs";

    fn encode(&self, to: &mut Vec<u8>) {
        self.digest.encode(to);
        encode_name(&self.repository, to);
        self.manifest.encode(to);
        to.push(place(&ROLES, &self.role));
        to.push(u8::from(self.size.is_some()));
        to.extend_from_slice(&self.size.unwrap_or_default().to_le_bytes());
    }

    fn decode(from: &mut &[u8]) -> Option<Self> {
        let digest = Digest::decode(from)?;
        let repository = decode_name(from)?;
        let manifest = Digest::decode(from)?;
        let role = at_place(&ROLES, from)?;
        let (has_size, rest) = from.split_first()?;
        let (size, rest) = rest.split_first_chunk::<8>()?;
        *from = rest;
        Some(Self {
            digest,
            repository,
            manifest,
            role,
            size: (*has_size == 1).then(|| u64::from_le_bytes(*size)),
        })
    }
}

impl Record for Broken {
    const MAGIC: [u8; 4] = *b"HPF6";
    const EXTENSION: &'static str = "broken";

    fn encode(&self, to: &mut Vec<u8>) {
        self.manifest.encode(to);
        encode_name(&self.repository, to);
        self.needs.encode(to);
        to.extend([place(&ROLES, &self.role), place(&FAULTS, &self.fault)]);
        encode_name(&self.detail, to);
    }

    fn decode(from: &mut &[u8]) -> Option<Self> {
        Some(Self {
            manifest: Digest::decode(from)?,
            repository: decode_name(from)?,
            needs: Digest::decode(from)?,
            role: at_place(&ROLES, from)?,
            fault: at_place(&FAULTS, from)?,
            detail: decode_name(from)?,
        })
    }
}

const NO_YES: [bool; 2] = [false, true];
const LINK_KINDS: [LinkKind; 2] = [LinkKind::Layer, LinkKind::Revision];
const PROOFS: [Proof; 3] = [Proof::Fits, Proof::OnlyEtagOdd, Proof::MustBeRead];
const ROLES: [Role; 5] = [
    Role::Manifest,
    Role::Child,
    Role::Config,
    Role::Layer,
    Role::Signature,
];
const FAULTS: [Fault; 9] = [
    Fault::Missing,
    Fault::OtherSize,
    Fault::NoLink,
    Fault::BadLink,
    Fault::Corrupt,
    Fault::Unreadable,
    Fault::NotUnderstood,
    Fault::BrokenChild,
    Fault::NoImage,
];

fn place<T: PartialEq>(all: &[T], one: &T) -> u8 {
    let place = all.iter().position(|other| other == one);
    place
        .and_then(|place| u8::try_from(place).ok())
        .unwrap_or(u8::MAX)
}

fn at_place<T: Copy>(all: &[T], from: &mut &[u8]) -> Option<T> {
    let (place, rest) = from.split_first()?;
    *from = rest;
    all.get(usize::from(*place)).copied()
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use hardprune_common::digest::Algorithm;

    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(Algorithm::Sha256, name.as_bytes())
    }

    fn round_trip<R: Record + PartialEq + Debug>(records: Vec<R>) {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.encode(&mut bytes));
        let mut rest = bytes.as_slice();
        for record in records {
            assert_eq!(R::decode(&mut rest), Some(record));
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn records_round_trip() {
        let (manifest, repository) = (digest("m"), "team/app".to_owned());
        let mut links = Vec::new();
        for kind in LINK_KINDS {
            links.extend(PROOFS.map(|proof| Link {
                digest: digest("l"),
                repository: repository.clone(),
                kind,
                proof,
            }));
        }
        round_trip(links);
        let needs: Vec<Need> = ROLES
            .into_iter()
            .zip([None, Some(0), Some(7), Some(u64::MAX), None])
            .map(|(role, size)| Need {
                digest: digest("l"),
                repository: repository.clone(),
                manifest,
                role,
                size,
            })
            .collect();
        round_trip(
            FAULTS
                .map(|fault| needs[1].broken(fault, "why".to_owned()))
                .into(),
        );
        round_trip(needs);
    }
}
