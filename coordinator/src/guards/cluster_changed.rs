//! A cluster is not read-only while its registry is: what its images and tags have come to name since it was asked must not go.

use hardprune_common::removal::{Removal, RemovalReason};
use hardprune_common::seal::{MarkDocument, PlanDocument};

use super::{Guard, Refusal, canaries};
use crate::error::RunError;
use crate::run::Run;

/// So many keys are named.
const NAMED: usize = 3;

/// Asks the sources again, and looks whether the plan removes what they have come to name.
///
/// # Errors
///
/// A source that does not say all that it knows, a plan that cannot be read.
pub(super) async fn look_again(
    run: &Run,
    mark: &MarkDocument,
    plan: &PlanDocument,
) -> Result<Option<Refusal>, RunError> {
    let news = run.news_of_references(&mark.epoch).await?;
    let mut needed = match news.keys.is_empty() {
        true => Default::default(),
        false => canaries::removed(&run.state, plan, news.keys.iter().collect()).await?,
    };
    if !news.repositories.is_empty() {
        for file in &plan.unlink {
            let removals: Vec<Removal> = run.state.read_lines(file).await?;
            let of_new = |removal: &Removal| {
                let repository = removal.repository();
                removal.reason == RemovalReason::NoImageStream
                    && repository.is_some_and(|name| news.repositories.contains(name))
            };
            needed.extend(removals.into_iter().filter(of_new).map(|removal| removal.key));
        }
    }
    if needed.is_empty() {
        return Ok(None);
    }
    let examples: Vec<&str> = needed.iter().take(NAMED).map(String::as_str).collect();
    Ok(Some(Refusal {
        guard: Guard::ClusterChanged,
        message: format!(
            "the cluster has come to use {} keys that would go, since it was asked, for example {}. Run it again",
            needed.len(),
            examples.join(", "),
        ),
    }))
}
