//! Places that hold no registry, or one that may not be looked at.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use hardprune_tests::program::{Finished, Hardprune};
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options, S3Server};

use crate::scene::{On, Scene, says};

fn both(program: &Hardprune, storage: &str, wanted: i32, parts: &[&str]) -> Result<()> {
    says(&program.run(&["check", storage])?, wanted, parts)?;
    says(
        &program.run(&["delete", storage, "--assume-read-only"])?,
        wanted,
        parts,
    )
}

#[test]
fn a_path_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no/such/place");
    let program = Hardprune::new().unwrap();
    let name = path.to_str().unwrap();
    both(&program, name, 2, &[name, "no such folder", "check the name"]).unwrap();
    assert!(!path.exists(), "it was made");
}

#[test]
fn a_bucket_that_is_not_there() {
    let server = S3Server::start(S3Options::default()).unwrap();
    let program = Hardprune::new().unwrap().on_s3(&server);
    let parts = ["s3://elsewhere", "no such bucket", "check the name"];
    both(&program, "s3://elsewhere", 2, &parts).unwrap();
}

#[test]
fn a_folder_that_is_no_registry() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter.txt"), "precious").unwrap();
    let name = folder.path().to_str().unwrap();
    let parts = [
        name,
        "holds no registry",
        "docker/registry/v2/blobs/",
        "docker/registry/v2/repositories/",
        "Name the folder",
    ];
    both(&Hardprune::new().unwrap(), name, 2, &parts).unwrap();
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(
        left.len(),
        1,
        "a delete that was refused left something: {left:?}"
    );
}

#[test]
fn a_bucket_that_is_no_registry() {
    let server = S3Server::start(S3Options::default()).unwrap();
    server.put("letter.txt", "precious", None);
    let program = Hardprune::new().unwrap().on_s3(&server);
    let name = format!("s3://{}/folder", server.bucket());
    both(&program, &name, 2, &[&name, "holds no registry", "prefix"]).unwrap();
    assert_eq!(server.inventory().len(), 1);
}

#[test]
fn a_folder_inside_a_registry_is_recognized_as_such() {
    let scene = Scene::new(On::Folder).unwrap();
    let before = scene.snapshot().unwrap();
    for inside in ["docker", "docker/registry", "docker/registry/v2"] {
        let path = scene.root().join(inside);
        let parts = ["holds no registry", "go up"];
        both(&scene.program, path.to_str().unwrap(), 2, &parts).unwrap();
    }
    before.is_unchanged(&scene).unwrap();
}

#[test]
fn a_file_instead_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registry.tar");
    fs::write(&file, "precious").unwrap();
    let name = file.to_str().unwrap();
    both(&Hardprune::new().unwrap(), name, 2, &[name, "it is not a folder"]).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

/// Runs as a user to whom permissions mean something: root reads everything.
fn as_nobody(program: &Hardprune, arguments: &[&str]) -> Result<Finished> {
    const NOBODY: &str = "65534";
    let plain = program.command(arguments);
    if !is_root() {
        return program.run(arguments);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .arg(plain.get_program())
        .args(plain.get_args())
        .env_clear()
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Finished::of(&command.output()?)
}

fn is_root() -> bool {
    let own = Command::new("id").arg("-u").output();
    own.is_ok_and(|output| output.stdout == b"0\n")
}

/// Gives a folder and all in it to nobody.
fn hand_over(folder: &Path) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    chown(folder, Some(65_534), Some(65_534))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            hand_over(&entry.path())?;
        } else {
            chown(entry.path(), Some(65_534), Some(65_534))?;
        }
    }
    Ok(())
}

#[test]
fn a_folder_that_may_not_be_read() {
    let scene = Scene::new(On::Folder).unwrap();
    hand_over(scene.root()).unwrap();
    hand_over(scene.program.home()).unwrap();
    let closed = scene.root().join("docker/registry/v2/blobs/sha256");
    let name = scene.name();
    let before = scene.snapshot().unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    for command in ["check", "delete"] {
        let finished = as_nobody(&scene.program, &scene.arguments(&name, command, &[])).unwrap();
        says(
            &finished,
            1,
            &["not permitted to list", "docker/registry/v2/blobs/sha256/"],
        )
        .unwrap();
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    before.is_unchanged(&scene).unwrap();
}

#[test]
fn a_folder_that_may_be_read_and_not_be_written() {
    let scene = Scene::new(On::Folder).unwrap();
    hand_over(scene.root()).unwrap();
    hand_over(scene.program.home()).unwrap();
    let name = scene.name();
    let before = scene.snapshot().unwrap();
    fs::set_permissions(scene.root(), fs::Permissions::from_mode(0o500)).unwrap();
    let check = as_nobody(&scene.program, &scene.arguments(&name, "check", &[])).unwrap();
    says(&check, 0, &[]).unwrap();
    let delete = as_nobody(&scene.program, &scene.arguments(&name, "delete", &[])).unwrap();
    says(&delete, 1, &["not permitted to", "hardprune"]).unwrap();
    fs::set_permissions(scene.root(), fs::Permissions::from_mode(0o700)).unwrap();
    before.is_unchanged(&scene).unwrap();
}

#[test]
fn a_bucket_that_may_not_be_listed() {
    let scene = Scene::new(On::S3).unwrap();
    let fault = Fault::on(Operation::List, Effect::Status(403, "AccessDenied"));
    scene.server().faults().add(fault);
    let parts = ["s3://registry", "not permitted to list", "AccessDenied"];
    scene.both_fail(1, &[], &parts).unwrap();
}

#[test]
fn a_bucket_that_may_be_read_and_not_be_written() {
    let scene = Scene::new(On::S3).unwrap();
    let fault = Fault::on(Operation::Put, Effect::Status(403, "AccessDenied"));
    scene.server().faults().add(fault);
    scene.report(0, "check", &[]).unwrap();
    scene
        .fails(
            1,
            "delete",
            &[],
            &["not permitted to write", "AccessDenied", "hardprune/"],
        )
        .unwrap();
}
