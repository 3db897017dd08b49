//! What the server answers to a request, and what it changes.

use serde_json::{Map, Value, json};

use super::mappings;
use super::objects::{Objects, Page, key, set_generation};
use super::resources::{self, Target};

/// A request, read.
pub(super) struct Call {
    pub method: String,
    /// Without its query.
    pub path: String,
    pub query: Map<String, Value>,
    pub body: Value,
}

pub(super) enum Answer {
    /// A status and a document.
    Document(u16, Value),
    /// What changes after this version.
    Watch(Target, u64),
}

impl Call {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name)?.as_str().filter(|value| !value.is_empty())
    }
}

/// Answers.
pub(super) fn answer(objects: &mut Objects, call: &Call) -> Answer {
    let Some(target) = resources::target(&call.path) else {
        let message = "the server could not find the requested resource";
        return failure(404, "NotFound", message);
    };
    match (call.method.as_str(), target.name.is_empty()) {
        ("GET", true) if matches!(call.parameter("watch"), Some("true" | "1")) => {
            let since = call
                .parameter("resourceVersion")
                .and_then(|version| version.parse().ok());
            Answer::Watch(target, since.unwrap_or_else(|| objects.version()))
        }
        ("GET", true) => list(objects, call, &target),
        ("GET", false) => match objects.get(&target) {
            Some(object) => Answer::Document(200, object.clone()),
            None => not_found(&target),
        },
        ("POST", true) if target.resource.kind == "ImageStreamMapping" => {
            mappings::create(objects, call, &target)
        }
        ("POST", true) => create(objects, call, target),
        ("PUT", false) => replace(objects, &target, call.body.clone()),
        ("PATCH", false) => {
            let Some(before) = objects.get(&target) else {
                return not_found(&target);
            };
            let mut patched = before.clone();
            merge(&mut patched, &call.body);
            replace(objects, &target, patched)
        }
        ("DELETE", false) => delete(objects, call, &target),
        _ => failure(405, "MethodNotAllowed", "the server does not allow this method"),
    }
}

fn list(objects: &mut Objects, call: &Call, target: &Target) -> Answer {
    let limit = call.parameter("limit").and_then(|limit| limit.parse().ok());
    let page = match call.parameter("continue") {
        None => Some(objects.list(target, limit)),
        Some(token) => objects.next_page(token, limit),
    };
    let Some(Page { items, next, left }) = page else {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list \
                       without the continue parameter.";
        return failure(410, "Expired", message);
    };
    let mut metadata = json!({"resourceVersion": objects.version().to_string()});
    if let Some(next) = next {
        metadata["continue"] = next.into();
        metadata["remainingItemCount"] = left.into();
    }
    let document = json!({
        "apiVersion": target.resource.api_version(), "kind": format!("{}List", target.resource.kind),
        "metadata": metadata, "items": items,
    });
    Answer::Document(200, document)
}

fn create(objects: &mut Objects, call: &Call, mut target: Target) -> Answer {
    let name = call.body["metadata"]["name"].as_str().unwrap_or_default();
    target.name = name.to_owned();
    if name.is_empty() {
        return failure(422, "Invalid", "metadata.name: Required value");
    }
    if objects.get(&target).is_some() {
        let message = format!("{} already exists", described(&target));
        return failure(409, "AlreadyExists", &message);
    }
    let mut object = call.body.clone();
    object["apiVersion"] = target.resource.api_version().into();
    object["kind"] = target.resource.kind.into();
    if target.resource.is_namespaced {
        object["metadata"]["namespace"] = target.namespace.clone().into();
    }
    object["metadata"]["creationTimestamp"] = now().into();
    set_generation(target.resource, &mut object);
    Answer::Document(201, objects.write(key(&target), object))
}

fn replace(objects: &mut Objects, target: &Target, mut object: Value) -> Answer {
    let Some(before) = objects.get(target) else {
        return not_found(target);
    };
    let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    if !version.is_empty() && before["metadata"]["resourceVersion"] != version {
        return conflict(target);
    }
    if target.is_status {
        let status = object["status"].take();
        object = before.clone();
        object["status"] = status;
    } else {
        if target.resource.has_status {
            object["status"] = before["status"].clone();
        }
        object["metadata"]["creationTimestamp"] = before["metadata"]["creationTimestamp"].clone();
    }
    if object["status"].is_null()
        && let Some(object) = object.as_object_mut()
    {
        object.remove("status");
    }
    Answer::Document(200, objects.write(key(target), object))
}

fn delete(objects: &mut Objects, call: &Call, target: &Target) -> Answer {
    let Some(before) = objects.get(target) else {
        return not_found(target);
    };
    let wanted = &call.body["preconditions"];
    let differs = |field: &str| !wanted[field].is_null() && wanted[field] != before["metadata"][field];
    if differs("uid") || differs("resourceVersion") {
        return conflict(target);
    }
    let uid = before["metadata"]["uid"].clone();
    objects.delete(&key(target));
    let details = json!({"name": target.name, "group": target.resource.group, "kind": target.resource.plural, "uid": uid});
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    Answer::Document(200, status)
}

/// RFC 7386.
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in patch {
        match (value, object.as_object_mut()) {
            (Value::Null, Some(object)) => drop(object.remove(name)),
            (value, _) => merge(&mut object[name.as_str()], value),
        }
    }
}

/// A `Status` that says what went wrong.
pub(crate) fn failure_status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

pub(super) fn failure(code: u16, reason: &str, message: &str) -> Answer {
    Answer::Document(code, failure_status(code, reason, message))
}

fn not_found(target: &Target) -> Answer {
    failure(404, "NotFound", &format!("{} not found", described(target)))
}

fn conflict(target: &Target) -> Answer {
    let message = format!(
        "Operation cannot be fulfilled on {}: the object has been modified; please apply your changes to the latest version and \
         try again",
        described(target)
    );
    failure(409, "Conflict", &message)
}

fn described(target: &Target) -> String {
    let plural = target.resource.plural;
    match target.resource.group {
        "" => format!("{plural} {:?}", target.name),
        group => format!("{plural}.{group} {:?}", target.name),
    }
}

pub(super) fn now() -> String {
    let now = jiff::Timestamp::now();
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
