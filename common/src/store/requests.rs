//! Counts of the requests that a store has been sent.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// A page of a listing.
    List,
    /// The bytes of an object.
    Get,
    /// An object's properties.
    Head,
    /// A write.
    Put,
    /// A server-side copy.
    Copy,
    /// A delete, of one key or of a batch.
    Delete,
}

/// Requests sent, by kind. Every attempt counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCounts {
    /// Pages of listings.
    pub list: u64,
    /// Reads.
    pub get: u64,
    /// Requests for properties.
    pub head: u64,
    /// Writes.
    pub put: u64,
    /// Server-side copies.
    pub copy: u64,
    /// Deletes, single or of a batch.
    pub delete: u64,
}

impl RequestCounts {
    /// What was counted since an earlier count.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        // Destructured, so that a new field cannot be forgotten.
        let Self {
            list,
            get,
            head,
            put,
            copy,
            delete,
        } = earlier;
        Self {
            list: self.list.saturating_sub(list),
            get: self.get.saturating_sub(get),
            head: self.head.saturating_sub(head),
            put: self.put.saturating_sub(put),
            copy: self.copy.saturating_sub(copy),
            delete: self.delete.saturating_sub(delete),
        }
    }

    /// The requests of one kind.
    #[must_use]
    pub fn of(&self, kind: RequestKind) -> u64 {
        match kind {
            RequestKind::List => self.list,
            RequestKind::Get => self.get,
            RequestKind::Head => self.head,
            RequestKind::Put => self.put,
            RequestKind::Copy => self.copy,
            RequestKind::Delete => self.delete,
        }
    }

    /// Adds another count to this one. What somebody made up does not overflow.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        // Destructured, so that a new field cannot be forgotten.
        let Self {
            list,
            get,
            head,
            put,
            copy,
            delete,
        } = other;
        Self {
            list: self.list.saturating_add(list),
            get: self.get.saturating_add(get),
            head: self.head.saturating_add(head),
            put: self.put.saturating_add(put),
            copy: self.copy.saturating_add(copy),
            delete: self.delete.saturating_add(delete),
        }
    }
}

/// A [`RequestCounts`] that many tasks may count into.
#[derive(Debug, Default)]
pub struct RequestCounter {
    list: AtomicU64,
    get: AtomicU64,
    head: AtomicU64,
    put: AtomicU64,
    copy: AtomicU64,
    delete: AtomicU64,
}

impl RequestCounter {
    /// Counts requests of one kind.
    pub fn add(&self, kind: RequestKind, requests: u64) {
        let counter = match kind {
            RequestKind::List => &self.list,
            RequestKind::Get => &self.get,
            RequestKind::Head => &self.head,
            RequestKind::Put => &self.put,
            RequestKind::Copy => &self.copy,
            RequestKind::Delete => &self.delete,
        };
        counter.fetch_add(requests, Ordering::Relaxed);
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> RequestCounts {
        RequestCounts {
            list: self.list.load(Ordering::Relaxed),
            get: self.get.load(Ordering::Relaxed),
            head: self.head.load(Ordering::Relaxed),
            put: self.put.load(Ordering::Relaxed),
            copy: self.copy.load(Ordering::Relaxed),
            delete: self.delete.load(Ordering::Relaxed),
        }
    }
}
