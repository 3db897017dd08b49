//! `--restore`: lost metadata is put back, as OpenShift's own registry does.

use std::collections::BTreeSet;

use hardprune_tests::kubernetes_api::{Effect, Fault};
use serde_json::{Value, json};

use crate::openshift::{
    CHILD, ClusterScene, GHOST, GHOST_CONFIG, INDEX, LAYER, SECOND, blob, image, key, revision,
};
use crate::scene::{On, findings};

/// All images but those of the older index are gone from the cluster, and the stream with them; one stream was deleted.
fn wiped(on: On) -> ClusterScene {
    ClusterScene::with(
        |objects| {
            objects.retain(|object| object["kind"] != "ImageStream");
            objects
                .retain(|object| object["metadata"]["name"] != INDEX && object["metadata"]["name"] != CHILD);
        },
        |_| {},
        on,
    )
}

fn outcomes(report: &Value) -> BTreeSet<(String, String)> {
    let all = report["findings"].as_array().unwrap();
    let restored = all.iter().filter(|finding| !finding["restore"].is_null());
    restored
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().unwrap().to_owned();
            (text("digest"), text("restore"))
        })
        .collect()
}

fn all(outcome: &str) -> BTreeSet<(String, String)> {
    let older = crate::openshift::OLDER_INDEX;
    [INDEX, older, CHILD, SECOND, GHOST]
        .map(|digest| (digest.to_owned(), outcome.to_owned()))
        .into()
}

#[test]
fn what_is_lost_comes_back_and_once_is_enough() {
    for on in [On::Folder, On::S3] {
        let scene = wiped(on);
        let lost = scene.fsck(6, &[]);
        assert_eq!(lost["broken"]["by_kind"], json!({"metadata_lost": 3}), "{lost:#}");
        assert_eq!(lost["seen"]["not_in_stream"], 2, "{lost:#}");

        let dry = scene.fsck(6, &["--restore"]);
        assert_eq!(outcomes(&dry), all("would_restore"), "{dry:#}");
        assert_eq!(scene.api().mutations(), []);

        let restored = scene.fsck(0, &["--restore", "--confirm"]);
        assert_eq!(outcomes(&restored), all("restored"), "{restored:#}");
        assert_eq!(restored["restore"]["restored"], 5);
        assert_eq!(restored["broken"]["findings"], 0);
        let stream = &scene.api().objects()["ImageStream/ns/multi"];
        let tags: BTreeSet<(String, String)> = stream["status"]["tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                (text(&tag["tag"]), text(&tag["items"][0]["image"]))
            })
            .collect();
        let expected: BTreeSet<(String, String)> = all("")
            .into_iter()
            .map(|(digest, _)| (format!("lost-found-{}", &digest[7..]), digest))
            .collect();
        assert_eq!(tags, expected);

        // Once more changes nothing, and finds nothing.
        let before = scene.api().objects();
        let again = scene.fsck(0, &["--restore", "--confirm"]);
        assert_eq!(
            findings(&json!({"findings": [], "broken": {"findings": 0}})),
            findings(&again)
        );
        assert_eq!(scene.api().objects(), before);
    }
}

/// What the cluster is told is what its own registry tells it when an image is pushed.
#[test]
fn the_cluster_is_told_what_a_push_would_tell_it() {
    let scene = wiped(On::Folder);
    scene.fsck(0, &["--restore", "--confirm"]);
    let restored = image(scene.api(), CHILD);
    let storage = scene.scene().storage();
    let manifest = String::from_utf8(storage.get(&key(&blob(CHILD))).unwrap().unwrap()).unwrap();
    let parsed: Value = serde_json::from_str(&manifest).unwrap();
    let config = parsed["config"]["digest"].as_str().unwrap();
    let config = String::from_utf8(storage.get(&key(&blob(config))).unwrap().unwrap()).unwrap();
    assert_eq!(restored["dockerImageManifest"], manifest);
    assert_eq!(restored["dockerImageConfig"], config);
    assert_eq!(restored["dockerImageManifestMediaType"], parsed["mediaType"]);
    let layer = &parsed["layers"][0];
    let layers = json!([{"name": LAYER, "size": layer["size"], "mediaType": layer["mediaType"]}]);
    assert_eq!(restored["dockerImageLayers"], layers);
    let annotations = json!({
        "openshift.io/image.managed": "true",
        "image.openshift.io/manifestBlobStored": "true",
        "image.openshift.io/dockerLayersOrder": "ascending",
    });
    assert_eq!(restored["metadata"]["annotations"], annotations);
    // No stream says where the registry is: the service of OpenShift 4's.
    let reference = format!("image-registry.openshift-image-registry.svc:5000/ns/multi@{CHILD}");
    assert_eq!(restored["dockerImageReference"], reference);
    let index = image(scene.api(), INDEX);
    assert!(
        index["dockerImageConfig"].is_null() && index["dockerImageLayers"] == json!([]),
        "{index:#}"
    );
    // Children come before the index that lists them.
    let mappings: Vec<String> = scene
        .api()
        .mutations()
        .into_iter()
        .filter(|request| request.path.contains("imagestreammappings") && request.status == 201)
        .map(|request| {
            request.body["image"]["metadata"]["name"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let place = |digest: &str| mappings.iter().position(|mapped| mapped == digest).unwrap();
    assert!(
        place(CHILD) < place(INDEX) && place(SECOND) < place(INDEX),
        "{mappings:?}"
    );
}

#[test]
fn an_image_that_a_tag_still_names_is_healed() {
    let scene = ClusterScene::with(
        |objects| objects.retain(|object| object["metadata"]["name"] != INDEX),
        |_| {},
        On::Folder,
    );
    let restored = scene.fsck(0, &["--restore", "--confirm"]);
    assert!(
        outcomes(&restored).contains(&(INDEX.to_owned(), "restored".to_owned())),
        "{restored:#}"
    );
    let reference = format!("registry.example:5000/ns/multi@{INDEX}");
    assert_eq!(image(scene.api(), INDEX)["dockerImageReference"], reference);
    // The tag that named nothing names it again.
    assert_eq!(findings(&scene.fsck(0, &[])), BTreeSet::new());
}

#[test]
fn what_is_broken_is_not_restored() {
    let scene = wiped(On::Folder);
    for gone in [blob(LAYER), blob(GHOST_CONFIG)] {
        scene.scene().storage().remove(&key(&gone)).unwrap();
    }
    let report = scene.fsck(6, &["--restore", "--confirm"]);
    let of = |digest: &str, outcome: &str| (digest.to_owned(), outcome.to_owned());
    let older = crate::openshift::OLDER_INDEX;
    let expected = [
        of(SECOND, "restored"),
        of(CHILD, "not_possible"),
        of(GHOST, "not_possible"),
        of(INDEX, "not_possible"),
        of(older, "not_possible"),
    ];
    assert_eq!(outcomes(&report), expected.into(), "{report:#}");
}

#[test]
fn repositories_that_are_no_stream_are_not_restored() {
    let scene = ClusterScene::with(
        |_| {},
        |files| {
            for repository in ["alone", "a/b/c"] {
                files.insert(revision(repository, GHOST), GHOST.to_owned());
            }
        },
        On::Folder,
    );
    let report = scene.fsck(6, &["--restore", "--confirm"]);
    assert_eq!(report["restore"]["not_possible"], 2, "{report:#}");
    assert_eq!(scene.api().mutations(), []);
}

#[test]
fn conflicts_are_tried_again_and_refusals_are_said() {
    let conflict = |times| {
        let effect = Effect::Status(409, "the object has been modified".to_owned());
        Fault::on("POST", "imagestreammappings", effect).times(times)
    };
    let scene = wiped(On::Folder);
    scene.api().fault(conflict(3));
    assert_eq!(
        scene.fsck(0, &["--restore", "--confirm"])["restore"]["restored"],
        5
    );

    for (path, status, said) in [
        ("imagestreammappings", 403, "you may not"),
        ("imagestreammappings", 500, "out of order"),
        ("imagestreams", 404, "namespaces \"ns\" not found"),
    ] {
        let scene = wiped(On::Folder);
        scene.api().fault(Fault::on(
            "POST",
            &format!("/{path}"),
            Effect::Status(status, said.to_owned()),
        ));
        let report = scene.fsck(5, &["--restore", "--confirm"]);
        assert_eq!(outcomes(&report), all("failed"), "{report:#}");
        let message = report["findings"][0]["message"].as_str().unwrap();
        assert!(message.contains(said), "{message}");
    }
    // What was refused once can be done later.
    let scene = wiped(On::Folder);
    let refused = Effect::Status(500, "not yet".to_owned());
    scene
        .api()
        .fault(Fault::on("POST", "imagestreammappings", refused).times(1));
    assert_eq!(scene.fsck(5, &["--restore", "--confirm"])["restore"]["failed"], 1);
    scene.fsck(0, &["--restore", "--confirm"]);
    assert_eq!(findings(&scene.fsck(0, &[])), BTreeSet::new());
}

#[test]
fn people_read_the_words_of_openshifts_tool() {
    let scene = wiped(On::Folder);
    let name = scene.scene().store_names().remove(0);
    let arguments = ["fsck", &name, "--references", "openshift", "--restore"];
    let dry = scene.scene().program.run(&arguments).unwrap();
    assert_eq!(dry.status, 6, "{dry:?}");
    let line = format!(
        "would be added to imagestream \"ns/multi\" with tag \"lost-found-{}\"",
        &INDEX[7..]
    );
    assert!(dry.stdout.contains(&line), "{}", dry.stdout);
    assert!(
        dry.stdout
            .contains("\nWould restore 5 images: say --confirm as well to do it\n"),
        "{}",
        dry.stdout
    );
}
