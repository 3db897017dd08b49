//! Waits for a workload's rollout: the controller has seen the change, every replica has it, and no pod is left that must go,
//! not even one that is about to end, because that one may still be writing, or remember what is gone.

use std::collections::HashSet;
use std::time::Duration;

use hardprune_common::clock;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::SwitchError;
use super::target::SwitchTarget;
use super::workload::is_read_only;

/// So many pods are named.
const EXAMPLES: usize = 3;

/// How long and how often.
pub(super) struct Wait<'w> {
    pub target: &'w SwitchTarget,
    pub timeout: Duration,
    pub pause: Duration,
    pub stop: &'w CancellationToken,
}

/// Pods that must be gone before a rollout counts as ended.
#[derive(Debug)]
pub(super) enum MustGo {
    /// None: what the workload says of itself is enough.
    None,
    /// Those without read-only mode in this container.
    WithoutReadOnly(String),
    /// Those that were there before, by their uids.
    Before(HashSet<String>),
}

impl MustGo {
    fn names(&self, pod: &Pod) -> bool {
        !is_over(pod)
            && match self {
                Self::None => false,
                Self::WithoutReadOnly(container) => may_write(pod, container),
                Self::Before(uids) => uids.contains(&uid(pod)),
            }
    }

    fn describe(&self) -> &'static str {
        match self {
            Self::None | Self::Before(_) => "pods of before are left",
            Self::WithoutReadOnly(_) => "pods without read-only mode are left",
        }
    }
}

/// Waits until a workload's rollout has ended and no pod is left that must go.
///
/// # Errors
///
/// [`SwitchError::RolloutUnfinished`] and [`SwitchError::Stopped`]; what `failed` makes of an answer that will not change.
pub(super) async fn wait(
    wait: Wait<'_>,
    (api, name): (&Api<DynamicObject>, &str),
    (pods, must_go): (&Api<Pod>, &MustGo),
    failed: impl Fn(&NotSeen) -> SwitchError,
) -> Result<(), SwitchError> {
    let until = clock::monotonic_now() + wait.timeout;
    loop {
        let seen = match look(api, name, (pods, must_go)).await {
            Ok(None) => return Ok(()),
            Ok(Some(seen)) => seen,
            // A cluster that is busy, or away for a moment, rolls out all the same.
            Err((error, _, _)) if is_passing(&error) => format!("the cluster does not answer: {error}"),
            Err(error) => return Err(failed(&error)),
        };
        debug!(target = %wait.target, seen, "the rollout goes on");
        if clock::monotonic_now() >= until {
            return Err(SwitchError::RolloutUnfinished {
                target: wait.target.to_string(),
                seen,
                waited: wait.timeout,
            });
        }
        tokio::select! {
            () = tokio::time::sleep(wait.pause) => {}
            () = wait.stop.cancelled() => return Err(SwitchError::Stopped),
        }
    }
}

pub(super) type NotSeen = (kube::Error, &'static str, &'static str);

/// What is still missing. `None`: nothing.
async fn look(
    api: &Api<DynamicObject>,
    name: &str,
    (pods, must_go): (&Api<Pod>, &MustGo),
) -> Result<Option<String>, NotSeen> {
    let object = api.get(name).await.map_err(|error| (error, "get", "workload"))?;
    if let Some(seen) = unfinished(object.metadata.generation, &object.data) {
        return Ok(Some(seen));
    }
    if matches!(must_go, MustGo::None) {
        return Ok(None);
    }
    let Some(all) = pods_of(&object, pods).await? else {
        return Ok(Some("its selector is not understood".to_owned()));
    };
    let old: Vec<String> = all
        .iter()
        .filter(|pod| must_go.names(pod))
        .map(ResourceExt::name_any)
        .collect();
    if old.is_empty() {
        return Ok(None);
    }
    let examples: Vec<_> = old.iter().take(EXAMPLES).map(String::as_str).collect();
    Ok(Some(format!(
        "{} {}, for example {}",
        old.len(),
        must_go.describe(),
        examples.join(", ")
    )))
}

/// The pods of a workload that are not over, by their uids. `None` where its selector is not understood.
pub(super) async fn running(
    api: &Api<DynamicObject>,
    name: &str,
    pods: &Api<Pod>,
) -> Result<Option<HashSet<String>>, NotSeen> {
    let object = api.get(name).await.map_err(|error| (error, "get", "workload"))?;
    let all = pods_of(&object, pods).await?;
    Ok(all.map(|all| all.iter().filter(|pod| !is_over(pod)).map(uid).collect()))
}

async fn pods_of(object: &DynamicObject, pods: &Api<Pod>) -> Result<Option<Vec<Pod>>, NotSeen> {
    let Some(selector) = selector(&object.data["spec"]["selector"]) else {
        return Ok(None);
    };
    let list = pods.list(&ListParams::default().labels(&selector)).await;
    Ok(Some(list.map_err(|error| (error, "list", "pods"))?.items))
}

fn uid(pod: &Pod) -> String {
    pod.uid().unwrap_or_else(|| pod.name_any())
}

fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        kube::Error::HyperError(_) | kube::Error::Service(_) => true,
        _ => false,
    }
}

/// What of a rollout has not happened yet, by the workload's own status. The three kinds have the same fields for it.
fn unfinished(generation: Option<i64>, data: &Value) -> Option<String> {
    let status = &data["status"];
    let count = |value: &Value| value.as_i64().unwrap_or_default();
    if let Some(generation) = generation
        && count(&status["observedGeneration"]) < generation
    {
        return Some("its controller has not seen the change yet".to_owned());
    }
    let wanted = data["spec"]["replicas"].as_i64().unwrap_or(1);
    let updated = count(&status["updatedReplicas"]);
    // A StatefulSet counts no updated replicas any more once its revision is the current one, on old versions.
    let revisions = (&status["currentRevision"], &status["updateRevision"]);
    let is_current = revisions.0.is_string() && revisions.0 == revisions.1;
    let (all, ready) = (count(&status["replicas"]), count(&status["readyReplicas"]));
    let is_done = (updated == wanted || is_current && updated == 0) && all == wanted && ready >= wanted;
    (!is_done).then(|| {
        format!("of {wanted} replicas {updated} have the change and {ready} are ready, {all} are there")
    })
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A pod that has no read-only mode.
fn may_write(pod: &Pod, container: &str) -> bool {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let found = containers.find(|found| found.name == container);
    let value = found.and_then(|found| serde_json::to_value(found).ok());
    !value.is_some_and(|value| is_read_only(&value))
}

/// A selector as a list of pods takes it: labels (a DeploymentConfig's), or labels and expressions.
fn selector(selector: &Value) -> Option<String> {
    let fields = selector.as_object()?;
    let is_labels = fields.values().all(Value::is_string);
    let labels = if is_labels {
        Some(fields)
    } else {
        fields.get("matchLabels").and_then(Value::as_object)
    };
    let mut parts = Vec::new();
    for (name, value) in labels.into_iter().flatten() {
        parts.push(format!("{name}={}", value.as_str()?));
    }
    let expressions = fields.get("matchExpressions").and_then(Value::as_array);
    for expression in expressions.into_iter().flatten() {
        let key = expression["key"].as_str()?;
        let values = || {
            let values = expression["values"].as_array()?.iter().map(Value::as_str);
            Some(values.collect::<Option<Vec<_>>>()?.join(","))
        };
        parts.push(match expression["operator"].as_str()? {
            "In" => format!("{key} in ({})", values()?),
            "NotIn" => format!("{key} notin ({})", values()?),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        });
    }
    // No selector at all would be every pod of the namespace.
    (!parts.is_empty()).then(|| parts.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::read_only::switch::workload::VARIABLE;

    #[test]
    fn a_rollout_ends_when_every_replica_has_the_change() {
        let status = |status: Value| unfinished(Some(2), &json!({"spec": {"replicas": 2}, "status": status}));
        let done = json!({"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2, "readyReplicas": 2});
        assert_eq!(status(done.clone()), None);
        for (field, value) in [
            ("observedGeneration", 1),
            ("updatedReplicas", 1),
            ("replicas", 3),
            ("readyReplicas", 1),
        ] {
            let mut not_done = done.clone();
            not_done[field] = value.into();
            assert!(status(not_done).is_some(), "{field}");
        }
        let nothing_runs = json!({"spec": {"replicas": 0}, "status": {"observedGeneration": 2}});
        assert_eq!(unfinished(Some(2), &nothing_runs), None);
        let current = json!({
            "observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "currentRevision": "a", "updateRevision": "a",
        });
        assert_eq!(status(current), None);
    }

    #[test]
    fn pods_that_must_go() {
        let pod = |phase: &str, container: &str, value: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p", "uid": "u", "deletionTimestamp": "2026-11-24T00:00:00Z"},
                "spec": {"containers": [{"name": container, "env": [{"name": VARIABLE, "value": value}]}]},
                "status": {"phase": phase},
            }))
            .unwrap()
        };
        let on = "{\"enabled\":true}";
        let writing = MustGo::WithoutReadOnly("r".to_owned());
        assert!(!writing.names(&pod("Running", "r", on)));
        assert!(
            writing.names(&pod("Running", "r", "{}")),
            "it is about to end, and writes"
        );
        assert!(writing.names(&pod("Running", "other", on)));
        assert!(!writing.names(&pod("Succeeded", "r", "{}")));

        let before = |uid: &str| MustGo::Before(HashSet::from([uid.to_owned()]));
        assert!(
            before("u").names(&pod("Running", "r", on)),
            "it is about to end, and remembers"
        );
        assert!(!before("another").names(&pod("Running", "r", on)));
        assert!(!before("u").names(&pod("Failed", "r", on)));
    }

    #[test]
    fn selectors() {
        let text = |value: Value| selector(&value);
        assert_eq!(text(json!({"app": "r"})), Some("app=r".to_owned()));
        let both = json!({"matchLabels": {"app": "r"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"},
        ]});
        assert_eq!(text(both), Some("app=r,tier in (a,b),!old".to_owned()));
        for none in [
            json!(null),
            json!({}),
            json!({"matchLabels": {}}),
            json!({"matchExpressions": [{"key": "a", "operator": "Like"}]}),
        ] {
            assert_eq!(text(none), None);
        }
    }
}
