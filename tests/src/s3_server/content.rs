//! What the bucket holds, in memory: objects in the bytewise order of their keys, each with the store's time.
//!
//! Everything else of the server reaches objects through the few methods here, so that a registry can be simulated: what
//! lies below `docker/registry/v2/` is computed then, and all else stored as ever.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use md5::{Digest, Md5};
use s3s::dto::{ETag, ETagCondition, Metadata};
use s3s::{S3Result, s3_error};

use super::ETags;
use super::listing::behind_prefix;
use super::versions::{Hidden, ListedVersion, RemovedVersion, Versions};
use crate::simulator::{self, Listed, Simulated};

/// One object of the bucket.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub bytes: Bytes,
    pub etag: String,
    pub last_modified: Timestamp,
    pub attributes: Attributes,
    /// Counts up with every write to the bucket; what a versioned bucket calls its version id.
    pub version: u64,
}

/// What a client says about an object besides its bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    pub content_type: Option<String>,
    pub metadata: Option<Metadata>,
}

/// The conditions of a request (`If-Match`, `If-None-Match`).
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    pub if_match: Option<ETagCondition>,
    pub if_none_match: Option<ETagCondition>,
}

impl Conditions {
    /// Answers 412 where a write must not happen, and 404 where it names an object that is not there.
    fn check_write(&self, existing: Option<&Arc<Object>>) -> S3Result<()> {
        match (&self.if_match, existing) {
            (Some(_), None) => return Err(s3_error!(NoSuchKey)),
            (Some(condition), Some(object)) if !object.fits(condition) => {
                return Err(s3_error!(PreconditionFailed));
            }
            _ => {}
        }
        match (&self.if_none_match, existing) {
            (Some(condition), Some(object)) if object.fits(condition) => Err(s3_error!(PreconditionFailed)),
            _ => Ok(()),
        }
    }
}

impl Object {
    /// Says whether this object's ETag is the one that the condition names.
    pub(super) fn fits(&self, condition: &ETagCondition) -> bool {
        condition.as_etag().is_none_or(|etag| etag.value() == self.etag)
    }

    /// Returns the ETag in the form that answers carry.
    pub(super) fn e_tag(&self) -> ETag {
        ETag::Strong(self.etag.clone())
    }
}

/// Returns the MD5 of the bytes in hex, the ETag of every object that was written in one piece.
pub(super) fn md5_hex(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

impl ETags {
    fn of(self, bytes: &[u8], version: u64) -> String {
        match self {
            Self::Md5 => md5_hex(bytes),
            Self::Encrypted => md5_hex(&[bytes, &version.to_le_bytes()].concat()),
            Self::Opaque => format!("0x{version:015X}"),
        }
    }
}

/// All objects of the bucket.
#[derive(Debug)]
pub(super) struct Content {
    state: RwLock<State>,
    versioned: bool,
    honours_conditions: bool,
    etags: ETags,
    simulated: Option<Simulated>,
}

#[derive(Debug, Default)]
struct State {
    /// The store's time minus the machine's.
    clock_offset: SignedDuration,
    objects: BTreeMap<String, Arc<Object>>,
    last_version: u64,
    hidden: Versions,
}

impl Content {
    pub(super) fn new(
        versioned: bool,
        honours_conditions: bool,
        etags: ETags,
        clock_offset: SignedDuration,
    ) -> Self {
        Self {
            state: RwLock::new(State {
                clock_offset,
                ..State::default()
            }),
            versioned,
            honours_conditions,
            etags,
            simulated: None,
        }
    }

    /// Puts a simulated registry into the bucket.
    pub(super) fn with_simulated(mut self, simulated: Option<Simulated>) -> Self {
        self.simulated = simulated;
        self
    }

    /// Returns the simulated registry, if there is one.
    pub(super) fn simulated(&self) -> Option<&Simulated> {
        self.simulated.as_ref()
    }

    /// Returns the simulated registry where it has a key, or all keys with a prefix.
    pub(super) fn simulated_at(&self, key: &str) -> Option<&Simulated> {
        self.simulated().filter(|_| key.starts_with(simulator::ROOT))
    }

    /// Returns the store's time, which may differ from the machine's.
    pub(super) fn now(&self) -> Timestamp {
        let machine = hardprune_common::clock::machine_now();
        machine
            .saturating_add(self.read().clock_offset)
            .unwrap_or(machine)
    }

    /// Sets the store's clock forward; no object gets another time.
    pub(super) fn advance_clock(&self, by: Duration) {
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        let mut state = self.write();
        state.clock_offset = state.clock_offset.saturating_add(by);
    }

    /// Returns an object. Layers of a simulated registry have no bytes and are not returned.
    pub(super) fn get(&self, key: &str) -> Option<Arc<Object>> {
        let Some(simulated) = self.simulated_at(key) else {
            return self.read().objects.get(key).cloned();
        };
        let listed = simulated.find(key)?;
        let simulator::Content::Bytes(bytes) = simulated.read(key)? else {
            return None;
        };
        Some(Arc::new(Object {
            bytes: bytes.into(),
            etag: listed.etag,
            last_modified: listed.last_modified,
            attributes: Attributes::default(),
            version: 0,
        }))
    }

    /// Writes an object if the conditions hold; its ETag is made as the options say unless one is given.
    pub(super) fn put(
        &self,
        key: String,
        bytes: Bytes,
        etag: Option<String>,
        attributes: Attributes,
        conditions: &Conditions,
    ) -> S3Result<Arc<Object>> {
        if self.simulated_at(&key).is_some() {
            return Err(s3_error!(AccessDenied, "a simulated registry takes no writes"));
        }
        let last_modified = self.now();
        let mut state = self.write();
        if self.honours_conditions {
            conditions.check_write(state.objects.get(&key))?;
        }
        state.last_version += 1;
        let etag = etag.unwrap_or_else(|| self.etags.of(&bytes, state.last_version));
        let object = Arc::new(Object {
            bytes,
            etag,
            last_modified,
            attributes,
            version: state.last_version,
        });
        if let Some(replaced) = state.objects.insert(key.clone(), Arc::clone(&object))
            && self.versioned
        {
            state.hidden.hide(&key, Hidden::Object(replaced));
        }
        Ok(object)
    }

    /// Removes an object, if it is there; says whether it was. In a versioned bucket its bytes stay, hidden.
    pub(super) fn remove(&self, key: &str, conditions: &Conditions) -> S3Result<bool> {
        let at = self.now();
        if let Some(simulated) = self.simulated_at(key) {
            return Ok(simulated.remove(key));
        }
        let mut state = self.write();
        if self.honours_conditions {
            conditions.check_write(state.objects.get(key))?;
        }
        let removed = state.objects.remove(key);
        if self.versioned {
            if let Some(object) = &removed {
                state.hidden.hide(key, Hidden::Object(Arc::clone(object)));
            }
            state.last_version += 1;
            let version = state.last_version;
            state.hidden.hide(key, Hidden::Marker { version, at });
        }
        Ok(removed.is_some())
    }

    /// Removes a version for good.
    pub(super) fn remove_version(&self, key: &str, id: &str) -> Option<RemovedVersion> {
        let State { hidden, objects, .. } = &mut *self.write();
        hidden.remove(objects, key, id)
    }

    /// Returns all versions of the keys under a prefix, of each key the newest first.
    pub(super) fn versions(&self, prefix: &str) -> Vec<ListedVersion> {
        let state = self.read();
        state.hidden.list(&state.objects, prefix, self.versioned)
    }

    /// Shows the objects from a key on, in order, until the visitor has seen enough.
    pub(super) fn scan(&self, from: Bound<&str>, mut visit: impl FnMut(&str, Listed) -> ControlFlow<()>) {
        let Some(simulated) = &self.simulated else {
            let _ = self.scan_stored((from, Bound::Unbounded), &mut visit);
            return;
        };
        let behind = behind_prefix(simulator::ROOT).expect("the last character of the root can be increased");
        let begins_before = |key| match from {
            Bound::Unbounded => true,
            Bound::Included(first) | Bound::Excluded(first) => first < key,
        };
        let mut all = || {
            if begins_before(simulator::ROOT) {
                self.scan_stored((from, Bound::Excluded(simulator::ROOT)), &mut visit)?;
            }
            if begins_before(&behind) {
                simulated.scan(from, &mut visit)?;
                return self.scan_stored((Bound::Included(&behind), Bound::Unbounded), &mut visit);
            }
            self.scan_stored((from, Bound::Unbounded), &mut visit)
        };
        let _ = all();
    }

    fn scan_stored(
        &self,
        range: (Bound<&str>, Bound<&str>),
        visit: &mut impl FnMut(&str, Listed) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for (key, object) in self.read().objects.range::<str, _>(range) {
            let listed = Listed {
                size: object.bytes.len() as u64,
                etag: object.etag.clone(),
                last_modified: object.last_modified,
            };
            visit(key, listed)?;
        }
        ControlFlow::Continue(())
    }

    /// Sets the time of one object, if it is there.
    pub(super) fn set_last_modified(&self, key: &str, time: Timestamp) -> bool {
        let mut state = self.write();
        let object = state.objects.get_mut(key);
        object
            .map(|object| Arc::make_mut(object).last_modified = time)
            .is_some()
    }

    /// Sets the time of every object under a prefix; returns how many there are.
    pub(super) fn set_last_modified_all(&self, prefix: &str, time: Timestamp) -> usize {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let mut changed = 0;
        for (key, object) in self.write().objects.range_mut::<str, _>(from) {
            if !key.starts_with(prefix) {
                break;
            }
            Arc::make_mut(object).last_modified = time;
            changed += 1;
        }
        changed
    }

    pub(super) fn is_versioned(&self) -> bool {
        self.versioned
    }

    pub(super) fn hidden_bytes(&self) -> u64 {
        self.read().hidden.bytes()
    }

    // A panic of one request must not take the bucket from the others: no method leaves it half-changed.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
