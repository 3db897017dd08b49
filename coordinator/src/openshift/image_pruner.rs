//! The operator's own pruning of images, the `ImagePruner` `cluster`: suspended while hardprune prunes, and put back.
//!
//! A suspended pruner begins nothing; what it had begun is waited for.

use std::time::Duration;

use hardprune_common::clock;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::change_object::{NotChanged, change_object};
use super::held_field::HeldField;
use crate::human::printable;

const SUSPEND: HeldField = HeldField {
    field: "suspend",
    annotation: "hardprune.io/suspended",
    earlier: "suspend",
};
/// The only one.
const NAME: &str = "cluster";
/// Where the operator has its jobs made, and what makes them.
const NAMESPACE: &str = "openshift-image-registry";
const CRON_JOB: &str = "image-pruner";

/// Why the operator's pruning could not be suspended, or put back.
#[derive(Debug, thiserror::Error)]
pub enum ImagePrunerError {
    /// The cluster refused, or could not be asked.
    #[error("ImagePruner {NAME:?}: {0}")]
    Cluster(String),
    /// A job of it goes on.
    #[error(
        "ImagePruner {NAME:?}: it is suspended, but its job {job} in namespace {NAMESPACE} has not ended in {} s. Wait for it, or \
         delete it", .waited.as_secs()
    )]
    Runs {
        /// One of them.
        job: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The run is to stop.
    #[error("stopped by a signal")]
    Stopped,
}

/// The operator's pruning of images in a cluster.
pub struct ImagePruner {
    client: Client,
    timeout: Duration,
    pause: Duration,
}

impl ImagePruner {
    /// Nothing is asked yet. A job that runs may take so long, and is looked at so often.
    #[must_use]
    pub fn of(client: Client, (timeout, pause): (Duration, Duration)) -> Self {
        Self {
            client,
            timeout,
            pause,
        }
    }

    /// Suspends it, and waits until no job of it runs. Where the cluster has none, that is done. Again after a crash it changes nothing.
    ///
    /// # Errors
    ///
    /// [`ImagePrunerError`]; it may be suspended then: [`ImagePruner::put_back`].
    pub async fn suspend(&self, stop: &CancellationToken) -> Result<(), ImagePrunerError> {
        if !self.change(suspend).await? {
            info!("the cluster has no ImagePruner, so none is suspended");
            return Ok(());
        }
        let until = clock::monotonic_now() + self.timeout;
        while let Some(job) = self.running().await? {
            debug!(job, "waits for a job of the operator's");
            if clock::monotonic_now() >= until {
                return Err(ImagePrunerError::Runs {
                    job,
                    waited: self.timeout,
                });
            }
            tokio::select! {
                () = tokio::time::sleep(self.pause) => {}
                () = stop.cancelled() => return Err(ImagePrunerError::Stopped),
            }
        }
        Ok(())
    }

    /// Puts back what was there. Where nothing was suspended it changes nothing.
    ///
    /// # Errors
    ///
    /// [`ImagePrunerError::Cluster`].
    pub async fn put_back(&self) -> Result<(), ImagePrunerError> {
        self.change(put_back).await.map(drop)
    }

    /// `false`: there is none.
    async fn change(
        &self,
        change: fn(&mut DynamicObject) -> Result<bool, String>,
    ) -> Result<bool, ImagePrunerError> {
        let kind = GroupVersionKind::gvk("imageregistry.operator.openshift.io", "v1", "ImagePruner");
        let resource = ApiResource::from_gvk_with_plural(&kind, "imagepruners");
        let api = Api::all_with(self.client.clone(), &resource);
        match change_object(&api, NAME, change).await {
            Ok(_) => Ok(true),
            Err(NotChanged::Api(kube::Error::Api(status), "get")) if status.code == 404 => Ok(false),
            Err(NotChanged::Api(error, verb)) => {
                let resource = "imagepruners.imageregistry.operator.openshift.io";
                Err(failed(&error, verb, &format!("{resource} {NAME:?}")))
            }
            Err(NotChanged::Unfit(problem)) => Err(ImagePrunerError::Cluster(problem)),
            Err(NotChanged::Conflicts) => Err(ImagePrunerError::Cluster(NotChanged::conflicts())),
        }
    }

    /// A job of the operator's that has not ended.
    async fn running(&self) -> Result<Option<String>, ImagePrunerError> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), NAMESPACE);
        let jobs = api.list(&ListParams::default()).await;
        let jobs =
            jobs.map_err(|error| failed(&error, "list", &format!("jobs.batch in namespace {NAMESPACE}")))?;
        let running = jobs
            .items
            .iter()
            .find(|job| is_of_operator(job) && !has_ended(job));
        Ok(running.map(ResourceExt::name_any))
    }
}

fn failed(error: &kube::Error, verb: &str, asked: &str) -> ImagePrunerError {
    ImagePrunerError::Cluster(match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "permission is missing to {verb} {asked} ({}). It takes `get` and `update` on \
             imagepruners.imageregistry.operator.openshift.io {NAME:?}, and in namespace {NAMESPACE} `list` on jobs.batch; \
             deploy/openshift has the roles",
            printable(&status.message)
        ),
        kube::Error::Api(status) => format!(
            "{verb} {asked} was answered with {} ({})",
            status.code,
            printable(&status.message)
        ),
        error => format!("{verb} {asked}: {}", crate::with_sources(error)),
    })
}

fn is_of_operator(job: &Job) -> bool {
    job.owner_references()
        .iter()
        .any(|owner| owner.kind == "CronJob" && owner.name == CRON_JOB)
}

fn has_ended(job: &Job) -> bool {
    let conditions = job
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .filter(|condition| condition.status == "True")
        .any(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed"))
}

/// Sets `spec.suspend`, and keeps what was there. Returns whether that changed anything.
fn suspend(pruner: &mut DynamicObject) -> Result<bool, String> {
    Ok(SUSPEND.hold(pruner))
}

/// Puts back what was there. Returns whether there was anything to put back.
fn put_back(pruner: &mut DynamicObject) -> Result<bool, String> {
    let Some(earlier) = SUSPEND.release(pruner)? else {
        return Ok(false);
    };
    // What somebody else has written there since is not ours to change.
    if pruner.data["spec"]["suspend"] == true {
        SUSPEND.put_back(pruner, earlier);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pruner(spec: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "imageregistry.operator.openshift.io/v1", "kind": "ImagePruner",
            "metadata": {"name": "cluster"}, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn the_operators_pruning_stops_and_goes_on() {
        for spec in [
            json!({"schedule": "0 0 * * *"}),
            json!({"suspend": false, "keepTagRevisions": 3}),
            json!({"suspend": true}),
        ] {
            let mut object = pruner(&spec);
            assert!(suspend(&mut object).unwrap());
            assert_eq!(object.data["spec"]["suspend"], true);
            assert!(!suspend(&mut object).unwrap(), "it was suspended already");
            assert!(put_back(&mut object).unwrap());
            assert_eq!(object.data["spec"], spec);
            assert!(!put_back(&mut object).unwrap());
        }
    }

    #[test]
    fn what_somebody_else_has_written_since_stays() {
        let mut object = pruner(&json!({}));
        suspend(&mut object).unwrap();
        object.data["spec"]["suspend"] = false.into();
        assert!(put_back(&mut object).unwrap());
        assert_eq!(object.data["spec"], json!({"suspend": false}));
    }

    #[test]
    fn jobs_that_are_waited_for() {
        let job = |owner: &str, condition: &str| -> Job {
            serde_json::from_value(json!({
                "metadata": {"name": "j", "ownerReferences": [
                    {"apiVersion": "batch/v1", "kind": "CronJob", "name": owner, "uid": "u"},
                ]},
                "status": {"conditions": [{"type": condition, "status": "True"}]},
            }))
            .unwrap()
        };
        assert!(!has_ended(&job(CRON_JOB, "SuccessCriteriaMet")));
        assert!(has_ended(&job(CRON_JOB, "Complete")) && has_ended(&job(CRON_JOB, "Failed")));
        assert!(is_of_operator(&job(CRON_JOB, "x")) && !is_of_operator(&job("others", "x")));
    }
}
