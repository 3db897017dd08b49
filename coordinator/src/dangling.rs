//! Dangling layer links: those that no reference answers, and those of a reviewed plan.
//!
//! Comes in: a shard's references and layer links. Goes out: removals.

use std::collections::{HashSet, VecDeque};
use std::slice;

use hardprune_common::digest::Digest;
use hardprune_common::layout::{RepositoryEntry, repository_key};
use hardprune_common::removal::{Removal, RemovalKind, RemovalReason};
use hardprune_common::seal::PlanDocument;
use hardprune_common::segment::LayerLink;
use hardprune_common::shard::{Shard, ShardDigits};
use hardprune_common::state::{FileRef, StateError, StateStore};

/// Whether a layer link may go because no reference answers it: exactly, for all of its shard, ascending, are at hand.
pub(crate) fn dangles(referenced: &[Digest], link: &LayerLink) -> bool {
    link.deletable && referenced.binary_search(&link.digest).is_err()
}

/// The removal of a dangling layer link.
pub(crate) fn removal_of(link: &LayerLink) -> Removal {
    Removal {
        kind: RemovalKind::LayerLink,
        key: repository_key(&link.repository, &RepositoryEntry::LayerLink(link.digest)),
        size: 0,
        last_modified: Some(link.last_modified),
        reason: RemovalReason::Dangling,
    }
}

/// The dangling links of a reviewed plan, one shard after another: they stand in the order of the shards.
pub(crate) struct ReviewedLinks<'p> {
    state: &'p StateStore,
    files: slice::Iter<'p, FileRef>,
    next: VecDeque<Removal>,
}

impl<'p> ReviewedLinks<'p> {
    pub fn of(state: &'p StateStore, plan: &'p PlanDocument) -> Self {
        Self {
            state,
            files: plan.dangling.iter(),
            next: VecDeque::new(),
        }
    }

    /// The keys of a shard's. Shards are asked for ascending.
    pub async fn take(&mut self, shard: &Shard, digits: ShardDigits) -> Result<HashSet<String>, StateError> {
        let mut keys = HashSet::new();
        loop {
            let Some(removal) = self.next.pop_front() else {
                let Some(file) = self.files.next() else {
                    return Ok(keys);
                };
                self.next = self.state.read_lines(file).await?.into();
                continue;
            };
            match removal.layer_link().map(|digest| digits.shard_of(&digest)) {
                Some(of) if of == *shard => {
                    keys.insert(removal.key);
                }
                Some(of) if of > *shard => {
                    self.next.push_front(removal);
                    return Ok(keys);
                }
                // No link of that shard is there any more.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hardprune_common::digest::Algorithm;
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn only_links_without_a_reference_dangle() {
        let digest = |text: &str| Digest::of(Algorithm::Sha256, text.as_bytes());
        let link = |text: &str, deletable| LayerLink {
            digest: digest(text),
            repository: "a".to_owned(),
            deletable,
            last_modified: Timestamp::UNIX_EPOCH,
        };
        let referenced = [digest("kept")];
        assert!(!dangles(&referenced, &link("kept", true)));
        assert!(!dangles(&referenced, &link("behind a link", false)));
        assert!(dangles(&referenced, &link("gone", true)));
        assert_eq!(
            removal_of(&link("gone", true)).key,
            repository_key("a", &RepositoryEntry::LayerLink(digest("gone")))
        );
    }
}
