//! A workload's template, with the variable that puts a registry in read-only mode and without it again.

use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kubernetes::ANNOTATION;

/// Distribution's setting `storage.maintenance.readonly.enabled`, as a variable.
pub(super) const VARIABLE: &str = "REGISTRY_STORAGE_MAINTENANCE_READONLY";
/// What `kubectl rollout restart` changes of a workload's template.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
const READ_ONLY: &str = "{\"enabled\":true}";

/// What the annotation keeps.
#[derive(Debug, Serialize, Deserialize)]
struct Earlier {
    /// The container that was changed.
    container: String,
    /// Its variable as it was. `None`: it had none.
    variable: Option<Value>,
}

/// Sets the variable, and keeps what was there. Returns whether that changed anything.
///
/// # Errors
///
/// A workload of which nobody can tell which container is the registry.
pub(super) fn to_read_only(object: &mut DynamicObject, wanted: Option<&str>) -> Result<bool, String> {
    // After a crash the container is the one that was changed first.
    let earlier = earlier(object)?;
    let containers = containers(object)?;
    let place = match (&earlier, wanted) {
        (Some(earlier), _) => named(containers, &earlier.container)?,
        (None, Some(name)) => named(containers, name)?,
        (None, None) => registry_container(containers)?,
    };
    let container = &mut containers[place];
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    let before = variable_of(container).cloned();
    let is_set = is_read_only(container);
    if !is_set {
        set_variable(container, Some(json!({"name": VARIABLE, "value": READ_ONLY})));
    }
    if earlier.is_some() {
        return Ok(!is_set);
    }
    let earlier = json!(Earlier {
        container: name,
        variable: before,
    });
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION.to_owned(), earlier.to_string());
    Ok(true)
}

/// Puts back what was there. Returns whether there was anything to put back.
///
/// # Errors
///
/// An annotation that cannot be read.
pub(super) fn to_read_write(object: &mut DynamicObject) -> Result<bool, String> {
    let Some(earlier) = earlier(object)? else {
        return Ok(false);
    };
    let containers = containers(object)?;
    // What somebody else has written there since, or a container that is gone, is not ours to change.
    if let Ok(place) = named(containers, &earlier.container)
        && is_read_only(&containers[place])
    {
        set_variable(&mut containers[place], earlier.variable);
    }
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove(ANNOTATION);
    }
    Ok(true)
}

/// Has a workload make its pods anew, as `kubectl rollout restart` does.
pub(super) fn restart(object: &mut DynamicObject, now: &str) {
    object.data["spec"]["template"]["metadata"]["annotations"][RESTARTED] = now.into();
}

/// The container of a workload that was switched.
pub(super) fn switched_container(object: &DynamicObject) -> Option<String> {
    earlier(object).ok().flatten().map(|earlier| earlier.container)
}

/// Whether a container, in its JSON form, has read-only mode by its variable, in whatever spelling.
pub(super) fn is_read_only(container: &Value) -> bool {
    let value = variable_of(container).and_then(|variable| variable["value"].as_str());
    value.is_some_and(|value| {
        let mut plain = value.to_owned();
        plain.retain(|letter| !letter.is_whitespace() && letter != '"' && letter != '\'');
        plain == "{enabled:true}" || plain == "enabled:true"
    })
}

fn earlier(object: &DynamicObject) -> Result<Option<Earlier>, String> {
    let annotations = object.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|annotations| annotations.get(ANNOTATION)) else {
        return Ok(None);
    };
    serde_json::from_str(text).map(Some).map_err(|error| {
        format!("its annotation {ANNOTATION} cannot be read ({error}): set or remove {VARIABLE} by hand, and the annotation")
    })
}

fn containers(object: &mut DynamicObject) -> Result<&mut Vec<Value>, String> {
    let containers = object.data.pointer_mut("/spec/template/spec/containers");
    containers
        .and_then(Value::as_array_mut)
        .ok_or_else(|| "it has no containers".to_owned())
}

fn named(containers: &[Value], name: &str) -> Result<usize, String> {
    let place = containers.iter().position(|container| container["name"] == name);
    place.ok_or_else(|| format!("it has no container {name:?}, but {}", names(containers)))
}

/// The container that is the registry: the only one, or the only one whose image or command says so.
fn registry_container(containers: &[Value]) -> Result<usize, String> {
    if containers.len() == 1 {
        return Ok(0);
    }
    let likely: Vec<usize> = (0..containers.len())
        .filter(|place| looks_like_registry(&containers[*place]))
        .collect();
    match likely.as_slice() {
        [place] => Ok(*place),
        _ => Err(format!(
            "which of its containers is the registry? Say so with --read-only-container; it has {}",
            names(containers)
        )),
    }
}

fn looks_like_registry(container: &Value) -> bool {
    // `registry.example/team/proxy:1`: the host is no part of the image's own name.
    let image = container["image"].as_str().unwrap_or_default();
    let image = image.rsplit('/').next().unwrap_or_default();
    let image = image.split(['@', ':']).next().unwrap_or_default();
    let words = ["command", "args"]
        .into_iter()
        .filter_map(|key| container[key].as_array());
    let mut words = words.flatten().filter_map(Value::as_str);
    let is_registry = |word: &str| {
        matches!(
            word,
            "registry" | "docker-registry" | "dockerregistry" | "distribution"
        )
    };
    is_registry(image)
        || image.ends_with("-registry")
        || words.any(|word| word.rsplit('/').next().is_some_and(is_registry))
}

fn names(containers: &[Value]) -> String {
    let names: Vec<_> = containers
        .iter()
        .filter_map(|container| container["name"].as_str())
        .collect();
    names.join(", ")
}

fn variable_of(container: &Value) -> Option<&Value> {
    let mut variables = container["env"].as_array()?.iter();
    variables.find(|variable| variable["name"] == VARIABLE)
}

/// Sets the variable where it stands, or at the end; or removes it.
fn set_variable(container: &mut Value, variable: Option<Value>) {
    let Some(fields) = container.as_object_mut() else {
        return;
    };
    let mut variables = match fields.remove("env") {
        Some(Value::Array(variables)) => variables,
        _ => Vec::new(),
    };
    let place = variables.iter().position(|found| found["name"] == VARIABLE);
    match (place, variable) {
        (Some(place), Some(variable)) => variables[place] = variable,
        (Some(place), None) => drop(variables.remove(place)),
        (None, Some(variable)) => variables.push(variable),
        (None, None) => {}
    }
    if !variables.is_empty() {
        fields.insert("env".to_owned(), Value::Array(variables));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(containers: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "r"},
            "spec": {"replicas": 2, "template": {"spec": {"containers": containers}}},
        }))
        .unwrap()
    }

    #[test]
    fn what_was_there_comes_back() {
        let other = json!({"name": "A", "value": "b"});
        let secret = json!({"name": VARIABLE, "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}});
        for container in [
            json!({"name": "r", "image": "registry:2"}),
            json!({"name": "r", "image": "registry:2", "env": [other]}),
            json!({"name": "r", "image": "registry:2", "env": [{"name": VARIABLE, "value": "{\"enabled\": false}"}, other]}),
            json!({"name": "r", "image": "registry:2", "env": [secret]}),
            json!({"name": "r", "image": "registry:2", "env": [{"name": VARIABLE, "value": READ_ONLY}]}),
        ] {
            let before = workload(&json!([container]));
            let mut object = before.clone();
            assert!(to_read_only(&mut object, None).unwrap());
            assert!(is_read_only(
                &object.data["spec"]["template"]["spec"]["containers"][0]
            ));
            assert_eq!(switched_container(&object), Some("r".to_owned()));
            assert!(
                !to_read_only(&mut object, None).unwrap(),
                "it was switched already"
            );
            assert!(to_read_write(&mut object).unwrap());
            assert_eq!(object.data, before.data);
            assert!(!to_read_write(&mut object).unwrap());
        }
    }

    #[test]
    fn a_restart_changes_the_template_and_nothing_else() {
        for metadata in [
            json!(null),
            json!({"labels": {"app": "r"}, "annotations": {"a": "b"}}),
        ] {
            let mut object = workload(&json!([{"name": "r"}]));
            if !metadata.is_null() {
                object.data["spec"]["template"]["metadata"] = metadata.clone();
            }
            let mut expected = object.data.clone();
            expected["spec"]["template"]["metadata"]["annotations"][RESTARTED] = "now".into();
            restart(&mut object, "now");
            assert_eq!(object.data, expected);
        }
    }

    #[test]
    fn what_somebody_else_has_written_since_stays() {
        let mut object = workload(&json!([{"name": "r", "image": "registry:2"}]));
        to_read_only(&mut object, None).unwrap();
        let theirs = json!([{"name": VARIABLE, "value": "{\"enabled\":false}"}]);
        object.data["spec"]["template"]["spec"]["containers"][0]["env"] = theirs.clone();
        assert!(to_read_write(&mut object).unwrap());
        assert_eq!(
            object.data["spec"]["template"]["spec"]["containers"][0]["env"],
            theirs
        );
    }

    #[test]
    fn the_registry_among_several_containers() {
        let proxy = json!({"name": "proxy", "image": "registry.example:5000/team/nginx:1"});
        let chosen = |containers: Value, wanted: Option<&str>| {
            let mut object = workload(&containers);
            to_read_only(&mut object, wanted).map(|_| switched_container(&object).unwrap())
        };
        for registry in [
            json!({"name": "main", "image": "quay.io/x/docker-registry@sha256:00"}),
            json!({"name": "main", "image": "x/own:1", "args": ["/bin/registry", "serve", "c.yml"]}),
        ] {
            assert_eq!(chosen(json!([proxy, registry]), None), Ok("main".to_owned()));
        }
        let unclear = json!([proxy, {"name": "own", "image": "x/own:1"}]);
        let refused = chosen(unclear.clone(), None).unwrap_err();
        assert!(
            refused.contains("--read-only-container") && refused.contains("own"),
            "{refused}"
        );
        assert_eq!(chosen(unclear.clone(), Some("own")), Ok("own".to_owned()));
        assert!(chosen(unclear, Some("none")).is_err());
    }

    #[test]
    fn spellings_of_read_only() {
        let with = |value: &str| json!({"env": [{"name": VARIABLE, "value": value}]});
        for value in [
            READ_ONLY,
            "{enabled: true}",
            "enabled: true",
            "{\"enabled\": true}",
        ] {
            assert!(is_read_only(&with(value)), "{value}");
        }
        for value in ["{enabled: false}", "", "true"] {
            assert!(!is_read_only(&with(value)), "{value}");
        }
        assert!(!is_read_only(&json!({})));
    }
}
