//! Stage 1: takes the revisions from the streams that go, and their links from the registry.
//!
//! Each stream is read anew, and its status written by compare-and-set on its version, with nothing changed but what goes. The
//! links go after that: while the cluster names a revision, it can be pulled.

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use kube::core::Request;
use serde_json::Value;
use tracing::{debug, warn};

use super::output::Figures;
use super::plan_stream::{StreamPlan, plan_stream};
use super::run::Run;
use super::uses::Uses;
use crate::openshift::list_objects::{self, ApiError, IMAGE_STREAMS};
use crate::openshift::objects::ImageStream;

/// So often a stream is tried that others change at the same time.
const MOST_TRIES: u32 = 5;
const CONFLICT_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// What is left of the streams, by `namespace/name`, and what went wrong.
pub(super) struct AfterStreams {
    pub streams: BTreeMap<String, ImageStream>,
    pub problems: Vec<String>,
}

/// Prunes all streams.
pub(super) async fn prune_streams(run: &Run) -> AfterStreams {
    let done = stream::iter(run.graph.streams.iter())
        .map(|(key, listed)| async move {
            let mut problems = Vec::new();
            let left = match run.stop.is_cancelled() {
                true => Some(listed.clone()),
                false => prune_stream(run, key, listed, &mut problems).await,
            };
            (key, left, problems)
        })
        .buffer_unordered(run.workers);
    let mut after = AfterStreams {
        streams: BTreeMap::new(),
        problems: Vec::new(),
    };
    let mut done = std::pin::pin!(done);
    while let Some((key, left, problems)) = done.next().await {
        after.streams.extend(left.map(|stream| (key.clone(), stream)));
        let problems = problems
            .into_iter()
            .map(|problem| format!("imagestream {key}: {problem}"));
        after.problems.extend(problems);
    }
    after
}

/// What is left of the stream. `None`: it is gone. After anything that failed it has all that it had.
async fn prune_stream(
    run: &Run,
    key: &str,
    listed: &ImageStream,
    problems: &mut Vec<String>,
) -> Option<ImageStream> {
    if run
        .decider(&Uses::default())
        .is_young(listed.metadata.creation_timestamp)
    {
        debug!(stream = key, "is young: keeps all of its images");
        return Some(listed.clone());
    }
    let mut tries = 0;
    loop {
        tries += 1;
        let (document, fresh) = match read(run, listed).await {
            Ok(Some(read)) => read,
            Ok(None) => return None,
            Err(error) => {
                problems.push(error.to_string());
                return Some(listed.clone());
            }
        };
        // Held for as long as it takes to decide.
        let planned = {
            let late = run.late.uses();
            plan_stream(run.decider(&late), &fresh, listed)
        };
        let plan = match planned {
            Ok(plan) => plan,
            Err(problem) => {
                warn!(stream = key, %problem, "nothing of the stream goes");
                return Some(fresh);
            }
        };
        if plan.removed_items == 0 {
            return Some(fresh);
        }
        run.output.line(&format!(
            "Deleting {} items from image stream {key}",
            plan.removed_items
        ));
        match write(run, &fresh, document, &plan).await {
            Ok(()) => {
                delete_links(run, key, &plan, problems).await;
                return Some(plan.remaining(&fresh));
            }
            Err(error) => {
                run.output.problem(&format!(
                    "error updating image stream {key} to remove image references: {error}"
                ));
                match error.code() {
                    Some(404) => return None,
                    Some(409) if tries < MOST_TRIES => tokio::time::sleep(CONFLICT_PAUSE).await,
                    _ => {
                        problems.push(error.to_string());
                        return Some(fresh);
                    }
                }
            }
        }
    }
}

async fn read(run: &Run, listed: &ImageStream) -> Result<Option<(Value, ImageStream)>, ApiError> {
    if !run.confirm {
        return Ok(Some((Value::Null, listed.clone())));
    }
    let path = IMAGE_STREAMS.path(Some(&listed.metadata.namespace));
    let request = Request::new(&path).get(&listed.metadata.name, &kube::api::GetParams::default());
    let document: Value = match list_objects::ask(&run.cluster.client, request, &path).await {
        Err(error) if error.code() == Some(404) => return Ok(None),
        other => other?,
    };
    let stream: Result<ImageStream, _> = serde_json::from_value(document.clone());
    let stream = stream.map_err(|error| ApiError::Unreadable {
        what: format!("{path}/{}", listed.metadata.name),
        problem: error.to_string(),
    })?;
    Ok(Some((document, stream)))
}

/// Writes the status without what goes. All else stands in it as it was read.
async fn write(
    run: &Run,
    fresh: &ImageStream,
    mut document: Value,
    plan: &StreamPlan,
) -> Result<(), ApiError> {
    if !run.confirm {
        return Ok(());
    }
    let path = IMAGE_STREAMS.path(Some(&fresh.metadata.namespace));
    let what = format!("{path}/{}/status", fresh.metadata.name);
    remove(&mut document, plan);
    let body = document.to_string().into_bytes();
    let request = http::Request::put(&what)
        .header("content-type", "application/json")
        .body(body)
        .map_err(kube::core::request::Error::BuildRequest);
    let _: Value = list_objects::ask(&run.cluster.client, request, &what).await?;
    Ok(())
}

fn remove(document: &mut Value, plan: &StreamPlan) {
    let Some(status) = document["status"].as_object_mut() else {
        return;
    };
    let Some(tags) = status.get_mut("tags").and_then(Value::as_array_mut) else {
        return;
    };
    for (tag, removed) in tags.iter_mut().zip(&plan.removed) {
        let mut position = 0;
        if let Some(items) = tag["items"].as_array_mut() {
            items.retain(|_| {
                position += 1;
                removed.binary_search(&(position - 1)).is_err()
            });
        }
    }
    tags.retain(|tag| tag["items"].as_array().is_some_and(|items| !items.is_empty()));
    if tags.is_empty() {
        status.remove("tags");
    }
}

async fn delete_links(run: &Run, key: &str, plan: &StreamPlan, problems: &mut Vec<String>) {
    let mut figures = Figures {
        tag_items: plan.removed_items as u64,
        streams: 1,
        ..Figures::default()
    };
    if run.prune_registry {
        for digest in &plan.layer_links {
            run.output
                .line(&format!("Deleting layer link {digest} in repository {key}"));
            match run
                .registry_does(|registry| registry.delete_layer_link(key, digest))
                .await
            {
                Ok(_) => figures.layer_links += 1,
                Err(error) => {
                    run.output.problem(&format!(
                        "error deleting repository {key} layer link {digest} from the registry: {error}"
                    ));
                    problems.push(format!("failed to delete layer link {digest}: {error}"));
                }
            }
        }
        for digest in &plan.manifest_links {
            run.output
                .line(&format!("Deleting manifest link {digest} in repository {key}"));
            match run
                .registry_does(|registry| registry.delete_manifest_link(key, digest))
                .await
            {
                Ok(_) => figures.manifest_links += 1,
                Err(error) => {
                    run.output.problem(&format!(
                        "error deleting manifest link {digest} from repository {key}: {error}"
                    ));
                    problems.push(format!("failed to delete manifest link {digest}: {error}"));
                }
            }
        }
    }
    run.output.add(figures);
}
