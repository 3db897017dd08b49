//! A cluster that changes, or refuses, while `hardprune images` runs on it.

use std::io::{BufRead, BufReader, Read};
use std::process::Command;
use std::sync::mpsc;

use anyhow::{Context, Result, ensure};
use hardprune_tests::kubernetes_api::{Effect, Fault};
use hardprune_tests::openshift_fixtures::Case;
use hardprune_tests::openshift_registry::RegistryFault;
use hardprune_tests::program::{Finished, Hardprune};
use serde_json::{Value, json};

use crate::images_scene::{Scene, refused};

const STATUS: &str = "imagestreams/is/status$";
/// Of the case `history`, the newest that goes by default.
const DOOMED: &str = "sha256:2f6239633b0c675ff2f4f5ce6f94526077e3703897a507177823ace07e60f497";

fn pod(scene: &Scene, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "late", "namespace": "ns"},
        "spec": {"containers": [{"name": "c", "image": format!("{}/{image}", scene.registry.host())}]},
        "status": {"phase": "Running"},
    })
}

fn image_ids(scene: &Scene) -> Vec<String> {
    let mut ids: Vec<_> = scene.api.objects().into_keys().collect();
    ids.retain(|id| id.starts_with("Image/"));
    ids
}

#[test]
fn a_conflict_is_tried_again_from_a_fresh_read() -> Result<()> {
    let scene = Scene::history()?;
    scene.api.fault(Fault::on("PUT", STATUS, Effect::Touch).times(2));
    let finished = scene.prune(&[])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    let tries = finished
        .stdout
        .matches("Deleting 3 items from image stream ns/is")
        .count();
    assert_eq!(tries, 3, "{finished:?}");
    let links = finished.stdout.matches("Deleting layer link").count();
    assert_eq!(links, 6, "no link is deleted twice: {finished:?}");
    assert_eq!(scene.tagged("ns/is")?["latest"].len(), 3);
    assert!(
        finished.stdout.contains("deleted 3 image object(s)"),
        "{finished:?}"
    );
    Ok(())
}

/// `oc` deletes the images of a stream that it could not update.
#[test]
fn a_stream_that_cannot_be_updated_keeps_its_images_and_links() -> Result<()> {
    for effect in [Effect::Touch, refused("no", 403), refused("broken", 500)] {
        let scene = Scene::history()?;
        let (objects, files) = (image_ids(&scene), scene.registry.files());
        scene.api.fault(Fault::on("PUT", STATUS, effect.clone()));
        let finished = scene.prune(&[])?;
        assert_eq!(finished.status, 1, "{effect:?}: {finished:?}");
        assert!(
            finished.stderr.contains("error: imagestream ns/is: "),
            "{finished:?}"
        );
        assert_eq!(image_ids(&scene), objects, "{effect:?}");
        assert_eq!(scene.registry.files(), files, "{effect:?}");
        assert_eq!(scene.tagged("ns/is")?["latest"].len(), 6);
    }
    Ok(())
}

/// `oc` panics.
#[test]
fn a_stream_that_disappears_ends_nothing() -> Result<()> {
    for (method, path) in [("GET", "imagestreams/is$"), ("PUT", STATUS)] {
        let scene = Scene::history()?;
        scene.api.fault(Fault::on(method, path, Effect::Delete).times(1));
        let finished = scene.prune(&[])?;
        assert_eq!(finished.status, 0, "{finished:?}");
        assert!(
            finished
                .stdout
                .contains("Summary: deleted 6 image object(s), deleted "),
            "{finished:?}"
        );
        assert!(
            !finished.stdout.contains("image stream tag item(s)"),
            "{finished:?}"
        );
    }
    Ok(())
}

#[test]
fn a_stream_that_cannot_be_read_keeps_its_images() -> Result<()> {
    let scene = Scene::history()?;
    let objects = scene.api.objects();
    scene
        .api
        .fault(Fault::on("GET", "imagestreams/is$", refused("broken", 500)));
    let finished = scene.prune(&[])?;
    assert_eq!(finished.status, 1, "{finished:?}");
    assert_eq!(scene.api.objects(), objects);
    Ok(())
}

#[test]
fn what_others_write_into_a_status_stays() -> Result<()> {
    let scene = Scene::history()?;
    let mut stream = scene.object("ImageStream/ns/is")?;
    stream["status"]["tags"][0]["conditions"] =
        json!([{"type": "ImportSuccess", "status": "False", "new": [1]}]);
    stream["status"]["whatever"] = json!({"a": 1});
    scene.api.put(stream)?;
    assert_eq!(scene.prune(&[])?.status, 0);
    let mut after = scene.object("ImageStream/ns/is")?;
    assert_eq!(after["status"]["whatever"], json!({"a": 1}));
    assert_eq!(
        after["status"]["tags"][0]["conditions"].take()[0]["new"],
        json!([1])
    );
    Ok(())
}

/// A revision that is pushed after the streams were listed: its image is in no list.
#[test]
fn a_revision_that_comes_meanwhile_stays() -> Result<()> {
    let scene = Scene::history()?;
    let mut stream = scene.object("ImageStream/ns/is")?;
    let old = scene.tagged("ns/is")?["latest"].clone();
    let items = stream["status"]["tags"][0]["items"].as_array_mut().unwrap();
    let mut newest = items[0].clone();
    newest["image"] = json!(format!("sha256:{}", "ab".repeat(32)));
    // Old already for --keep-younger-than=0.
    newest["created"] = json!("2020-01-01T00:00:00Z");
    items.insert(0, newest);
    scene
        .api
        .fault(Fault::on("GET", "imagestreams/is$", Effect::Put(vec![stream])).times(1));
    let finished = scene.prune(&["--keep-younger-than=0", "--keep-tag-revisions=1"])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    let tagged = scene.tagged("ns/is")?["latest"].clone();
    assert_eq!(tagged.len(), 1, "{tagged:?}");
    assert!(!old.contains(&tagged[0]));
    Ok(())
}

#[test]
fn an_image_that_a_pod_begins_to_use_meanwhile_stays() -> Result<()> {
    let scene = Scene::history()?;
    let late = pod(&scene, &format!("ns/is@{DOOMED}"));
    // After the stream has lost it.
    scene.api.fault(
        Fault::on("GET", "/images\\?", Effect::Put(vec![late]))
            .after(1)
            .times(1),
    );
    let late = pod(&scene, &format!("ns/is@{DOOMED}"));
    scene
        .api
        .fault(Fault::on("PUT", STATUS, Effect::Put(vec![late])).times(1));
    let finished = scene.prune(&[])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(scene.object(&format!("Image/{DOOMED}")).is_ok(), "{finished:?}");
    assert!(scene.has_blob(DOOMED));
    assert!(
        finished.stdout.contains("deleted 2 image object(s)"),
        "{finished:?}"
    );
    Ok(())
}

/// The stream has lost the index by which it named the child.
#[test]
fn a_child_that_a_pod_begins_to_use_meanwhile_keeps_its_index() -> Result<()> {
    let scene = Scene::of(&Case::load("multiarch")?, Vec::new())?;
    let index = "sha256:069461e5663b2acf52f00253df72425716edeb456c61da659aa57ce452b136b8";
    let child = "sha256:1e88d5d73c8f7637c6dbf6ac46c21dceb19573ad88ba5884dea28be2d8409fd6";
    let late = pod(&scene, &format!("ns/multi@{child}"));
    scene.api.fault(Fault::on(
        "PUT",
        "imagestreams/multi/status$",
        Effect::Put(vec![late]),
    ));
    let finished = scene.prune(&["--keep-tag-revisions=1"])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(!scene.tagged("ns/multi")?["latest"].contains(&index.to_owned()));
    for digest in [index, child] {
        assert!(scene.object(&format!("Image/{digest}")).is_ok(), "{finished:?}");
        assert!(scene.has_blob(digest), "{finished:?}");
    }
    Ok(())
}

/// It shares a layer with an image that goes.
#[test]
fn the_blobs_of_an_image_that_is_pushed_meanwhile_stay() -> Result<()> {
    let scene = Scene::history()?;
    let mut pushed = scene.object(&format!("Image/{DOOMED}"))?;
    let layer = pushed["dockerImageLayers"][0]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    pushed["metadata"] = json!({
        "name": format!("sha256:{}", "cd".repeat(32)), "creationTimestamp": jiff::Timestamp::now().to_string(),
    });
    scene
        .api
        .fault(Fault::on("PUT", STATUS, Effect::Put(vec![pushed])).times(1));
    let finished = scene.prune(&[])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(scene.object(&format!("Image/{DOOMED}")).is_err(), "{finished:?}");
    assert!(scene.has_blob(&layer), "{finished:?}");
    Ok(())
}

#[test]
fn if_the_lists_cannot_be_checked_again_no_image_goes() -> Result<()> {
    let scene = Scene::history()?;
    let images = image_ids(&scene);
    scene
        .api
        .fault(Fault::on("GET", "/api/v1/pods", refused("broken", 500)).after(1));
    let finished = scene.prune(&[])?;
    assert_eq!(finished.status, 1, "{finished:?}");
    assert!(
        finished.stderr.contains("no image was deleted: broken"),
        "{finished:?}"
    );
    assert_eq!(image_ids(&scene), images);
    Ok(())
}

#[test]
fn an_image_that_is_gone_already_is_no_failure() -> Result<()> {
    let scene = Scene::history()?;
    scene
        .api
        .fault(Fault::on("DELETE", &format!("/images/{DOOMED}"), Effect::Delete));
    let finished = scene.prune(&[])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(
        finished.stdout.contains("deleted 2 image object(s)"),
        "{finished:?}"
    );
    assert!(
        finished
            .stderr
            .contains(&format!("error deleting image {DOOMED} from server")),
        "{finished:?}"
    );
    Ok(())
}

#[test]
fn metadata_that_is_missing_or_does_not_decode() -> Result<()> {
    let scene = Scene::history()?;
    let mut image = scene.object(&format!("Image/{DOOMED}"))?;
    image.as_object_mut().unwrap().remove("dockerImageMetadata");
    scene.api.put(image.clone())?;
    let before = scene.api.objects();
    let finished = scene.prune(&[])?;
    assert_eq!(finished.status, 1, "{finished:?}");
    let said = format!("error: image {DOOMED}: failed to read metadata for image {DOOMED}");
    assert!(finished.stderr.contains(&said), "{finished:?}");
    assert_eq!(scene.api.objects(), before);
    assert!(
        finished.stdout.contains("Summary: deleted 0 objects"),
        "{finished:?}"
    );

    image["dockerImageMetadata"] = json!({"Id": 5});
    scene.api.put(image)?;
    let before = scene.api.objects();
    let finished = scene.prune(&[])?;
    assert_eq!(finished.status, 1, "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("error: failed to build graph - no changes made"),
        "{finished:?}"
    );
    assert_eq!(scene.api.objects(), before);
    Ok(())
}

#[test]
fn the_registry_is_found_by_the_youngest_image() -> Result<()> {
    let scene = Scene::history()?;
    let finished = scene.run(&["--confirm"])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(
        finished.stdout.contains("deleted 9 blob(s)\nFreed at most "),
        "{finished:?}"
    );
    assert!(!scene.has_blob(DOOMED));
    Ok(())
}

/// Prunes, and while the registry holds the request in whose path this is found a pod begins to use an image.
fn pod_comes_while(path: &str, image: &str) -> Result<(Scene, Finished)> {
    let (release, until) = mpsc::channel();
    let held = RegistryFault::hold("DELETE", path, until);
    let scene = Scene::of(&Case::load("registry-faults")?, vec![held])?;
    let config = scene.api.kubeconfig(scene.home.path())?;
    let registry = format!("--registry-url=http://{}", scene.registry.host());
    let arguments = [
        "images",
        "-vv",
        "--keep-tag-revisions=1",
        "--num-workers=1",
        "--confirm",
        &registry,
    ];
    let mut child = Hardprune::new()?.with("KUBECONFIG", &config).start(&arguments)?;
    let mut lines = BufReader::new(child.stderr.take().context("its errors")?).lines();
    // It asks for the watch before it deletes anything, and the registry answers nothing yet.
    while !scene
        .registry
        .asked()
        .iter()
        .any(|asked| asked.method == "DELETE" && asked.path.contains(path))
    {
        ensure!(child.try_wait()?.is_none(), "it has ended");
        std::thread::yield_now();
    }
    scene.api.put(pod(&scene, image))?;
    let told = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains("is used now"));
    ensure!(told, "it was not told of the pod");
    drop(release);
    // So that it never waits for somebody to read.
    let rest = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
    let mut finished = Finished::of(&child.wait_with_output()?)?;
    finished.stderr = rest.join().map_err(|_| anyhow::anyhow!("no errors"))?.join("\n");
    Ok((scene, finished))
}

#[test]
fn what_a_pod_begins_to_use_stays_in_its_stream() -> Result<()> {
    let image = Scene::of(&Case::load("registry-faults")?, Vec::new())?.tagged("ns/js")?["latest"][1].clone();
    let (scene, finished) = pod_comes_while("/v2/ns/is/", &format!("ns/js@{image}"))?;
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(scene.tagged("ns/js")?["latest"].contains(&image), "{finished:?}");
    assert!(scene.object(&format!("Image/{image}")).is_ok(), "{finished:?}");
    Ok(())
}

/// After everything was listed for the second time.
#[test]
fn what_a_pod_begins_to_use_while_images_go_stays() -> Result<()> {
    let tagged = Scene::of(&Case::load("registry-faults")?, Vec::new())?.tagged("ns/is")?;
    let last = tagged["latest"][1..].iter().max().context("images")?.clone();
    let (scene, finished) = pod_comes_while("/admin/blobs/", &format!("ns/is@{last}"))?;
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(!scene.tagged("ns/is")?["latest"].contains(&last), "{finished:?}");
    assert!(scene.object(&format!("Image/{last}")).is_ok(), "{finished:?}");
    assert!(scene.has_blob(&last), "{finished:?}");
    Ok(())
}

/// It ends what it has begun, and says what it did.
#[test]
fn a_signal_stops_it_in_good_order() -> Result<()> {
    let (release, until) = mpsc::channel();
    let held = RegistryFault::hold("DELETE", "/admin/blobs/", until);
    let scene = Scene::of(&Case::load("history")?, vec![held])?;
    let config = scene.api.kubeconfig(scene.home.path())?;
    let registry = format!("--registry-url=http://{}", scene.registry.host());
    let arguments = ["images", "--num-workers=1", "--confirm", &registry];
    let mut child = Hardprune::new()?.with("KUBECONFIG", &config).start(&arguments)?;
    let mut errors = BufReader::new(child.stderr.take().context("its errors")?);
    while !scene
        .registry
        .asked()
        .iter()
        .any(|asked| asked.path.contains("/admin/blobs/"))
    {
        ensure!(child.try_wait()?.is_none(), "it has ended");
        std::thread::yield_now();
    }
    let kill = Command::new("kill")
        .arg("-TERM")
        .arg(child.id().to_string())
        .status()?;
    ensure!(kill.success(), "no signal");
    let mut line = String::new();
    errors.read_line(&mut line)?;
    assert!(line.starts_with("stops when what was begun has ended"), "{line}");
    drop(release);
    errors.read_to_string(&mut line)?;
    let finished = Finished::of(&child.wait_with_output()?)?;
    assert_eq!(finished.status, 1, "{finished:?} {line}");
    assert!(line.contains("error: stopped by a signal"), "{line}");
    assert!(
        finished
            .stdout
            .contains("Summary: deleted 1 image object(s), deleted 3 image stream tag item(s)"),
        "{finished:?}"
    );
    assert!(scene.object(&format!("Image/{DOOMED}")).is_err());
    assert_eq!(image_ids(&scene).len(), 5);
    // The next run ends it.
    let finished = scene.prune(&[])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    assert_eq!(image_ids(&scene).len(), 3);
    Ok(())
}

#[test]
fn who_may_not_watch_may_prune() -> Result<()> {
    let scene = Scene::history()?;
    scene
        .api
        .fault(Fault::on("GET", "watch=", refused("you may not", 403)));
    let finished = scene.prune(&[])?;
    assert_eq!(finished.status, 0, "{finished:?}");
    assert!(
        finished.stdout.contains("deleted 3 image object(s)"),
        "{finished:?}"
    );
    Ok(())
}

#[test]
fn why() -> Result<()> {
    let scene = Scene::of(&Case::load("history")?, Vec::new())?;
    let images = scene.tagged("ns/is")?["latest"].clone();
    let explained = |image: &str, more: &[&str]| -> Result<String> {
        let finished = scene.run(&[&["why", image], more].concat())?;
        assert_eq!(finished.status, 0, "{finished:?}");
        Ok(finished.stdout)
    };
    let text = explained(&images[4], &[])?;
    assert!(
        text.contains("in project ns: is:latest at position 4 out of 6"),
        "{text}"
    );
    assert!(
        text.contains("goes: it is old") && text.contains("The image goes."),
        "{text}"
    );
    let text = explained(&images[2], &["--keep-tag-revisions=5"])?;
    assert!(text.contains("stays: --keep-tag-revisions=5 keeps it"), "{text}");
    assert!(
        text.contains("goes with --keep-tag-revisions=2, when 3 newer revision(s) are pushed"),
        "{text}"
    );
    assert!(text.contains("The image stays"), "{text}");
    let text = explained("ns/is:latest", &[])?;
    assert!(
        text.starts_with(&images[0]) && text.contains("--keep-younger-than"),
        "{text}"
    );
    scene.api.put(pod(&scene, &format!("ns/is@{}", images[4])))?;
    let text = explained(&format!("{}/ns/is@{}", scene.registry.host(), images[4]), &[])?;
    assert!(
        text.contains("stays: its image is used by pod/late namespace=ns"),
        "{text}"
    );
    scene.api.put(pod(&scene, &format!("other/is@{}", images[4])))?;
    let text = explained(&images[4], &[])?;
    let said = "is named by pod/late namespace=ns as other/is, which does not have it: that keeps nothing";
    assert!(text.contains(said) && text.contains("The image goes."), "{text}");
    let image = scene.object(&format!("Image/{}", images[4]))?;
    let text = explained(image["dockerImageLayers"][0]["name"].as_str().unwrap(), &[])?;
    assert!(
        text.contains(&format!("is a blob of the image {}", images[4])),
        "{text}"
    );
    let text = explained(&format!("sha256:{}", "0".repeat(64)), &[])?;
    assert!(text.contains("no such image"), "{text}");
    assert!(scene.api.mutations().is_empty());
    Ok(())
}
