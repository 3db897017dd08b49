//! Brings together what guards look at: from the sealed mark, the sealed plan, and the accounts of earlier epochs.

use hardprune_common::seal::{MarkDocument, PlanDocument};

use super::{
    Amount, GuardLimits, Percent, Refusal, Totals, canaries, cluster_changed, missing_after_all, refusals,
};
use crate::error::RunError;
use crate::planned::Planned;
use crate::run::Run;

/// Has all guards look at a sealed plan; `gone_before` is what earlier epochs deleted. Returns those that refuse, and the totals in words.
///
/// # Errors
///
/// Stores that fail: then it is not known whether a guard would refuse.
pub(crate) async fn examine(
    run: &Run,
    mark: &MarkDocument,
    plan: &PlanDocument,
    planned: Planned,
    gone_before: Amount,
) -> Result<(Vec<Refusal>, String), RunError> {
    let totals = totals(mark, plan, planned, gone_before);
    let mut refusals = refusals(&totals, &run.guards.limits);
    refusals.extend(canaries::prove(&*run.registry, &run.state, plan, &run.guards.must_keep).await?);
    refusals.extend(missing_after_all::look_again(&*run.registry, &run.state, mark, plan).await?);
    refusals.extend(cluster_changed::look_again(run, mark, plan).await?);
    let in_all = format!(
        ". The plan, which is not carried out: {}, in {} repositories with {} manifests and {} references",
        planned.describe(plan),
        totals.repositories,
        totals.manifests,
        totals.references,
    );
    Ok((refusals, in_all))
}

/// Has the guards look at the plan of a purge. It was made from all references, and lists no blobs of the registry, so a share of these
/// says nothing.
///
/// # Errors
///
/// As [`examine`].
pub(crate) async fn examine_purge(
    run: &Run,
    mark: &MarkDocument,
    plan: &PlanDocument,
    planned: Planned,
    gone_before: Amount,
) -> Result<Vec<Refusal>, RunError> {
    let totals = Totals {
        must_be_present: 0,
        ..totals(mark, plan, planned, gone_before)
    };
    let limits = GuardLimits {
        max_delete_percent: Percent::whole(100),
        ..run.guards.limits
    };
    let mut refusals = refusals(&totals, &limits);
    refusals.extend(canaries::prove(&*run.registry, &run.state, plan, &run.guards.must_keep).await?);
    Ok(refusals)
}

fn totals(mark: &MarkDocument, plan: &PlanDocument, planned: Planned, gone_before: Amount) -> Totals {
    let found = &plan.totals;
    let by_chance = taken_by_chance(found.young + found.orphaned, mark.false_positive_rate);
    let of_ranges = |count: fn(&hardprune_common::task::MarkFindings) -> u64| {
        mark.ranges.iter().map(|range| count(&range.findings)).sum()
    };
    Totals {
        repositories: of_ranges(|findings| findings.repositories),
        manifests: of_ranges(|findings| findings.manifests.read + findings.manifests.cached),
        references: mark.references,
        must_be_present: mark.references - mark.may_be_absent,
        present: found
            .referenced
            .saturating_sub(found.may_be_absent)
            .saturating_sub(by_chance),
        by_chance,
        there: Amount {
            blobs: found.scanned,
            bytes: found.scanned_bytes,
        },
        going: Amount {
            blobs: found.orphaned - found.not_reviewed,
            bytes: found.orphaned_bytes - found.not_reviewed_bytes,
        },
        gone_before,
        planned,
    }
}

/// How many blobs that nothing references a filter is expected to have taken for referenced, when it has not taken so many.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an expected value, which is not negative"
)]
fn taken_by_chance(not_taken: u64, rate: f64) -> u64 {
    (not_taken as f64 * rate / (1.0 - rate)).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_filters_keep_by_chance_is_not_there() {
        assert_eq!(taken_by_chance(0, 1e-6), 0);
        assert_eq!(taken_by_chance(400_000, 1e-6), 0);
        assert_eq!(taken_by_chance(100_000_000, 1e-6), 100);
        // Of 1,000 blobs that nothing references, 900 were not taken.
        assert_eq!(taken_by_chance(900, 0.1), 100);
    }
}
