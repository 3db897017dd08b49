//! `--must-keep FILE`: what its lines name.

use std::fmt;
use std::path::Path;

use hardprune_common::digest::Digest;
use hardprune_common::layout::{RepositoryEntry, parse_repository_key, repository_key};

use crate::error::RunError;

/// Something that must survive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Canary {
    /// A blob.
    Blob(Digest),
    /// An image, by its digest.
    Revision {
        /// Where.
        repository: String,
        /// Its manifest's.
        digest: Digest,
    },
    /// An image, by a tag.
    Tag {
        /// Where.
        repository: String,
        /// As tags are called.
        tag: String,
    },
}

impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest) => digest.fmt(f),
            Self::Revision { repository, digest } => write!(f, "{repository}@{digest}"),
            Self::Tag { repository, tag } => write!(f, "{repository}:{tag}"),
        }
    }
}

/// Reads a file of canaries.
///
/// # Errors
///
/// [`RunError::Usage`]: a file that cannot be read or names nothing, a line that names nothing.
pub fn read(path: &Path) -> Result<Vec<Canary>, RunError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| RunError::Usage(format!("--must-keep {path:?} cannot be read: {error}")))?;
    let mut canaries = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let canary = parse(line).map_err(|problem| {
            RunError::Usage(format!(
                "--must-keep {path:?}, line {number}: {line:?} {problem}; write a digest, REPOSITORY:TAG or REPOSITORY@DIGEST"
            ))
        })?;
        canaries.push(canary);
    }
    if canaries.is_empty() {
        // Whoever wrote such a file believes that something is guarded.
        return Err(RunError::Usage(format!(
            "--must-keep {path:?} names nothing that must be kept"
        )));
    }
    Ok(canaries)
}

fn parse(line: &str) -> Result<Canary, String> {
    if let Some((repository, digest)) = line.rsplit_once('@') {
        let digest: Digest = digest
            .parse()
            .map_err(|error| format!("names no image: {error}"))?;
        let repository = repository.to_owned();
        check_repository(&repository)?;
        return Ok(Canary::Revision { repository, digest });
    }
    match line.parse::<Digest>() {
        Ok(digest) => return Ok(Canary::Blob(digest)),
        Err(error) if line.starts_with("sha256:") || line.starts_with("sha512:") => {
            return Err(format!("is no digest: {error}"));
        }
        Err(_) => {}
    }
    let (repository, tag) = line.rsplit_once(':').ok_or("names nothing")?;
    let (repository, tag) = (repository.to_owned(), tag.to_owned());
    check_repository(&repository)?;
    let entry = RepositoryEntry::TagCurrent { tag };
    let key = repository_key(&repository, &entry);
    let is_one = parse_repository_key(&key).is_some_and(|key| key.entry.as_ref() == Some(&entry));
    match entry {
        RepositoryEntry::TagCurrent { tag }
            if is_one && is_plain(&tag, |letter| letter.is_ascii_uppercase()) =>
        {
            Ok(Canary::Tag { repository, tag })
        }
        _ => Err("has no tag's name behind its last `:`".to_owned()),
    }
}

/// Names as registries take them, without the registry's own.
fn check_repository(name: &str) -> Result<(), String> {
    let is_part =
        |part: &str| part.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
    if is_plain(name, |letter| letter == '/') && name.split('/').all(is_part) {
        Ok(())
    } else {
        Err(
            "has no repository's name in front, as it is in the registry, without the registry's host"
                .to_owned(),
        )
    }
}

fn is_plain(name: &str, also: fn(char) -> bool) -> bool {
    let is_usual =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "._-".contains(letter);
    !name.is_empty() && name.chars().all(|letter| is_usual(letter) || also(letter))
}

#[cfg(test)]
mod tests {
    use hardprune_common::digest::Algorithm;

    use super::*;

    #[test]
    fn lines_name_blobs_and_images() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        for line in [
            digest.to_string(),
            format!("a/b@{digest}"),
            "shop/web:v1.2_RC-1".to_owned(),
            "web:latest".to_owned(),
        ] {
            assert_eq!(parse(&line).unwrap().to_string(), line);
        }
    }

    #[test]
    fn lines_that_name_nothing() {
        let digest = Digest::of(Algorithm::Sha256, b"").to_string();
        for line in [
            "web",
            "web:",
            ":v1",
            "sha256:abc",
            "web@sha256:abc",
            "registry.example.com:5000/web:v1",
            "web:v1/2",
            "web:..",
            "../web:v1",
            "_layers/x:v1",
            "a//b:v1",
            "web v1:x",
            &format!("@{digest}"),
            &format!("{digest} # comment"),
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_file_says_which_line_is_wrong_and_names_something() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keep");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path)
        };
        assert_eq!(read("# ours\n\n web:v1 \r\nweb:v2\n").unwrap().len(), 2);
        let error = read("web:v1\n\nweb\n").unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("\"web\""), "{error}");
        assert!(read("# nothing\n").is_err());
    }
}
