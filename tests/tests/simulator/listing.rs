//! Pages of a simulated registry, held against a full enumeration of it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use hardprune_common::layout::{BLOBS, REPOSITORIES};
use hardprune_tests::s3_server::{S3Options, S3Server};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::{server, shape};

// Without idle connections: those belong to a test's runtime and end with it.
static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("no TLS to set up")
});

/// What a page shows: keys with their sizes, and folders.
type Shown = (Vec<(String, u64)>, Vec<String>);

/// What is asked of a page.
#[derive(Debug, Clone)]
struct Asked {
    prefix: String,
    after: Option<String>,
    folded: bool,
    max_keys: usize,
}

/// Asks for one page.
async fn page(server: &S3Server, asked: &Asked, token: Option<&str>, framework: bool) -> Result<String> {
    let mut url = url::Url::parse(&format!("{}/{}", server.endpoint(), server.bucket()))?;
    {
        let mut query = url.query_pairs_mut();
        query
            .append_pair("list-type", "2")
            .append_pair("prefix", &asked.prefix);
        query.append_pair("max-keys", &asked.max_keys.to_string());
        if asked.folded {
            query.append_pair("delimiter", "/");
        }
        match (token, &asked.after) {
            (Some(token), _) => drop(query.append_pair("continuation-token", token)),
            (None, Some(after)) => drop(query.append_pair("start-after", after)),
            (None, None) => {}
        }
        if framework {
            // Only the S3 framework answers this; no key has what would be encoded.
            query.append_pair("encoding-type", "url");
        }
    }
    let answer = CLIENT.get(url).send().await?.error_for_status()?;
    Ok(answer.text().await?)
}

/// The texts of all elements of a name.
fn texts<'t>(page: &'t str, name: &str) -> Vec<&'t str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let pieces = page.split(&open).skip(1);
    pieces
        .filter_map(|piece| Some(piece.split_once(&close)?.0))
        .collect()
}

fn shown(page: &str) -> Result<Shown> {
    let keys = texts(page, "Key").into_iter().map(str::to_owned);
    let sizes = texts(page, "Size").into_iter().map(str::parse);
    let sizes: Vec<u64> = sizes.collect::<Result<_, _>>()?;
    let folders = texts(page, "CommonPrefixes").into_iter();
    let folders = folders.map(|folder| folder.replace("<Prefix>", "").replace("</Prefix>", ""));
    Ok((keys.zip(sizes).collect(), folders.collect()))
}

/// The page that a full enumeration says, and whether there is more.
fn wanted(all: &BTreeMap<String, (u64, Timestamp)>, asked: &Asked) -> (Shown, bool) {
    let (mut keys, mut folders) = (Vec::new(), Vec::<String>::new());
    for (key, (size, _)) in all {
        let Some(rest) = key.strip_prefix(&asked.prefix) else {
            continue;
        };
        let folder = rest.find('/').filter(|_| asked.folded);
        let folder = folder.map(|end| key[..=asked.prefix.len() + end].to_owned());
        let name = folder.as_ref().unwrap_or(key);
        if asked.after.as_ref().is_some_and(|after| {
            // A folder is behind a key inside of it, unless that key is what the listing was told to begin behind.
            name <= after && (folder.is_none() || folder.as_ref() == Some(after) || key <= after)
        }) || folder
            .as_ref()
            .is_some_and(|folder| folders.last() == Some(folder))
        {
            continue;
        }
        if keys.len() + folders.len() == asked.max_keys {
            return ((keys, folders), true);
        }
        match folder {
            Some(folder) => folders.push(folder),
            None => keys.push((key.clone(), *size)),
        }
    }
    ((keys, folders), false)
}

async fn compare(server: &S3Server, all: &BTreeMap<String, (u64, Timestamp)>, asked: &Asked) -> Result<()> {
    let fast = page(server, asked, None, false).await?;
    let by_framework = page(server, asked, None, true).await?;
    ensure!(
        shown(&fast)? == shown(&by_framework)?,
        "answered in two ways: {asked:?}"
    );
    let (wanted, more) = wanted(all, asked);
    ensure!(shown(&fast)? == wanted, "{asked:?}: {fast}");
    ensure!(
        texts(&fast, "IsTruncated") == [if more { "true" } else { "false" }],
        "{asked:?}"
    );
    let times: Vec<&str> = texts(&fast, "LastModified");
    for ((key, _), time) in wanted.0.iter().zip(times) {
        ensure!(time.parse::<Timestamp>()? == all[key].1, "{key}: {time}");
    }
    Ok(())
}

fn unsigned() -> S3Options {
    S3Options {
        check_credentials: false,
        ..S3Options::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_by_page_it_is_what_a_full_enumeration_says() {
    let server = server(shape(800), unsigned());
    let all = server.inventory();
    let blobs = all.keys().filter(|key| key.starts_with(BLOBS)).count();
    assert_eq!(blobs, 800);
    assert_eq!(all.len() as u64, server.simulated().unwrap().expected().keys);
    for (prefix, folded, max_keys) in [
        (BLOBS, false, 37),
        (REPOSITORIES, false, 41),
        ("", false, 100),
        ("docker/registry/v2/blobs/sha256/", true, 30),
        (REPOSITORIES, true, 1),
        ("", true, 5),
    ] {
        let mut asked = Asked {
            prefix: prefix.to_owned(),
            after: None,
            folded,
            max_keys,
        };
        let mut token: Option<String> = None;
        loop {
            let page = page(&server, &asked, token.as_deref(), false).await.unwrap();
            assert_eq!(shown(&page).unwrap(), wanted(&all, &asked).0, "{asked:?}");
            let (keys, folders) = shown(&page).unwrap();
            let last = keys.into_iter().map(|(key, _)| key).chain(folders).max();
            token = texts(&page, "NextContinuationToken")
                .first()
                .map(|token| (*token).to_owned());
            if token.is_none() {
                break;
            }
            asked.after = last;
        }
        compare(&server, &all, &asked).await.unwrap();
    }
}

#[test]
fn it_may_begin_anywhere() {
    let server = server(shape(600), unsigned());
    let all = server.inventory();
    let keys: Vec<&String> = all.keys().collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // A key, cut anywhere, with something behind it or not; as the prefix or as what the listing begins behind.
    let bound = (any::<prop::sample::Index>(), 0..150usize, "[/0-9a-g_~]{0,2}");
    let strategy = (bound.clone(), prop::option::of(bound), any::<bool>(), 1..60usize);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(100));
    let text = |(index, length, more): &(prop::sample::Index, usize, String)| {
        let key = index.get(&keys);
        format!("{}{more}", &key[..key.len().min(*length)])
    };
    let tested = runner.run(&strategy, |(prefix, after, folded, max_keys)| {
        let asked = Asked {
            prefix: text(&prefix),
            after: after.as_ref().map(text),
            folded,
            max_keys,
        };
        let compared = runtime.block_on(compare(&server, &all, &asked));
        compared.map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    tested.unwrap();
}

#[test]
fn it_is_the_same_again_from_the_same_seed() {
    let shape = shape(500);
    let inventory = |seed| {
        let shape = hardprune_tests::simulator::SimulatedShape {
            seed,
            ..shape.clone()
        };
        server(shape, unsigned()).inventory()
    };
    assert_eq!(inventory(7), inventory(7));
    assert_ne!(inventory(7), inventory(8));
}

#[test]
fn a_key_that_was_never_there_is_not_there() {
    let server = server(shape(500), unsigned());
    let simulated = server.simulated().unwrap();
    for key in server.inventory().keys() {
        assert!(simulated.find(key).is_some(), "{key}");
        for other in [
            format!("{key}/"),
            key.to_uppercase(),
            key.replace("sha256", "sha512"),
        ] {
            // A tag's current link names no algorithm.
            assert!(other == *key || simulated.find(&other).is_none(), "{other}");
        }
    }
    let (blob, _) = server.inventory().pop_first().context("a blob").unwrap();
    assert!(server.remove(&blob), "{blob}");
    assert!(!server.remove(&blob), "{blob}");
    assert!(simulated.find(&blob).is_none() && !server.inventory().contains_key(&blob));
}
