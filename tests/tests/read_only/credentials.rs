//! Who the probe is: a user, a token, a user at a token service. Nobody else hears the secret, and no output shows it.

use std::path::PathBuf;

use hardprune_tests::generate::Shape;
use hardprune_tests::program::Finished;
use hardprune_tests::scene::Scene;
use hardprune_tests::scripted_http::{Asked, Reply, ScriptedHttp};

use crate::scripted::{VERSION, delete, read_only_answer, refused};

const PASSWORD: &str = "the-password-of-the-test";
const TOKEN: &str = "the-token-of-the-test";
/// `puller` with the password.
const BASIC: &str = "Basic cHVsbGVyOnRoZS1wYXNzd29yZC1vZi10aGUtdGVzdA==";

fn scene() -> Scene {
    Scene::on_folder(&Shape::small(22)).unwrap()
}

fn secret_file(scene: &Scene, secret: &str) -> PathBuf {
    let path = scene.folder().join("secret");
    std::fs::write(&path, format!("{secret}\n")).unwrap();
    path
}

/// Who does not prove who it is gets this challenge.
fn guarded(challenge: &'static str, wanted: &'static str) -> ScriptedHttp {
    ScriptedHttp::start(move |asked| {
        if asked.header("authorization") == Some(wanted) {
            read_only_answer()
        } else {
            Reply::new(401, &[VERSION, ("WWW-Authenticate", challenge)], "")
        }
    })
    .unwrap()
}

fn shows_no_secret(finished: &Finished) {
    for secret in [PASSWORD, TOKEN, BASIC] {
        assert!(
            !finished.stdout.contains(secret) && !finished.stderr.contains(secret),
            "{finished:?}"
        );
    }
}

fn run(scene: &Scene, server: &ScriptedHttp, others: &[&str]) -> Finished {
    let url = server.url();
    let finished = scene
        .program
        .run(&delete(
            scene,
            &[&["--registry-url", &url, "-vv"], others].concat(),
        ))
        .unwrap();
    shows_no_secret(&finished);
    finished
}

#[test]
fn a_user_with_a_password() {
    let scene = scene();
    let file = secret_file(&scene, PASSWORD);
    let user = [
        "--registry-user",
        "puller",
        "--registry-password-file",
        file.to_str().unwrap(),
    ];
    let server = guarded("Basic realm=\"registry\"", BASIC);
    assert_eq!(run(&scene, &server, &user).status, 0);
}

#[test]
fn a_password_that_is_wrong_or_missing() {
    let scene = scene();
    let file = secret_file(&scene, "wrong");
    let user = [
        "--registry-user",
        "puller",
        "--registry-password-file",
        file.to_str().unwrap(),
    ];
    let server = guarded("Basic realm=\"registry\"", BASIC);
    refused(
        &scene,
        &run(&scene, &server, &user),
        &["does not accept these credentials"],
    )
    .unwrap();
    let finished = run(&scene, &server, &["--registry-user", "puller"]);
    assert_eq!(finished.status, 2, "{finished:?}");
    assert!(
        finished.stderr.contains("--registry-password-file"),
        "{finished:?}"
    );
}

#[test]
fn a_token() {
    let scene = scene();
    let file = secret_file(&scene, TOKEN);
    let server = guarded(
        "Bearer realm=\"https://auth.invalid/token\"",
        "Bearer the-token-of-the-test",
    );
    let token = ["--registry-token-file", file.to_str().unwrap()];
    assert_eq!(run(&scene, &server, &token).status, 0);
}

fn token_service() -> ScriptedHttp {
    ScriptedHttp::start(|asked: &Asked| {
        let is_right = asked.header("authorization") == Some(BASIC)
            && asked.path.contains("service=registry")
            && asked.path.contains("scope=repository%3Ahardprune%2Fprobe");
        if is_right {
            Reply::new(200, &[], format!("{{\"token\": \"{TOKEN}\"}}"))
        } else {
            Reply::new(401, &[], "")
        }
    })
    .unwrap()
}

#[test]
fn a_user_at_a_token_service() {
    let mut scene = scene();
    let service = token_service();
    let challenge = format!(
        "Bearer realm=\"{}/token\",service=\"registry\",scope=\"repository:hardprune/probe:pull,push\"",
        service.url()
    );
    let server = guarded(challenge.leak(), "Bearer the-token-of-the-test");
    scene = scene.with("HARDPRUNE_REGISTRY_PASSWORD", PASSWORD);
    assert_eq!(run(&scene, &server, &["--registry-user", "puller"]).status, 0);
    assert!(!service.asked().is_empty());
}

#[test]
fn a_password_is_not_sent_in_the_clear() {
    let scene = scene().with("HARDPRUNE_REGISTRY_PASSWORD", PASSWORD);
    let server = guarded("Bearer realm=\"http://auth.invalid/token\"", "Bearer x");
    let finished = run(&scene, &server, &["--registry-user", "puller"]);
    refused(&scene, &finished, &["401"]).unwrap();
}
