//! Stage 2: deletes the images that no stream names any longer, and before each the blobs that go with it.
//!
//! Everything is listed again first: what came while the streams were pruned keeps what it uses (R1).

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::blob_sizes::blob_sizes;
use super::output::Figures;
use super::plan_images::{ImagePlan, plan_images, used_digests};
use super::registry_client::Deleted;
use super::run::Run;
use crate::openshift::list_objects::{self, ApiError, IMAGES};
use crate::openshift::objects::ImageStream;

/// Prunes all images; says what went wrong.
pub(super) async fn prune_images(run: &Run, left: &BTreeMap<String, ImageStream>) -> Vec<String> {
    let fresh = match run.fresh_graph().await {
        Ok(fresh) => fresh,
        Err(problem) => return vec![problem],
    };
    // A dry run has changed nothing, so what is listed again still names what would be gone.
    let now = if run.confirm { fresh.as_ref() } else { None };
    let graph = now.unwrap_or(&run.graph);
    let mut used = used_digests(graph, left.values());
    if let Some(fresh) = now {
        used.extend(used_digests(fresh, fresh.streams.values()));
        run.late.tell_all(fresh);
    }
    let late = run.late.digests();
    used.extend(late.iter().map(String::as_str));
    let plans = match plan_images(graph, &used, &run.rules, &run.ages, run.prune_registry) {
        Ok(plans) => plans,
        Err(problem) => return vec![problem.to_string()],
    };
    let sizes = blob_sizes(graph);
    let sizes = &sizes;
    let mut problems = Vec::new();
    let done = stream::iter(&plans)
        .map(|plan| async move {
            let mut problems = Vec::new();
            let figures = match run.stop.is_cancelled() {
                true => Figures::default(),
                false => prune_image(run, plan, sizes, &mut problems).await,
            };
            (plan, figures, problems)
        })
        .buffer_unordered(run.workers);
    let mut done = std::pin::pin!(done);
    while let Some((plan, figures, found)) = done.next().await {
        run.output.add(figures);
        problems.extend(
            found
                .into_iter()
                .map(|problem| format!("image {}: {problem}", plan.name)),
        );
    }
    problems
}

async fn prune_image(
    run: &Run,
    plan: &ImagePlan,
    sizes: &HashMap<&str, u64>,
    problems: &mut Vec<String>,
) -> Figures {
    let name = &plan.name;
    let mut figures = Figures::default();
    let mut failures = 0;
    for blob in plan.blobs.iter().filter(|blob| !run.late.keeps(blob)) {
        run.output.line(&format!("Deleting blob {blob}"));
        match run.registry_does(|registry| registry.delete_blob(blob)).await {
            Ok(deleted) => {
                figures.blobs += 1;
                if deleted == Deleted::Gone {
                    run.output.freed(blob, sizes.get(blob.as_str()).copied());
                }
            }
            Err(error) => {
                failures += 1;
                run.output
                    .problem(&format!("error deleting blob {blob} from the registry: {error}"));
                let what = if blob == name { "manifest blob" } else { "blob" };
                problems.push(format!("failed to delete {what} {blob}: {error}"));
            }
        }
    }
    if run.late.keeps(name) {
        return figures;
    }
    // If nothing went, the registry is in trouble: then the next run finds the image again.
    if figures.blobs == 0 && failures > 0 {
        return figures;
    }
    run.output.line(&format!("Deleting image {name}"));
    match delete_image(run, name).await {
        Ok(()) => figures.images += 1,
        Err(error) => {
            run.output
                .problem(&format!("error deleting image {name} from server: {error}"));
            if error.code() != Some(404) {
                problems.push(format!("failed to delete image {name}: {error}"));
            }
        }
    }
    figures
}

async fn delete_image(run: &Run, name: &str) -> Result<(), ApiError> {
    if !run.confirm {
        return Ok(());
    }
    let what = format!("{}/{name}", IMAGES.path(None));
    let options = json!({"kind": "DeleteOptions", "apiVersion": IMAGES.api_version, "gracePeriodSeconds": 0});
    let request = http::Request::delete(&what)
        .header("content-type", "application/json")
        .body(options.to_string().into_bytes())
        .map_err(kube::core::request::Error::BuildRequest);
    let _: Value = list_objects::ask(&run.cluster.client, request, &what).await?;
    Ok(())
}
