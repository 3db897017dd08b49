//! Changes one object of a cluster by compare-and-set on its `resourceVersion`.

use std::time::Duration;

use kube::api::{Api, DynamicObject, PostParams};
use tracing::warn;

/// Somebody else changes the object at the same time so often before we give in.
const MOST_CONFLICTS: u32 = 8;
const CONFLICT_PAUSE: Duration = Duration::from_millis(200);

/// Why an object was not changed.
#[derive(Debug)]
pub enum NotChanged {
    /// The cluster refused, or could not be asked: to `get` or to `update` it.
    Api(kube::Error, &'static str),
    /// It is not such that it can be changed.
    Unfit(String),
    /// Somebody else changes it all the time.
    Conflicts,
}

impl NotChanged {
    /// Says what happened where the cluster did not refuse.
    #[must_use]
    pub fn conflicts() -> String {
        format!("somebody else changes it all the time ({MOST_CONFLICTS} conflicts); nothing was changed")
    }
}

/// Changes an object, and returns it as it is then. `change` says whether there is anything to change; it is asked again after each conflict.
///
/// # Errors
///
/// [`NotChanged`]. The object is as others have it then, unless an answer got lost.
pub async fn change_object(
    api: &Api<DynamicObject>,
    name: &str,
    change: impl Fn(&mut DynamicObject) -> Result<bool, String>,
) -> Result<DynamicObject, NotChanged> {
    let parameters = PostParams {
        field_manager: Some("hardprune".to_owned()),
        ..PostParams::default()
    };
    for conflicts in 1..=MOST_CONFLICTS {
        let mut object = api
            .get(name)
            .await
            .map_err(|error| NotChanged::Api(error, "get"))?;
        if !change(&mut object).map_err(NotChanged::Unfit)? {
            return Ok(object);
        }
        match api.replace(name, &parameters, &object).await {
            Ok(object) => return Ok(object),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                warn!(
                    name,
                    conflicts, "somebody else changed it at the same time; reads it again"
                );
                tokio::time::sleep(CONFLICT_PAUSE).await;
            }
            Err(error) => return Err(NotChanged::Api(error, "update")),
        }
    }
    Err(NotChanged::Conflicts)
}
