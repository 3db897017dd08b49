//! The probe, against real registries and what may answer in their place.

use std::sync::Arc;

use anyhow::{Context, Result};
use hardprune_tests::docker_registry::{DockerRegistry, RegistryConfig};
use hardprune_tests::generate::Shape;
use hardprune_tests::scene::Scene;
use hardprune_tests::scripted_http::{Reply, ScriptedHttp};
use serde_json::json;

use crate::scripted::{Switchable, VERSION, delete, read_only_answer, refused};

fn scene() -> Scene {
    Scene::on_folder(&Shape::small(21)).unwrap()
}

fn config(scene: &Scene) -> RegistryConfig {
    RegistryConfig::filesystem(scene.state())
}

/// Uploads that can be gone on with. 2.8.2 writes a hash state once more when it has cancelled one, which leads nowhere.
fn uploads(scene: &Scene) -> Vec<String> {
    let keys = scene.storage().keys().unwrap().into_keys();
    keys.filter(|key| key.contains("/_uploads/") && !key.contains("/hashstates/"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_in_read_only_mode_is_proved() {
    let scene = scene();
    let registry = DockerRegistry::start(config(&scene).read_only()).await.unwrap();
    let arguments = delete(&scene, &["--registry-url", registry.url()]);
    let report = scene.report(0, &arguments).unwrap();
    assert_eq!(report["read_only"], "proved");
    assert_eq!(report["read_only_by"], json!([registry.url()]));
    scene.check_finished(&report, &scene.orphans()).unwrap();
    assert_eq!(scene.show().unwrap()["read_only_by"], report["read_only_by"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writable_registry_is_refused_and_its_upload_cancelled() {
    let scene = scene();
    let registry = DockerRegistry::start(config(&scene)).await.unwrap();
    let before = uploads(&scene);
    let finished = scene
        .program
        .run(&delete(&scene, &["--registry-url", registry.url()]))
        .unwrap();
    refused(
        &scene,
        &finished,
        &[registry.url(), "not read-only", "it was cancelled"],
    )
    .unwrap();
    assert_eq!(uploads(&scene), before);
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(
        (&report["read_only"], &report["outcome"]),
        (&json!("unproved"), &json!("refused"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_is_asked() {
    let scene = scene();
    let read_only = DockerRegistry::start(config(&scene).read_only()).await.unwrap();
    let writable = DockerRegistry::start(config(&scene)).await.unwrap();
    let both = [
        "--registry-url",
        read_only.url(),
        "--registry-url",
        writable.url(),
    ];
    let finished = scene.program.run(&delete(&scene, &both)).unwrap();
    refused(&scene, &finished, &[writable.url(), "not read-only"]).unwrap();
    assert!(
        !finished.stderr.contains(&format!("{} is not", read_only.url())),
        "{finished:?}"
    );
    // An assertion does not outweigh what is seen.
    let mut arguments = delete(&scene, &both);
    arguments.push("--assume-read-only");
    refused(&scene, &scene.program.run(&arguments).unwrap(), &[writable.url()]).unwrap();
}

fn run_against(scene: &Scene, server: &ScriptedHttp, parts: &[&str]) -> Result<()> {
    let url = server.url();
    let finished = scene.program.run(&delete(scene, &["--registry-url", &url]))?;
    refused(scene, &finished, &[&[url.as_str()], parts].concat()).with_context(|| format!("{parts:?}"))
}

#[test]
fn nothing_else_is_taken_for_read_only_mode() {
    let scene = scene();
    let allow = ("Allow", "GET, HEAD");
    let plain = "Method Not Allowed\n";
    let unsupported =
        json!({"errors": [{"code": "UNSUPPORTED", "message": "The operation is unsupported."}]});
    for (reply, parts) in [
        (
            Reply::new(405, &[VERSION, allow], unsupported.to_string()),
            &["UNSUPPORTED", "proxy"][..],
        ),
        (Reply::new(405, &[allow], plain), &["405", "Api-Version"]),
        (Reply::new(405, &[VERSION], plain), &["Allow"]),
        (
            Reply::new(405, &[VERSION, ("Allow", "GET, POST")], plain),
            &["allows POST"],
        ),
        (
            Reply::new(401, &[VERSION, ("WWW-Authenticate", "Basic realm=\"r\"")], ""),
            &["401", "--registry-user"],
        ),
        (Reply::new(403, &[VERSION], ""), &["403", "may not push"]),
        (Reply::new(404, &[VERSION], ""), &["404"]),
        (Reply::new(200, &[VERSION], "<html>"), &["200"]),
        (Reply::new(503, &[], ""), &["503"]),
        (Reply::Hang, &["no answer"]),
    ] {
        let server = ScriptedHttp::start(move |_| reply.clone()).unwrap();
        run_against(&scene, &server, parts).unwrap();
    }
}

#[test]
fn redirects_are_not_followed() {
    let scene = scene();
    let elsewhere = Arc::new(ScriptedHttp::start(|_| read_only_answer()).unwrap());
    let to = format!("{}/v2/hardprune/probe/blobs/uploads/", elsewhere.url());
    let server = ScriptedHttp::start(move |_| Reply::new(307, &[VERSION, ("Location", &to)], "")).unwrap();
    run_against(&scene, &server, &["307", "redirect"]).unwrap();
    assert!(elsewhere.asked().is_empty());
}

/// An upload is cancelled where the registry says that it is, but only on the registry itself.
#[test]
fn an_upload_is_cancelled_on_the_same_server_only() {
    let scene = scene();
    let registry = Switchable::start().unwrap();
    registry.make_writable();
    run_against(&scene, &registry.server, &["it was cancelled"]).unwrap();
    let last = registry.server.asked().pop().unwrap();
    assert_eq!(
        (last.method.as_str(), last.path.as_str()),
        ("DELETE", "/v2/hardprune/probe/blobs/uploads/1")
    );

    let elsewhere = ScriptedHttp::start(|_| Reply::new(204, &[], "")).unwrap();
    let to = format!("{}/v2/live/blobs/uploads/1", elsewhere.url());
    let server = ScriptedHttp::start(move |_| Reply::new(202, &[VERSION, ("Location", &to)], "")).unwrap();
    run_against(&scene, &server, &["could not be cancelled"]).unwrap();
    assert!(elsewhere.asked().is_empty());
}

#[test]
fn addresses_that_prove_nothing() {
    let scene = scene();
    for (url, part) in [
        ("http://registry.example", "--force-insecure"),
        ("registry.example", "https://"),
        ("https://user:SECRET@registry.example", "--registry-user"),
    ] {
        let finished = scene
            .program
            .run(&delete(&scene, &["--registry-url", url]))
            .unwrap();
        assert_eq!(finished.status, 2, "{finished:?}");
        assert!(finished.stderr.contains(part), "{finished:?}");
        assert!(!finished.stderr.contains("SECRET"), "{finished:?}");
    }
}
