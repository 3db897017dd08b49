//! Entries of CNCF Distribution's cache in Redis. Keys, by `registry/storage/cache/redis` of Distribution 2 and 3: a hash
//! `blobs::<digest>`, a hash `repository::<name>::blobs::<digest>`, and a set `repository::<name>::blobs` of digests.

use std::fmt;
use std::time::Duration;

use hardprune_common::digest::Digest;
use hardprune_common::removal::{Removal, RemovalKind};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, Pipeline, RedisConnectionInfo,
    RedisError,
};
use tokio::sync::Mutex;
use url::Url;

use crate::error::RunError;
use crate::registry_config::Secret;

const DEFAULT_PORT: u16 = 6379;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Removals whose entries go in one round trip.
const REMOVALS_AT_ONCE: usize = 500;

/// A key that nobody has.
const PROBE_KEY: &str = "hardprune::probe";

/// The cache could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("the registry's cache at {server} cannot be used: {source}")]
pub struct CacheError {
    server: String,
    source: RedisError,
}

/// A Redis server and how it is reached.
#[derive(Debug, Clone)]
pub struct RedisTarget {
    /// Who to log in as. `None`: the default user.
    pub user: Option<String>,
    host: String,
    port: u16,
    tls: bool,
    database: i64,
    password: Option<Secret>,
}

impl RedisTarget {
    /// Reads `redis://[USER@]HOST[:PORT][/DATABASE]`, or `rediss://…`.
    ///
    /// # Errors
    ///
    /// Anything else, also a password in it. The error does not repeat it.
    pub fn parse(text: &str) -> Result<Self, RunError> {
        let usage = |problem: &str| {
            RunError::Usage(format!(
                "--cache: {problem}; say none, manual, or redis://[USER@]HOST[:PORT][/DATABASE] (rediss:// with TLS)"
            ))
        };
        let url = Url::parse(text).map_err(|error| usage(&format!("it cannot be read ({error})")))?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(usage("this is no cache that is known")),
        };
        if url.password().is_some() {
            return Err(usage(
                "a password in it would be seen in every list of processes: write it to a file for --cache-password-file, or to \
                 HARDPRUNE_CACHE_PASSWORD",
            ));
        }
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| usage("it names no host"))?;
        let database = match url.path().trim_start_matches('/') {
            "" => 0,
            number => number.parse().map_err(|_| usage("a database is a number"))?,
        };
        Ok(Self {
            user: (!url.username().is_empty()).then(|| url.username().to_owned()),
            host: host.to_owned(),
            port: url.port().unwrap_or(DEFAULT_PORT),
            tls,
            database,
            password: None,
        })
    }

    /// The same with a password.
    #[must_use]
    pub fn with_password(self, password: Option<Secret>) -> Self {
        Self { password, ..self }
    }

    fn client(&self) -> Result<Client, RedisError> {
        let host = self.host.trim_matches(['[', ']']).to_owned();
        let port = self.port;
        let address = if self.tls {
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut login = RedisConnectionInfo::default().set_db(self.database);
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.password {
            login = login.set_password(password.expose());
        }
        Client::open(address.into_connection_info()?.set_redis_settings(login))
    }
}

impl fmt::Display for RedisTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host, port, database, ..
        } = self;
        let scheme = if self.tls { "rediss" } else { "redis" };
        write!(f, "{scheme}://{host}:{port}/{database}")
    }
}

/// A registry's cache in Redis.
pub struct RedisCache {
    target: RedisTarget,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCache")
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)
    }
}

impl RedisCache {
    pub(super) fn new(target: RedisTarget) -> Self {
        let connection = Mutex::new(None);
        Self { target, connection }
    }

    /// Makes sure that the server answers, lets this program in, and lets it remove keys: a replica does not.
    ///
    /// # Errors
    ///
    /// A server that does not.
    pub async fn probe(&self) -> Result<(), CacheError> {
        let mut probe = Pipeline::new();
        probe.del(PROBE_KEY).ignore();
        self.send(&probe).await
    }

    /// Removes the entries of blobs and layer links. What has none is no error.
    ///
    /// # Errors
    ///
    /// A server that does not answer: how far it came is not known.
    pub async fn forget(&self, removals: impl Iterator<Item = &Removal>) -> Result<(), CacheError> {
        let mut pipeline = Pipeline::new();
        let mut count = 0;
        for removal in removals {
            if !forget_one(&mut pipeline, removal) {
                continue;
            }
            count += 1;
            if count == REMOVALS_AT_ONCE {
                self.send(&pipeline).await?;
                pipeline.clear();
                count = 0;
            }
        }
        if count > 0 {
            self.send(&pipeline).await?;
        }
        Ok(())
    }

    /// Sends commands that may be sent twice; once more where the connection was lost since the last ones.
    async fn send(&self, commands: &Pipeline) -> Result<(), CacheError> {
        let mut connection = self.connection.lock().await;
        let error = |source| CacheError {
            server: self.target.to_string(),
            source,
        };
        if let Some(open) = &mut *connection {
            if commands.query_async::<()>(open).await.is_ok() {
                return Ok(());
            }
            *connection = None;
        }
        let open = connection.insert(self.connect().await.map_err(error)?);
        let sent = commands.query_async::<()>(open).await;
        if sent.is_err() {
            *connection = None;
        }
        sent.map_err(error)
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        self.target
            .client()?
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }
}

/// Adds the commands that remove the entries of a removal. Returns whether it has any.
fn forget_one(pipeline: &mut Pipeline, removal: &Removal) -> bool {
    let Some(digest) = removal.digest() else {
        return false;
    };
    match removal.kind {
        RemovalKind::Blob => {
            pipeline.del(descriptor_key(&digest)).ignore();
            true
        }
        RemovalKind::LayerLink => {
            let Some(repository) = removal.repository() else {
                return false;
            };
            let members = format!("repository::{repository}::blobs");
            let digest = digest.to_string();
            pipeline.srem(&members, &digest).ignore();
            pipeline.del(format!("{members}::{digest}")).ignore();
            true
        }
        RemovalKind::TagIndexEntry
        | RemovalKind::TagCurrent
        | RemovalKind::RevisionLink
        | RemovalKind::SignatureLink
        | RemovalKind::UploadFile
        | RemovalKind::QuarantinedLink
        | RemovalKind::QuarantinedBlob => false,
    }
}

fn descriptor_key(digest: &Digest) -> String {
    format!("blobs::{digest}")
}
