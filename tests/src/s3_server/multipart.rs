//! Multipart uploads between their creation and their end: parts come in, the whole object's bytes and its
//! ETag go out.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use md5::{Digest, Md5};
use s3s::dto::CompletedPart;
use s3s::{S3Result, s3_error};

use super::content::{Attributes, md5_hex};

/// The smallest part that S3 takes, save for the last one.
const SMALLEST_PART_BYTES: usize = 5 * 1024 * 1024;

/// All uploads that have begun and not ended.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By key and id: the order of their listing.
    uploads: BTreeMap<(String, String), Upload>,
    last_id: u64,
}

/// One upload.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub initiated: Timestamp,
    pub attributes: Attributes,
    pub parts: BTreeMap<i32, StoredPart>,
}

/// One part of an upload.
#[derive(Clone, Debug)]
pub(super) struct StoredPart {
    pub bytes: Bytes,
    pub etag: String,
    pub last_modified: Timestamp,
}

impl Uploads {
    /// Begins an upload and returns its id; later uploads have greater ids.
    pub(super) fn create(&self, key: String, attributes: Attributes, now: Timestamp) -> String {
        let mut state = self.lock();
        state.last_id += 1;
        let id = format!("upload-{:016}", state.last_id);
        let upload = Upload {
            initiated: now,
            attributes,
            parts: BTreeMap::new(),
        };
        state.uploads.insert((key, id.clone()), upload);
        id
    }

    /// Keeps a part, in place of an earlier one of that number, and returns its ETag.
    pub(super) fn put_part(
        &self,
        key: &str,
        id: &str,
        number: i32,
        bytes: Bytes,
        now: Timestamp,
    ) -> S3Result<String> {
        if !(1..=10_000).contains(&number) {
            return Err(s3_error!(InvalidArgument, "part numbers are 1 to 10000"));
        }
        let etag = md5_hex(&bytes);
        let mut state = self.lock();
        let upload = state
            .uploads
            .get_mut(&name(key, id))
            .ok_or_else(|| s3_error!(NoSuchUpload))?;
        upload.parts.insert(
            number,
            StoredPart {
                bytes,
                etag: etag.clone(),
                last_modified: now,
            },
        );
        Ok(etag)
    }

    pub(super) fn get(&self, key: &str, id: &str) -> S3Result<Upload> {
        self.lock()
            .uploads
            .get(&name(key, id))
            .cloned()
            .ok_or_else(|| s3_error!(NoSuchUpload))
    }

    /// Forgets an upload and its parts.
    pub(super) fn remove(&self, key: &str, id: &str) -> S3Result<()> {
        let removed = self.lock().uploads.remove(&name(key, id));
        removed.map(drop).ok_or_else(|| s3_error!(NoSuchUpload))
    }

    /// Returns (key, id, begun) of the uploads under a prefix that come after a (key, id), in that order.
    pub(super) fn list(&self, prefix: &str, after: &(String, String)) -> Vec<(String, String, Timestamp)> {
        let state = self.lock();
        let under_prefix = state
            .uploads
            .iter()
            .filter(|((key, _), _)| key.starts_with(prefix));
        let after = under_prefix.filter(|(name, _)| *name > after);
        after
            .map(|((key, id), upload)| (key.clone(), id.clone(), upload.initiated))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    /// Joins the parts that the client names; returns the bytes and the ETag of the whole.
    pub(super) fn join(&self, named: &[CompletedPart]) -> S3Result<(Bytes, String)> {
        let Some((last, _)) = named.split_last() else {
            return Err(s3_error!(MalformedXML, "an upload has at least one part"));
        };
        let mut whole = BytesMut::new();
        let mut digests = Md5::new();
        let mut previous = 0;
        for part in named {
            let number = part.part_number.ok_or_else(|| s3_error!(MalformedXML))?;
            if number <= previous {
                return Err(s3_error!(InvalidPartOrder));
            }
            previous = number;
            let stored = self.parts.get(&number).ok_or_else(|| s3_error!(InvalidPart))?;
            if part.e_tag.as_ref().is_none_or(|etag| etag.value() != stored.etag) {
                return Err(s3_error!(InvalidPart));
            }
            if stored.bytes.len() < SMALLEST_PART_BYTES && part.part_number != last.part_number {
                return Err(s3_error!(EntityTooSmall));
            }
            digests.update(Md5::digest(&stored.bytes));
            whole.extend_from_slice(&stored.bytes);
        }
        Ok((
            whole.freeze(),
            format!("{}-{}", hex::encode(digests.finalize()), named.len()),
        ))
    }
}

fn name(key: &str, id: &str) -> (String, String) {
    (key.to_owned(), id.to_owned())
}

#[cfg(test)]
mod tests {
    use s3s::dto::ETag;

    use super::*;

    fn named(number: i32, etag: &str) -> CompletedPart {
        CompletedPart {
            part_number: Some(number),
            e_tag: Some(ETag::Strong(etag.into())),
            ..Default::default()
        }
    }

    #[test]
    fn parts_are_joined_as_named_and_checked() {
        let uploads = Uploads::default();
        let now = Timestamp::UNIX_EPOCH;
        let id = uploads.create("k".into(), Attributes::default(), now);
        let big = vec![7; SMALLEST_PART_BYTES];
        let first = uploads.put_part("k", &id, 1, big.into(), now).unwrap();
        let third = uploads.put_part("k", &id, 3, "end".into(), now).unwrap();
        let upload = uploads.get("k", &id).unwrap();

        let (whole, etag) = upload.join(&[named(1, &first), named(3, &third)]).unwrap();
        assert_eq!(whole.len(), SMALLEST_PART_BYTES + 3);
        assert!(etag.ends_with("-2"));

        let code = |parts: &[CompletedPart]| upload.join(parts).unwrap_err().code().as_str().to_owned();
        assert_eq!(code(&[named(1, &first), named(1, &first)]), "InvalidPartOrder");
        assert_eq!(code(&[named(2, &first)]), "InvalidPart");
        assert_eq!(code(&[named(1, &third)]), "InvalidPart");
        let small = uploads.put_part("k", &id, 1, "small".into(), now).unwrap();
        let upload = uploads.get("k", &id).unwrap();
        let error = upload.join(&[named(1, &small), named(3, &third)]).unwrap_err();
        assert_eq!(error.code().as_str(), "EntityTooSmall");
    }
}
