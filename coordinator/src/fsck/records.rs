//! What the passes of `fsck` hand on to each other, as records in spools: each is joined with others by the digest that it is
//! spooled by (R9).

mod encoding;

use hardprune_common::digest::Digest;
use hardprune_common::manifest;

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
