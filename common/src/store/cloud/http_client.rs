//! The HTTP client below the connector, and of whoever else asks a server: no hidden retries and no redirects, because either
//! would send a delete a second time (R10). What hyper sends again by itself is only a request of which it wrote no byte.

use std::path::{Path, PathBuf};
use std::time::Duration;

use object_store::client::{Certificate, HttpClient};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use url::{Host, Url};

use crate::store::location::is_true;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than what servers keep idle connections for (Node's 5 s is the shortest that is common): a delete that
/// meets a closed one has an unknown end.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const USER_AGENT: &str = concat!("hardprune/", env!("CARGO_PKG_VERSION"));

/// How to reach a server.
#[derive(Debug, Clone, Default)]
pub struct HttpSettings {
    /// Files of certificates (PEM) to trust besides the system's.
    pub ca_files: Vec<PathBuf>,
    /// Whether any certificate will do.
    pub skip_verify: bool,
    /// Whether a proxy of the environment is passed by.
    pub no_proxy: bool,
    /// Whether the server is spoken to in the clear. A container without certificates can do that.
    pub plain: bool,
    /// Connections to keep.
    pub concurrency: usize,
}

impl HttpSettings {
    /// The same settings for a server at `url`.
    #[must_use]
    pub fn for_server(&self, url: &Url, concurrency: usize) -> Self {
        Self {
            no_proxy: is_loopback(url),
            plain: url.scheme() == "http",
            concurrency,
            ..self.clone()
        }
    }

    /// Takes a setting that is about the way to the store, and says whether it did.
    pub(super) fn take(&mut self, name: &str, value: &str) -> bool {
        match name {
            "ca_certificate" if value.is_empty() => {}
            "ca_certificate" => self.ca_files.push(PathBuf::from(value)),
            "allow_invalid_certificates" => self.skip_verify = is_true(value),
            _ => return false,
        }
        true
    }

    /// Builds the client for the store's own requests.
    ///
    /// # Errors
    ///
    /// As [`HttpSettings::plain_client`].
    pub(super) fn client(&self) -> Result<HttpClient, String> {
        self.plain_client().map(HttpClient::new)
    }

    /// Builds a client.
    ///
    /// # Errors
    ///
    /// A certificate file that cannot be read, or a machine without any certificates.
    pub fn plain_client(&self) -> Result<reqwest::Client, String> {
        let mut certificates = Vec::new();
        for file in &self.ca_files {
            let pem = read_certificates(file)?;
            let bundle = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|_| format!("{} has no certificates in PEM form", file.display()))?;
            certificates.extend(bundle);
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .http1_only()
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(self.concurrency)
            .tls_danger_accept_invalid_certs(self.skip_verify);
        builder = if self.plain {
            builder.tls_certs_only(certificates)
        } else {
            builder.tls_certs_merge(certificates)
        };
        if self.no_proxy {
            builder = builder.no_proxy();
        }
        builder.build().map_err(|error| {
            format!(
                "no HTTP client can be made ({}); is the package ca-certificates installed?",
                super::answers::describe(&error)
            )
        })
    }

    /// The same for the requests that `object_store` makes to get credentials, none of them if the
    /// credentials are `fixed`.
    ///
    /// # Errors
    ///
    /// A certificate file that cannot be read.
    pub(super) fn credential_options(&self, fixed: bool) -> Result<ClientOptions, String> {
        let mut options = ClientOptions::new()
            .with_allow_http(true)
            .with_no_system_certificates(fixed);
        for file in &self.ca_files {
            let pem = read_certificates(file)?;
            let bundle = Certificate::from_pem_bundle(&pem)
                .map_err(|_| format!("{} has no certificates in PEM form", file.display()))?;
            for certificate in bundle {
                options = options.with_root_certificate(certificate);
            }
        }
        Ok(options)
    }
}

/// How `object_store` retries the requests that get credentials; it makes no others for us.
pub(super) fn credential_retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 2,
        retry_timeout: Duration::from_secs(20),
    }
}

fn read_certificates(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file)
        .map_err(|error| format!("cannot read the certificates in {}: {error}", file.display()))
}

/// Whether the address is on this machine, where no proxy belongs in between.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Reads an endpoint: `http` or `https`, a host, perhaps a port and a path; no credentials and no query.
///
/// # Errors
///
/// What is wrong with it; the text itself is not quoted where it may hold a secret.
pub fn parse_endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| {
        format!("the endpoint is no address ({error}); write http://host:port or https://host")
    })?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("the endpoint must begin with http:// or https:// and a host".to_owned());
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err("the endpoint must have no user, password or query; give credentials as the provider's own tools take them".to_owned());
    }
    Ok(url)
}

/// An endpoint as text, without a slash at its end: one spelling for all.
pub(super) fn endpoint_text(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_one_spelling() {
        for text in ["http://H:80", "http://h/", " http://h:80// "] {
            assert_eq!(
                endpoint_text(&parse_endpoint(text).unwrap()),
                "http://h",
                "{text}"
            );
        }
    }

    #[test]
    fn endpoints_with_secrets_are_refused_without_showing_them() {
        for text in [
            "http://user:SECRET@h",
            "https://h/?sig=SECRET",
            "ftp://h",
            "minio:9000",
            "h",
        ] {
            let problem = parse_endpoint(text).unwrap_err();
            assert!(!problem.contains("SECRET"), "{problem}");
        }
    }

    #[test]
    fn loopback_is_known() {
        for text in [
            "http://127.0.0.1:1",
            "http://localhost",
            "http://[::1]/",
            "http://b.localhost:9000",
        ] {
            assert!(is_loopback(&Url::parse(text).unwrap()), "{text}");
        }
        assert!(!is_loopback(&Url::parse("http://10.0.0.1").unwrap()));
    }
}
