//! A real Kubernetes API server, behind a proxy that records: what a recorded case needs is made there, and removed again.
//!
//! Only an empty cluster is taken, of which nobody needs anything: it has no image, no image stream and none of a case's namespaces.
//! Of OpenShift's kinds those that it does not know are defined. It needs no kubelet, no scheduler and no controllers but the
//! one that empties namespaces (CONTRIBUTING.md).

mod api;
mod definitions;
mod mask;
mod proxy;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::cluster::Cluster;
use crate::kubernetes_api::Request;
use crate::kubernetes_api::resources::{Resource, of_kind};

use self::api::Api;
use self::mask::Mask;
use self::proxy::Proxy;

const NAMESPACES: &str = "/api/v1/namespaces";
/// Until a definition is served, or a namespace is gone.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// What was made is removed with this value.
pub struct RealCluster {
    proxy: Arc<Proxy>,
    address: SocketAddr,
    made: Mutex<Made>,
    /// There until all is removed.
    runtime: Option<Runtime>,
    /// Locked, so that no other test uses the cluster meanwhile.
    _turn: Option<File>,
}

#[derive(Default)]
struct Made {
    /// Names.
    definitions: Vec<String>,
    /// Names.
    namespaces: BTreeSet<String>,
    /// Ids and paths, in the order in which they were made.
    objects: Vec<(String, String)>,
}

impl RealCluster {
    /// The cluster of `KUBECONFIG`, where `HARDPRUNE_TEST_KUBERNETES=1` says that tests are to use it; waits for its turn.
    ///
    /// # Errors
    ///
    /// A cluster that cannot be reached, or that is not empty.
    pub fn of_environment() -> Result<Option<Self>> {
        if env::var("HARDPRUNE_TEST_KUBERNETES").is_ok_and(|wanted| wanted == "1") {
            let kubeconfig = Kubeconfig::from_env()?.context("HARDPRUNE_TEST_KUBERNETES wants KUBECONFIG")?;
            let turn = File::create(env::temp_dir().join("hardprune-test-kubernetes.lock"))?;
            turn.lock()?;
            return Self::of(kubeconfig, Some(turn)).map(Some);
        }
        Ok(None)
    }

    /// A cluster that nobody else uses.
    ///
    /// # Errors
    ///
    /// A cluster that cannot be reached, or that is not empty.
    pub fn of_nobody_else(kubeconfig: Kubeconfig) -> Result<Self> {
        Self::of(kubeconfig, None)
    }

    fn of(kubeconfig: Kubeconfig, turn: Option<File>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("real-cluster")
            .enable_all()
            .build()
            .context("cannot start the threads of the proxy")?;
        let client = runtime.block_on(async {
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        let api = Api(client);
        let unknown = runtime.block_on(unknown_kinds(&api))?;
        let mask = Mask {
            images_are_custom: unknown.iter().any(|resource| resource.kind == "Image"),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port for the proxy")?;
        listener.set_nonblocking(true)?;
        let cluster = Self {
            proxy: Arc::new(Proxy::of(api, mask)),
            address: listener.local_addr()?,
            made: Mutex::default(),
            runtime: Some(runtime),
            _turn: turn,
        };
        cluster
            .runtime()
            .spawn(Arc::clone(&cluster.proxy).serve(listener));
        cluster.runtime().block_on(cluster.define(&unknown))?;
        Ok(cluster)
    }

    fn runtime(&self) -> &Runtime {
        self.runtime
            .as_ref()
            .expect("it is there until this value is dropped")
    }

    fn api(&self) -> &Api {
        &self.proxy.api
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn define(&self, kinds: &[Resource]) -> Result<()> {
        for resource in kinds {
            let definition = definitions::definition(resource);
            self.api()
                .must(Method::POST, definitions::PATH, Some(&definition))
                .await?;
            self.made().definitions.push(definitions::name(resource));
        }
        for resource in kinds {
            let path = resource.path("");
            let begun = Instant::now();
            while self.api().get(&path).await?.is_none() {
                ensure!(
                    begun.elapsed() < LONGEST_WAIT,
                    "{path} is defined, and not served"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    async fn make(&self, object: Value) -> Result<()> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let mut resource =
            of_kind(object["apiVersion"].as_str(), kind).with_context(|| format!("no such kind: {kind}"))?;
        let name = object["metadata"]["name"]
            .as_str()
            .context("an object without a name")?;
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let id = id_of(kind, &object);
        if !namespace.is_empty() && !self.made().namespaces.contains(namespace) {
            let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
            let made = self.api().must(Method::POST, NAMESPACES, Some(&body)).await;
            made.context("the cluster is not for tests, or one that was killed has left it")?;
            self.made().namespaces.insert(namespace.to_owned());
        }
        // Kubernetes has them in version 1 since 1.21.
        if kind == "CronJob" && self.api().get(&resource.path("")).await?.is_none() {
            resource.version = "v1beta1";
        }
        if kind == "Pod" && has_blank_image(&object) {
            return Ok(());
        }
        let mut body = object.clone();
        body["apiVersion"] = resource.api_version().into();
        if kind == "Pod" {
            // It stays as it is told to be.
            body["spec"]["schedulerName"] = "nobody".into();
        }
        let spec = body["spec"].as_object_mut().filter(|_| kind == "Pod");
        let ephemeral = spec.and_then(|spec| spec.remove("ephemeralContainers"));
        let mask = self.proxy.mask;
        mask.hide(&mut body);
        let collection = resource.path(namespace);
        let mut made = self.api().must(Method::POST, &collection, Some(&body)).await?;
        let path = mask.path(&format!("{collection}/{name}"));
        self.made().objects.push((id, path.clone()));
        if let Some(ephemeral) = ephemeral {
            // A pod gets them later only; clusters before 1.23 know nothing of them.
            made["spec"]["ephemeralContainers"] = ephemeral;
            let path = format!("{path}/ephemeralcontainers");
            match self.api().ask(Method::PUT, &path, Some(&made)).await? {
                (200, with_them) => made = with_them,
                (404, _) => {}
                (status, refusal) => bail!("PUT {path}: {status} {}", refusal["message"]),
            }
        }
        if matches!(kind, "Pod" | "ImageStream") && !object["status"].is_null() {
            made["status"] = object["status"].clone();
            self.api()
                .must(Method::PUT, &format!("{path}/status"), Some(&made))
                .await?;
        }
        Ok(())
    }

    /// All images and image streams, and of the rest what was made: who else is in the cluster may make pods.
    async fn read(&self) -> Result<BTreeMap<String, Value>> {
        let mut objects = BTreeMap::new();
        for kind in ["Image", "ImageStream"] {
            let list = self
                .api()
                .must(Method::GET, &resource(kind).path(""), None)
                .await?;
            for mut object in list["items"].as_array().cloned().unwrap_or_default() {
                self.proxy.mask.show(&mut object);
                objects.insert(id_of(kind, &object), object);
            }
        }
        let made = self.made().objects.clone();
        for (id, path) in made {
            let kind = id.split('/').next().unwrap_or_default();
            if matches!(kind, "Image" | "ImageStream") {
                continue;
            }
            if let Some(mut object) = self.api().get(&path).await? {
                self.proxy.mask.show(&mut object);
                // Controllers say there how far they are.
                if let Some(object) = object.as_object_mut().filter(|_| kind != "Pod") {
                    object.remove("status");
                }
                objects.insert(id, object);
            }
        }
        Ok(objects)
    }

    async fn remove_objects(&self) -> Result<()> {
        loop {
            let Some((_, path)) = self.made().objects.pop() else {
                return Ok(());
            };
            self.api().delete(&path).await?;
        }
    }

    async fn remove_surroundings(&self) -> Result<()> {
        let Made {
            definitions,
            namespaces,
            ..
        } = std::mem::take(&mut *self.made());
        let definitions = definitions
            .iter()
            .map(|name| format!("{}/{name}", definitions::PATH));
        let namespaces = namespaces.iter().map(|name| format!("{NAMESPACES}/{name}"));
        let paths: Vec<String> = definitions.chain(namespaces).collect();
        for path in &paths {
            self.api().delete(path).await?;
        }
        for path in &paths {
            let begun = Instant::now();
            while self.api().get(path).await?.is_some() {
                ensure!(
                    begun.elapsed() < LONGEST_WAIT,
                    "{path} does not go: does the controller of namespaces run?"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }
}

impl Cluster for RealCluster {
    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn load(&self, objects: Vec<Value>) -> Result<()> {
        self.runtime().block_on(async {
            self.remove_objects().await?;
            for object in objects {
                self.make(object).await?;
            }
            anyhow::Ok(())
        })?;
        self.proxy.requests().clear();
        Ok(())
    }

    fn objects(&self) -> Result<BTreeMap<String, Value>> {
        self.runtime().block_on(self.read())
    }

    fn image_stream(&self, name: &str) -> Result<Option<Value>> {
        let (namespace, name) = name.split_once('/').context("a namespace and a name")?;
        let path = format!("{}/{name}", resource("ImageStream").path(namespace));
        let found = self.runtime().block_on(self.api().get(&path))?;
        Ok(found.map(|mut stream| {
            self.proxy.mask.show(&mut stream);
            stream
        }))
    }

    fn mutations(&self) -> Vec<Request> {
        let requests = self.proxy.requests();
        requests
            .iter()
            .filter(|request| request.is_mutating())
            .cloned()
            .collect()
    }
}

impl Drop for RealCluster {
    fn drop(&mut self) {
        let removed = self.runtime().block_on(async {
            let removed = self.remove_objects().await;
            self.remove_surroundings().await.and(removed)
        });
        if let Err(error) = removed {
            eprintln!("something of the test is left in the cluster: {error:#}");
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// OpenShift's kinds that the cluster does not know.
async fn unknown_kinds(api: &Api) -> Result<Vec<Resource>> {
    let mut unknown = Vec::new();
    for resource in definitions::KINDS.map(resource) {
        match api.get(&format!("{}?limit=1", resource.path(""))).await? {
            None => unknown.push(resource),
            Some(list) if matches!(resource.kind, "Image" | "ImageStream") => {
                let is_empty = list["items"].as_array().is_some_and(Vec::is_empty);
                ensure!(
                    is_empty,
                    "the cluster has {}: it is not for tests, or one that was killed has left them",
                    resource.plural
                );
            }
            Some(_) => {}
        }
    }
    Ok(unknown)
}

fn resource(kind: &str) -> Resource {
    of_kind(None, kind).expect("a kind that is known")
}

fn id_of(kind: &str, object: &Value) -> String {
    let of = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let parts = [kind.to_owned(), of("namespace"), of("name")];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("/")
}

/// No API server takes such a pod, so that there is nothing that it could protect.
fn has_blank_image(pod: &Value) -> bool {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut images = containers.filter_map(|container| container["image"].as_str());
    images.any(|image| image.trim().is_empty())
}
