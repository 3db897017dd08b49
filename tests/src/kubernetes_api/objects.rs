//! The objects of the cluster, their versions, the pages of lists that were begun, and what changed, for watches.

use std::collections::{BTreeMap, HashMap, VecDeque};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::resources::{self, Resource, Target};

/// Kind, namespace, name.
type Key = (String, String, String);

#[derive(Debug, Default)]
pub(super) struct Objects {
    version: u64,
    objects: BTreeMap<Key, Value>,
    pages: HashMap<String, VecDeque<Value>>,
    pages_begun: u64,
    changes: Vec<Change>,
}

/// Something that a watch tells.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub version: u64,
    kind: String,
    namespace: String,
    pub event: Value,
}

impl Change {
    pub fn concerns(&self, target: &Target) -> bool {
        self.kind == target.resource.kind
            && (target.namespace.is_empty() || target.namespace == self.namespace)
    }
}

/// One page, and where the next begins.
pub(super) struct Page {
    pub items: Vec<Value>,
    pub next: Option<String>,
    pub left: usize,
}

impl Objects {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn all(&self) -> BTreeMap<String, Value> {
        let named = self.objects.iter().map(|(key, object)| (id(key), object.clone()));
        named.collect()
    }

    /// Writes an object whatever was there.
    pub fn put(&mut self, mut object: Value) -> anyhow::Result<()> {
        let kind = object["kind"]
            .as_str()
            .context("an object without a kind")?
            .to_owned();
        let resource = resources::of_kind(object["apiVersion"].as_str(), &kind)
            .with_context(|| format!("no such kind: {kind}"))?;
        object["apiVersion"] = resource.api_version().into();
        let metadata = &object["metadata"];
        let namespace = metadata["namespace"].as_str().unwrap_or_default().to_owned();
        let name = metadata["name"]
            .as_str()
            .context("an object without a name")?
            .to_owned();
        if namespace.is_empty() == resource.is_namespaced {
            bail!("{kind} {name}: with a namespace or without?");
        }
        set_generation(resource, &mut object);
        self.write((kind, namespace, name), object);
        Ok(())
    }

    pub fn remove(&mut self, id_of_it: &str) -> bool {
        let found = self.objects.keys().find(|key| id(key) == id_of_it).cloned();
        found.is_some_and(|key| self.delete(&key).is_some())
    }

    pub fn get(&self, target: &Target) -> Option<&Value> {
        self.objects.get(&key(target))
    }

    pub fn has(&self, key: &Key) -> bool {
        self.objects.contains_key(key)
    }

    /// Writes an object that is there or new, with a version of its own.
    pub fn write(&mut self, key: Key, mut object: Value) -> Value {
        self.version += 1;
        let before = self.objects.get(&key);
        let uid = before.map_or_else(
            || json!(format!("00000000-0000-4000-8000-{:012}", self.version)),
            |before| before["metadata"]["uid"].clone(),
        );
        object["metadata"]["uid"] = uid;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let what = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.tell(&key, what, &object);
        self.objects.insert(key, object.clone());
        object
    }

    pub fn delete(&mut self, key: &Key) -> Option<Value> {
        let mut removed = self.objects.remove(key)?;
        self.version += 1;
        removed["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.tell(key, "DELETED", &removed);
        Some(removed)
    }

    fn tell(&mut self, key: &Key, what: &str, object: &Value) {
        self.changes.push(Change {
            version: self.version,
            kind: key.0.clone(),
            namespace: key.1.clone(),
            event: json!({"type": what, "object": object}),
        });
    }

    /// What a watch has not told yet.
    pub fn changes_since(&self, version: u64, target: &Target) -> Vec<Change> {
        let new = self.changes.iter().filter(|change| change.version > version);
        new.filter(|change| change.concerns(target)).cloned().collect()
    }

    /// The first page of a list. Pages that follow are of the same moment, as a real server's are.
    pub fn list(&mut self, target: &Target, limit: Option<usize>) -> Page {
        let Resource { kind, group, .. } = target.resource;
        let of_kind = self.objects.iter().filter(|((found, namespace, _), _)| {
            found == kind && (target.namespace.is_empty() || *namespace == target.namespace)
        });
        let items = of_kind.map(|(_, object)| {
            let mut item = object.clone();
            // Lists of Kubernetes' own kinds do not repeat it in each item; those of others do.
            if !group.contains('.')
                && let Some(item) = item.as_object_mut()
            {
                item.remove("apiVersion");
                item.remove("kind");
            }
            item
        });
        let items: VecDeque<Value> = items.collect();
        self.page(items, limit)
    }

    /// A page that follows; `None` where its token has expired.
    pub fn next_page(&mut self, token: &str, limit: Option<usize>) -> Option<Page> {
        let items = self.pages.remove(token)?;
        Some(self.page(items, limit))
    }

    pub fn expire_pages(&mut self) {
        self.pages.clear();
    }

    fn page(&mut self, mut items: VecDeque<Value>, limit: Option<usize>) -> Page {
        let length = limit
            .filter(|limit| *limit > 0)
            .unwrap_or(usize::MAX)
            .min(items.len());
        let page: Vec<Value> = items.drain(..length).collect();
        let left = items.len();
        let next = (left > 0).then(|| {
            self.pages_begun += 1;
            let token = format!("page-{}", self.pages_begun);
            self.pages.insert(token.clone(), items);
            token
        });
        Page {
            items: page,
            next,
            left,
        }
    }
}

/// As a real server does with kinds that are not its own.
pub(super) fn set_generation(resource: Resource, object: &mut Value) {
    if resource.group.contains('.') && object["metadata"]["generation"].is_null() {
        object["metadata"]["generation"] = 1.into();
    }
}

pub(super) fn key(target: &Target) -> Key {
    (
        target.resource.kind.to_owned(),
        target.namespace.clone(),
        target.name.clone(),
    )
}

fn id((kind, namespace, name): &Key) -> String {
    match namespace.as_str() {
        "" => format!("{kind}/{name}"),
        namespace => format!("{kind}/{namespace}/{name}"),
    }
}
