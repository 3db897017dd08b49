//! What stores say of their objects, and what a check costs where they say much.

use std::collections::BTreeSet;

use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::{ETags, S3Options};
use hardprune_tests::scene::Scene;
use hardprune_tests::storage_writer::{blob_key, layer_link_key};

use crate::scene::{findings, fsck, images, put};

#[test]
fn whatever_etags_are_the_same_is_found() {
    for etags in [ETags::Md5, ETags::Encrypted, ETags::Opaque] {
        let options = S3Options {
            etags,
            // Several pages of each listing.
            page_size: 7,
            ..S3Options::default()
        };
        let scene = Scene::on_s3(&Shape::small(71), options).unwrap();
        assert_eq!(findings(&fsck(&scene, 0).unwrap()), BTreeSet::new(), "{etags:?}");
        let images = images(&scene).unwrap();
        scene.storage().remove(&blob_key(images[0].layer())).unwrap();
        let link = layer_link_key(&images[1].repository, images[1].layer());
        put(&scene, &link, b"").unwrap();
        let expected =
            [(&images[0], "layer_missing"), (&images[1], "layer_link_invalid")].map(|(image, kind)| {
                let of = (image.repository.clone(), image.digest.clone());
                (of.0, of.1, kind.to_owned(), image.layer().to_owned())
            });
        assert_eq!(findings(&fsck(&scene, 6).unwrap()), expected.into(), "{etags:?}");
    }
}

/// Where an `ETag` proves a link it is not read; a manifest is read once, however many repositories have it.
#[test]
fn a_bucket_is_asked_for_manifests_and_tags_only() {
    let scene = Scene::on_s3(&Shape::small(72), S3Options::default()).unwrap();
    let report = fsck(&scene, 0).unwrap();
    let expected = scene.truth.manifests + scene.truth.tags.len();
    assert_eq!(report["requests"]["get"], expected, "{report:#}");
    assert_eq!(report["requests"]["head"], 0);
}
