//! R3: a key that is not, byte for byte, the canonical key of what it names is counted and left alone.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use hardprune_tests::content::digest_of;
use hardprune_tests::storage_writer::blob_key;
use jiff::Timestamp;

use crate::scene::{EVERYWHERE, Image, On, Scene, blob, number};

const ROOT: &str = "docker/registry/v2/";

/// The 64 digits of a blob that nobody has.
fn hex() -> String {
    digest_of(b"nobody").split_off("sha256:".len())
}

/// Plants keys; each must be counted once, and be there after a prune.
fn left_alone(scene: &Scene, keys: &[String]) -> Result<()> {
    left_alone_and_counted(scene, keys, keys.len())
}

fn left_alone_and_counted(scene: &Scene, keys: &[String], count: usize) -> Result<()> {
    for key in keys {
        scene.put(key, b"somebody's")?;
    }
    let report = scene.prunes_exactly(&[])?;
    let counted = number(&report, "/blobs/unrecognized_keys");
    ensure!(counted == count as u64, "{counted} were counted: {report:#}");
    for key in keys {
        let bytes = scene.storage().get(key)?;
        ensure!(bytes.as_deref() == Some(&b"somebody's"[..]), "{key} went");
    }
    Ok(())
}

fn near_blobs() -> Vec<String> {
    let hex = hex();
    let two = &hex[..2];
    let upper = hex.to_uppercase();
    let blobs = format!("{ROOT}blobs");
    vec![
        format!("{blobs}/md5/{two}/{hex}/data"),
        format!("{blobs}/SHA256/{two}/{hex}/data"),
        format!("{blobs}/sha512/{two}/{hex}/data"),
        format!("{blobs}/sha256/{two}/{upper}/data"),
        format!("{blobs}/sha256/ZZ/{hex}/data"),
        format!("{blobs}/sha256/{}/{hex}/data", wrong_folder(two)),
        format!("{blobs}/sha256/{two}a/{hex}/data"),
        format!("{blobs}/sha256/{two}/{}/data", &hex[..63]),
        format!("{blobs}/sha256/{two}/{hex}0/data"),
        format!("{blobs}/sha256/{two}/{hex}/data.bak"),
        format!("{blobs}/sha256/{two}/{hex}/.nfs0000000000000001"),
        format!("{blobs}/sha256/{two}/{hex}.old/data"),
        format!("{blobs}/sha256/{two}/notes.txt"),
        format!("{blobs}/sha256/README"),
        format!("{blobs}/README"),
    ]
}

fn wrong_folder(two: &str) -> &'static str {
    if two == "00" { "11" } else { "00" }
}

#[test]
fn keys_that_are_nearly_those_of_blobs() {
    for on in EVERYWHERE {
        left_alone(&Scene::new(on).unwrap(), &near_blobs()).unwrap();
    }
}

#[test]
fn keys_that_are_nearly_those_of_links() {
    let hex = hex();
    let upper = hex.to_uppercase();
    let repository = format!("{ROOT}repositories/odd/app");
    let keys = [
        format!("{repository}/_layers/md5/{hex}/link"),
        format!("{repository}/_layers/sha256/{upper}/link"),
        format!("{repository}/_layers/sha256/{hex}/link.bak"),
        format!("{repository}/_layers/sha256/{hex}/deeper/link"),
        format!("{repository}/_layers/sha256/link"),
        format!("{repository}/_manifests/revisions/sha256/{hex}/readme"),
        format!("{repository}/_uploads/1/leftover"),
        format!("{repository}/_trash/sha256/{hex}/link"),
        format!("{ROOT}repositories/README"),
    ];
    for on in EVERYWHERE {
        left_alone(&Scene::new(on).unwrap(), &keys).unwrap();
    }
}

/// A folder does not look into tags where no option asks for them.
#[test]
fn keys_that_are_nearly_those_of_tags() {
    let upper = hex().to_uppercase();
    let tag = format!("{ROOT}repositories/odd/app/_manifests/tags/latest");
    let keys = [
        format!("{tag}/current/link~"),
        format!("{tag}/index/sha256/{upper}/link"),
    ];
    left_alone_and_counted(&Scene::new(On::Folder).unwrap(), &keys, 0).unwrap();
    left_alone_and_counted(&Scene::new(On::S3).unwrap(), &keys, 2).unwrap();
}

#[test]
fn keys_beside_tags() {
    let key = format!("{ROOT}repositories/odd/app/_manifests/tags/latest");
    for on in EVERYWHERE {
        left_alone(&Scene::new(on).unwrap(), std::slice::from_ref(&key)).unwrap();
    }
}

/// What lies beside the registry is not even looked at.
#[test]
fn what_is_no_part_of_the_registry() {
    let hex = hex();
    let keys = [
        format!("{ROOT}blob/sha256/{}/{hex}/data", &hex[..2]),
        format!("{ROOT}README"),
        format!("docker/registry/v1/blobs/sha256/{}/{hex}/data", &hex[..2]),
        format!("backup/{ROOT}blobs/sha256/{}/{hex}/data", &hex[..2]),
        "hardprune.txt".to_owned(),
    ];
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        for key in &keys {
            scene.put(key, b"somebody's").unwrap();
        }
        let report = scene.prunes_exactly(&[]).unwrap();
        assert_eq!(number(&report, "/blobs/unrecognized_keys"), 0, "{report:#}");
        for key in &keys {
            assert!(scene.storage().get(key).unwrap().is_some(), "{key}");
        }
    }
}

/// A revision under a path that is none is served all the same, where its content is a digest.
#[test]
fn a_revision_link_at_an_odd_path_keeps_what_it_names() {
    for on in EVERYWHERE {
        let scene = Scene::new(on).unwrap();
        let image = Image::new(1);
        for blob in [&image.config, &image.layer, &image.manifest] {
            scene.put_blob(blob).unwrap();
        }
        let upper = hex().to_uppercase();
        let key = format!("{ROOT}repositories/odd/app/_manifests/revisions/sha256/{upper}/link");
        scene.put(&key, image.manifest.digest.as_bytes()).unwrap();
        let report = scene.prunes_exactly(&[]).unwrap();
        assert_eq!(number(&report, "/blobs/unrecognized_keys"), 1, "{report:#}");
    }
}

/// Tools that know folders leave empty objects whose keys end in a slash.
#[test]
fn keys_on_s3_that_end_in_a_slash() {
    let scene = Scene::new(On::S3).unwrap();
    let (orphan, _) = scene.truth.orphans.iter().next().unwrap();
    let data = blob_key(orphan);
    let folder = data.strip_suffix("data").unwrap();
    let hex = hex();
    let markers = [
        "docker/".to_owned(),
        ROOT.to_owned(),
        format!("{ROOT}blobs/"),
        format!("{ROOT}blobs/sha256/"),
        format!("{ROOT}blobs/sha256/{}/", &hex[..2]),
        folder.to_owned(),
        format!("{data}/"),
        format!("{ROOT}repositories/"),
        format!("{ROOT}repositories/team-0/"),
        format!("{ROOT}repositories/team-0/_layers/"),
        format!("{ROOT}repositories/team-0/_layers/sha256/{hex}/"),
        format!("{ROOT}repositories/team-0/_layers/sha256/{hex}/link/"),
    ];
    for key in &markers {
        scene.server().put(key, "", Some(Timestamp::UNIX_EPOCH));
    }
    scene.prunes_exactly(&[]).unwrap();
    for key in &markers {
        assert!(scene.storage().get(key).unwrap().is_some(), "{key} went");
    }
}

#[test]
fn keys_on_s3_with_two_slashes() {
    let scene = Scene::new(On::S3).unwrap();
    let hex = hex();
    let image = Image::new(1);
    scene.put_blob(&image.layer).unwrap();
    let digits = image.layer.digest.strip_prefix("sha256:").unwrap();
    let keys = [
        format!("{ROOT}blobs//sha256/{}/{hex}/data", &hex[..2]),
        format!("{ROOT}blobs/sha256//{}/{hex}/data", &hex[..2]),
        format!("{ROOT}blobs/sha256/{}//{hex}/data", &hex[..2]),
        format!("{ROOT}blobs/sha256/{}/{hex}//data", &hex[..2]),
        format!("{ROOT}repositories//_layers/sha256/{hex}/link"),
        format!("{ROOT}repositories/a//b/_layers/sha256/{hex}/link"),
        format!("{ROOT}repositories/a/_layers//sha256/{hex}/link"),
        format!("/{ROOT}blobs/sha256/{}/{hex}/data", &hex[..2]),
    ];
    for key in &keys {
        scene.put(key, b"somebody's").unwrap();
    }
    let dangling = format!("{ROOT}repositories/a//b/_layers/sha256/{digits}/link");
    scene.put(&dangling, image.layer.digest.as_bytes()).unwrap();
    scene.prunes_exactly(&[&image.layer]).unwrap();
    for key in keys.iter().chain([&dangling]) {
        assert!(scene.storage().get(key).unwrap().is_some(), "{key} went");
    }
}

#[test]
fn keys_on_s3_with_odd_characters() {
    let scene = Scene::new(On::S3).unwrap();
    let hex = hex();
    let blobs = format!("{ROOT}blobs/sha256/{}/{hex}", &hex[..2]);
    let keys: Vec<String> = [
        "data\u{1}",
        "data\r",
        "data\n",
        "d\u{e4}ta",
        "data%20",
        "data&amp;",
        "<data>",
        "da ta",
        "data+",
    ]
    .iter()
    .map(|name| format!("{blobs}/{name}"))
    .collect();
    left_alone(&scene, &keys).unwrap();
}

fn raw(scene: &Scene, parts: &[&[u8]]) -> PathBuf {
    parts
        .iter()
        .fold(scene.root().join(ROOT.trim_end_matches('/')), |path, part| {
            path.join(OsStr::from_bytes(part))
        })
}

#[test]
fn files_whose_names_are_no_utf_8() {
    let scene = Scene::new(On::Folder).unwrap();
    let hex = hex();
    let digits = hex.as_bytes();
    let odd = [
        raw(&scene, &[b"blobs", b"sha256", &digits[..2], digits, b"da\xffta"]),
        raw(&scene, &[b"blobs", b"sha256", &digits[..2], b"\xfe\xff", b"data"]),
        raw(
            &scene,
            &[b"repositories", b"odd", b"_layers", b"sha256", digits, b"l\xffnk"],
        ),
        raw(
            &scene,
            &[b"repositories", b"odd", b"_layers", b"sha256", b"\xc3(", b"link"],
        ),
        raw(
            &scene,
            &[
                b"repositories",
                b"odd",
                b"_manifests",
                b"tags",
                b"t\xe4g",
                b"current",
                b"link",
            ],
        ),
    ];
    for path in &odd {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "somebody's").unwrap();
    }
    scene.prunes_exactly(&[]).unwrap();
    for path in &odd {
        assert_eq!(fs::read(path).unwrap(), b"somebody's", "{path:?}");
    }
}

#[test]
fn a_folder_of_blobs_whose_name_is_no_utf_8() {
    let scene = Scene::new(On::Folder).unwrap();
    let hex = hex();
    let path = raw(
        &scene,
        &[b"blobs", b"sha256", b"\xff\xfe", hex.as_bytes(), b"data"],
    );
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "somebody's").unwrap();
    let report = scene.prunes_exactly(&[]).unwrap();
    assert_eq!(number(&report, "/blobs/unrecognized_keys"), 1, "{report:#}");
    assert!(path.exists());
}

/// Its name cannot be spoken, but its manifests can be read: what they need stays.
#[test]
fn a_repository_whose_name_is_no_utf_8_keeps_what_it_needs() {
    let scene = Scene::new(On::Folder).unwrap();
    let (image, dangling) = (Image::new(1), blob(2));
    for blob in [&image.config, &image.layer, &image.manifest, &dangling] {
        scene.put_blob(blob).unwrap();
    }
    let link = |kind: &[&[u8]], digest: &str| {
        let digits = digest.strip_prefix("sha256:").unwrap().as_bytes();
        let path = raw(
            &scene,
            &[
                &[&b"repositories"[..], b"caf\xe9"],
                kind,
                &[b"sha256", digits, b"link"],
            ]
            .concat(),
        );
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, digest).unwrap();
        let ten_days_ago = SystemTime::now() - Duration::from_secs(10 * 86_400);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(ten_days_ago).unwrap();
        path
    };
    let links = [
        link(&[b"_manifests", b"revisions"], &image.manifest.digest),
        link(&[b"_layers"], &image.config.digest),
        link(&[b"_layers"], &image.layer.digest),
        link(&[b"_layers"], &dangling.digest),
    ];
    let report = scene.prunes_exactly(&[&dangling]).unwrap();
    assert_eq!(number(&report, "/problems/total"), 0, "{report:#}");
    for path in &links {
        assert!(path.exists(), "{path:?}");
    }
}
