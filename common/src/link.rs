//! The content of a link: the digest it names, as text.

use md5::{Digest as _, Md5};

use crate::digest::{Digest, DigestError};

/// No link is longer than a digest's text and some white space around it.
pub const LONGEST_LINK: u64 = 256;

/// Reads a link's content.
///
/// # Errors
///
/// Bytes that are not one digest. White space around it is allowed: a registry would not serve such a link, but
/// whoever repaired it by hand meant that digest, and what it means is kept (R1).
pub fn parse_link(content: &[u8]) -> Result<Digest, DigestError> {
    let text = String::from_utf8_lossy(content);
    text.trim().parse()
}

/// Whether size and `ETag` of a link are those of one whose content is `digest`'s text.
///
/// An `ETag` of 32 hex digits is taken for the MD5 of the content, as S3, GCS and most others make it; another form
/// of it says nothing. Where this is false the link must be read; where it is true it need not be.
#[must_use]
pub fn link_fits(digest: &Digest, size: u64, etag: Option<&str>) -> bool {
    let algorithm = digest.algorithm();
    if size != (algorithm.name().len() + 1 + 2 * algorithm.hash_len()) as u64 {
        return false;
    }
    match etag {
        Some(etag) if is_md5(etag) => {
            etag.eq_ignore_ascii_case(&hex::encode(Md5::digest(digest.to_string().as_bytes())))
        }
        _ => true,
    }
}

/// Whether size and `ETag` prove that a link's content is `digest`'s text: the `ETag` is the MD5 of it.
///
/// Azure's never are, nor those of objects that were encrypted with a key of one's own, composed, or uploaded in parts. A
/// filesystem has none.
#[must_use]
pub fn link_is_proved(digest: &Digest, size: u64, etag: Option<&str>) -> bool {
    etag.is_some_and(is_md5) && link_fits(digest, size, etag)
}

fn is_md5(etag: &str) -> bool {
    etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    #[test]
    fn reads_a_link() {
        let digest = Digest::of(Algorithm::Sha256, b"x");
        assert_eq!(parse_link(digest.to_string().as_bytes()).unwrap(), digest);
        assert_eq!(parse_link(format!("{digest}\n").as_bytes()).unwrap(), digest);
        for garbage in [&b""[..], b"sha256:", b"\xff\xfe", b"{}"] {
            assert!(parse_link(garbage).is_err());
        }
    }

    #[test]
    fn size_and_etag_must_fit() {
        let digest = Digest::of(Algorithm::Sha256, b"x");
        let other = Digest::of(Algorithm::Sha256, b"y");
        let etag = hex::encode(Md5::digest(digest.to_string().as_bytes()));
        assert!(link_fits(&digest, 71, Some(&etag)));
        assert!(link_fits(&digest, 71, Some(&etag.to_uppercase())));
        assert!(!link_fits(&other, 71, Some(&etag)));
        assert!(!link_fits(&digest, 72, Some(&etag)));
        assert!(link_fits(&digest, 71, None));
        assert!(link_fits(&digest, 71, Some("0x8DC")));
        assert!(link_is_proved(&digest, 71, Some(&etag)));
        for unproved in [None, Some("0x8DC"), Some("d41d8cd98f00b204e9800998ecf8427e-1")] {
            assert!(!link_is_proved(&digest, 71, unproved), "{unproved:?}");
        }
        assert!(!link_is_proved(&other, 71, Some(&etag)));
    }
}
