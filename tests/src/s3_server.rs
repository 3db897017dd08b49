//! An S3 server over real HTTP, for tests and benchmarks: one bucket, held in memory, on a free port of
//! 127.0.0.1. Its content can be changed and read directly, its times set, its requests counted, its answers
//! spoiled by scripted faults ([`Fault`]).
//!
//! Its registry can be simulated ([`S3Options::simulated`]): what lies below `docker/registry/v2/` is computed then, and
//! answered past the S3 framework, a page in about a millisecond.
//!
//! It runs on threads of its own, so it can be started from blocking programs, too, and ends when dropped.
//! Requests are path-style. Versions of objects other than the current one can be listed and removed, but not read.

mod answers;
mod body_check;
mod call;
mod chance;
mod content;
mod counters;
mod faults;
mod front;
mod latency;
mod limits;
mod listing;
mod multipart;
mod operations;
mod simulated;
mod storage;
mod versions;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::runtime::Runtime;

use crate::simulator::{Simulated, SimulatedShape};

pub use self::call::Operation;
pub use self::counters::{Counters, LogEntry};
pub use self::faults::{Effect, Fault, Faults, Matcher};
pub use self::latency::Latency;
pub use self::limits::Limits;

use self::chance::Chance;
use self::content::{Attributes, Conditions, Content};
use self::counters::Recorder;
use self::front::Front;
use self::limits::Limiter;
use self::multipart::Uploads;
use self::operations::Operations;

const ACCESS_KEY: &str = "hardprune-test-key";
const SECRET_KEY: &str = "hardprune-test-secret";

/// What the `ETag` of an object that was written in one piece is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ETags {
    /// The MD5 of its bytes.
    #[default]
    Md5,
    /// 32 hex digits that are no MD5 of its bytes, as where S3 encrypts with keys of KMS.
    Encrypted,
    /// Not even that, as Azure's are.
    Opaque,
}

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The name of the one bucket.
    pub bucket: String,
    /// The most keys that a page of a listing has.
    pub page_size: usize,
    /// How long each request waits before it is executed.
    pub latency: Latency,
    /// Requests and deleted keys a second beyond which the answer is 503.
    pub limits: Option<Limits>,
    /// The share of the requests that meet a fault.
    pub fault_rate: f64,
    /// A registry that is computed instead of stored.
    pub simulated: Option<SimulatedShape>,
    /// Whether the bucket keeps versions: answers name them, and what is deleted or replaced only hides.
    pub versioned: bool,
    /// The most bytes that one request copies.
    pub largest_copy: u64,
    /// Whether `If-Match` and `If-None-Match` of a write count; otherwise they are silently ignored.
    pub honours_conditions: bool,
    /// What `ETag`s are.
    pub etags: ETags,
    /// Whether requests must be signed with the server's keys.
    pub check_credentials: bool,
    /// The store's time minus the machine's.
    pub clock_offset: SignedDuration,
    /// Whether [`S3Server::log`] has anything to tell.
    pub keeps_log: bool,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            bucket: "registry".into(),
            page_size: 1000,
            latency: Latency::default(),
            limits: None,
            fault_rate: 0.0,
            simulated: None,
            versioned: false,
            largest_copy: 5 << 30,
            honours_conditions: true,
            etags: ETags::Md5,
            check_credentials: true,
            clock_offset: SignedDuration::ZERO,
            keeps_log: false,
        }
    }
}

/// A running S3 server.
#[derive(Debug)]
pub struct S3Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// There until the server is dropped.
    runtime: Option<Runtime>,
}

/// What all requests of a server share.
#[derive(Debug)]
struct Shared {
    options: S3Options,
    content: Content,
    uploads: Uploads,
    faults: Faults,
    chance: Chance,
    limiter: Option<Limiter>,
    recorder: Recorder,
}

impl S3Server {
    /// Starts a server. It answers from the moment that this returns.
    ///
    /// # Errors
    ///
    /// If the port is taken, the machine gives no threads, or a simulated registry cannot be.
    pub fn start(options: S3Options) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(options.listen)
            .with_context(|| format!("cannot listen on {}", options.listen))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let simulated = options.simulated.clone().map(Simulated::new).transpose()?;
        let content = Content::new(
            options.versioned,
            options.honours_conditions,
            options.etags,
            options.clock_offset,
        );
        let shared = Arc::new(Shared {
            content: content.with_simulated(simulated),
            chance: Chance::new(options.fault_rate),
            limiter: options.limits.map(Limiter::new),
            uploads: Uploads::default(),
            faults: Faults::default(),
            recorder: Recorder::new(options.keeps_log),
            options,
        });
        let mut service = S3ServiceBuilder::new(Operations(Arc::clone(&shared)));
        if shared.options.check_credentials {
            service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        }
        let front = Front {
            service: service.build(),
            shared: Arc::clone(&shared),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3-server")
            .enable_all()
            .build()
            .context("cannot start the threads of the S3 server")?;
        runtime.spawn(Arc::new(front).serve(listener));
        Ok(Self {
            shared,
            address,
            runtime: Some(runtime),
        })
    }

    /// Returns the URL of the server, without the bucket.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the name of the bucket.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.shared.options.bucket
    }

    /// Returns the access key that requests are to be signed with.
    #[must_use]
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// Returns the secret key that requests are to be signed with.
    #[must_use]
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// Returns the store's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.content.now()
    }

    /// Sets the store's clock forward, as if so much time had passed there.
    pub fn advance_clock(&self, by: Duration) {
        self.shared.content.advance_clock(by);
    }

    /// Writes an object, with the store's time or one of the caller's.
    pub fn put(&self, key: &str, bytes: impl Into<Bytes>, last_modified: Option<Timestamp>) {
        let written = self.shared.content.put(
            key.to_owned(),
            bytes.into(),
            None,
            Attributes::default(),
            &Conditions::default(),
        );
        written.expect("a write without conditions is not refused");
        if let Some(time) = last_modified {
            self.set_last_modified(key, time);
        }
    }

    /// Begins a multipart upload in the past, past the protocol, with one part for each of these times.
    pub fn begin_upload(&self, key: &str, begun: Timestamp, parts: &[(&'static [u8], Timestamp)]) {
        let uploads = &self.shared.uploads;
        let id = uploads.create(key.to_owned(), content::Attributes::default(), begun);
        for (number, (bytes, written)) in (1..).zip(parts) {
            let put = uploads.put_part(key, &id, number, Bytes::from_static(bytes), *written);
            assert!(put.is_ok(), "the upload has just begun");
        }
    }

    /// The keys of all multipart uploads that have begun and not ended, ascending.
    #[must_use]
    pub fn uploads(&self) -> Vec<String> {
        let uploads = self.shared.uploads.list("", &Default::default());
        uploads.into_iter().map(|(key, ..)| key).collect()
    }

    /// Removes an object; says whether it was there.
    pub fn remove(&self, key: &str) -> bool {
        let removed = self.shared.content.remove(key, &Conditions::default());
        removed.expect("a delete without conditions is not refused")
    }

    /// Returns the bytes of an object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.shared.content.get(key).map(|object| object.bytes.clone())
    }

    /// Returns size and time of every object by its key.
    #[must_use]
    pub fn inventory(&self) -> BTreeMap<String, (u64, Timestamp)> {
        let mut all = BTreeMap::new();
        self.shared.content.scan(Bound::Unbounded, |key, listed| {
            all.insert(key.to_owned(), (listed.size, listed.last_modified));
            ControlFlow::Continue(())
        });
        all
    }

    /// Sets the time of an object; says whether it is there.
    pub fn set_last_modified(&self, key: &str, time: Timestamp) -> bool {
        self.shared.content.set_last_modified(key, time)
    }

    /// Sets the time of all objects under a prefix; returns how many there are.
    pub fn set_last_modified_all(&self, prefix: &str, time: Timestamp) -> usize {
        self.shared.content.set_last_modified_all(prefix, time)
    }

    /// Returns the bytes that a versioned bucket holds in objects that were deleted or replaced.
    #[must_use]
    pub fn hidden_bytes(&self) -> u64 {
        self.shared.content.hidden_bytes()
    }

    /// Returns the simulated registry, if there is one.
    #[must_use]
    pub fn simulated(&self) -> Option<&Simulated> {
        self.shared.content.simulated()
    }

    /// Returns the counts, and what has become of the simulated registry, as a JSON document: what `GET /-/state` answers.
    #[must_use]
    pub fn state(&self) -> String {
        simulated::state(&self.shared)
    }

    /// Returns the faults that requests meet.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Returns the counts of the requests since the start or the last reset.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.recorder.counters()
    }

    /// Sets all counts to zero and empties the log.
    pub fn reset_counters(&self) {
        self.shared.recorder.reset();
    }

    /// Returns the requests in the order of their arrival, if the options ask for a log.
    #[must_use]
    pub fn log(&self) -> Vec<LogEntry> {
        self.shared.recorder.log()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Unlike a plain drop this may happen on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}
