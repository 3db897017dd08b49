//! Credentials that are wrong or missing, and secrets, which nothing ever shows.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Result, ensure};
use hardprune_tests::program::Hardprune;
use hardprune_tests::s3_server::{Effect, Fault, Operation};

use crate::scene::{On, Scene};

#[test]
fn a_wrong_secret_key() {
    let mut scene = Scene::new(On::S3).unwrap();
    scene.program = scene.program.with("AWS_SECRET_ACCESS_KEY", "not-the-secret");
    let parts = [
        "s3://registry",
        "credentials were not accepted",
        "SignatureDoesNotMatch",
    ];
    scene.both_fail(2, &[], &parts).unwrap();
}

#[test]
fn an_unknown_access_key() {
    let mut scene = Scene::new(On::S3).unwrap();
    scene.program = scene.program.with("AWS_ACCESS_KEY_ID", "nobody");
    let parts = ["s3://registry", "credentials were not accepted"];
    scene.both_fail(2, &[], &parts).unwrap();
}

#[test]
fn a_token_that_has_expired() {
    let scene = Scene::new(On::S3).unwrap();
    let expired = Fault::on(Operation::List, Effect::Status(400, "ExpiredToken"));
    scene.server().faults().add(expired);
    scene
        .both_fail(2, &[], &["credentials were not accepted", "ExpiredToken"])
        .unwrap();
}

#[test]
fn no_credentials_at_all() {
    let mut scene = Scene::new(On::S3).unwrap();
    // The machine's own role is asked for last; nobody answers there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    scene.program = Hardprune::new()
        .unwrap()
        .with("AWS_ENDPOINT_URL", scene.server().endpoint())
        .with("AWS_REGION", "us-east-1")
        .with("AWS_METADATA_ENDPOINT", format!("http://{nobody}"));
    let parts = [
        "s3://registry",
        "credentials",
        "set them as the provider's own tools take them",
    ];
    scene.both_fail(2, &[], &parts).unwrap();
    assert_eq!(scene.server().counters().list, 0, "something was sent unsigned");
}

#[test]
fn half_of_the_credentials() {
    let mut scene = Scene::new(On::S3).unwrap();
    scene.program = Hardprune::new()
        .unwrap()
        .with("AWS_ENDPOINT_URL", scene.server().endpoint())
        .with("AWS_ACCESS_KEY_ID", "half");
    scene.both_fail(2, &[], &["AWS_SECRET_ACCESS_KEY"]).unwrap();
}

const TOKEN: &str = "a-session-token-that-is-secret";

/// Fails if any file below a folder has a secret in it.
fn has_no_secret(folder: &Path, secrets: &[&str]) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            has_no_secret(&path, secrets)?;
            continue;
        }
        let bytes = fs::read(&path)?;
        for secret in secrets {
            let found = bytes
                .windows(secret.len())
                .any(|piece| piece == secret.as_bytes());
            ensure!(!found, "{} has a secret in it", path.display());
        }
    }
    Ok(())
}

/// Runs with all the logs there are; neither they nor what is printed or kept may have a secret.
fn keeps_secrets(scene: &Scene, arguments: &[&str], wanted: i32, secrets: &[&str]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["-vvv"]).collect();
    let finished = scene.program.run(&arguments)?;
    let (out, err) = (&finished.stdout, &finished.stderr);
    ensure!(finished.status == wanted, "{}: {out}{err}", finished.status);
    for secret in secrets {
        ensure!(
            !out.contains(secret) && !err.contains(secret),
            "a secret is shown: {out}{err}"
        );
    }
    has_no_secret(scene.program.home(), secrets)?;
    for (key, _) in scene.storage().keys()? {
        let bytes = scene.storage().get(&key)?.unwrap_or_default();
        for secret in secrets {
            let found = bytes
                .windows(secret.len())
                .any(|piece| piece == secret.as_bytes());
            ensure!(!found, "{key} has a secret in it");
        }
    }
    Ok(())
}

#[test]
fn secrets_of_the_environment_are_never_shown() {
    let mut scene = Scene::new(On::S3).unwrap();
    scene.program = scene.program.with("AWS_SESSION_TOKEN", TOKEN);
    let secrets = [scene.server().secret_key(), TOKEN];
    let name = scene.name();
    let state = format!("{name}/state");
    for format in ["text", "json"] {
        let more = ["--log-format", format];
        let check = scene.arguments(&name, "check", &more);
        keeps_secrets(&scene, &check, 0, &secrets).unwrap();
    }
    let delete = scene.arguments(&name, "delete", &["--state", &state]);
    keeps_secrets(&scene, &delete, 0, &secrets).unwrap();
    keeps_secrets(&scene, &["runs", "list", "--state", &state], 0, &secrets).unwrap();

    for effect in [
        Effect::Status(403, "SignatureDoesNotMatch"),
        Effect::Status(403, "AccessDenied"),
        Effect::Status(500, "InternalError"),
        Effect::DropConnection,
        Effect::Html200,
    ] {
        let wanted = if matches!(effect, Effect::Status(_, "SignatureDoesNotMatch")) {
            2
        } else {
            1
        };
        scene.server().faults().add(Fault::on_all(effect));
        for command in ["check", "delete"] {
            let arguments = scene.arguments(&name, command, &[]);
            keeps_secrets(&scene, &arguments, wanted, &secrets).unwrap();
        }
        scene.server().faults().clear();
    }
}

#[test]
fn secrets_of_a_configuration_are_never_shown() {
    let mut scene = Scene::new(On::S3).unwrap();
    scene.program = Hardprune::new().unwrap();
    let secrets = [scene.server().secret_key()];
    let config = tempfile::NamedTempFile::new().unwrap();
    let write = |secret: &str| {
        let (endpoint, access) = (scene.server().endpoint(), scene.server().access_key());
        let text = format!(
            "version: 0.1\nstorage:\n  s3:\n    accesskey: {access}\n    secretkey: {secret}\n    region: us-east-1\n    \
             regionendpoint: {endpoint}\n    bucket: registry\n    forcepathstyle: true\n"
        );
        fs::write(config.path(), text).unwrap();
    };
    let path = config.path().to_str().unwrap();
    write(secrets[0]);
    let options = ["--registry-config", path, "--retry-pause", "1ms"];
    let check = [&["check"][..], &options].concat();
    let delete = [&["delete", "--assume-read-only"][..], &options].concat();
    keeps_secrets(&scene, &check, 0, &secrets).unwrap();
    keeps_secrets(&scene, &delete, 0, &secrets).unwrap();
    scene
        .server()
        .faults()
        .add(Fault::on_all(Effect::Status(500, "InternalError")));
    keeps_secrets(&scene, &check, 1, &secrets).unwrap();
    scene.server().faults().clear();
    // Not the right one, and not to be shown all the same; then a file that cannot be read as a configuration.
    write("another-secret");
    keeps_secrets(&scene, &check, 2, &["another-secret"]).unwrap();
    write("[unclosed-secret");
    keeps_secrets(&scene, &check, 2, &["unclosed-secret"]).unwrap();
}
