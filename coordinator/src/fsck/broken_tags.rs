//! Looks again at tags whose link said nothing: a registry writes links in place, and one may have been read meanwhile.

use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::layout::REPOSITORIES;
use hardprune_common::store::{ListRange, Store, StoreError};

use super::findings::{Finding, FindingKind, Findings};
use super::list_repositories::read_tag;
use super::passes::Passes;
use super::read_link::LinkSays;
use super::records::BrokenTag;
use crate::error::RunError;

/// Looks at all of them; what is broken still goes to the findings.
///
/// # Errors
///
/// A registry that cannot be read.
pub(super) async fn look_again(passes: &mut Passes, findings: &mut Findings) -> Result<(), RunError> {
    let digits = passes.broken_tags.digits();
    for shard in passes.broken_tags.shards(digits) {
        let tags = passes.broken_tags.take(&shard)?;
        let registry = &*passes.registry;
        let found: Vec<Finding> = stream::iter(tags)
            .map(|tag| look(registry, tag))
            .buffered(passes.reads_in_flight)
            .try_filter_map(|finding| async move { Ok(finding) })
            .try_collect()
            .await?;
        for finding in found {
            findings.push(finding)?;
        }
    }
    Ok(())
}

async fn look(registry: &dyn Store, tag: BrokenTag) -> Result<Option<Finding>, StoreError> {
    let (kind, detail) = match read_tag(registry, &tag).await? {
        LinkSays::Names(_) => return Ok(None),
        LinkSays::Nothing(why) => (FindingKind::TagLinkInvalid, format!("it {why}")),
        LinkSays::Gone if has_history(registry, &tag).await? => (FindingKind::TagLinkMissing, String::new()),
        LinkSays::Gone => return Ok(None),
    };
    Ok(Some(Finding::of_tag(tag.repository, tag.tag, kind, &detail)))
}

async fn has_history(registry: &dyn Store, tag: &BrokenTag) -> Result<bool, StoreError> {
    let folder = format!(
        "{REPOSITORIES}{}/_manifests/tags/{}/index/",
        tag.repository, tag.tag
    );
    let mut pages = registry.list(ListRange {
        follow_symbolic_links: true,
        ..ListRange::prefix(folder)
    });
    while let Some(page) = pages.try_next().await? {
        if !page.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
