//! Connects to NATS: servers, credentials, certificates.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use tracing::warn;

use super::NatsError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const PING_EVERY: Duration = Duration::from_secs(10);

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Who a program is to NATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody in particular, or whom the server's address names.
    None,
    /// A file with a JWT and its seed.
    Creds(PathBuf),
    /// A file with the seed of an nkey.
    Nkey(PathBuf),
    /// A user.
    User {
        /// Its name.
        name: String,
        /// Its password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
}

/// How NATS is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses of servers, separated by commas: `nats://host:4222`, `tls://…`.
    pub servers: String,
    /// Who this program is.
    pub credentials: Credentials,
    /// Certificates to trust instead of the system's own.
    pub ca: Option<PathBuf>,
    /// This program's certificate and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// What the server calls this connection.
    pub name: String,
}

/// A connection to NATS with JetStream.
#[derive(Debug, Clone)]
pub struct Nats {
    client: Client,
    context: Context,
    servers: String,
    watch: Arc<ConnectionWatch>,
}

/// What has happened to a connection.
#[derive(Debug, Default)]
struct ConnectionWatch {
    is_connected: AtomicBool,
    reconnects: AtomicU64,
}

impl Nats {
    /// Connects, and makes sure that there is a JetStream. Afterwards a lost connection is made again, for as long as it takes.
    ///
    /// # Errors
    ///
    /// Addresses or files that cannot be used, servers that do not answer or refuse, no JetStream.
    pub async fn connect(settings: &Settings) -> Result<Self, NatsError> {
        let (addresses, servers) = addresses(&settings.servers)?;
        let watch = Arc::new(ConnectionWatch::default());
        let options = options(settings, &addresses, Arc::clone(&watch)).await?;
        let client = options
            .connect(addresses.as_slice())
            .await
            .map_err(|error| NatsError::Connect {
                servers: servers.clone(),
                problem: explain(&error),
            })?;
        watch.is_connected.store(true, Ordering::Relaxed);
        let context = jetstream::new(client.clone());
        prove_jetstream(&client)
            .await
            .map_err(|problem| NatsError::NoJetStream {
                servers: servers.clone(),
                problem,
            })?;
        Ok(Self {
            client,
            context,
            servers,
            watch,
        })
    }

    /// The servers, without credentials.
    #[must_use]
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// Whether the connection is there at this moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.watch.is_connected.load(Ordering::Relaxed)
    }

    /// How often the connection was made again.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.watch.reconnects.load(Ordering::Relaxed)
    }

    /// The largest message that the server takes, in bytes.
    pub(super) fn max_payload(&self) -> usize {
        self.client.server_info().max_payload
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// Sends what has not been sent yet.
    pub async fn flush(&self) {
        // A connection that is gone has nothing more to send, and the client would wait until there is one again.
        let _ = tokio::time::timeout(REQUEST_TIMEOUT, self.client.flush()).await;
    }
}

/// Asks for the account's JetStream. The client's own call does not understand the answer of servers of version 2.9.
async fn prove_jetstream(client: &Client) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Answer {
        error: Option<ApiError>,
    }
    #[derive(Deserialize)]
    struct ApiError {
        description: Option<String>,
    }
    let answer = client
        .request("$JS.API.INFO", Bytes::new())
        .await
        .map_err(|error| error.to_string())?;
    match serde_json::from_slice::<Answer>(&answer.payload) {
        Ok(Answer { error: None }) => Ok(()),
        Ok(Answer { error: Some(error) }) => {
            Err(error.description.unwrap_or_else(|| "it said no".to_owned()))
        }
        Err(error) => Err(format!("its answer cannot be read: {error}")),
    }
}

/// The addresses, and how they are shown.
fn addresses(servers: &str) -> Result<(Vec<ServerAddr>, String), NatsError> {
    let mut parsed = Vec::new();
    let mut shown = Vec::new();
    for server in servers
        .split(',')
        .map(str::trim)
        .filter(|server| !server.is_empty())
    {
        let address: ServerAddr = server.parse().map_err(|_| NatsError::Connect {
            // It may hold a password.
            servers: "an address".to_owned(),
            problem: "it cannot be read; write nats://host:4222 or tls://host:4222".to_owned(),
        })?;
        shown.push(format!("{}:{}", address.host(), address.port()));
        parsed.push(address);
    }
    if parsed.is_empty() {
        return Err(NatsError::Connect {
            servers: "no address".to_owned(),
            problem: "write nats://host:4222 or tls://host:4222".to_owned(),
        });
    }
    Ok((parsed, shown.join(", ")))
}

/// Who the first address with a user or a token says that this program is.
fn credentials_in(addresses: &[ServerAddr]) -> Credentials {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let named = addresses.iter().find_map(|address| {
        let name = decoded(address.username()?);
        Some(match address.password() {
            Some(password) => Credentials::User {
                name,
                password: Secret::new(decoded(password)),
            },
            None => Credentials::Token(Secret::new(name)),
        })
    });
    named.unwrap_or(Credentials::None)
}

/// Addresses of servers as they were written, without users, passwords and tokens.
#[must_use]
pub fn without_credentials(servers: &str) -> String {
    let shown = |server: &str| match (server.split_once("://"), server.rsplit_once('@')) {
        (_, None) => server.to_owned(),
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
    };
    servers.split(',').map(shown).collect::<Vec<_>>().join(",")
}

async fn options(
    settings: &Settings,
    addresses: &[ServerAddr],
    watch: Arc<ConnectionWatch>,
) -> Result<ConnectOptions, NatsError> {
    let mut options = ConnectOptions::new()
        .name(&settings.name)
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(PING_EVERY)
        .max_reconnects(None)
        .event_callback(move |event| {
            let watch = Arc::clone(&watch);
            async move { watch.note(&event) }
        });
    // The client itself passes over what stands in an address.
    let credentials = match &settings.credentials {
        Credentials::None => credentials_in(addresses),
        named => named.clone(),
    };
    options = match &credentials {
        Credentials::None => options,
        Credentials::Creds(path) => {
            let text = read(path, "NATS credentials")?;
            options.credentials(&text).map_err(|_| NatsError::File {
                path: path.clone(),
                what: "NATS credentials",
                problem: "it holds no JWT with a seed".to_owned(),
            })?
        }
        Credentials::Nkey(path) => options.nkey(read(path, "the seed of an nkey")?.trim().to_owned()),
        Credentials::User { name, password } => options.user_and_password(name.clone(), password.0.clone()),
        Credentials::Token(token) => options.token(token.0.clone()),
    };
    if let Some(ca) = &settings.ca {
        read(ca, "certificates to trust")?;
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &settings.client_certificate {
        read(certificate, "a client certificate")?;
        read(key, "the key of a client certificate")?;
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    // A server that offers no TLS where certificates were named is not the one that was meant.
    if settings.ca.is_some() || settings.client_certificate.is_some() {
        options = options.require_tls(true);
    }
    Ok(options)
}

impl ConnectionWatch {
    fn note(&self, event: &Event) {
        match event {
            Event::Connected => {
                // The first connection is noted by who made it.
                if !self.is_connected.swap(true, Ordering::Relaxed) {
                    self.reconnects.fetch_add(1, Ordering::Relaxed);
                }
            }
            Event::Disconnected => {
                self.is_connected.store(false, Ordering::Relaxed);
                warn!("the connection to NATS is lost; it is made again");
            }
            Event::Closed => self.is_connected.store(false, Ordering::Relaxed),
            Event::SlowConsumer(_) | Event::LameDuckMode | Event::Draining => {}
            Event::ServerError(error) => warn!(%error, "NATS"),
            Event::ClientError(error) => warn!(%error, "NATS"),
        }
    }
}

fn read(path: &Path, what: &'static str) -> Result<String, NatsError> {
    std::fs::read_to_string(path).map_err(|error| NatsError::File {
        path: path.to_owned(),
        what,
        problem: error.to_string(),
    })
}

const TLS_ADVICE: &str = "check --nats-ca, --nats-cert and --nats-key against the server's certificate, and whether the server offers TLS";

/// Whether TLS failed: the client calls that a failure of the connection.
fn is_of_tls(error: &async_nats::ConnectError) -> bool {
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    source
        .and_then(io::Error::get_ref)
        .is_some_and(|inner| inner.is::<async_nats::rustls::Error>())
}

fn explain(error: &async_nats::ConnectError) -> String {
    let advice = match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            "the server does not accept these credentials; give --nats-creds, --nats-nkey, --nats-user or --nats-token-file"
        }
        ConnectErrorKind::Tls => TLS_ADVICE,
        ConnectErrorKind::Io if is_of_tls(error) => TLS_ADVICE,
        ConnectErrorKind::Dns | ConnectErrorKind::ServerParse => "check the address",
        ConnectErrorKind::TimedOut | ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => {
            "is a nats-server listening there?"
        }
    };
    // Its texts name servers and causes, no credentials.
    format!("{error}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_an_address_are_not_shown() {
        let (parsed, shown) = addresses("nats://me:hunter2@127.0.0.1:4222, tls://other:4333").unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!(shown, "127.0.0.1:4222, other:4333");
        let error = addresses("nats://me:hunter2@:::::").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(addresses(" , ").is_err());
        assert_eq!(format!("{:?}", Secret::new("hunter2".to_owned())), "Secret(…)");
        assert_eq!(
            without_credentials("nats://me:hunter2@127.0.0.1:4222,tls://other:4333,t0ken@host"),
            "nats://127.0.0.1:4222,tls://other:4333,host"
        );
        assert_eq!(without_credentials("nats://me:hun@ter2@host"), "nats://host");
    }

    #[test]
    fn credentials_in_an_address_count() {
        let of = |text: &str| credentials_in(&addresses(text).unwrap().0);
        let user = Credentials::User {
            name: "m e".to_owned(),
            password: Secret::new("hunter@2".to_owned()),
        };
        assert_eq!(of("nats://a:4222, nats://m%20e:hunter%402@b:4222"), user);
        assert_eq!(
            of("nats://t0ken@b"),
            Credentials::Token(Secret::new("t0ken".to_owned()))
        );
        assert_eq!(of("nats://b"), Credentials::None);
    }
}
