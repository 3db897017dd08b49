//! OpenShift's registry, as far as pruning images asks it: real HTTP, its storage in memory, and the answers that were measured
//! (`tests/fixtures/openshift`). Debian's registry has no `/admin/blobs`.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use base64::Engine;
use regex::Regex;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::kubernetes_api::TOKEN;
use crate::scripted_http::{Asked, Reply, ScriptedHttp};

/// What goes wrong.
#[derive(Debug)]
pub struct RegistryFault {
    method: String,
    path: Regex,
    effect: Effect,
}

#[derive(Debug)]
enum Effect {
    Reply(Reply),
    /// Answers when something comes, or cannot come any longer.
    Wait(Mutex<Receiver<()>>),
}

impl RegistryFault {
    /// Answers requests of a method, and of paths that this expression is found in, in the registry's stead.
    ///
    /// # Panics
    ///
    /// An expression that cannot be read.
    #[must_use]
    pub fn on(method: &str, path: &str, reply: Reply) -> Self {
        Self::of(method, path, Effect::Reply(reply))
    }

    /// Holds such requests, one by one, until the other end sends something or is dropped; then answers as ever.
    ///
    /// # Panics
    ///
    /// An expression that cannot be read.
    #[must_use]
    pub fn hold(method: &str, path: &str, until: Receiver<()>) -> Self {
        Self::of(method, path, Effect::Wait(Mutex::new(until)))
    }

    fn of(method: &str, path: &str, effect: Effect) -> Self {
        Self {
            method: method.to_owned(),
            path: Regex::new(path).expect("a test writes an expression that can be read"),
            effect,
        }
    }
}

/// A registry. Ends when dropped.
pub struct OpenshiftRegistry {
    server: ScriptedHttp,
    files: Arc<Mutex<BTreeMap<String, String>>>,
}

impl OpenshiftRegistry {
    /// Starts a registry with these files below `docker/registry/v2`, for this cluster, whose token it wants for a password.
    ///
    /// # Errors
    ///
    /// A machine without a free port.
    pub fn start(
        files: BTreeMap<String, String>,
        cluster: &Arc<impl Cluster>,
        faults: Vec<RegistryFault>,
    ) -> Result<Self> {
        let files = Arc::new(Mutex::new(files));
        let serving = Arc::clone(&files);
        // A thread that still serves must not be what keeps a cluster.
        let cluster = Arc::downgrade(cluster);
        let server = ScriptedHttp::start(move |asked| {
            let path = asked.path.as_str();
            let mut met = faults
                .iter()
                .filter(|fault| fault.method == asked.method && fault.path.is_match(path));
            if let Some(fault) = met.next() {
                match &fault.effect {
                    Effect::Reply(reply) => return reply.clone(),
                    Effect::Wait(until) => drop(until.lock().unwrap_or_else(PoisonError::into_inner).recv()),
                }
            }
            if !knows(asked) {
                return Reply::new(401, &[], "");
            }
            let Some(cluster) = cluster.upgrade() else {
                return Reply::new(500, &[], "");
            };
            let mut files = serving.lock().unwrap_or_else(PoisonError::into_inner);
            let status = answer(&mut files, &*cluster, asked);
            Reply::new(status, &[], "")
        })?;
        Ok(Self { server, files })
    }

    /// `127.0.0.1:<port>`.
    #[must_use]
    pub fn host(&self) -> String {
        self.server.url().trim_start_matches("http://").to_owned()
    }

    /// Its files.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, String> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All that it was asked.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.server.asked()
    }
}

/// Any user with five letters, as `oc` makes them up, and the token.
fn knows(asked: &Asked) -> bool {
    let basic = asked
        .header("authorization")
        .and_then(|value| value.strip_prefix("Basic "));
    let decoded = basic.and_then(|basic| base64::engine::general_purpose::STANDARD.decode(basic).ok());
    let decoded = decoded
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_default();
    decoded
        .split_once(':')
        .is_some_and(|(user, password)| user.len() == 5 && password == TOKEN)
}

fn answer(files: &mut BTreeMap<String, String>, cluster: &impl Cluster, asked: &Asked) -> u16 {
    if asked.method == "GET" {
        return if matches!(asked.path.as_str(), "/" | "/healthz") {
            200
        } else {
            404
        };
    }
    if asked.method != "DELETE" {
        return 405;
    }
    if let Some(digest) = asked.path.strip_prefix("/admin/blobs/") {
        let Some(data) = data_of(digest) else {
            return 404;
        };
        files.remove(&data);
        return 204;
    }
    let named = asked.path.strip_prefix("/v2/");
    if let Some((repository, digest)) = named.and_then(|named| named.rsplit_once("/blobs/")) {
        return delete_layer_link(files, repository, digest);
    }
    match named.and_then(|named| named.rsplit_once("/manifests/")) {
        Some((repository, digest)) => delete_manifest_link(files, cluster, repository, digest),
        None => 404,
    }
}

fn delete_layer_link(files: &mut BTreeMap<String, String>, repository: &str, digest: &str) -> u16 {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return 404;
    };
    if data_of(digest).is_none_or(|data| !files.contains_key(&data)) {
        return 404;
    }
    match files.remove(&format!(
        "repositories/{repository}/_layers/{algorithm}/{hex}/link"
    )) {
        Some(_) => 202,
        None => 500,
    }
}

fn delete_manifest_link(
    files: &mut BTreeMap<String, String>,
    cluster: &impl Cluster,
    repository: &str,
    digest: &str,
) -> u16 {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return 404;
    };
    let link = format!("repositories/{repository}/_manifests/revisions/{algorithm}/{hex}/link");
    if !files.contains_key(&link) {
        return 404;
    }
    // The newest revision of a tag of the image stream is what the registry takes for the tag.
    let Ok(stream) = cluster.image_stream(repository) else {
        return 500;
    };
    let tags = stream
        .as_ref()
        .and_then(|stream| stream["status"]["tags"].as_array());
    let tagged = tags
        .into_iter()
        .flatten()
        .filter_map(|tag| tag["items"][0]["image"].as_str());
    let is_child = tagged
        .filter_map(|tagged| files.get(&data_of(tagged)?))
        .any(|manifest| {
            let manifest: Value = serde_json::from_str(manifest).unwrap_or_default();
            let children = manifest["manifests"].as_array();
            children
                .into_iter()
                .flatten()
                .any(|child| child["digest"] == digest)
        });
    if is_child {
        return 405;
    }
    files.remove(&link);
    202
}

fn data_of(digest: &str) -> Option<String> {
    let (algorithm, hex) = digest.trim().split_once(':')?;
    Some(format!("blobs/{algorithm}/{}/{hex}/data", hex.get(..2)?))
}
