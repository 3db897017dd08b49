//! Who freed what: what the report says is what links and blobs say, to the byte.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::scene::{KILLED, Scene, number};
use hardprune_tests::storage_writer::layer_link_key;
use serde_json::Value;

/// Blobs and bytes by tenant.
type Shares = BTreeMap<Option<String>, (u64, u64)>;

/// A registry in which tenants share orphans, and whose they are.
fn shared(seed: u64) -> Result<(Scene, Shares)> {
    let mut scene = Scene::on_folder(&Shape::small(seed))?;
    let mut links = scene.truth.dangling_links.clone();
    let old = SystemTime::now() - Duration::from_secs(5 * 86_400);
    // One that three have, and one that two repositories of one have.
    let orphans: Vec<&String> = scene.truth.orphans.keys().collect();
    for (repository, digest) in [
        ("zoo/app", orphans[0]),
        ("ant/app", orphans[0]),
        ("ant-hill", orphans[0]),
        ("ant/app", orphans[1]),
        ("ant/app/deep", orphans[1]),
    ] {
        scene
            .storage()
            .put(&layer_link_key(repository, digest), digest.as_bytes(), old)?;
        links.insert((repository.to_owned(), digest.clone()));
    }
    let mut shares = Shares::new();
    for (digest, size) in &scene.truth.orphans {
        let of_digest = links.iter().filter(|(_, of)| of == digest);
        let tenants: BTreeSet<String> = of_digest
            .map(|(name, _)| name.split('/').next().unwrap_or_default().to_owned())
            .collect();
        let count = (tenants.len() as u64).max(1);
        let mut left_over = size % count;
        let tenants = tenants.into_iter().map(Some);
        let nobody = (count == 1 && tenants.len() == 0).then_some(None);
        for tenant in tenants.chain(nobody) {
            let share = shares.entry(tenant).or_default();
            share.0 += 1;
            share.1 += size / count + left_over;
            left_over = 0;
        }
    }
    ensure!(shares.contains_key(&None) && shares.len() > 4, "{shares:?}");
    scene.begin()?;
    Ok((scene, shares))
}

fn shares_of(entries: &[Value]) -> Result<Shares> {
    let mut shares = Shares::new();
    for entry in entries {
        let tenant = entry["tenant"].as_str().map(str::to_owned);
        let share = (number(entry, "/blobs")?, number(entry, "/bytes")?);
        ensure!(shares.insert(tenant, share).is_none(), "{entry} comes twice");
    }
    Ok(shares)
}

fn check_report(report: &Value, wanted: &Shares, bytes: u64) -> Result<()> {
    let entries = report["tenants"].as_array().context("no tenants")?;
    let told = shares_of(entries)?;
    ensure!(told == *wanted, "{told:?} instead of {wanted:?}");
    let sum: u64 = told.values().map(|(_, bytes)| bytes).sum();
    ensure!(sum == bytes, "{sum} instead of {bytes}");
    let order: Vec<u64> = entries
        .iter()
        .filter_map(|entry| entry["bytes"].as_u64())
        .collect();
    ensure!(order.is_sorted_by(|a, b| a >= b), "{order:?}");
    Ok(())
}

#[test]
fn a_check_says_whose_blobs_would_go_and_a_delete_whose_went() {
    let (scene, wanted) = shared(71).unwrap();
    let checked = scene.check(&[]).unwrap();
    check_report(&checked, &wanted, number(&checked, "/bytes/orphaned").unwrap()).unwrap();
    let deleted = scene.report(0, &scene.delete(&[])).unwrap();
    check_report(&deleted, &wanted, number(&deleted, "/bytes/freed").unwrap()).unwrap();
    let shown = scene.show().unwrap();
    assert_eq!(shown["tenants"], deleted["tenants"]);

    let all = std::fs::read_to_string(&scene.state_files("/tenants.jsonl").unwrap()[0]).unwrap();
    let all: Vec<Value> = all
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(shares_of(&all).unwrap(), wanted);
    let run = scene.run_id().unwrap();
    let state = scene.state().display().to_string();
    let text = scene
        .program
        .run(&["runs", "show", &run, "--state", &state])
        .unwrap()
        .stdout;
    let first = deleted["tenants"][0]["tenant"].as_str().unwrap_or("not known");
    let mut lines = text
        .lines()
        .skip_while(|line| !line.starts_with("freed by tenant"));
    assert!(lines.nth(1).is_some_and(|line| line.contains(first)), "{text}");
}

/// The links are gone by then: a second epoch cannot see whose the blobs were.
#[test]
fn whose_blobs_went_is_known_after_a_run_was_killed_between_links_and_blobs() {
    let (scene, wanted) = shared(72).unwrap();
    let killed = scene
        .run_with("after-dangling=return", &scene.delete(&[]))
        .unwrap();
    assert_eq!(killed.status, KILLED, "{killed:?}");
    let report = scene.report(0, &scene.resume()).unwrap();
    check_report(&report, &wanted, number(&report, "/bytes/freed").unwrap()).unwrap();
    // What nobody wrote down is worked out again.
    std::fs::remove_file(&scene.state_files("/report.json").unwrap()[0]).unwrap();
    assert_eq!(scene.show().unwrap()["tenants"], report["tenants"]);
}
