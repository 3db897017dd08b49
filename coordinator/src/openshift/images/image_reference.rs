//! References to images as objects write them: `host/namespace/name:tag@digest`.
//!
//! The grammar, and what is told of a text that has not, are those of OpenShift's parser (bad-refs, pod-refs).

use std::sync::LazyLock;

use regex::Regex;

/// What a reference names. Parts that are not there are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageReference {
    /// The registry's host and port.
    pub registry: String,
    /// The first component of the path, if there are several.
    pub namespace: String,
    /// The rest of the path.
    pub name: String,
    /// The tag.
    pub tag: String,
    /// The digest.
    pub digest: String,
}

const LONGEST_NAME: usize = 255;

static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    let component = "[a-z0-9]+(?:(?:[._]|__|[-]*)[a-z0-9]+)*";
    let host = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    let host = format!(r"{host}(?:\.{host})*(?::[0-9]+)?");
    let tag = "[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}";
    let digest = "[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
    let whole = format!("^((?:{host}/)?{component}(?:/{component})*)(?::({tag}))?(?:@({digest}))?$");
    Regex::new(&whole).expect("the expression is fixed and a test uses it")
});

/// Reads a reference.
///
/// # Errors
///
/// A text that is none: why, in OpenShift's words.
pub fn parse(text: &str) -> Result<ImageReference, String> {
    let Some(found) = REFERENCE.captures(text) else {
        return Err(match text {
            "" => "repository name must have at least one component",
            _ if REFERENCE.is_match(&text.to_lowercase()) => "repository name must be lowercase",
            _ => "invalid reference format",
        }
        .to_owned());
    };
    let part = |index| found.get(index).map_or("", |found| found.as_str());
    let (name, tag, digest) = (part(1), part(2), part(3));
    if name.len() > LONGEST_NAME {
        return Err(format!(
            "repository name must not be more than {LONGEST_NAME} characters"
        ));
    }
    check_digest(digest)?;
    let mut reference = ImageReference {
        digest: digest.to_owned(),
        ..ImageReference::default()
    };
    let path = match name.split_once('/') {
        // Only a host.
        None if name.contains('.') || name.starts_with("localhost") => {
            reference.registry = text.to_owned();
            return Ok(reference);
        }
        Some((first, rest)) if first.contains([':', '.']) || first == "localhost" => {
            reference.registry = first.to_owned();
            rest
        }
        _ => name,
    };
    reference.tag = tag.to_owned();
    match path.split_once('/') {
        Some((namespace, name)) => {
            reference.namespace = namespace.to_owned();
            reference.name = name.to_owned();
        }
        None => reference.name = path.to_owned(),
    }
    Ok(reference)
}

fn check_digest(digest: &str) -> Result<(), String> {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return Ok(());
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err("unsupported digest algorithm".to_owned()),
    };
    if hex.len() != length {
        return Err("invalid checksum digest length".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parts(text: &str) -> (String, String, String, String, String) {
        let found = parse(text).unwrap();
        (
            found.registry,
            found.namespace,
            found.name,
            found.tag,
            found.digest,
        )
    }

    fn of(parts: [&str; 5]) -> (String, String, String, String, String) {
        let [registry, namespace, name, tag, digest] = parts.map(str::to_owned);
        (registry, namespace, name, tag, digest)
    }

    #[test]
    fn what_is_named() {
        assert_eq!(parts("h:5000/ns/is:t"), of(["h:5000", "ns", "is", "t", ""]));
        assert_eq!(
            parts(&format!("h.x/ns/is:t@{DIGEST}")),
            of(["h.x", "ns", "is", "t", DIGEST])
        );
        assert_eq!(parts("localhost/ns/is"), of(["localhost", "ns", "is", "", ""]));
        assert_eq!(parts("reg/ns/is"), of(["", "reg", "ns/is", "", ""]));
        assert_eq!(parts("h.x/a/ns/is"), of(["h.x", "a", "ns/is", "", ""]));
        assert_eq!(parts("busybox:1"), of(["", "", "busybox", "1", ""]));
        assert_eq!(parts("h.x:1"), of(["h.x:1", "", "", "", ""]));
    }

    #[test]
    fn what_is_none() {
        for (text, problem) in [
            ("", "repository name must have at least one component"),
            ("a b", "invalid reference format"),
            ("h.x/NS/is", "repository name must be lowercase"),
            ("h.x/ns/is:", "invalid reference format"),
            ("http://x/y", "invalid reference format"),
            ("is@sha256:abc", "invalid reference format"),
            (
                "is@sha256:0123456789abcdef0123456789abcdef",
                "invalid checksum digest length",
            ),
            (
                "is@md5:0123456789abcdef0123456789abcdef",
                "unsupported digest algorithm",
            ),
        ] {
            assert_eq!(parse(text), Err(problem.to_owned()), "{text}");
        }
    }
}
