//! The rules: which revisions of a tag go, and which stay, and why. Pure: nothing is asked here.

use hardprune_common::clock;
use jiff::{SignedDuration, Timestamp};

use super::graph::Graph;
use super::uses::{Referrer, Uses};
use crate::openshift::objects::{ImageMetadata, TagItem};

/// What the user asked for.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What is younger stays. `None`: whatever has a time is younger.
    pub keep_younger_than: Option<SignedDuration>,
    /// So many revisions of each tag stay.
    pub keep_tag_revisions: usize,
    /// Images over their project's limit go, and ages and revisions do not count.
    pub over_size_limit: bool,
    /// Whether images go that were not pushed to this registry.
    pub all_images: bool,
}

impl Rules {
    /// Which times are young, now.
    #[must_use]
    pub fn ages(&self) -> Ages {
        let now = clock::machine_now();
        let cutoff = |keep: SignedDuration| now.saturating_sub(keep).unwrap_or(Timestamp::MIN);
        Ages {
            cutoff: self.keep_younger_than.map(cutoff),
        }
    }
}

/// Which times are young.
#[derive(Debug, Clone, Copy)]
pub struct Ages {
    cutoff: Option<Timestamp>,
}

impl Ages {
    /// Ages by a fixed time.
    #[must_use]
    pub fn at(cutoff: Option<Timestamp>) -> Self {
        Self { cutoff }
    }

    /// Whether something is younger than the limit. What has no time is not.
    #[must_use]
    pub fn is_younger(&self, time: Option<Timestamp>) -> bool {
        time.is_some_and(|time| self.cutoff.is_none_or(|cutoff| time > cutoff))
    }

    /// Whether something is older than the limit.
    #[must_use]
    pub fn is_older(&self, time: Option<Timestamp>) -> bool {
        self.cutoff
            .is_some_and(|cutoff| time.is_none_or(|time| time < cutoff))
    }
}

/// A revision of a tag, and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The stream's namespace.
    pub namespace: &'a str,
    /// The stream.
    pub stream: &'a str,
    /// The tag.
    pub tag: &'a str,
    /// 0 for the newest.
    pub position: usize,
    /// The revision.
    pub item: &'a TagItem,
}

/// What becomes of a revision.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict<'a> {
    /// It stays.
    Keep(Keep<'a>),
    /// It goes: its image is not there.
    ImageMissing,
    /// It goes: it is over its project's limit.
    OverSizeLimit,
    /// It goes: it is old and nothing needs it.
    Unneeded,
}

/// Why a revision stays.
#[derive(Debug, Clone, PartialEq)]
pub enum Keep<'a> {
    /// It is younger than `--keep-younger-than`.
    Young,
    /// It is its tag's newest, and these use the tag.
    TagUsed(Vec<&'a Referrer>),
    /// It is among the first `--keep-tag-revisions`.
    Revision,
    /// With `--prune-over-size-limit`: it is not over a limit.
    WithinLimit,
    /// These use its image.
    ImageUsed(Vec<&'a Referrer>),
    /// Its image is an index, and these use one of its children.
    ChildUsed(&'a str, Vec<&'a Referrer>),
}

/// Everything that decides.
#[derive(Clone, Copy)]
pub struct Decider<'a> {
    /// What was listed.
    pub graph: &'a Graph,
    /// What is used since then.
    pub late: &'a Uses,
    /// What is asked for.
    pub rules: &'a Rules,
    /// Which times are young.
    pub ages: &'a Ages,
}

impl<'a> Decider<'a> {
    /// Whether a time counts as young. With `--prune-over-size-limit` none does.
    #[must_use]
    pub fn is_young(&self, time: Option<Timestamp>) -> bool {
        !self.rules.over_size_limit && self.ages.is_younger(time)
    }

    /// Decides about a revision. The order of the questions is that of `oc adm prune images`.
    #[must_use]
    pub fn decide(&self, place: Place<'_>) -> Verdict<'a> {
        let Place {
            namespace,
            stream,
            tag,
            position,
            item,
        } = place;
        if self.is_young(item.created) {
            return Verdict::Keep(Keep::Young);
        }
        if position == 0 {
            let users = self.users(|uses| uses.of_tag(namespace, stream, tag));
            if !users.is_empty() {
                return Verdict::Keep(Keep::TagUsed(users));
            }
        }
        let Some(image) = self.graph.images.get(&item.image) else {
            return Verdict::ImageMissing;
        };
        let cause = if self.rules.over_size_limit {
            let size = match &image.docker_image_metadata {
                ImageMetadata::Read { size, .. } => *size,
                _ => return Verdict::Keep(Keep::WithinLimit),
            };
            if !self.graph.limits.exceeds(namespace, size) {
                return Verdict::Keep(Keep::WithinLimit);
            }
            Verdict::OverSizeLimit
        } else {
            if position < self.rules.keep_tag_revisions {
                return Verdict::Keep(Keep::Revision);
            }
            Verdict::Unneeded
        };
        let users = self.users(|uses| uses.of_image(namespace, stream, &item.image));
        if !users.is_empty() {
            return Verdict::Keep(Keep::ImageUsed(users));
        }
        // R1: a pod that names a child needs the index that the stream names it by. `oc` does not see this.
        for child in self.graph.descendants(image) {
            let users = self.users(|uses| uses.of_image(namespace, stream, child));
            if !users.is_empty() {
                return Verdict::Keep(Keep::ChildUsed(child, users));
            }
        }
        cause
    }

    fn users(&self, of: impl Fn(&'a Uses) -> Vec<&'a Referrer>) -> Vec<&'a Referrer> {
        let mut users = of(&self.graph.uses);
        users.extend(of(self.late));
        users
    }
}
