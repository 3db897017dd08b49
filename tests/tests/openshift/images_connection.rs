//! The way to the registry: secure first, insecure only where that is allowed, and what is said where there is none.

use std::io::{Read, Write};
use std::net::TcpListener;

use anyhow::Result;
use hardprune_tests::docker_registry::{DockerRegistry, RegistryConfig};
use hardprune_tests::free_port::free_port;
use hardprune_tests::kubernetes_api::TOKEN;
use hardprune_tests::openshift_fixtures::Case;
use hardprune_tests::openshift_registry::RegistryFault;
use hardprune_tests::program::Finished;
use hardprune_tests::scripted_http::Reply;
use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::images_scene::Scene;

fn confirm(scene: &Scene, address: &str, more: &[&str]) -> Result<Finished> {
    let address = format!("--registry-url={address}");
    scene.run(&[&["--confirm", &address], more].concat())
}

/// It has failed, with this, and has changed nothing.
fn failed(scene: &Scene, finished: &Finished, parts: &[&str]) {
    assert_eq!(finished.status, 1, "{finished:?}");
    for part in parts {
        assert!(
            finished.stderr.contains(part),
            "{part:?} is missing: {finished:?}"
        );
    }
    assert!(
        finished
            .stderr
            .contains("error: error communicating with registry: "),
        "{finished:?}"
    );
    assert!(scene.api.mutations().is_empty());
    assert_eq!(finished.stdout, "");
}

#[test]
fn a_private_address_may_be_insecure() -> Result<()> {
    let scene = Scene::history()?;
    let finished = confirm(&scene, &scene.registry.host(), &[])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(finished.stdout.contains("deleted 9 blob(s)"), "{finished:?}");
    Ok(())
}

#[tokio::test]
async fn a_registry_that_is_not_secured() -> Result<()> {
    let scene = Scene::history()?;
    let storage = tempfile::tempdir()?;
    let registry = DockerRegistry::start(RegistryConfig::filesystem(storage.path())).await?;
    let host = registry.url().trim_start_matches("http://");
    let url = format!("https://{host}");
    let get = format!("Get {url}/: http: server gave HTTP response to HTTPS client\n* ");
    failed(&scene, &confirm(&scene, &url, &[])?, &[&get, "--force-insecure"]);

    let authority = Authority::new(scene.home.path(), "ca")?;
    let authority = authority.certificate().display().to_string();
    // The address alone would have let http pass.
    let finished = confirm(&scene, host, &["--certificate-authority", &authority])?;
    failed(&scene, &finished, &[&get]);
    assert!(!finished.stderr.contains("Get http://"), "{finished:?}");
    let finished = confirm(&scene, host, &[])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    Ok(())
}

/// The real registry with a certificate of its own. It has no `/admin/blobs`: 404 counts as deleted, and frees nothing.
#[tokio::test]
async fn a_registry_with_a_certificate() -> Result<()> {
    let scene = Scene::history()?;
    let authority = Authority::new(scene.home.path(), "ca")?;
    let other = Authority::new(scene.home.path(), "other")?;
    let (certificate, key) = authority.sign("registry")?;
    let storage = tempfile::tempdir()?;
    let config = RegistryConfig::filesystem(storage.path()).with_tls(certificate, key);
    let registry = DockerRegistry::start(config).await?;
    let other = other.certificate().display().to_string();
    for more in [&[][..], &["--certificate-authority", &other]] {
        let finished = confirm(&scene, registry.url(), more)?;
        let said = "x509: certificate signed by unknown authority\n* ";
        failed(
            &scene,
            &finished,
            &[said, "--certificate-authority", "--force-insecure"],
        );
    }
    let plain = registry.url().replace("https://", "http://");
    failed(
        &scene,
        &confirm(&scene, &plain, &[])?,
        &["unexpected status: 400 Bad Request"],
    );

    let authority = authority.certificate().display().to_string();
    let finished = confirm(&scene, registry.url(), &["--certificate-authority", &authority])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(
        finished.stdout.ends_with("Freed at most 0 B (0 bytes)\n"),
        "{finished:?}"
    );

    let scene = Scene::history()?;
    let finished = confirm(&scene, registry.url(), &["--force-insecure"])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    Ok(())
}

/// What the user's kubeconfig trusts, the registry's certificate is judged by.
#[tokio::test]
async fn the_kubeconfig_says_what_is_trusted() -> Result<()> {
    let scene = Scene::history()?;
    let authority = Authority::new(scene.home.path(), "ca")?;
    let (certificate, key) = authority.sign("registry")?;
    let storage = tempfile::tempdir()?;
    let config = RegistryConfig::filesystem(storage.path()).with_tls(certificate, key);
    let registry = DockerRegistry::start(config).await?;
    let file = scene.api.kubeconfig(scene.home.path())?;
    let plain: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    for (field, value) in [
        ("certificate-authority", json!(authority.certificate())),
        ("insecure-skip-tls-verify", json!(true)),
    ] {
        let mut config = plain.clone();
        config["clusters"][0]["cluster"][field] = value;
        let file = scene.home.path().join("trusting");
        std::fs::write(&file, config.to_string())?;
        let file = file.display().to_string();
        let finished = confirm(&scene, registry.url(), &["--kubeconfig", &file])?;
        assert_eq!(finished.status, 0, "{field}: {finished:?}");
    }
    Ok(())
}

#[test]
fn nothing_names_the_registry() -> Result<()> {
    let scene = Scene::history()?;
    for id in scene.api.objects().keys() {
        scene.api.remove(id);
    }
    let finished = scene.run(&["--confirm"])?;
    assert_eq!(finished.status, 1, "{finished:?}");
    let said = "error: unable to find the remote registry host: no managed image found\n";
    assert_eq!(finished.stderr, said);
    Ok(())
}

#[test]
fn a_registry_that_speaks_tls_where_http_was_wanted() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // What a server says to whoever does not speak TLS. It ends with the test's process.
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let _ = client.read(&mut [0; 1024]);
            let _ = client.write_all(b"\x15\x03\x01\x00\x02\x02\x16");
        }
    });
    let scene = Scene::history()?;
    let finished = confirm(&scene, &format!("http://{address}"), &[])?;
    let said = "malformed HTTP response\n* Are you trying to connect to a TLS-enabled registry without TLS?";
    failed(&scene, &finished, &[&format!("Get http://{address}/: {said}")]);
    let finished = confirm(&scene, &address.to_string(), &[])?;
    failed(&scene, &finished, &["registry: [Get https://", ", Get http://"]);
    Ok(())
}

#[test]
fn nobody_there() -> Result<()> {
    let scene = Scene::history()?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let finished = confirm(&scene, &address, &[])?;
    let refused = format!("dial tcp {address}: connect: connection refused");
    failed(
        &scene,
        &finished,
        &[&format!(
            "[Get https://{address}/: {refused}, Get http://{address}/: {refused}]"
        )],
    );
    Ok(())
}

#[test]
fn an_old_registry_has_its_health_elsewhere() -> Result<()> {
    for (statuses, expected) in [((404, 200), 0), ((503, 503), 1)] {
        let faults = vec![
            RegistryFault::on("GET", "^/$", Reply::new(statuses.0, &[], "")),
            RegistryFault::on("GET", "^/healthz$", Reply::new(statuses.1, &[], "")),
        ];
        let scene = Scene::of(&Case::load("history")?, faults)?;
        let finished = scene.prune(&[])?;
        assert_eq!(finished.status, expected, "{finished:?}");
        if expected != 0 {
            failed(&scene, &finished, &["unexpected status: 503 Service Unavailable"]);
        }
        let asked: Vec<_> = scene
            .registry
            .asked()
            .into_iter()
            .take(2)
            .map(|asked| asked.path)
            .collect();
        assert_eq!(asked, ["/", "/healthz"]);
    }
    Ok(())
}

/// What calls itself a digest comes from whoever may push.
#[test]
fn a_name_that_is_no_digest_leads_nowhere_else() -> Result<()> {
    let scene = Scene::history()?;
    let tagged = scene.tagged("ns/is")?["latest"].clone();
    let mut image = scene.object(&format!("Image/{}", tagged[5]))?;
    let names = [
        "../../v2/other/repo/manifests/sha256:aa",
        "..",
        "a?b#c%2e",
        "\u{1b}[2J",
    ];
    let layers: Vec<_> = names
        .iter()
        .map(|name| json!({"name": name, "size": 1}))
        .collect();
    image["dockerImageLayers"] = json!(layers);
    scene.api.put(image)?;
    let finished = scene.prune(&[])?;
    assert!(!finished.stdout.contains('\u{1b}'), "{finished:?}");
    let paths: Vec<_> = scene
        .registry
        .asked()
        .into_iter()
        .map(|asked| asked.path)
        .collect();
    for path in &paths {
        let known = [
            "/",
            "/v2/ns/is/blobs/",
            "/v2/ns/is/manifests/sha256:",
            "/admin/blobs/",
        ];
        let known = known.iter().any(|known| match path.strip_prefix(known) {
            Some(rest) => !rest.contains('/') && !rest.contains('?'),
            None => false,
        });
        assert!(known, "{path}");
    }
    assert!(paths.iter().any(|path| path.contains("%2F")), "{paths:?}");
    Ok(())
}

/// The token is a password, and nobody is told of it.
#[test]
fn the_token_is_never_shown() -> Result<()> {
    let faults = vec![RegistryFault::on("DELETE", "/", Reply::Close)];
    let scene = Scene::of(&Case::load("history")?, faults)?;
    let finished = scene.prune(&["-vvv"])?;
    assert_eq!(finished.status, 1, "{finished:?}");
    assert!(finished.stderr.contains("EOF"), "{finished:?}");
    let token = TOKEN;
    assert!(
        !finished.stderr.contains(token) && !finished.stdout.contains(token),
        "{finished:?}"
    );
    Ok(())
}
