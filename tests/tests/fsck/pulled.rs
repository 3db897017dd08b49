//! A real registry agrees: what is called broken cannot be pulled from it, and what is not, can.

use hardprune_tests::docker_registry::DockerRegistry;
use hardprune_tests::pull::Puller;
use hardprune_tests::scene::Scene;
use hardprune_tests::storage_writer::{blob_key, layer_link_key, revision_link_key};

use crate::oracle::damage;
use crate::scene::{EVERYWHERE, broken_images, broken_tags, fsck, images, point_tag, put, scene};

async fn a_real_registry_agrees(scene: &Scene) {
    let report = fsck(scene, 6).unwrap();
    let (images, tags) = (broken_images(&report), broken_tags(&report));
    let registry = DockerRegistry::start(scene.registry_config()).await.unwrap();
    for tag in &scene.truth.tags {
        // A new one each time: it remembers what it has pulled.
        let pulled = Puller::new(&registry).tag(tag).await;
        let named = (tag.repository.clone(), tag.tag.clone());
        assert_eq!(
            pulled.is_err(),
            tags.contains(&named),
            "{tag:?}: {pulled:?}\n{report:#}"
        );
        let pulled = Puller::new(&registry).digest(&tag.repository, &tag.digest).await;
        let image = (tag.repository.clone(), tag.digest.clone());
        assert_eq!(
            pulled.is_err(),
            images.contains(&image),
            "{image:?}: {pulled:?}\n{report:#}"
        );
    }
    for (repository, digest) in &images {
        let pulled = Puller::new(&registry).digest(repository, digest).await;
        assert!(pulled.is_err(), "{repository}@{digest}\n{report:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_broken_cannot_be_pulled_and_the_rest_can() {
    for (on, seed) in EVERYWHERE.into_iter().zip([31, 32]) {
        let scene = scene(on, seed).unwrap();
        for image in images(&scene).unwrap().iter().take(3) {
            let key = layer_link_key(&image.repository, image.layer());
            scene.storage().remove(&key).unwrap();
        }
        damage(&scene, seed, 25, true).unwrap();
        a_real_registry_agrees(&scene).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_with_what_is_damaged() {
    for (on, seed) in EVERYWHERE.into_iter().zip([33, 34]) {
        let scene = scene(on, seed).unwrap();
        let images = images(&scene).unwrap();
        let link = |number: usize| layer_link_key(&images[number].repository, images[number].layer());
        put(&scene, &link(0), b"").unwrap();
        put(&scene, &link(1), &[0; 71]).unwrap();
        put(&scene, &link(2), images[2].config().as_bytes()).unwrap();
        put(&scene, &blob_key(images[3].layer()), b"half of ").unwrap();
        put(&scene, &blob_key(&images[4].digest), b"{}").unwrap();
        let revision = |number: usize| revision_link_key(&images[number].repository, &images[number].digest);
        put(&scene, &revision(5), format!("{}\n", images[5].digest).as_bytes()).unwrap();
        put(&scene, &revision(6), b"").unwrap();
        scene.storage().remove(&revision(7)).unwrap();
        point_tag(&scene, &images[8], b"").unwrap();
        point_tag(&scene, &images[9], format!(" {}", images[9].digest).as_bytes()).unwrap();
        // A manifest that is served by its layer link.
        scene.storage().remove(&revision(10)).unwrap();
        let old = layer_link_key(&images[10].repository, &images[10].digest);
        put(&scene, &old, images[10].digest.as_bytes()).unwrap();
        a_real_registry_agrees(&scene).await;
    }
}
