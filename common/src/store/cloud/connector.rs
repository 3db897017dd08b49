//! The one way to a cloud store: keeps to its pace, bounds the requests in flight, counts every attempt, notes the store's time (R4) and
//! version ids, and is the only layer that retries. It retries what may be carried out twice: reads, and copies. A write or a delete of an object is sent
//! once (R10).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, Method};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use object_store::client::{HttpClient, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponseBody};
use tokio::sync::Semaphore;
use tokio::time::{Instant as Deadline, timeout_at};

use super::answers::{About, Answer, Refusal, describe, is_throttling, retry_after};
use super::pace::{Load, Pace};
use super::retry::RetryPolicy;
use crate::clock::{later, monotonic_now};
use crate::store::location::OpenOptions;
use crate::store::{RequestCounter, RequestCounts, StoreError, Versioning};

/// No more of an answer that refuses is read.
const LONGEST_REFUSAL: usize = 64 * 1024;
/// Room that is made at once for what an answer announces: a page of a listing.
const MOST_ROOM_MADE: usize = 1 << 20;

/// Signs requests with the store's credentials.
#[async_trait]
pub(super) trait Authorizer: Send + Sync {
    /// Adds what proves who sends the request.
    ///
    /// # Errors
    ///
    /// Why there are no credentials, without any secret.
    async fn authorize(&self, request: &mut HttpRequest) -> Result<(), String>;
}

/// A request before it is signed.
#[derive(Clone)]
pub(super) struct Ask {
    pub load: Load,
    pub method: Method,
    /// Never shown: a signature may be part of it once it is signed.
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The most bytes of the answer that are read.
    pub longest_answer: usize,
}

impl Ask {
    fn request(&self) -> Result<HttpRequest, String> {
        let mut request = http::Request::new(HttpRequestBody::from(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self
            .url
            .parse()
            .map_err(|_| "the key makes no valid address".to_owned())?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Nothing reached the store.
    NotSent(String),
    /// There is no way to sign the request, so nothing reached the store.
    NoCredentials(String),
    /// It may have reached the store, and may have been carried out.
    Lost(String),
}

impl NoAnswer {
    /// The error that this is to who asked for `about`.
    pub fn into_error(self, about: &About) -> StoreError {
        match self {
            Self::NoCredentials(detail) => StoreError::Unauthenticated {
                store: about.store.clone(),
                detail,
            },
            Self::NotSent(detail) | Self::Lost(detail) => about.unavailable(detail),
        }
    }
}

/// What the reader of an answer makes of it, where it is not what was asked for.
pub(super) enum Judgement {
    /// Asking again will not help.
    Final(StoreError),
    /// Asking again may help.
    Again(StoreError),
}

/// The way to one store.
pub(super) struct Connector {
    client: HttpClient,
    authorizer: Box<dyn Authorizer>,
    retry: RetryPolicy,
    in_flight: Semaphore,
    pace: Arc<Pace>,
    requests: RequestCounter,
    /// The newest `Date` of an answer, and when it came.
    date: Mutex<Option<(Timestamp, Instant)>>,
    versioning: Mutex<Versioning>,
}

impl fmt::Debug for Connector {
    // By hand: the authorizer holds credentials, and what the libraries print of theirs is not ours to trust.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connector")
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

impl Connector {
    pub fn new(
        client: HttpClient,
        authorizer: Box<dyn Authorizer>,
        place_url: &str,
        options: &OpenOptions,
    ) -> Self {
        Self {
            client,
            authorizer,
            retry: options.retry.clone(),
            in_flight: Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            pace: options.paces.of(place_url),
            requests: RequestCounter::default(),
            date: Mutex::new(None),
            versioning: Mutex::default(),
        }
    }

    /// Requests sent so far.
    pub fn requests(&self) -> RequestCounts {
        self.requests.counts()
    }

    /// How fast the store is asked.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// What the answers so far said about versions.
    pub fn versioning(&self) -> Versioning {
        *self.versioning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what an answer said about versions; what says most against a delete is believed.
    pub fn note_versioning(&self, said: Versioning) {
        let mut versioning = self.versioning.lock().unwrap_or_else(PoisonError::into_inner);
        *versioning = said.max(*versioning);
    }

    /// The store's time, by the newest `Date` and the machine's monotonic clock (R4).
    pub fn now(&self) -> Option<Timestamp> {
        let (date, seen) = (*self.date.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(later(date, monotonic_now().saturating_duration_since(seen)))
    }

    /// Sends a read until `judge` takes its answer, a bounded number of times.
    ///
    /// # Errors
    ///
    /// The last failure.
    pub async fn read<T>(
        &self,
        ask: &Ask,
        about: &About,
        judge: impl Fn(&Answer) -> Result<T, Judgement>,
    ) -> Result<T, StoreError> {
        self.repeat(ask, about, self.retry.read_timeout, judge).await
    }

    /// As [`Connector::read`], for anything that may be carried out twice; one attempt may take as long as `timeout`.
    pub async fn repeat<T>(
        &self,
        ask: &Ask,
        about: &About,
        timeout: Duration,
        judge: impl Fn(&Answer) -> Result<T, Judgement>,
    ) -> Result<T, StoreError> {
        let mut attempt = 1;
        loop {
            let (error, wish) = match self.attempt(ask, timeout).await {
                Err(NoAnswer::NoCredentials(detail)) => {
                    return Err(NoAnswer::NoCredentials(detail).into_error(about));
                }
                Err(failure) => (failure.into_error(about), None),
                Ok(answer) => {
                    let wish = retry_after(&answer.headers);
                    let refusal = (!answer.status.is_success()).then(|| Refusal::read(&answer));
                    match refusal {
                        Some(refusal) if refusal.is_passing() => (refusal.into_error(about), wish),
                        _ => match judge(&answer) {
                            Ok(read) => return Ok(read),
                            Err(Judgement::Final(error)) => return Err(error),
                            Err(Judgement::Again(error)) => (error, wish),
                        },
                    }
                }
            };
            if attempt >= self.retry.attempts {
                return Err(error);
            }
            let pause = self.retry.pause(attempt, wish, rand::random());
            tracing::debug!(attempt, ?pause, %error, "asking again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, ask: &Ask, timeout: Duration) -> Result<Answer, NoAnswer> {
        // Before a place among those in flight is taken: others need it meanwhile.
        self.pace.turn(&ask.load).await;
        let _permit = self
            .in_flight
            .acquire()
            .await
            .map_err(|_| NoAnswer::NotSent("the store was closed".to_owned()))?;
        self.exchange(ask, Deadline::now() + timeout).await
    }

    /// Sends a write or a delete, once. All of it, waiting for a free place included, ends within `timeout` (R10).
    ///
    /// # Errors
    ///
    /// Whether the request may have been carried out.
    pub async fn send_once(&self, ask: &Ask, timeout: Duration) -> Result<Answer, NoAnswer> {
        self.send_once_by(ask, Deadline::now() + timeout).await
    }

    /// As [`Connector::send_once`], with the point in time at which it ends.
    pub async fn send_once_by(&self, ask: &Ask, deadline: Deadline) -> Result<Answer, NoAnswer> {
        timeout_at(deadline, self.pace.turn(&ask.load))
            .await
            .map_err(|_| NoAnswer::NotSent("it was not its turn in time".to_owned()))?;
        let _permit = timeout_at(deadline, self.in_flight.acquire())
            .await
            .map_err(|_| NoAnswer::NotSent("too many other requests were in flight".to_owned()))?
            .map_err(|_| NoAnswer::NotSent("the store was closed".to_owned()))?;
        self.exchange(ask, deadline).await
    }

    /// Signs `request`, which is a part of another one.
    pub async fn authorize(&self, request: &mut HttpRequest) -> Result<(), NoAnswer> {
        self.authorizer
            .authorize(request)
            .await
            .map_err(NoAnswer::NoCredentials)
    }

    async fn exchange(&self, ask: &Ask, deadline: Deadline) -> Result<Answer, NoAnswer> {
        let mut request = ask.request().map_err(NoAnswer::NotSent)?;
        timeout_at(deadline, self.authorize(&mut request))
            .await
            .map_err(|_| NoAnswer::NoCredentials("the credentials did not come in time".to_owned()))??;
        // R10: who was suspended on the way here must not send it late. `timeout_at` alone would begin to.
        if Deadline::now() >= deadline {
            return Err(NoAnswer::NotSent(
                "its time was over before it could be sent".to_owned(),
            ));
        }
        self.requests.add(ask.load.kind(), 1);
        let sent = Deadline::now();
        let response = timeout_at(deadline, self.client.execute(request))
            .await
            .map_err(|_| NoAnswer::Lost("no answer in time".to_owned()))?
            .map_err(|error| match error.kind() {
                HttpErrorKind::Connect => NoAnswer::NotSent(format!(
                    "{}; check the endpoint, and that it can be reached from here",
                    describe(&error)
                )),
                _ => NoAnswer::Lost(describe(&error)),
            })?;
        let (parts, body) = response.into_parts();
        if is_throttling(parts.status) {
            self.pace.refused(&ask.load, sent);
        } else if !parts.status.is_server_error() {
            self.pace.succeeded(&ask.load);
        }
        if !parts.status.is_server_error() {
            self.note_date(&parts.headers);
        }
        self.note_version_id(&parts.headers);
        let longest = if parts.status.is_success() {
            ask.longest_answer
        } else {
            LONGEST_REFUSAL
        };
        let announced = parts
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        let (body, complete) = timeout_at(deadline, collect(body, announced, longest))
            .await
            .map_err(|_| NoAnswer::Lost("the answer did not end in time".to_owned()))??;
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
            complete,
        })
    }

    fn note_date(&self, headers: &HeaderMap) {
        let date = headers
            .get(DATE)
            .and_then(|date| date.to_str().ok())
            .and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
        let Some(date) = date else { return };
        let now = monotonic_now();
        let mut newest = self.date.lock().unwrap_or_else(PoisonError::into_inner);
        // A `Date` is cut to the second: within one, what was known before is nearer, and time does not run back.
        let nearer = newest.is_some_and(|(date_then, then)| {
            let known = later(date_then, now.saturating_duration_since(then));
            date <= known && known < later(date, Duration::from_secs(1))
        });
        if !nearer {
            *newest = Some((date, now));
        }
    }

    /// Google's generations are not looked at: objects have them in every bucket.
    fn note_version_id(&self, headers: &HeaderMap) {
        let named = ["x-amz-version-id", "x-ms-version-id"]
            .iter()
            .filter_map(|name| headers.get(*name))
            .any(|id| !id.is_empty() && id != "null");
        if named {
            self.note_versioning(Versioning::Seen);
        }
    }
}

/// Reads at most `longest` bytes of a body, and whether they are all of it. A body that was cut is an error.
async fn collect(
    body: HttpResponseBody,
    announced: Option<usize>,
    longest: usize,
) -> Result<(Bytes, bool), NoAnswer> {
    let mut stream = body.bytes_stream();
    // What a server announces it need not send.
    let room = announced.unwrap_or_default().min(longest).min(MOST_ROOM_MADE);
    let mut bytes = BytesMut::with_capacity(room);
    while let Some(piece) = stream.next().await {
        let piece = piece
            .map_err(|error| NoAnswer::Lost(format!("the answer was cut short ({})", describe(&error))))?;
        let room = longest - bytes.len();
        if piece.len() > room {
            bytes.extend_from_slice(&piece[..room]);
            return Ok((bytes.freeze(), false));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes.freeze(), true))
}
