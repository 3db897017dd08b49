//! What comes while a run goes on: everything that was listed is watched from then on, and what is new keeps what it uses (R1).
//!
//! A watch that may not be had, or that ends for good, ends nothing: everything is listed again before images go.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use futures::TryStreamExt;
use kube::Client;
use kube::api::WatchParams;
use kube::core::{Request, WatchEvent};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::{debug, warn};

use super::graph::{Graph, stream_key};
use super::list_cluster::Versions;
use super::rules::Ages;
use super::uses::Uses;
use crate::openshift::list_objects::{
    self, BETA_CRON_JOBS, BUILD_CONFIGS, BUILDS, CRON_JOBS, IMAGE_STREAMS, IMAGES, Kind, LIMIT_RANGES,
    Listed, PODS,
};
use crate::openshift::objects::{Image, ImageStream};

/// The cluster ends a watch then, and it is begun again.
const WATCH_SECONDS: u32 = 240;
const PAUSE: Duration = Duration::from_secs(1);
const MOST_FAILURES: u32 = 5;

/// What came since the lists.
pub(super) struct Late {
    graph: Arc<Graph>,
    ages: Ages,
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    uses: Uses,
    images: HashMap<String, Image>,
    /// Images, and blobs of images.
    digests: HashSet<String>,
}

/// Watches. They end when this is dropped.
pub(super) struct Watches(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Watches {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Late {
    /// Nothing has come yet.
    pub fn new(graph: Arc<Graph>, ages: Ages) -> Arc<Self> {
        Arc::new(Self {
            graph,
            ages,
            inner: RwLock::default(),
        })
    }

    /// Watches all that was listed, from the versions of the lists.
    pub fn watch(self: &Arc<Self>, client: &Client, namespace: Option<&str>, versions: &Versions) -> Watches {
        let watched = versions.iter().filter(|(kind, _)| **kind != LIMIT_RANGES);
        let tasks = watched.map(|(kind, version)| {
            let namespace = namespace.filter(|_| *kind != IMAGES).map(str::to_owned);
            let (late, client, kind) = (Arc::clone(self), client.clone(), *kind);
            let version = version.clone();
            tokio::spawn(async move {
                late.watch_kind(&client, kind, namespace.as_deref(), version)
                    .await
            })
        });
        Watches(tasks.collect())
    }

    /// What is used now and was not when everything was listed.
    pub fn uses(&self) -> impl std::ops::Deref<Target = Uses> + '_ {
        struct Held<'a>(RwLockReadGuard<'a, Inner>);
        impl std::ops::Deref for Held<'_> {
            type Target = Uses;
            fn deref(&self) -> &Uses {
                &self.0.uses
            }
        }
        Held(self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes note of a cluster that was listed again.
    pub fn tell_all(&self, fresh: &Graph) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for image in fresh.images.values() {
            self.new_image(&mut inner, image.clone());
        }
        for stream in fresh.streams.values() {
            self.new_items(&mut inner, stream);
        }
        self.new_uses(&mut inner, fresh.uses.clone());
    }

    /// All images and blobs that something new needs.
    pub fn digests(&self) -> HashSet<String> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.digests.clone()
    }

    /// Whether something that is new needs an image, or a blob.
    pub fn keeps(&self, digest: &str) -> bool {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.digests.contains(digest)
    }

    async fn watch_kind(&self, client: &Client, kind: Kind, namespace: Option<&str>, mut version: String) {
        let path = kind.path(namespace);
        let mut failures = 0;
        while failures < MOST_FAILURES {
            match self
                .watch_once(client, kind, &path, &mut version, &mut failures)
                .await
            {
                Ok(()) => {}
                // The role may not have it.
                Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403 | 404 | 405) => {
                    debug!(kind = kind.plural, code = status.code, "cannot be watched");
                    return;
                }
                Err(kube::Error::Api(status)) if status.code == 410 => {
                    failures += 1;
                    match list_objects::list::<Value>(client, kind, namespace).await {
                        Ok(Listed {
                            items,
                            resource_version,
                        }) => {
                            items.into_iter().for_each(|object| self.tell(kind, object));
                            version = resource_version;
                        }
                        Err(error) => debug!(kind = kind.plural, %error, "cannot be listed again"),
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    failures += 1;
                    debug!(
                        kind = kind.plural,
                        error = crate::with_sources(&error),
                        "the watch has ended"
                    );
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        warn!(
            kind = kind.plural,
            "is watched no longer; everything is listed again before images go"
        );
    }

    async fn watch_once(
        &self,
        client: &Client,
        kind: Kind,
        path: &str,
        version: &mut String,
        failures: &mut u32,
    ) -> Result<(), kube::Error> {
        let parameters = WatchParams::default().timeout(WATCH_SECONDS);
        let request = Request::new(path).watch(&parameters, version);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let events = client.request_events::<Value>(request).await?;
        // It is allowed, and there. That it ends after some silence is no failure.
        *failures = 0;
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    note_version(&object, version);
                    self.tell(kind, object);
                }
                WatchEvent::Deleted(object) => note_version(&object, version),
                WatchEvent::Bookmark(bookmark) => version.clone_from(&bookmark.metadata.resource_version),
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        Ok(())
    }

    /// Takes note of an object as it is now.
    fn tell(&self, kind: Kind, object: Value) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let told = match kind {
            IMAGES => read(object).map(|image| self.new_image(&mut inner, image)),
            IMAGE_STREAMS => read(object).map(|stream: ImageStream| self.new_items(&mut inner, &stream)),
            kind => self
                .uses_of(kind, object)
                .map(|uses| self.new_uses(&mut inner, uses)),
        };
        if let Err(error) = told {
            warn!(kind = kind.plural, %error, "an object that changed cannot be read");
        }
    }

    fn uses_of(&self, kind: Kind, object: Value) -> Result<Uses, serde_json::Error> {
        let mut uses = Uses::default();
        // What cannot be read of these says so when everything is listed again.
        let bad = &mut Vec::new();
        match kind {
            PODS => uses.add_pod(&read(object)?, &self.ages, bad),
            BUILDS => uses.add_build("build", &read(object)?, bad),
            BUILD_CONFIGS => uses.add_build("buildconfig", &read(object)?, bad),
            CRON_JOBS | BETA_CRON_JOBS => uses.add_cron_job(&read(object)?, bad),
            kind => uses.add_workload(kind.plural, &read(object)?, bad),
        }
        Ok(uses)
    }

    fn new_image(&self, inner: &mut Inner, image: Image) {
        let name = image.metadata.name.clone();
        if self.graph.images.contains_key(&name) || inner.images.contains_key(&name) {
            return;
        }
        debug!(image = name, "is new");
        inner.images.insert(name.clone(), image);
        self.need(inner, &name);
    }

    fn new_items(&self, inner: &mut Inner, stream: &ImageStream) {
        let listed = self.graph.streams.get(&stream_key(stream));
        for tag in &stream.status.tags {
            let before =
                listed.and_then(|listed| listed.status.tags.iter().find(|found| found.tag == tag.tag));
            let new = tag
                .items
                .iter()
                .filter(|item| before.is_none_or(|before| !before.items.contains(item)));
            for item in new {
                self.need(inner, &item.image);
            }
        }
    }

    fn new_uses(&self, inner: &mut Inner, uses: Uses) {
        for (stream, tag) in uses.tags() {
            if self.graph.uses.uses_tag(stream, tag) || inner.uses.uses_tag(stream, tag) {
                continue;
            }
            debug!(stream, tag, "is used now");
            let listed = self.graph.streams.get(stream);
            let tag = listed.and_then(|listed| listed.status.tags.iter().find(|found| found.tag == tag));
            if let Some(item) = tag.and_then(|tag| tag.items.first()) {
                self.need(inner, &item.image);
            }
        }
        for (stream, digest) in uses.images() {
            if self.graph.uses.uses_image(stream, digest) || inner.uses.uses_image(stream, digest) {
                continue;
            }
            debug!(stream, digest, "is used now");
            self.need(inner, digest);
            // The stream may name it as the child of an index only.
            let listed = self.graph.streams.get(stream);
            let tags = listed.into_iter().flat_map(|listed| &listed.status.tags);
            for item in tags.flat_map(|tag| &tag.items) {
                let image = self.graph.images.get(&item.image);
                if image.is_some_and(|image| self.graph.descendants(image).contains(&digest)) {
                    self.need(inner, &item.image);
                }
            }
        }
        inner.uses.merge(uses);
    }

    /// An image, the children of an index, and the blobs of all of them.
    fn need(&self, inner: &mut Inner, digest: &str) {
        let mut needed = vec![digest];
        let image = self.graph.images.get(digest);
        needed.extend(
            image
                .map(|image| self.graph.descendants(image))
                .unwrap_or_default(),
        );
        for digest in needed {
            let image = self.graph.images.get(digest).or_else(|| inner.images.get(digest));
            if let Some(image) = image {
                // Without metadata the config is not known, and then no image goes at all.
                let blobs: Vec<_> = match image.blobs() {
                    Some(blobs) => blobs.map(str::to_owned).collect(),
                    None => image.layers().map(str::to_owned).collect(),
                };
                inner.digests.extend(blobs);
                inner
                    .digests
                    .extend(image.children().map(str::to_owned).collect::<Vec<_>>());
            }
            inner.digests.insert(digest.to_owned());
        }
    }
}

fn read<T: DeserializeOwned>(object: Value) -> Result<T, serde_json::Error> {
    serde_json::from_value(object)
}

fn note_version(object: &Value, version: &mut String) {
    if let Some(found) = object["metadata"]["resourceVersion"].as_str() {
        found.clone_into(version);
    }
}
