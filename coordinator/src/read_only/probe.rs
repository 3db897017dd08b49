//! Asks every replica of a registry to start an upload, and takes nothing but the answer of read-only mode for one (R11).
//!
//! An upload that did start is cancelled. Redirects are not followed, bodies are read to a bound, and a request ends in time.

use std::time::Duration;

use futures::future::join_all;
use hardprune_common::store::cloud::{HttpSettings, is_loopback, parse_endpoint};
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Client, Response, Url};
use tracing::{debug, warn};

use super::answer::{Answer, Verdict};
use super::args::ProbeArgs;
use super::credentials::{Credentials, TokenAnswer, TokenService};
use super::error::ReadOnlyError;
use crate::error::RunError;
use crate::registry_config::Secret;

/// A replica that gives no answer is asked so often before that counts as one.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_BODY: usize = 16 * 1024;

/// Every replica of a registry, and how it is asked.
#[derive(Debug)]
pub(super) struct Probe {
    replicas: Vec<Replica>,
    credentials: Credentials,
    repository: String,
    accept_insecure: bool,
    /// For one request.
    timeout: Duration,
}

#[derive(Debug)]
struct Replica {
    /// As it was named.
    name: String,
    client: Client,
    /// Where uploads start.
    uploads: Url,
}

/// What one request came to.
enum Asked {
    Verdict(Verdict),
    NoAnswer(String),
}

impl Probe {
    /// Makes a probe. `None` where no replica is named.
    ///
    /// # Errors
    ///
    /// Addresses and credentials that cannot be used.
    pub fn of(args: &ProbeArgs) -> Result<Option<Self>, RunError> {
        if args.registry_urls.is_empty() {
            return Ok(None);
        }
        let credentials = Credentials::read(
            args.registry_user.as_deref(),
            args.registry_password_file.as_deref(),
            args.registry_token_file.as_deref(),
        )?;
        let settings = HttpSettings {
            ca_files: args.certificate_authority.iter().cloned().collect(),
            skip_verify: args.force_insecure,
            ..HttpSettings::default()
        };
        let replicas = args.registry_urls.iter().map(|text| {
            let usage = |problem: String| {
                RunError::Usage(format!(
                    "--registry-url: {problem}; a user and a password of the registry are given with --registry-user and \
                     --registry-password-file"
                ))
            };
            let mut url = parse_endpoint(text).map_err(usage)?;
            let name = url.as_str().trim_end_matches('/').to_owned();
            if url.scheme() == "http" && !is_loopback(&url) && !args.force_insecure {
                return Err(RunError::Usage(format!(
                    "--registry-url {name}: over http anybody on the way could answer in the registry's name; use https://, \
                     or accept that with --force-insecure"
                )));
            }
            let client = settings.for_server(&url, 1).plain_client().map_err(RunError::Usage)?;
            // An address in the form of a base: one may stand below a path.
            let path = url.path().trim_end_matches('/').to_owned();
            url.set_path(&format!("{path}/v2/{}/blobs/uploads/", args.probe_repository));
            Ok(Replica {
                name,
                client,
                uploads: url,
            })
        });
        Ok(Some(Self {
            replicas: replicas.collect::<Result<_, _>>()?,
            credentials,
            repository: args.probe_repository.clone(),
            accept_insecure: args.force_insecure,
            timeout: args.probe_timeout,
        }))
    }

    /// The replicas, as they were named.
    pub fn replicas(&self) -> impl Iterator<Item = &str> {
        self.replicas.iter().map(|replica| replica.name.as_str())
    }

    /// Asks all of them, at once.
    ///
    /// # Errors
    ///
    /// The first that does not answer as a registry in read-only mode does.
    pub async fn prove(&self) -> Result<(), ReadOnlyError> {
        // Each to its end: an upload that one of them begins is cancelled whatever another says.
        let proved = join_all(self.replicas.iter().map(|replica| self.prove_one(replica))).await;
        proved.into_iter().collect::<Result<(), _>>()?;
        debug!(replicas = self.replicas.len(), "the registry is read-only");
        Ok(())
    }

    async fn prove_one(&self, replica: &Replica) -> Result<(), ReadOnlyError> {
        let mut attempt = 1;
        loop {
            let seen = match self.ask(replica).await {
                Asked::Verdict(Verdict::ReadOnly) => return Ok(()),
                Asked::Verdict(Verdict::UploadStarted(location)) => {
                    let cancelled = self.cancel(replica, location).await;
                    return Err(ReadOnlyError::Writable {
                        registry: replica.name.clone(),
                        repository: self.repository.clone(),
                        cancelled,
                    });
                }
                Asked::Verdict(Verdict::WantsCredentials(_)) => self.wants_credentials(),
                Asked::Verdict(Verdict::Other(seen)) => seen,
                Asked::Verdict(Verdict::NotNow(seen)) | Asked::NoAnswer(seen) => {
                    if attempt < ATTEMPTS {
                        warn!(
                            registry = replica.name,
                            seen, attempt, "asks again whether it is read-only"
                        );
                        attempt += 1;
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                    seen
                }
            };
            return Err(ReadOnlyError::NotProved {
                registry: replica.name.clone(),
                seen,
            });
        }
    }

    fn wants_credentials(&self) -> String {
        let what = if self.credentials.are_none() {
            "it wants credentials"
        } else {
            "it does not accept these credentials"
        };
        format!(
            "it answers 401: {what}. Name a user that may push to {} with --registry-user and --registry-password-file, or give a \
             token with --registry-token-file",
            self.repository
        )
    }

    /// Asks one replica to start an upload, and once more with what it wants to know, where that is at hand.
    async fn ask(&self, replica: &Replica) -> Asked {
        let token = match &self.credentials {
            Credentials::Token(token) => Some(token),
            Credentials::None | Credentials::User { .. } => None,
        };
        let first = self.start_upload(replica, token, false).await;
        let Asked::Verdict(Verdict::WantsCredentials(challenges)) = &first else {
            return first;
        };
        if !matches!(self.credentials, Credentials::User { .. }) {
            return first;
        }
        let mut services = challenges
            .iter()
            .filter_map(|challenge| TokenService::of_challenge(challenge, self.accept_insecure));
        match services.next() {
            Some(service) => match self.fetch_token(replica, service).await {
                Ok(token) => self.start_upload(replica, Some(&token), false).await,
                Err(problem) => Asked::NoAnswer(problem),
            },
            None => self.start_upload(replica, None, true).await,
        }
    }

    async fn start_upload(&self, replica: &Replica, token: Option<&Secret>, basic: bool) -> Asked {
        let mut request = replica
            .client
            .post(replica.uploads.clone())
            .header(CONTENT_LENGTH, 0)
            .timeout(self.timeout);
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        if basic {
            request = self.credentials.add_basic(request);
        }
        match request.send().await {
            Ok(response) => match read(response).await {
                Ok(answer) => Asked::Verdict(answer.verdict()),
                Err(error) => Asked::NoAnswer(self.describe(&error)),
            },
            Err(error) => Asked::NoAnswer(self.describe(&error)),
        }
    }

    /// Has a token given by the service that the registry names.
    async fn fetch_token(&self, replica: &Replica, service: TokenService) -> Result<Secret, String> {
        let host = service.0.host_str().unwrap_or_default().to_owned();
        let failed = |problem: String| format!("the token service at {host} gives no token: {problem}");
        let request = replica.client.get(service.0).timeout(self.timeout);
        let response = self.credentials.add_basic(request).send().await;
        let answer = match response {
            Ok(response) => read(response)
                .await
                .map_err(|error| failed(self.describe(&error)))?,
            Err(error) => return Err(failed(self.describe(&error))),
        };
        if !answer.status.is_success() {
            return Err(failed(format!("it answers {}", answer.status)));
        }
        serde_json::from_slice::<TokenAnswer>(&answer.body)
            .ok()
            .and_then(TokenAnswer::into_token)
            .ok_or_else(|| failed("its answer has none".to_owned()))
    }

    /// Cancels an upload that did start, on the same server only. Returns whether it is gone.
    async fn cancel(&self, replica: &Replica, location: Option<String>) -> bool {
        let upload = location.and_then(|location| replica.uploads.join(&location).ok());
        let Some(upload) = upload.filter(|upload| upload.origin() == replica.uploads.origin()) else {
            return false;
        };
        let request = replica.client.delete(upload).timeout(self.timeout);
        let request = match &self.credentials {
            Credentials::Token(token) => request.bearer_auth(token.expose()),
            Credentials::None | Credentials::User { .. } => self.credentials.add_basic(request),
        };
        match request.send().await {
            Ok(response) => response.status().is_success(),
            Err(error) => {
                warn!(
                    problem = self.describe(&error),
                    "an upload that the probe started could not be cancelled"
                );
                false
            }
        }
    }

    /// An error without the address, which may have more in it than should be shown.
    fn describe(&self, error: &reqwest::Error) -> String {
        let below = std::error::Error::source(error).map(crate::with_sources);
        let below = below.map(|below| format!(" ({below})")).unwrap_or_default();
        if error.is_timeout() {
            return format!("no answer in {} s", self.timeout.as_secs());
        }
        format!("no answer{below}")
    }
}

async fn read(mut response: Response) -> Result<Answer, reqwest::Error> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        body.extend_from_slice(&piece[..piece.len().min(LONGEST_BODY - body.len())]);
        if body.len() == LONGEST_BODY {
            break;
        }
    }
    Ok(Answer {
        status,
        headers,
        body,
    })
}
