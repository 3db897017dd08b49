//! Lists everything that the graph is made of, in the order of `oc adm prune images`: images at the end, so that none is missing
//! that a stream names.

use std::collections::HashMap;

use kube::Client;
use serde::de::DeserializeOwned;

use super::graph::Lists;
use super::uses::Users;
use crate::openshift::list_objects::{
    self, ApiError, BETA_CRON_JOBS, BUILD_CONFIGS, BUILDS, CRON_JOBS, DAEMON_SETS, DEPLOYMENT_CONFIGS,
    DEPLOYMENTS, IMAGE_STREAMS, IMAGES, JOBS, Kind, LIMIT_RANGES, PODS, REPLICA_SETS,
    REPLICATION_CONTROLLERS, STATEFUL_SETS,
};

/// What a kind that cannot be listed comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    Fail,
    /// The cluster does not have the kind: nothing is used by it.
    MayBeUnknown,
    /// A role that is older than the kind: said, and gone on, as `oc` does.
    MayBeForbidden,
}

/// Since when a watch tells what changed, by kind.
pub type Versions = HashMap<Kind, String>;

/// Lists everything. `notice` is told of kinds that cannot be listed where that ends nothing.
///
/// # Errors
///
/// A list that was refused, or that cannot be read.
pub async fn list_cluster(
    client: &Client,
    namespace: Option<&str>,
    notice: impl Fn(&str),
) -> Result<(Lists, Versions), ApiError> {
    use Otherwise::{Fail, MayBeForbidden, MayBeUnknown};
    let mut versions = Versions::new();
    let from = From {
        client,
        namespace,
        notice: &notice,
    };
    let mut users = Users {
        pods: from.list(PODS, Fail, &mut versions).await?,
        ..Users::default()
    };
    let controllers = from.list(REPLICATION_CONTROLLERS, Fail, &mut versions).await?;
    users.workloads.push(("replicationcontroller", controllers));
    let configs = from.list(BUILD_CONFIGS, MayBeUnknown, &mut versions).await?;
    let builds = from.list(BUILDS, MayBeUnknown, &mut versions).await?;
    users.builds.extend([("build", builds), ("buildconfig", configs)]);
    for (name, kind, otherwise) in [
        ("daemonset", DAEMON_SETS, MayBeForbidden),
        ("deployment", DEPLOYMENTS, MayBeForbidden),
        ("deploymentconfig", DEPLOYMENT_CONFIGS, MayBeUnknown),
        ("replicaset", REPLICA_SETS, MayBeForbidden),
        ("statefulset", STATEFUL_SETS, Fail),
        ("job", JOBS, Fail),
    ] {
        let workloads = from.list(kind, otherwise, &mut versions).await?;
        users.workloads.push((name, workloads));
    }
    users.cron_jobs = match from.list(CRON_JOBS, Fail, &mut versions).await {
        Err(error) if error.code() == Some(404) => from.list(BETA_CRON_JOBS, Fail, &mut versions).await?,
        listed => listed?,
    };
    let limit_ranges = from.list(LIMIT_RANGES, Fail, &mut versions).await?;
    let streams = from.list(IMAGE_STREAMS, Fail, &mut versions).await?;
    let everywhere = From {
        namespace: None,
        ..from
    };
    let lists = Lists {
        streams,
        images: everywhere.list(IMAGES, Fail, &mut versions).await?,
        users,
        limit_ranges,
    };
    Ok((lists, versions))
}

struct From<'a, N> {
    client: &'a Client,
    namespace: Option<&'a str>,
    notice: &'a N,
}

impl<N: Fn(&str)> From<'_, N> {
    async fn list<T: DeserializeOwned>(
        &self,
        kind: Kind,
        otherwise: Otherwise,
        versions: &mut Versions,
    ) -> Result<Vec<T>, ApiError> {
        match list_objects::list(self.client, kind, self.namespace).await {
            Ok(listed) => {
                versions.insert(kind, listed.resource_version);
                Ok(listed.items)
            }
            Err(error) if error.code() == Some(404) && otherwise == Otherwise::MayBeUnknown => Ok(Vec::new()),
            Err(error) if error.code() == Some(403) && otherwise == Otherwise::MayBeForbidden => {
                let plural = kind.plural;
                (self.notice)(&format!(
                    "Failed to list {plural}: {error}\n - * Make sure to update clusterRoleBindings."
                ));
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}
