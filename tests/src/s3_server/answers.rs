//! The answers of listings and deletes in the words of the S3 API.

use std::time::SystemTime;

use jiff::Timestamp as Time;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::listing::Page;
use super::multipart::Upload;
use super::versions::ListedVersion;

/// What `encoding-type=url` leaves as it is.
const URL_ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// Returns a time in the form that answers carry.
pub(super) fn time(time: Time) -> Timestamp {
    Timestamp::from(SystemTime::from(time))
}

/// Reads a continuation token, which is opaque to clients.
pub(super) fn read_token(token: &str) -> S3Result<String> {
    let invalid = || {
        s3_error!(
            InvalidArgument,
            "the continuation token is not one of this server"
        )
    };
    let bytes = hex::decode(token).map_err(|_| invalid())?;
    String::from_utf8(bytes).map_err(|_| invalid())
}

/// Returns the answer of a listing of version 2.
pub(super) fn list_v2(page: Page, input: ListObjectsV2Input) -> ListObjectsV2Output {
    let next = page.next.as_ref().map(hex::encode);
    let is_truncated = page.is_truncated;
    let names = Names::asked(input.encoding_type.as_ref());
    let (contents, common_prefixes) = items(page, &names);
    ListObjectsV2Output {
        name: Some(input.bucket),
        key_count: i32::try_from(contents.len() + common_prefixes.len()).ok(),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        is_truncated: Some(is_truncated),
        next_continuation_token: next,
        continuation_token: input.continuation_token,
        max_keys: Some(input.max_keys.unwrap_or(1000)),
        prefix: Some(names.write(input.prefix.unwrap_or_default())),
        delimiter: input.delimiter.map(|delimiter| names.write(delimiter)),
        start_after: input.start_after.map(|key| names.write(key)),
        encoding_type: input.encoding_type,
        ..Default::default()
    }
}

/// Returns the answer of a listing of version 1.
pub(super) fn list_v1(page: Page, input: ListObjectsInput) -> ListObjectsOutput {
    let names = Names::asked(input.encoding_type.as_ref());
    let next = page.next.clone().map(|next| names.write(next));
    let is_truncated = page.is_truncated;
    let (contents, common_prefixes) = items(page, &names);
    ListObjectsOutput {
        name: Some(input.bucket),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        is_truncated: Some(is_truncated),
        next_marker: next,
        marker: Some(names.write(input.marker.unwrap_or_default())),
        max_keys: Some(input.max_keys.unwrap_or(1000)),
        prefix: Some(names.write(input.prefix.unwrap_or_default())),
        delimiter: input.delimiter.map(|delimiter| names.write(delimiter)),
        encoding_type: input.encoding_type,
        ..Default::default()
    }
}

/// Writes keys as they are or, where the client asked for it, URL-encoded.
struct Names {
    are_encoded: bool,
}

impl Names {
    fn asked(encoding: Option<&EncodingType>) -> Self {
        Self {
            are_encoded: encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL),
        }
    }

    fn write(&self, name: String) -> String {
        if self.are_encoded {
            utf8_percent_encode(&name, URL_ENCODED).to_string()
        } else {
            name
        }
    }
}

fn items(page: Page, names: &Names) -> (Vec<s3s::dto::Object>, Vec<CommonPrefix>) {
    let keys = page.keys.into_iter().map(|listed| s3s::dto::Object {
        key: Some(names.write(listed.key)),
        size: i64::try_from(listed.size).ok(),
        e_tag: Some(ETag::Strong(listed.etag)),
        last_modified: Some(time(listed.last_modified)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Default::default()
    });
    let prefixes = page.common_prefixes.into_iter();
    let prefixes = prefixes.map(|prefix| CommonPrefix {
        prefix: Some(names.write(prefix)),
    });
    (keys.collect(), prefixes.collect())
}

/// Says that a key was deleted.
pub(super) fn deleted_key(key: &str) -> DeletedObject {
    DeletedObject {
        key: Some(key.to_owned()),
        ..Default::default()
    }
}

/// Says why a key was not deleted.
pub(super) fn key_error(key: &str, code: &str, message: &str) -> Error {
    Error {
        key: Some(key.to_owned()),
        code: Some(code.to_owned()),
        message: Some(message.to_owned()),
        ..Default::default()
    }
}

/// Returns one page of an upload's parts.
pub(super) fn list_parts(upload: Upload, input: ListPartsInput, page_size: usize) -> ListPartsOutput {
    let after = input.part_number_marker.unwrap_or(0);
    let most = page_limit(input.max_parts, page_size);
    let mut parts: Vec<Part> = upload
        .parts
        .into_iter()
        .filter(|(number, _)| *number > after)
        .map(|(number, part)| Part {
            part_number: Some(number),
            size: i64::try_from(part.bytes.len()).ok(),
            e_tag: Some(ETag::Strong(part.etag)),
            last_modified: Some(time(part.last_modified)),
            ..Default::default()
        })
        .collect();
    let is_truncated = parts.len() > most;
    parts.truncate(most);
    ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        is_truncated: Some(is_truncated),
        max_parts: input.max_parts,
        part_number_marker: input.part_number_marker,
        next_part_number_marker: parts.last().and_then(|part| part.part_number),
        parts: Some(parts),
        ..Default::default()
    }
}

/// Returns one page of the uploads in progress, each as (key, id, begun).
pub(super) fn list_uploads(
    mut uploads: Vec<(String, String, Time)>,
    input: ListMultipartUploadsInput,
    page_size: usize,
) -> ListMultipartUploadsOutput {
    let most = page_limit(input.max_uploads, page_size);
    let is_truncated = uploads.len() > most;
    uploads.truncate(most);
    let last = uploads.last().filter(|_| is_truncated).cloned();
    let names = Names::asked(input.encoding_type.as_ref());
    let listed = uploads.into_iter().map(|(key, id, initiated)| MultipartUpload {
        key: Some(names.write(key)),
        upload_id: Some(id),
        initiated: Some(time(initiated)),
        ..Default::default()
    });
    ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        uploads: Some(listed.collect()),
        is_truncated: Some(is_truncated),
        max_uploads: input.max_uploads,
        prefix: input.prefix.map(|prefix| names.write(prefix)),
        key_marker: input.key_marker.map(|key| names.write(key)),
        upload_id_marker: input.upload_id_marker,
        next_key_marker: last.as_ref().map(|(key, ..)| names.write(key.clone())),
        next_upload_id_marker: last.map(|(_, id, _)| id),
        encoding_type: input.encoding_type,
        ..Default::default()
    }
}

/// Returns one page of the versions of keys. Unlike S3 itself it has all delete markers first.
pub(super) fn list_versions(
    versions: Vec<ListedVersion>,
    input: ListObjectVersionsInput,
    page_size: usize,
) -> ListObjectVersionsOutput {
    let most = page_limit(input.max_keys, page_size);
    let after = input.key_marker.as_deref().unwrap_or_default();
    let after_id = input.version_id_marker.as_deref();
    // Of the marker's key what comes behind its version, or without one nothing.
    let mut is_behind = false;
    let mut page: Vec<_> = versions
        .into_iter()
        .filter(|version| {
            let counts = version.key.as_str() > after || is_behind;
            let is_marker = version.key == after && Some(version.id.as_str()) == after_id;
            is_behind = version.key == after && (is_behind || is_marker);
            counts && version.key.as_str() >= after
        })
        .collect();
    let is_truncated = page.len() > most;
    page.truncate(most);
    let last = page.last().filter(|_| is_truncated).cloned();
    let names = Names::asked(input.encoding_type.as_ref());
    let (mut objects, mut markers) = (Vec::new(), Vec::new());
    for version in page {
        let (key, version_id) = (Some(names.write(version.key)), Some(version.id));
        let (is_latest, last_modified) = (Some(version.is_newest), Some(time(version.last_modified)));
        match version.object {
            Some((size, etag)) => objects.push(ObjectVersion {
                key,
                version_id,
                is_latest,
                last_modified,
                size: i64::try_from(size).ok(),
                e_tag: Some(ETag::Strong(etag)),
                ..Default::default()
            }),
            None => markers.push(DeleteMarkerEntry {
                key,
                version_id,
                is_latest,
                last_modified,
                ..Default::default()
            }),
        }
    }
    ListObjectVersionsOutput {
        name: Some(input.bucket),
        is_truncated: Some(is_truncated),
        max_keys: input.max_keys,
        prefix: input.prefix.map(|prefix| names.write(prefix)),
        key_marker: input.key_marker.map(|key| names.write(key)),
        version_id_marker: input.version_id_marker,
        next_key_marker: last.as_ref().map(|last| names.write(last.key.clone())),
        next_version_id_marker: last.map(|last| last.id),
        versions: Some(objects),
        delete_markers: Some(markers),
        encoding_type: input.encoding_type,
        ..Default::default()
    }
}

fn page_limit(asked: Option<i32>, page_size: usize) -> usize {
    asked
        .and_then(|asked| usize::try_from(asked).ok())
        .map_or(page_size, |asked| asked.min(page_size))
}
