//! What the passes of `fsck` hand on to each other, as records in spools: each is joined with others by the digest that it is
//! spooled by (R9).

use std::path::Path;

use hardprune_common::digest::Digest;
use hardprune_common::manifest;
use hardprune_common::segment::{Record, decode_name, encode_name};
use hardprune_common::shard::{Shard, ShardDigits};

use crate::spool::{Spool, SpoolError};

/// Spools are cut as finely as this; passes take as many of these shards at once as have few records together.
const FINEST: usize = 3;

/// A manifest that must be whole in a repository: one that has a link there, or a tag.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Root {
    pub manifest: Digest,
    /// Empty for an image of the cluster that is in no stream.
    pub repository: String,
    /// Whether it is an image that the cluster knows, and has in the repository's stream; or what such an index lists.
    pub in_stream: bool,
}

/// An image of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Known {
    pub manifest: Digest,
    /// Whether it was pushed to the cluster's registry: others need not be in its storage.
    pub is_managed: bool,
}

/// A manifest of a repository that the cluster does not know there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lost {
    pub manifest: Digest,
    pub repository: String,
    /// Whether the cluster has the image, and only the repository's stream does not.
    pub is_known: bool,
}

/// What a tag names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tagged {
    pub manifest: Digest,
    pub repository: String,
    pub tag: String,
}

/// A tag whose link says nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BrokenTag {
    pub repository: String,
    pub tag: String,
}

/// Which link of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LinkKind {
    Layer,
    Revision,
}

/// How sure it is, by a listing, that a link's content is what its key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proof {
    Fits,
    /// Nothing but an `ETag` that looks like an MD5 is odd.
    OnlyEtagOdd,
    /// Nothing but its content can tell.
    MustBeRead,
}

/// A link of a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub digest: Digest,
    pub repository: String,
    pub kind: LinkKind,
    pub proof: Proof,
}

/// What something is needed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// The manifest itself.
    Manifest,
    Child,
    Config,
    Layer,
    /// A signature beside the manifest, as registries before 2.1 kept them.
    Signature,
}

impl From<manifest::Role> for Role {
    fn from(role: manifest::Role) -> Self {
        match role {
            manifest::Role::Child => Self::Child,
            manifest::Role::Config => Self::Config,
            manifest::Role::Layer => Self::Layer,
        }
    }
}

/// What a manifest of a repository needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Need {
    pub digest: Digest,
    pub repository: String,
    pub manifest: Digest,
    pub role: Role,
    /// As the manifest says.
    pub size: Option<u64>,
}

/// What is wrong with something that is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// There is no blob.
    Missing,
    /// The blob has another size.
    OtherSize,
    /// The repository has no link to it.
    NoLink,
    /// The link does not name it.
    BadLink,
    /// Its bytes are not what its digest says, or too many for a manifest.
    Corrupt,
    /// It cannot be read.
    Unreadable,
    /// Its bytes are understood as no manifest.
    NotUnderstood,
    /// A child is broken.
    BrokenChild,
    /// The cluster has no such image.
    NoImage,
}

/// Why a manifest of a repository is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Broken {
    pub manifest: Digest,
    pub repository: String,
    pub needs: Digest,
    pub role: Role,
    pub fault: Fault,
    /// In words; may be empty.
    pub detail: String,
}

impl Need {
    pub fn broken(&self, fault: Fault, detail: String) -> Broken {
        Broken {
            manifest: self.manifest,
            repository: self.repository.clone(),
            needs: self.digest,
            role: self.role,
            fault,
            detail,
        }
    }
}

/// Records by the shard of a digest.
#[derive(Debug)]
pub(super) struct Sharded<R> {
    spool: Spool,
    finest: ShardDigits,
    pushed: u64,
    records: std::marker::PhantomData<R>,
}

impl<R: Record> Sharded<R> {
    /// Makes an empty one whose files go below a folder.
    pub fn new(below: &Path) -> Result<Self, SpoolError> {
        Ok(Self {
            spool: Spool::new(below)?,
            finest: ShardDigits::try_from(FINEST).unwrap_or_else(|_| ShardDigits::for_blobs(u64::MAX)),
            pushed: 0,
            records: std::marker::PhantomData,
        })
    }

    pub fn push(&mut self, digest: &Digest, record: &R) -> Result<(), SpoolError> {
        self.pushed += 1;
        self.spool.push(&self.finest.shard_of(digest), record)
    }

    /// As many digits as keep the records of a shard few, if all that were pushed are here.
    pub fn digits(&self) -> ShardDigits {
        let wanted = ShardDigits::for_blobs(self.pushed);
        if usize::from(wanted) > FINEST {
            self.finest
        } else {
            wanted
        }
    }

    /// The shards that have records, ascending.
    pub fn shards(&self, digits: ShardDigits) -> Vec<Shard> {
        let mut shards: Vec<Shard> = self.spool.shards().map(|shard| shard.within(digits)).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// Takes all records of a shard out, sorted, each once.
    pub fn take(&mut self, shard: &Shard, digits: ShardDigits) -> Result<Vec<R>, SpoolError> {
        let mut finer: Vec<Shard> = self.spool.shards().cloned().collect();
        finer.retain(|finer| finer.within(digits) == *shard);
        finer.sort_unstable();
        finer.dedup();
        let mut records = Vec::new();
        for shard in finer {
            records.extend(self.spool.take(&shard)?);
        }
        // By the digest first, and so as the shards are.
        records.sort_unstable();
        records.dedup();
        Ok(records)
    }
}

/// The most digits of these: so that no shard has many records of any kind.
pub(super) fn finest(digits: &[ShardDigits]) -> ShardDigits {
    let finest = digits.iter().copied().max_by_key(|digits| usize::from(*digits));
    finest.unwrap_or_else(|| ShardDigits::for_blobs(0))
}

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

    #[test]
    fn a_shard_has_what_its_finer_ones_have() {
        let folder = tempfile::tempdir().unwrap();
        let mut sharded = Sharded::<Root>::new(folder.path()).unwrap();
        let mut roots: Vec<Root> = (0..1_000)
            .map(|number| Root {
                manifest: digest(&number.to_string()),
                repository: "a".to_owned(),
                in_stream: number % 2 == 0,
            })
            .collect();
        for root in roots.iter().chain(&roots) {
            sharded.push(&root.manifest, root).unwrap();
        }
        roots.sort_unstable();
        let digits = sharded.digits();
        let mut found = Vec::new();
        for shard in sharded.shards(digits) {
            found.extend(sharded.take(&shard, digits).unwrap());
        }
        assert_eq!(found, roots);
        assert!(sharded.shards(digits).is_empty());
    }
}
