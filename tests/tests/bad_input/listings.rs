//! R12: a listing that does not prove itself is an error, never a short list. Whatever is missing from a mark listing
//! would be deleted.

use anyhow::{Context, Result, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options};

use crate::scene::{Scene, tiny};

const MARK: &str = "docker/registry/v2/repositories/";
const BLOBS: &str = "docker/registry/v2/blobs/sha256/";
/// Each read is tried so often.
const TRIES: u64 = 5;

/// One repository, so that one task lists it page after page.
fn many_pages() -> Result<Scene> {
    let options = S3Options {
        page_size: 5,
        ..S3Options::default()
    };
    let shape = Shape {
        repositories: 1,
        ..tiny()
    };
    Scene::on_s3_of_shape(options, shape)
}

/// Spoils the listings of a part of the registry for good, from several points on: `check` and `delete` fail, having
/// deleted nothing.
fn fails_for_good(effect: &Effect, prefix: &str, said: &str) -> Result<()> {
    for skip in [0, 4] {
        let scene = many_pages()?;
        for command in ["check", "delete"] {
            let fault = Fault::on(Operation::List, effect.clone()).of_keys_with(prefix);
            scene.server().faults().add(fault.after(skip));
            scene
                .fails(1, command, &[], &["s3://registry", prefix, said])
                .with_context(|| format!("{effect:?} of {prefix}, after {skip}"))?;
            scene.server().faults().clear();
        }
    }
    Ok(())
}

/// Spoils two pages, somewhere: they are asked for again, and nothing is missing.
fn passes(effect: &Effect, prefix: &str) -> Result<()> {
    let scene = many_pages()?;
    for skip in [2, 3] {
        let fault = Fault::on(Operation::List, effect.clone()).of_keys_with(prefix);
        scene.server().faults().add(fault.after(skip).times(2));
    }
    scene
        .prunes_exactly(&[])
        .with_context(|| format!("{effect:?} of {prefix}"))?;
    ensure!(scene.server().faults().met() == 4, "the faults met nobody");
    Ok(())
}

macro_rules! spoiled_listings {
    ($($name:ident: $effect:expr, $said:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn of_repositories_for_good() {
                fails_for_good(&$effect, MARK, $said).unwrap();
            }

            #[test]
            fn of_blobs_for_good() {
                fails_for_good(&$effect, BLOBS, $said).unwrap();
            }

            #[test]
            fn for_a_moment() {
                passes(&$effect, MARK).unwrap();
                passes(&$effect, BLOBS).unwrap();
            }
        }
    )*};
}

spoiled_listings! {
    page_cut_in_half: Effect::ShortPage, "cannot be believed";
    truncated_without_token: Effect::TruncatedWithoutToken, "cannot be believed";
    token_without_truncated: Effect::TokenWithoutTruncated, "cannot be believed";
    keys_in_no_order: Effect::UnorderedPage, "cannot be believed";
    key_of_another_prefix: Effect::ForeignKeyInPage, "cannot be believed";
    html_with_status_200: Effect::Html200, "cannot be believed";
    error_document_with_status_200: Effect::ErrorDocument200, "cannot be believed";
    body_cut_short: Effect::CutBody(300), "cut short";
    server_error: Effect::Status(500, "InternalError"), "HTTP 500";
    no_answer: Effect::DropConnection, "could not list";
}

/// The seventh page fails, at each of the tries of both attempts at its task; all other pages are right.
#[test]
fn a_listing_that_fails_on_its_seventh_page() {
    for command in ["check", "delete"] {
        let scene = many_pages().unwrap();
        // Two requests look for where to cut; then come the pages.
        let first_attempt = 2 + 6;
        let second_attempt = first_attempt + TRIES + 6;
        for skip in [first_attempt, second_attempt] {
            let fault = Fault::on(Operation::List, Effect::ShortPage).of_keys_with(MARK);
            scene.server().faults().add(fault.after(skip).times(TRIES));
        }
        scene
            .fails(
                1,
                command,
                &[],
                &[&format!("page 7 of the listing of {MARK:?} cannot be believed")],
            )
            .unwrap();
        assert_eq!(scene.server().faults().met(), 2 * TRIES);
    }
}

#[test]
fn a_listing_whose_seventh_page_fails_in_one_attempt_is_listed_again_from_its_start() {
    let scene = many_pages().unwrap();
    let fault = Fault::on(Operation::List, Effect::ShortPage).of_keys_with(MARK);
    scene.server().faults().add(fault.after(2 + 6).times(TRIES));
    scene.prunes_exactly(&[]).unwrap();
    assert_eq!(scene.server().faults().met(), TRIES);
}
