//! A Kubernetes API server over real HTTP, in memory, on a free port of 127.0.0.1: the kinds that OpenShift's pruning looks at,
//! and mappings of images into streams.
//!
//! Lists in pages whose tokens can expire (410), writes by `resourceVersion` (409), the status subresource, watches, a bearer
//! token, scripted faults, and a record of all requests. It runs on threads of its own and ends when dropped. What it does not
//! have: validation, defaults, selectors, server-side apply, other content types than JSON.

pub(crate) mod answer;
mod faults;
mod front;
mod mappings;
mod objects;
pub(crate) mod resources;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub use self::faults::{Effect, Fault};

use self::objects::Objects;

/// The bearer token that it wants.
pub const TOKEN: &str = "sha256~a-token-of-the-tests";

/// A request that was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// The body, null where there is none.
    pub body: Value,
    /// What was answered; 0 where the connection was closed instead.
    pub status: u16,
}

impl Request {
    /// Whether it could change something.
    #[must_use]
    pub fn is_mutating(&self) -> bool {
        self.method != "GET"
    }
}

/// A running API server.
#[derive(Debug)]
pub struct KubernetesApi {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// There until the server is dropped.
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    objects: Mutex<Objects>,
    faults: Mutex<Vec<Fault>>,
    requests: Mutex<Vec<Request>>,
    controllers: Mutex<Controllers>,
    /// The version of the newest change, for watches.
    newest: watch::Sender<u64>,
}

/// What a controller writes when an object was written.
type Controller = Box<dyn Fn(&Value) -> Vec<Value> + Send>;

/// What a cluster's controllers make of objects that are written.
#[derive(Default)]
struct Controllers(Vec<Controller>);

impl std::fmt::Debug for Controllers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} controllers", self.0.len())
    }
}

impl Shared {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells watches of what has changed.
    fn announce(&self) {
        let version = self.objects().version();
        self.newest.send_replace(version);
    }
}

impl KubernetesApi {
    /// Starts a server with these objects. It answers from the moment that this returns.
    ///
    /// # Errors
    ///
    /// A machine without ports or threads; objects of unknown kinds.
    pub fn start(objects: Vec<Value>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a port for the API server")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            objects: Mutex::default(),
            faults: Mutex::default(),
            requests: Mutex::default(),
            controllers: Mutex::default(),
            newest: watch::Sender::new(0),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("kubernetes-api")
            .enable_all()
            .build()
            .context("cannot start the threads of the API server")?;
        runtime.spawn(front::serve(Arc::clone(&shared), listener));
        let server = Self {
            shared,
            address,
            runtime: Some(runtime),
        };
        for object in objects {
            server.put(object)?;
        }
        Ok(server)
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Writes a kubeconfig for it into a folder.
    ///
    /// # Errors
    ///
    /// A folder that cannot be written to.
    pub fn kubeconfig(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        kubeconfig(folder, &self.url(), Some(TOKEN))
    }

    /// Writes an object as somebody else does: there or not, whatever its version. Its status too.
    ///
    /// # Errors
    ///
    /// An object without a kind that is known, or without a name.
    pub fn put(&self, object: Value) -> anyhow::Result<()> {
        self.shared.objects().put(object)?;
        self.shared.announce();
        Ok(())
    }

    /// Removes an object, as `Kind/namespace/name` or `Kind/name`; says whether it was there.
    pub fn remove(&self, id: &str) -> bool {
        let removed = self.shared.objects().remove(id);
        self.shared.announce();
        removed
    }

    /// All objects, by `Kind/namespace/name` or `Kind/name`.
    #[must_use]
    pub fn objects(&self) -> BTreeMap<String, Value> {
        self.shared.objects().all()
    }

    /// All requests in the order in which they were answered. Watches are there when they begin.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Those of the requests that could change something.
    #[must_use]
    pub fn mutations(&self) -> Vec<Request> {
        self.requests().into_iter().filter(Request::is_mutating).collect()
    }

    /// Removes all objects, and forgets the requests.
    pub fn clear(&self) {
        for id in self.objects().keys() {
            self.remove(id);
        }
        self.shared
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Adds a controller: what it makes of an object that somebody wrote over HTTP is written before that is answered.
    pub fn controller(&self, makes: impl Fn(&Value) -> Vec<Value> + Send + 'static) {
        self.shared
            .controllers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .push(Box::new(makes));
    }

    /// Adds a fault. A request meets the first that matches it.
    pub fn fault(&self, fault: Fault) {
        self.shared
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(fault);
    }
}

impl Drop for KubernetesApi {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Unlike a plain drop this may happen on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// Writes a kubeconfig for a server into a folder, with a token or without.
///
/// # Errors
///
/// A folder that cannot be written to.
pub fn kubeconfig(folder: &Path, url: &str, token: Option<&str>) -> anyhow::Result<PathBuf> {
    let user = token.map_or_else(|| json!({}), |token| json!({"token": token}));
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    let path = folder.join("kubeconfig");
    std::fs::write(&path, config.to_string()).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}
