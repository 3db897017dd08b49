//! The registry: is it there, and which protocol does it speak; and what is deleted through it.
//!
//! Secure is tried first, and is all that is tried unless an insecure connection is allowed. Every request carries the API
//! token as a password. No request is sent twice (R10), and no redirect is followed.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Client, Method, StatusCode};
use tracing::debug;
use url::Url;

use super::registry_host::is_private;
use crate::openshift::cluster::Cluster;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Shorter than what servers keep idle connections for.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const LONGEST_BODY: usize = 64 * 1024;

/// What the user says of the way to the registry.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// The host, perhaps with a port, perhaps with a scheme.
    pub host: &'a str,
    /// A file of authorities, or empty.
    pub authority: &'a str,
    /// Whether anything will do.
    pub force_insecure: bool,
    /// Whether the user named the host.
    pub is_chosen: bool,
}

/// A registry that answers.
pub struct RegistryClient {
    http: Client,
    /// Scheme, host, port.
    base: Url,
    user: String,
    cluster: Arc<Cluster>,
}

/// What became of a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone. Of `/admin/blobs` this is said of a blob, too, that was not there.
    Gone,
    /// It was not there.
    NotThere,
}

impl RegistryClient {
    /// Finds the registry.
    ///
    /// # Errors
    ///
    /// A file of authorities that cannot be read, a registry that does not answer: with what to do about it.
    pub async fn connect(cluster: Arc<Cluster>, way: Way<'_>) -> Result<Self, String> {
        let is_insecure = way.force_insecure
            || (way.authority.is_empty()
                && (cluster.accepts_invalid_certificates
                    || is_private(way.host)
                    || way.host.starts_with("http://")));
        let http = client(&cluster, way, is_insecure)?;
        let mut registry = Self {
            http,
            // Until it is found.
            base: Url::parse("https://registry.invalid").map_err(|error| error.to_string())?,
            user: format!("{:05x}", random_user()),
            cluster,
        };
        let base = registry.ping(way, is_insecure).await?;
        registry.base = Url::parse(&base).map_err(|error| format!("{base}: {error}"))?;
        Ok(registry)
    }

    /// Deletes a link to a layer in a repository.
    ///
    /// # Errors
    ///
    /// Any other answer than that it is gone, or was not there.
    pub async fn delete_layer_link(&self, repository: &str, digest: &str) -> Result<Deleted, String> {
        self.delete("v2", &[repository, "blobs"], digest).await
    }

    /// Deletes a link to a manifest in a repository.
    ///
    /// # Errors
    ///
    /// As for a layer.
    pub async fn delete_manifest_link(&self, repository: &str, digest: &str) -> Result<Deleted, String> {
        self.delete("v2", &[repository, "manifests"], digest).await
    }

    /// Deletes a blob.
    ///
    /// # Errors
    ///
    /// As for a layer.
    pub async fn delete_blob(&self, digest: &str) -> Result<Deleted, String> {
        self.delete("admin", &["blobs"], digest).await
    }

    /// R3: what an object of the cluster calls a digest is one segment of the path, whatever it holds.
    async fn delete(&self, root: &str, path: &[&str], digest: &str) -> Result<Deleted, String> {
        if matches!(digest, "" | "." | "..") {
            return Ok(Deleted::NotThere);
        }
        let mut url = self.base.clone();
        let path = path.iter().flat_map(|part| part.split('/'));
        url.path_segments_mut()
            .map_err(|()| "the registry's address has no path".to_owned())?
            .clear()
            .push(root)
            .extend(path)
            .push(digest);
        let url = url.as_str().to_owned();
        let answer = self.request(Method::DELETE, &url).send().await;
        let answer = answer.map_err(|error| format!("Delete {url:?}: {}", described(&error, &url)))?;
        let status = answer.status();
        debug!(url, %status, "asked the registry to delete");
        match status {
            StatusCode::NOT_FOUND => Ok(Deleted::NotThere),
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Ok(Deleted::Gone),
            status if status.is_success() || status.is_redirection() => {
                // Whoever answers so is not the registry, or has not done it.
                let body = bounded_text(answer).await;
                Err(error_in_body(&body).unwrap_or_else(|| format!("unexpected answer: {}", line_of(status))))
            }
            status => Err(line_of(status)),
        }
    }

    async fn ping(&self, way: Way<'_>, is_insecure: bool) -> Result<String, String> {
        let (schemes, host): (&[&str], &str) = match way.host.split_once("://") {
            Some(("http", host)) => (&["http"], host),
            Some((_, host)) => (&["https"], host),
            None if is_insecure => (&["https", "http"], way.host),
            None => (&["https"], way.host),
        };
        let host = host.trim_end_matches('/');
        let mut problems = Vec::new();
        // The second is what old registries have.
        for path in ["/", "/healthz"] {
            problems.clear();
            let mut has_answered = false;
            for scheme in schemes {
                let base = format!("{scheme}://{host}");
                let url = format!("{base}{path}");
                match self.request(Method::GET, &url).send().await {
                    Ok(answer) if answer.status() == StatusCode::OK => return Ok(base),
                    Ok(answer) => {
                        has_answered = true;
                        problems.push(format!("unexpected status: {}", line_of(answer.status())));
                    }
                    Err(error) => problems.push(format!("Get {url}: {}", described(&error, &url))),
                }
            }
            if !has_answered {
                break;
            }
        }
        let advice = problems
            .iter()
            .filter_map(|problem| advice(problem, is_insecure, way.is_chosen))
            .collect::<String>();
        let said = match problems.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        Err(format!("error communicating with registry: {said}{advice}"))
    }

    fn request(&self, method: Method, url: &str) -> reqwest::RequestBuilder {
        let token = self.cluster.token();
        let request = self.http.request(method, url);
        request.basic_auth(&self.user, token.as_ref().map(|token| token.expose()))
    }
}

fn client(cluster: &Cluster, way: Way<'_>, is_insecure: bool) -> Result<Client, String> {
    let mut authorities = Vec::new();
    if !is_insecure {
        for der in &cluster.root_certificates {
            let certificate = Certificate::from_der(der);
            authorities.push(certificate.map_err(|error| {
                format!(
                    "the kubeconfig's certificate authority cannot be used: {}",
                    crate::with_sources(&error)
                )
            })?);
        }
    }
    if !way.authority.is_empty() {
        let file = way.authority;
        let pem = std::fs::read(file).map_err(|error| {
            let problem = match error.kind() {
                std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
                _ => error.to_string(),
            };
            format!("failed to read registry ca bundle: open {file}: {problem}")
        })?;
        let bundle = Certificate::from_pem_bundle(&pem);
        authorities.extend(bundle.map_err(|_| format!("{file} has no certificates in PEM form"))?);
    }
    let mut builder = Client::builder()
        .user_agent(concat!("hardprune/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tls_danger_accept_invalid_certs(is_insecure);
    // As Go does: authorities that are named are all that count. A container may have none of its own.
    if is_insecure || !authorities.is_empty() {
        builder = builder.tls_certs_only(authorities);
    }
    if is_loopback(way.host) {
        builder = builder.no_proxy();
    }
    builder
        .build()
        .map_err(|error| format!("no HTTP client can be made: {}", crate::with_sources(&error)))
}

fn is_loopback(host: &str) -> bool {
    let url = if host.contains("://") {
        host.to_owned()
    } else {
        format!("https://{host}")
    };
    Url::parse(&url).is_ok_and(|url| hardprune_common::store::cloud::is_loopback(&url))
}

/// A user name that means nothing: the token is what counts.
fn random_user() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    u32::try_from(random & 0xf_ffff).unwrap_or_default()
}

fn line_of(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

async fn bounded_text(mut answer: reqwest::Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(part)) = answer.chunk().await {
        body.extend_from_slice(&part);
        if body.len() > LONGEST_BODY {
            break;
        }
    }
    body.truncate(LONGEST_BODY);
    String::from_utf8_lossy(&body).into_owned()
}

fn error_in_body(body: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    let first = body.get("errors")?.get(0)?;
    let code = first["code"].as_str().unwrap_or("unknown").to_lowercase();
    let message = first["message"].as_str().unwrap_or_default();
    Some(crate::human::printable(&format!("{code}: {message}")))
}

/// What went wrong, in the words that operators know from Go's.
fn described(error: &reqwest::Error, url: &str) -> String {
    let text = crate::with_sources(&without_url(error));
    let host = Url::parse(url).ok().and_then(|url| {
        let port = url.port_or_known_default()?;
        Some(format!("{}:{port}", url.host_str()?))
    });
    let host = host.unwrap_or_default();
    let known = [
        // An authority of the same name with another key, as after a renewal.
        (
            "BadSignature",
            "x509: certificate signed by unknown authority".to_owned(),
        ),
        (
            "UnknownIssuer",
            "x509: certificate signed by unknown authority".to_owned(),
        ),
        (
            "invalid peer certificate: Expired",
            "x509: certificate has expired or is not yet valid".to_owned(),
        ),
        (
            "certificate not valid for name",
            format!("x509: certificate is not valid for {host}"),
        ),
        (
            "InvalidContentType",
            "http: server gave HTTP response to HTTPS client".to_owned(),
        ),
        ("invalid HTTP version", "malformed HTTP response".to_owned()),
        (
            "Connection refused",
            format!("dial tcp {host}: connect: connection refused"),
        ),
        ("tls handshake eof", "EOF".to_owned()),
        ("connection closed before message completed", "EOF".to_owned()),
        (
            "failed to lookup address",
            format!("dial tcp: lookup {host}: no such host"),
        ),
        ("dns error", format!("dial tcp: lookup {host}: no such host")),
    ];
    if let Some((_, said)) = known.iter().find(|(part, _)| text.contains(part)) {
        return said.clone();
    }
    if error.is_timeout() {
        return format!("dial tcp {host}: operation timed out");
    }
    crate::human::printable(&text)
}

struct WithoutUrl<'a>(&'a reqwest::Error);

fn without_url(error: &reqwest::Error) -> WithoutUrl<'_> {
    WithoutUrl(error)
}

impl std::fmt::Debug for WithoutUrl<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("error of a request")
    }
}

impl std::fmt::Display for WithoutUrl<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the request failed")
    }
}

impl Error for WithoutUrl<'_> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

fn advice(problem: &str, is_insecure: bool, is_chosen: bool) -> Option<&'static str> {
    if problem.contains("server gave HTTP response to HTTPS client") && !is_insecure {
        Some(
            "\n* The registry is not secured, and a secure connection is wanted. Secure it (recommended), or append --force-insecure \
             if you really want to prune the registry using insecure connection.",
        )
    } else if problem.contains("malformed HTTP response") {
        Some("\n* Are you trying to connect to a TLS-enabled registry without TLS?")
    } else if problem.contains("signed by unknown authority") {
        Some(
            "\n* The registry's certificate is signed by another authority than the one that is trusted. Name its authority with \
             --certificate-authority, or (not recommended) append --force-insecure.",
        )
    } else if !is_chosen && (problem.contains("no such host") || problem.contains("timed out")) {
        Some("\n* Please provide a reachable route to the integrated registry using --registry-url.")
    } else {
        None
    }
}
