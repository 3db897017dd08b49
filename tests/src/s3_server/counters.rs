//! Counts the requests that arrive, each once and under one name, and keeps a log of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::call::{Call, Operation};

/// How many requests of each kind have arrived (also those that a fault answered).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Listings, of either version, or of versions.
    pub list: u64,
    /// Reads of an object, whole or in part.
    pub get: u64,
    /// Questions about an object.
    pub head: u64,
    /// Writes of an object in one piece.
    pub put: u64,
    /// Copies of an object in one piece.
    pub copy: u64,
    /// Deletes of one key.
    pub delete_single: u64,
    /// `DeleteObjects` requests.
    pub delete_objects: u64,
    /// Objects that were there and that a delete of either kind removed.
    pub deleted_keys: u64,
    /// Everything about multipart uploads.
    pub multipart: u64,
    /// Everything else (the bucket itself, what the server does not know).
    pub other: u64,
    /// Requests of any kind that were answered 503 because of the limits.
    pub throttled: u64,
    /// Requests of any kind that met a fault by chance.
    pub faulty: u64,
}

/// One key that one request was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// What was asked.
    pub operation: Operation,
    /// The key, or the prefix of a listing; a `DeleteObjects` request makes an entry for each of its keys.
    pub key: String,
    /// Behind which key a listing's page begins, where the request says so.
    pub after: Option<String>,
    /// When the request arrived by the machine's clock, in microseconds since 1970.
    pub unix_micros: i64,
}

/// The counters and the log of a server.
#[derive(Debug)]
pub(super) struct Recorder {
    state: Mutex<(Counters, Vec<LogEntry>)>,
    keeps_log: bool,
}

impl Counters {
    /// Requests of all kinds.
    #[must_use]
    pub fn requests(&self) -> u64 {
        let reads = self.list + self.get + self.head;
        let writes = self.put + self.copy + self.delete_single + self.delete_objects;
        reads + writes + self.multipart + self.other
    }
}

impl Recorder {
    pub(super) fn new(keeps_log: bool) -> Self {
        Self {
            state: Mutex::default(),
            keeps_log,
        }
    }

    /// Counts a request that has arrived.
    pub(super) fn record(&self, call: &Call) {
        let mut state = self.lock();
        let counters = &mut state.0;
        *match call.operation {
            Operation::List => &mut counters.list,
            Operation::Get => &mut counters.get,
            Operation::Head => &mut counters.head,
            Operation::Put => &mut counters.put,
            Operation::Copy => &mut counters.copy,
            Operation::Delete => &mut counters.delete_single,
            Operation::DeleteObjects => &mut counters.delete_objects,
            Operation::Multipart => &mut counters.multipart,
            Operation::Other => &mut counters.other,
        } += 1;
        if self.keeps_log {
            let unix_micros = hardprune_common::clock::machine_now().as_microsecond();
            let operation = call.operation;
            let entry = |key: &String| LogEntry {
                operation,
                key: key.clone(),
                after: call.after.clone(),
                unix_micros,
            };
            state.1.extend(call.keys.iter().map(entry));
        }
    }

    pub(super) fn record_deleted(&self, keys: u64) {
        self.lock().0.deleted_keys += keys;
    }

    pub(super) fn record_throttled(&self) {
        self.lock().0.throttled += 1;
    }

    pub(super) fn record_faulty(&self) {
        self.lock().0.faulty += 1;
    }

    pub(super) fn counters(&self) -> Counters {
        self.lock().0
    }

    pub(super) fn log(&self) -> Vec<LogEntry> {
        self.lock().1.clone()
    }

    pub(super) fn reset(&self) {
        *self.lock() = <(Counters, Vec<LogEntry>)>::default();
    }

    fn lock(&self) -> MutexGuard<'_, (Counters, Vec<LogEntry>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
