//! Who freed what: the bytes of the blobs that go, by tenant, which is the first part of a repository's name.
//!
//! A blob does not say whose it is; the layer links that dangled do, which go before it (R6). A blob that repositories of several
//! tenants linked is split evenly; the bytes that are left over go to the one whose name is first, so that the sum is exact. A blob
//! without any such link belongs to nobody that is known.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hardprune_common::digest::Digest;
use hardprune_common::removal::Removal;
use hardprune_common::run::RunId;
use hardprune_common::seal::PlanDocument;
use hardprune_common::segment::LayerLink;
use hardprune_common::shard::{Shard, ShardDigits};
use hardprune_common::state::{FileRef, StateError, StateStore, run_folder};
use serde::{Deserialize, Serialize};

use crate::books::EpochBooks;
use crate::gone::{Detail, GoneParts};
use crate::run_record::RunRecord;
use crate::spool::{Spool, SpoolError};

/// Tenants that the report itself names.
const MOST_TENANTS: usize = 100;

/// What belonged to a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantShare {
    /// The first part of the repositories' names. `None`: no layer link told it, or the tenants that have no entry of their own.
    pub tenant: Option<String>,
    /// Only of the entry for those that have none of their own: how many they are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub others: Option<u64>,
    /// Blobs that a repository of the tenant had linked. One that several tenants had counts for each.
    pub blobs: u64,
    /// The tenant's share of their bytes. The sum over all tenants is that of the blobs.
    pub bytes: u64,
}

/// Why it is not known who freed what.
#[derive(Debug, thiserror::Error)]
pub enum TenantError {
    /// The run's books.
    #[error(transparent)]
    State(#[from] StateError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// What a delete freed, in all its epochs; the largest share first.
///
/// # Errors
///
/// Books that cannot be read, a spool that cannot be used.
pub async fn freed_by_tenant(
    state: &StateStore,
    record: &RunRecord,
    spool_dir: &Path,
) -> Result<Vec<TenantShare>, TenantError> {
    let books = EpochBooks::open_all(state, record).await?;
    let Some(last) = books.last() else {
        return Ok(Vec::new());
    };
    let mut ledger = Ledger::new(last.plan().shard_digits, spool_dir)?;
    // A link may have gone in one epoch, and its blob in a later one.
    for book in &books {
        ledger.take_links(state, book.plan().before_shards()).await?;
    }
    let mut parts = GoneParts::of(state, &books, Detail::Keys);
    while let Some(part) = parts.next().await? {
        for gone in &part {
            ledger.take_blob(&gone.removal)?;
        }
    }
    Ok(ledger.shares())
}

/// What a plan would free, the largest share first.
///
/// # Errors
///
/// As [`freed_by_tenant`].
pub async fn planned_by_tenant(
    state: &StateStore,
    plan: &PlanDocument,
    spool_dir: &Path,
) -> Result<Vec<TenantShare>, TenantError> {
    let mut ledger = Ledger::new(plan.shard_digits, spool_dir)?;
    ledger.take_links(state, plan.before_shards()).await?;
    for file in plan.shards.iter().flat_map(|shard| &shard.findings.parts) {
        for removal in state.read_lines::<Removal>(file).await? {
            ledger.take_blob(&removal)?;
        }
    }
    Ok(ledger.shares())
}

/// The key of the file with all shares of a run.
#[must_use]
pub fn tenants_key(run: RunId) -> String {
    format!("{}tenants.jsonl", run_folder(run))
}

/// The shares that the report names: the largest, and all others as one.
#[must_use]
pub fn largest(mut shares: Vec<TenantShare>) -> Vec<TenantShare> {
    if shares.len() > MOST_TENANTS {
        let rest = shares.split_off(MOST_TENANTS);
        shares.push(TenantShare {
            tenant: None,
            others: Some(rest.len() as u64),
            blobs: rest.iter().map(|share| share.blobs).sum(),
            bytes: rest.iter().map(|share| share.bytes).sum(),
        });
    }
    shares
}

/// Joins blobs with the links to them. Links wait in a spool; those of one shard at a time are in memory (R9).
struct Ledger {
    digits: ShardDigits,
    spool: Spool,
    links: Option<(Shard, Vec<LayerLink>)>,
    shares: BTreeMap<Option<String>, TenantShare>,
}

impl Ledger {
    fn new(digits: ShardDigits, spool_dir: &Path) -> Result<Self, SpoolError> {
        Ok(Self {
            digits,
            spool: Spool::new(spool_dir)?,
            links: None,
            shares: BTreeMap::new(),
        })
    }

    async fn take_links(
        &mut self,
        state: &StateStore,
        files: impl Iterator<Item = &FileRef>,
    ) -> Result<(), TenantError> {
        for file in files {
            for removal in state.read_lines::<Removal>(file).await? {
                if let (Some(digest), Some(repository)) = (removal.layer_link(), removal.repository()) {
                    let repository = repository.to_owned();
                    let link = LayerLink {
                        digest,
                        repository,
                        deletable: true,
                        last_modified: removal.last_modified.unwrap_or_default(),
                    };
                    self.spool.push(&self.digits.shard_of(&digest), &link)?;
                }
            }
        }
        Ok(())
    }

    /// Takes a blob. The blobs of a shard come together.
    fn take_blob(&mut self, removal: &Removal) -> Result<(), SpoolError> {
        let Some(digest) = removal.blob() else {
            return Ok(());
        };
        let shard = self.digits.shard_of(&digest);
        let links = match &mut self.links {
            Some((of, links)) if *of == shard => links,
            links => &mut links.insert((shard.clone(), self.spool.take(&shard)?)).1,
        };
        let tenants = tenants_of(links, &digest);
        for (tenant, bytes) in split(&tenants, removal.size) {
            let tenant = tenant.map(str::to_owned);
            let share = self.shares.entry(tenant.clone()).or_insert_with(|| TenantShare {
                tenant,
                ..TenantShare::default()
            });
            share.blobs += 1;
            share.bytes += bytes;
        }
        Ok(())
    }

    fn shares(self) -> Vec<TenantShare> {
        let mut shares: Vec<TenantShare> = self.shares.into_values().collect();
        // Those of equal size stay in the order of their names.
        shares.sort_by_key(|share| Reverse(share.bytes));
        shares
    }
}

fn tenants_of<'l>(links: &'l [LayerLink], digest: &Digest) -> BTreeSet<&'l str> {
    let from = links.partition_point(|link| link.digest < *digest);
    let of_digest = links[from..].iter().take_while(|link| link.digest == *digest);
    of_digest
        .filter_map(|link| link.repository.split('/').next())
        .collect()
}

/// Splits bytes evenly; what is left over goes to the first.
fn split<'t>(tenants: &BTreeSet<&'t str>, bytes: u64) -> Vec<(Option<&'t str>, u64)> {
    let count = tenants.len() as u64;
    if count == 0 {
        return vec![(None, bytes)];
    }
    let (share, left_over) = (bytes / count, bytes % count);
    let mut shares: Vec<_> = tenants.iter().map(|tenant| (Some(*tenant), share)).collect();
    shares[0].1 += left_over;
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_byte_is_lost_and_nobody_has_more_than_the_first(
            tenants in prop::collection::btree_set("[a-z]{1,4}", 0..9),
            bytes: u32,
        ) {
            let names: BTreeSet<&str> = tenants.iter().map(String::as_str).collect();
            let shares = split(&names, bytes.into());
            prop_assert_eq!(shares.iter().map(|(_, bytes)| bytes).sum::<u64>(), u64::from(bytes));
            prop_assert_eq!(shares.len(), names.len().max(1));
            prop_assert!(shares.iter().all(|(_, bytes)| *bytes <= shares[0].1));
            prop_assert!(shares.iter().skip(1).all(|(_, bytes)| shares[0].1 - bytes < 9));
        }
    }

    #[test]
    fn a_repository_inside_another_is_of_the_same_tenant_and_what_is_small_is_summed_up() {
        let digest = Digest::of(hardprune_common::digest::Algorithm::Sha256, b"blob");
        let link = |repository: &str| LayerLink {
            digest,
            repository: repository.to_owned(),
            deletable: true,
            last_modified: jiff::Timestamp::UNIX_EPOCH,
        };
        let links = ["a", "a-b/x", "a/b", "a/b/c"].map(link);
        assert_eq!(tenants_of(&links, &digest), BTreeSet::from(["a", "a-b"]));

        let share = |number: u64| TenantShare {
            tenant: Some(number.to_string()),
            others: None,
            blobs: 1,
            bytes: 2,
        };
        let shares = largest((0..103).map(share).collect());
        assert_eq!(shares.len(), 101);
        let rest = TenantShare {
            tenant: None,
            others: Some(3),
            blobs: 3,
            bytes: 6,
        };
        assert_eq!(shares.last(), Some(&rest));
        assert_eq!(largest((0..100).map(share).collect()).len(), 100);
    }
}
