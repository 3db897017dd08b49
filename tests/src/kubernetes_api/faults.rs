//! What goes wrong, and when.

use std::sync::atomic::{AtomicU64, Ordering};

use regex::Regex;
use serde_json::Value;

/// Which requests meet it, and what it does to them.
#[derive(Debug)]
pub struct Fault {
    method: String,
    path: Regex,
    skip: AtomicU64,
    times: AtomicU64,
    pub(super) effect: Effect,
}

/// What a fault does.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Answers with a status and a message in the server's stead.
    Status(u16, String),
    /// Closes the connection without an answer.
    Close,
    /// Somebody else writes the object first, without changing anything: a real conflict.
    Touch,
    /// Somebody else deletes the object first.
    Delete,
    /// Somebody else writes these objects first, whatever was there.
    Put(Vec<Value>),
    /// All tokens of pages expire first.
    ExpirePages,
}

impl Fault {
    /// A fault that every request meets whose method is this, and in whose path (with its query) this regular expression
    /// is found.
    ///
    /// # Panics
    ///
    /// An expression that cannot be read.
    #[must_use]
    pub fn on(method: &str, path: &str, effect: Effect) -> Self {
        Self {
            method: method.to_owned(),
            path: Regex::new(path).expect("a test writes an expression that can be read"),
            skip: AtomicU64::new(0),
            times: AtomicU64::new(u64::MAX),
            effect,
        }
    }

    /// Lets the first so many matching requests pass.
    #[must_use]
    pub fn after(self, skip: u64) -> Self {
        self.skip.store(skip, Ordering::SeqCst);
        self
    }

    /// Ends the fault once it has met so many requests.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        self.times.store(times, Ordering::SeqCst);
        self
    }

    /// Says whether a request meets it, and counts it. Called under a lock.
    pub(super) fn meets(&self, method: &str, path: &str) -> bool {
        if self.method != method || !self.path.is_match(path) {
            return false;
        }
        take_one(&self.skip).is_none() && take_one(&self.times).is_some()
    }
}

fn take_one(left: &AtomicU64) -> Option<u64> {
    let taken = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    taken.ok()
}
