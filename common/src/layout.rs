//! The keys of a registry in the Distribution layout: reading them, and writing the canonical one.
//!
//! Upholds R3: a key is recognized only if it equals, byte for byte, the canonical key of what it names. Source:
//! `docs/facts`: `registry/storage/paths.go` of CNCF Distribution describes the same tree.

use crate::digest::{Algorithm, Digest};

/// Everything of a registry lies under this.
pub const ROOT: &str = "docker/registry/v2/";
/// The blobs.
pub const BLOBS: &str = "docker/registry/v2/blobs/";
/// The repositories.
pub const REPOSITORIES: &str = "docker/registry/v2/repositories/";
/// GitLab's registry leaves these where a database holds the metadata.
pub const LOCKFILES: &str = "docker/registry/lockfiles/";

/// Parts of the longest path that a registry makes below a repository's name: that of an old signature.
const MOST_PARTS: usize = 8;

/// The canonical key of a blob's bytes.
#[must_use]
pub fn blob_key(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{BLOBS}{}/{}/{hex}/data", digest.algorithm().name(), &hex[..2])
}

/// Reads the key of a blob's bytes.
///
/// `None` where the key is not the canonical key of any blob (R3).
#[must_use]
pub fn parse_blob_key(key: &str) -> Option<Digest> {
    let mut parts = key.strip_prefix(BLOBS)?.split('/');
    let algorithm = Algorithm::from_name(parts.next()?)?;
    let (folder, hex) = (parts.next()?, parts.next()?);
    // Exact parts, a digest that has one spelling, and nothing else: so the key is the canonical one.
    let is_canonical = hex.get(..2) == Some(folder) && parts.next() == Some("data") && parts.next().is_none();
    is_canonical
        .then(|| Digest::from_hex(algorithm, hex).ok())
        .flatten()
}

/// What a key inside a repository's folder names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryEntry {
    /// A layer link: the repository has pushed or mounted this blob.
    LayerLink(Digest),
    /// A revision link: the repository serves this manifest.
    RevisionLink(Digest),
    /// A signature of a revision, as registries before 2.1 kept them beside it.
    SignatureLink {
        /// The revision signed.
        revision: Digest,
        /// The blob that holds the signature.
        signature: Digest,
    },
    /// The link that says what a tag means now.
    TagCurrent {
        /// The tag.
        tag: String,
    },
    /// A tag index entry: what a tag has meant.
    TagIndexEntry {
        /// The tag.
        tag: String,
        /// The manifest.
        digest: Digest,
    },
    /// A file of an upload in progress.
    Upload {
        /// The upload's id.
        upload: String,
        /// Its file, relative to the upload's folder.
        file: UploadFile,
    },
}

/// A file of an upload in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadFile {
    /// The bytes received so far.
    Data,
    /// When it began.
    StartedAt,
    /// The hash's state at an offset.
    HashState {
        /// As the registry names it; not always an algorithm that blobs are stored by.
        algorithm: String,
        /// Bytes hashed.
        offset: String,
    },
}

/// A key under [`REPOSITORIES`], taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryKey<'k> {
    /// The repository's name: what comes before the first part that begins with `_`.
    pub repository: &'k str,
    /// What the key names. `None` where it is not canonical (R3): it is left alone.
    pub entry: Option<RepositoryEntry>,
}

/// Takes a key under [`REPOSITORIES`] apart.
///
/// `None` where no part of it begins with `_`: the key belongs to no repository.
#[must_use]
pub fn parse_repository_key(key: &str) -> Option<RepositoryKey<'_>> {
    let path = key.strip_prefix(REPOSITORIES)?;
    let end = path.find("/_")?;
    let (repository, rest) = (&path[..end], &path[end + 1..]);
    // A filesystem takes a path with such parts for another one.
    let is_plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let entry = is_plain.then(|| parse_entry(rest)).flatten();
    Some(RepositoryKey { repository, entry })
}

/// The digest that the key of a blob or a link names. `None` for a tag's current link, an upload's files, and any other key.
#[must_use]
pub fn digest_of(key: &str) -> Option<Digest> {
    let Some(parsed) = parse_repository_key(key) else {
        return parse_blob_key(key);
    };
    match parsed.entry? {
        RepositoryEntry::LayerLink(digest)
        | RepositoryEntry::RevisionLink(digest)
        | RepositoryEntry::SignatureLink {
            signature: digest, ..
        }
        | RepositoryEntry::TagIndexEntry { digest, .. } => Some(digest),
        RepositoryEntry::TagCurrent { .. } | RepositoryEntry::Upload { .. } => None,
    }
}

/// What all keys of a repository begin with, and no other key: a range that is cut behind it takes none of them apart, whatever
/// is pushed later.
#[must_use]
pub fn repository_start(repository: &str) -> String {
    format!("{REPOSITORIES}{repository}/_")
}

/// Whether a range that ends with this key leaves every repository whole, those that are not there yet as well.
#[must_use]
pub fn is_between_repositories(key: &str) -> bool {
    key.starts_with(REPOSITORIES) && key.find("/_").is_none_or(|begin| begin + 2 == key.len())
}

/// The name of the one file that a registry keeps in each folder of this folder, where it keeps no more: in a blob's, a
/// layer link's and a tag index entry's. `folder` ends with a `/`.
#[must_use]
pub fn only_file_below(folder: &str) -> Option<&'static str> {
    let mut parts = folder.strip_suffix('/')?.rsplit('/');
    let (last, above, further, furthest) = (parts.next()?, parts.next()?, parts.next(), parts.nth(1));
    if folder.starts_with(BLOBS) {
        let is_shard = folder.len() == BLOBS.len() + above.len() + last.len() + 2;
        return (is_shard && Algorithm::from_name(above).is_some()).then_some("data");
    }
    let is_links =
        above == "_layers" || above == "index" && furthest == Some("_manifests") && further.is_some();
    (is_links && folder.starts_with(REPOSITORIES) && Algorithm::from_name(last).is_some()).then_some("link")
}

/// Whether a folder holds a repository's layer links by the digests that a registry computes itself. Such a link says what its
/// path says; one by another algorithm says the blob's canonical digest (Distribution's `linkBlob`, on aliases), so
/// that its content matters. `folder` ends with a `/`.
#[must_use]
pub fn holds_canonical_layer_links(folder: &str) -> bool {
    folder.starts_with(REPOSITORIES) && folder.ends_with("/_layers/sha256/")
}

/// Whether the folders in a folder are a repository's tags. `folder` ends with a `/`.
#[must_use]
pub fn holds_tags(folder: &str) -> bool {
    folder.starts_with(REPOSITORIES) && folder.ends_with("/_manifests/tags/")
}

/// The key of the link that says what a tag means now. `folder` is one that holds tags, and ends with a `/`.
#[must_use]
pub fn tag_link_in(folder: &str, tag: &str) -> String {
    format!("{folder}{tag}/current/link")
}

/// Whether a folder lies among a repository's tags, or its uploads. `folder` ends with a `/`.
#[must_use]
pub fn is_of_tags_or_uploads(folder: &str) -> bool {
    let own = ["/_manifests/tags/", "/_uploads/"];
    folder.starts_with(REPOSITORIES) && own.iter().any(|own| folder.contains(own))
}

/// Takes what follows a repository's name apart. Every part is exact or a name as it stands, and a digest has one spelling: so what
/// is recognized is canonical.
fn parse_entry(rest: &str) -> Option<RepositoryEntry> {
    let mut places = [""; MOST_PARTS];
    let mut count = 0;
    for part in rest.split('/') {
        *places.get_mut(count)? = part;
        count += 1;
    }
    let digest = |algorithm: &str, hex: &str| {
        Algorithm::from_name(algorithm).and_then(|algorithm| Digest::from_hex(algorithm, hex).ok())
    };
    Some(match &places[..count] {
        ["_layers", algorithm, hex, "link"] => RepositoryEntry::LayerLink(digest(algorithm, hex)?),
        ["_manifests", "revisions", algorithm, hex, "link"] => {
            RepositoryEntry::RevisionLink(digest(algorithm, hex)?)
        }
        [
            "_manifests",
            "revisions",
            algorithm,
            hex,
            "signatures",
            of,
            signature,
            "link",
        ] => RepositoryEntry::SignatureLink {
            revision: digest(algorithm, hex)?,
            signature: digest(of, signature)?,
        },
        ["_manifests", "tags", tag, "current", "link"] => RepositoryEntry::TagCurrent { tag: (*tag).into() },
        ["_manifests", "tags", tag, "index", algorithm, hex, "link"] => RepositoryEntry::TagIndexEntry {
            tag: (*tag).into(),
            digest: digest(algorithm, hex)?,
        },
        ["_uploads", upload, file @ ..] => RepositoryEntry::Upload {
            upload: (*upload).into(),
            file: parse_upload_file(file)?,
        },
        _ => return None,
    })
}

fn parse_upload_file(parts: &[&str]) -> Option<UploadFile> {
    Some(match parts {
        ["data"] => UploadFile::Data,
        ["startedat"] => UploadFile::StartedAt,
        ["hashstates", algorithm, offset] => UploadFile::HashState {
            algorithm: (*algorithm).into(),
            offset: (*offset).into(),
        },
        _ => return None,
    })
}

fn entry_path(entry: &RepositoryEntry) -> String {
    let folder = |digest: &Digest| format!("{}/{}", digest.algorithm().name(), digest.hex());
    match entry {
        RepositoryEntry::LayerLink(digest) => format!("_layers/{}/link", folder(digest)),
        RepositoryEntry::RevisionLink(digest) => format!("_manifests/revisions/{}/link", folder(digest)),
        RepositoryEntry::SignatureLink { revision, signature } => {
            format!(
                "_manifests/revisions/{}/signatures/{}/link",
                folder(revision),
                folder(signature)
            )
        }
        RepositoryEntry::TagCurrent { tag } => format!("_manifests/tags/{tag}/current/link"),
        RepositoryEntry::TagIndexEntry { tag, digest } => {
            format!("_manifests/tags/{tag}/index/{}/link", folder(digest))
        }
        RepositoryEntry::Upload { upload, file } => match file {
            UploadFile::Data => format!("_uploads/{upload}/data"),
            UploadFile::StartedAt => format!("_uploads/{upload}/startedat"),
            UploadFile::HashState { algorithm, offset } => {
                format!("_uploads/{upload}/hashstates/{algorithm}/{offset}")
            }
        },
    }
}

/// The canonical key of what an entry of a repository names.
#[must_use]
pub fn repository_key(repository: &str, entry: &RepositoryEntry) -> String {
    format!("{REPOSITORIES}{repository}/{}", entry_path(entry))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn only_canonical_blob_keys_are_recognized() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        let key = format!("{BLOBS}sha256/e3/{HEX}/data");
        assert_eq!(blob_key(&digest), key);
        assert_eq!(parse_blob_key(&key), Some(digest));
        for bad in [
            format!("{BLOBS}sha256/e4/{HEX}/data"),
            format!("{BLOBS}sha256/E3/{HEX}/data"),
            format!("{BLOBS}sha256/e3/{}/data", HEX.to_uppercase()),
            format!("{BLOBS}md5/e3/{HEX}/data"),
            format!("{BLOBS}sha256/e3/{HEX}/data/"),
            format!("{BLOBS}sha256/e3/{HEX}//data"),
            format!("{BLOBS}sha256/e3/{HEX}/data2"),
            format!("{BLOBS}sha256/e3/{HEX}/"),
            format!("{BLOBS}sha256/e3/{}/data", &HEX[..62]),
            format!("/{key}"),
        ] {
            assert_eq!(parse_blob_key(&bad), None, "{bad}");
        }
    }

    #[test]
    fn folders_of_one_file_are_those_of_digests_without_other_folders() {
        let digest = Digest::of(Algorithm::Sha256, b"");
        let below = |key: &str| {
            let (folder, file) = key.rsplit_once('/').unwrap();
            let (above, _) = folder.rsplit_once('/').unwrap();
            only_file_below(&format!("{above}/")).map(|only| only == file)
        };
        let link = |entry| below(&repository_key("a/index/b", &entry));
        let tag = || "index".to_owned();
        assert_eq!(below(&blob_key(&digest)), Some(true));
        assert_eq!(link(RepositoryEntry::LayerLink(digest)), Some(true));
        assert_eq!(
            link(RepositoryEntry::TagIndexEntry { tag: tag(), digest }),
            Some(true)
        );
        // Signatures lie in a revision's folder, and a tag has two folders.
        assert_eq!(link(RepositoryEntry::RevisionLink(digest)), None);
        assert_eq!(link(RepositoryEntry::TagCurrent { tag: tag() }), None);
        for folder in ["", "/", BLOBS, REPOSITORIES] {
            assert_eq!(only_file_below(folder), None, "{folder}");
        }
        assert_eq!(only_file_below(&format!("{BLOBS}sha256/")), None);
        assert_eq!(only_file_below(&format!("{BLOBS}sha256/e3/{HEX}/")), None);
    }

    #[test]
    fn a_tags_link_is_named_by_its_folder() {
        let tag = RepositoryEntry::TagCurrent { tag: "v1".to_owned() };
        let folder = format!("{REPOSITORIES}a/b/_manifests/tags/");
        assert!(holds_tags(&folder));
        assert!(!holds_tags(&format!("{folder}v1/")));
        assert_eq!(tag_link_in(&folder, "v1"), repository_key("a/b", &tag));
    }

    #[test]
    fn a_repository_inside_anothers_folder_is_its_own() {
        let key = format!("{REPOSITORIES}a/b/_layers/sha256/{HEX}/link");
        assert_eq!(parse_repository_key(&key).unwrap().repository, "a/b");
        let key = format!("{REPOSITORIES}a/_layers/sha256/{HEX}/link");
        assert_eq!(parse_repository_key(&key).unwrap().repository, "a");
        assert_eq!(parse_repository_key(&format!("{REPOSITORIES}a/b/c")), None);
    }

    #[test]
    fn near_misses_are_not_recognized() {
        for rest in [
            format!("_layers/sha256/{HEX}/link/"),
            format!("_layers/sha256/{HEX}/Link"),
            format!("_layers/sha256/{HEX}"),
            format!("_layers/sha1/{HEX}/link"),
            format!("_manifests/revisions/sha256/{HEX}/signatures/link"),
            "_manifests/tags/latest/current".to_owned(),
            "_manifests/tags//current/link".to_owned(),
            "_manifests/tags/../current/link".to_owned(),
            "_uploads/x/other".to_owned(),
            "_other/x".to_owned(),
        ] {
            let key = format!("{REPOSITORIES}a/{rest}");
            assert_eq!(parse_repository_key(&key).unwrap().entry, None, "{rest}");
        }
        for repository in ["", "a/", "../a", "a/.", "a//b"] {
            let key = format!("{REPOSITORIES}{repository}/_layers/sha256/{HEX}/link");
            assert_eq!(parse_repository_key(&key).unwrap().entry, None, "{key}");
        }
    }

    proptest! {
        #[test]
        fn a_cut_between_repositories_takes_none_apart(
            cut in "[a-b]{1,2}(/[a-b]{1,2}){0,2}(/|/_|/_b|/_b/_|_)?",
            repository in "[a-b]{1,2}(/[a-b]{1,2}){0,2}",
            rests in prop::collection::vec("[a-b_/]{0,4}", 1..20),
        ) {
            let cut = format!("{REPOSITORIES}{cut}");
            let keys = rests.iter().map(|rest| format!("{}{rest}", repository_start(&repository)));
            let (before, behind): (Vec<String>, Vec<String>) = keys.filter(|key| *key != cut).partition(|key| *key <= cut);
            if is_between_repositories(&cut) {
                prop_assert!(before.is_empty() || behind.is_empty(), "{} {:?} {:?}", cut, before, behind);
            }
            prop_assert!(is_between_repositories(&repository_start(&repository)));
        }
    }

    fn digests() -> impl Strategy<Value = Digest> {
        prop_oneof![
            any::<[u8; 32]>().prop_map(|hash| Digest::from_hash(Algorithm::Sha256, &hash).unwrap()),
            any::<[u8; 64]>().prop_map(|hash| Digest::from_hash(Algorithm::Sha512, &hash).unwrap()),
        ]
    }

    fn entries() -> impl Strategy<Value = RepositoryEntry> {
        // Not "." and "..", which are no names.
        let name = "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,19}";
        prop_oneof![
            digests().prop_map(RepositoryEntry::LayerLink),
            digests().prop_map(RepositoryEntry::RevisionLink),
            (digests(), digests())
                .prop_map(|(revision, signature)| RepositoryEntry::SignatureLink { revision, signature }),
            name.prop_map(|tag| RepositoryEntry::TagCurrent { tag }),
            (name, digests()).prop_map(|(tag, digest)| RepositoryEntry::TagIndexEntry { tag, digest }),
            name.prop_map(|upload| RepositoryEntry::Upload {
                upload,
                file: UploadFile::Data
            }),
        ]
    }

    proptest! {
        #[test]
        fn keys_round_trip(repository in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,3}", entry in entries()) {
            let key = repository_key(&repository, &entry);
            let parsed = parse_repository_key(&key).unwrap();
            prop_assert_eq!(parsed.repository, repository);
            prop_assert_eq!(parsed.entry, Some(entry));
        }

        #[test]
        fn blob_keys_round_trip(digest in digests()) {
            prop_assert_eq!(parse_blob_key(&blob_key(&digest)), Some(digest));
        }

        #[test]
        fn a_key_with_a_small_change_is_canonical_or_left_alone(
            entry in entries(),
            blob in digests(),
            place: prop::sample::Index,
            cut in 0usize..3,
            insert in "[a-fA-F0-9/._]{0,2}",
        ) {
            for key in [repository_key("a/b", &entry), blob_key(&blob)] {
                let at = place.index(key.len() + 1);
                let changed = format!("{}{insert}{}", &key[..at], &key[(at + cut).min(key.len())..]);
                if let Some(digest) = parse_blob_key(&changed) {
                    prop_assert_eq!(blob_key(&digest), changed);
                } else if let Some(RepositoryKey { repository, entry: Some(entry) }) = parse_repository_key(&changed) {
                    prop_assert_eq!(repository_key(repository, &entry), changed);
                }
            }
        }

        #[test]
        fn any_key_is_canonical_or_left_alone(key in "docker/registry/v2/repositories/\\PC*") {
            if let Some(RepositoryKey { repository, entry: Some(entry) }) = parse_repository_key(&key) {
                prop_assert_eq!(repository_key(repository, &entry), key);
            }
        }
    }
}
