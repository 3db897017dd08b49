//! Compares a request's body with the digests that its headers announce, as S3 does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use md5::{Digest, Md5};
use s3s::{S3Result, s3_error};
use sha2::Sha256;

use super::call::Operation;

/// Refuses a body that does not fit its digest, and a `DeleteObjects` request that has none.
pub(super) fn check_body(operation: Operation, headers: &HeaderMap, body: &[u8]) -> S3Result<()> {
    // A body in signed chunks: the digests are those of what the chunks hold.
    if headers.contains_key("x-amz-decoded-content-length") {
        return Ok(());
    }
    check(headers, "content-md5", || STANDARD.encode(Md5::digest(body)))?;
    check(headers, "x-amz-checksum-sha256", || {
        STANDARD.encode(Sha256::digest(body))
    })?;
    let has_digest = headers.contains_key("content-md5")
        || headers
            .keys()
            .any(|name| name.as_str().starts_with("x-amz-checksum-"));
    if operation == Operation::DeleteObjects && !has_digest {
        return Err(s3_error!(
            InvalidRequest,
            "Missing required header for this request: Content-MD5"
        ));
    }
    Ok(())
}

fn check(headers: &HeaderMap, name: &str, digest: impl FnOnce() -> String) -> S3Result<()> {
    match headers.get(name) {
        Some(announced) if announced.as_bytes() != digest().as_bytes() => {
            Err(s3_error!(BadDigest, "the body does not fit {name}"))
        }
        _ => Ok(()),
    }
}
