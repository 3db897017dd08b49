//! hardprune's plan and sweep beside bare bulk deletes of the same keys: clients that list all blobs and delete keys that
//! they were told, with as many requests in flight, and decide, journal and prove nothing.
//!
//! One is what a program makes of a library, `object_store`: it reads what it lists. The other passes over it, as no client of use
//! can: how fast the server is.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::{StreamExt, TryStreamExt, stream};
use hardprune_common::layout::BLOBS;
use md5::{Digest as _, Md5};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore};

use super::Effort;
use super::measure::Series;
use super::simulated::{Simulation, count, fraction, shape_of};
use super::verdict::{Figure, Findings};
use crate::s3_server::{S3Options, S3Server};
use crate::simulator::SimulatedShape;

const BLOBS_IN_ALL: u64 = 3_000_000;
const LATENCY: Duration = Duration::from_millis(20);
const IN_FLIGHT: usize = 64;
/// `object_store` has 20 requests of a stream of deletes in flight.
const STREAMS_OF_DELETES: usize = 3;
const WANTED: f64 = 0.9;

/// Measures.
///
/// # Errors
///
/// A program that fails, and one that does not do what is right.
pub fn measure_bare_delete(effort: &Effort) -> Result<Findings> {
    let blobs = BLOBS_IN_ALL / effort.scale;
    // Blobs alone, and few manifests: marking is no part of this.
    let shape = SimulatedShape {
        dangling: 0.0,
        ..shape_of(blobs).with_manifests(blobs / 50)
    };
    let (mut unread, mut bare, mut product) = (Series::default(), Series::default(), Series::default());
    let mut orphans = 0;
    for round in 1..=effort.few_rounds {
        eprintln!("bare delete: round {round} of {}", effort.few_rounds);
        let simulation = start(effort, &shape)?;
        let outcome = simulation.delete(&[])?;
        let seconds =
            fraction(&outcome.report, "/seconds/plan")? + fraction(&outcome.report, "/seconds/sweep")?;
        product.add_part(seconds, outcome.run.peak_bytes);
        orphans = outcome.verdict.orphans_gone;
        drop(simulation);

        for (client, series) in [(Client::Library, &mut bare), (Client::Unread, &mut unread)] {
            let simulation = start(effort, &shape)?;
            let keys = simulation.simulated()?.orphan_keys();
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let begun = Instant::now();
            match client {
                Client::Library => runtime.block_on(delete_by_library(&simulation.server, keys))?,
                Client::Unread => runtime.block_on(delete_unread(&simulation.server, &keys))?,
            }
            series.add_part(begun.elapsed().as_secs_f64(), 0);
            let verdict = simulation.simulated()?.verdict();
            ensure!(
                verdict.is_clean(),
                "the bare delete did something else: {verdict:?}"
            );
        }
    }
    let share = bare.median_seconds() / product.median_seconds();
    #[expect(clippy::cast_precision_loss, reason = "millions of keys are exact")]
    let told = |series: &Series| {
        let seconds = series.median_seconds();
        format!("{seconds:.2} s, {:.0} keys a second", orphans as f64 / seconds)
    };
    Ok(Findings {
        id: "bare-delete",
        registry: format!(
            "Beside a bare bulk delete: {} of {} blobs, {} ms for each request, {IN_FLIGHT} requests in flight",
            count(orphans),
            count(blobs),
            LATENCY.as_millis()
        ),
        figures: vec![
            Figure::told("list and delete by a library, object_store", told(&bare)),
            Figure::told(
                "the same by a client that does not read what it lists",
                told(&unread),
            ),
            Figure::told("plan and sweep", told(&product)),
            Figure::held(
                "of the library's rate",
                format!("{:.0} %", share * 100.0),
                format!("at least {:.0} %", WANTED * 100.0),
                share >= WANTED,
            ),
        ],
        notes: vec![
            "The bare clients are in the simulator's process, the product in one of its own; all share two processors.".to_owned(),
        ],
        ..Findings::default()
    })
}

fn start(effort: &Effort, shape: &SimulatedShape) -> Result<Simulation> {
    let options = S3Options {
        latency: LATENCY.into(),
        check_credentials: false,
        ..S3Options::default()
    };
    Simulation::start(&effort.work_folder, shape.clone(), options)
}

enum Client {
    Library,
    Unread,
}

/// Lists every folder, and deletes the keys that are listed and are to go.
async fn delete_by_library(server: &S3Server, keys: Vec<String>) -> Result<()> {
    let store: AmazonS3 = AmazonS3Builder::new()
        .with_endpoint(server.endpoint())
        .with_bucket_name(server.bucket())
        .with_region("us-east-1")
        .with_access_key_id(server.access_key())
        .with_secret_access_key(server.secret_key())
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .build()?;
    let mut wanted: HashSet<Path> = keys.into_iter().map(Path::from).collect();
    let mut listed = Vec::new();
    let pages = stream::iter(0..256).map(|folder| {
        let prefix = Path::from(format!("{BLOBS}sha256/{folder:02x}"));
        store
            .list(Some(&prefix))
            .map_ok(|object| object.location)
            .try_collect::<Vec<Path>>()
    });
    let mut pages = pages.buffer_unordered(IN_FLIGHT);
    while let Some(keys) = pages.try_next().await? {
        listed.extend(keys.into_iter().filter(|key| wanted.remove(key)));
    }
    ensure!(wanted.is_empty(), "{} keys were not listed", wanted.len());
    let pieces: Vec<Vec<Path>> = listed
        .chunks(listed.len().div_ceil(STREAMS_OF_DELETES))
        .map(<[Path]>::to_vec)
        .collect();
    let deletes = pieces.into_iter().map(|keys| {
        store
            .delete_stream(stream::iter(keys.into_iter().map(Ok)).boxed())
            .try_for_each(|_| async { Ok(()) })
    });
    futures::future::try_join_all(deletes).await?;
    Ok(())
}

/// Asks for every page of every folder, then deletes the keys, a thousand a request.
async fn delete_unread(server: &S3Server, keys: &[String]) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let place = format!("{}/{}", server.endpoint(), server.bucket());
    stream::iter(0..256)
        .map(|folder| list(&client, &place, folder))
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    stream::iter(keys.chunks(1000))
        .map(|keys| delete(&client, &place, keys))
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

async fn list(client: &reqwest::Client, place: &str, folder: u32) -> Result<()> {
    let mut token = String::new();
    loop {
        let url = format!("{place}?list-type=2&prefix={BLOBS}sha256/{folder:02x}/{token}");
        let page = client.get(url).send().await?.error_for_status()?.text().await?;
        ensure!(page.contains("<ListBucketResult"), "not a page: {page}");
        let Some((_, rest)) = page.split_once("<NextContinuationToken>") else {
            return Ok(());
        };
        let (next, _) = rest.split_once('<').context("a page that is cut")?;
        token = format!("&continuation-token={next}");
    }
}

async fn delete(client: &reqwest::Client, place: &str, keys: &[String]) -> Result<()> {
    let mut body = String::from("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for key in keys {
        let _ = write!(body, "<Object><Key>{key}</Key></Object>");
    }
    body.push_str("</Delete>");
    let md5 = BASE64_STANDARD.encode(Md5::digest(&body));
    let request = client.post(format!("{place}?delete")).header("content-md5", md5);
    let answer = request
        .body(body)
        .send()
        .await?
        .error_for_status()?
        .text()
        .await?;
    ensure!(
        answer.matches("<Deleted>").count() == keys.len(),
        "not all were deleted"
    );
    Ok(())
}
