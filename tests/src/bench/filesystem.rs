//! A registry in a folder on a disk: `check` and `delete` with a warm cache, `check` with a cold one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::measure::{Measured, Series, measure};
use super::verdict::{Comparison, Figure, Findings};
use super::{Effort, FILTER_SEED, figure};
use crate::checker::{Roots, check_storage};
use crate::docker_registry::{RegistryConfig, StockCollector, eligible};
use crate::generate::{Truth, generate};
use crate::inventory::Inventory;
use crate::program::Hardprune;
use crate::storage_writer::Folder;

const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
/// The stock collector's time over hardprune's.
const WANTED_WARM: f64 = 2.5;
const WANTED_COLD: f64 = 5.0;
/// hardprune's time over that of a `find` that looks at each file, with a warm cache.
const OF_FIND: f64 = 0.5;

/// Measures.
///
/// # Errors
///
/// A program that fails, and one that does not do what is right.
pub fn measure_filesystem(effort: &Effort) -> Result<Findings> {
    let work = tempfile::Builder::new()
        .prefix("hardprune-bench-")
        .tempdir_in(&effort.work_folder)
        .with_context(|| format!("making a folder in {}", effort.work_folder.display()))?;
    let root = work.path().join("registry");
    eprintln!("making a registry in {}", root.display());
    let truth = generate(&effort.filesystem, &Folder::new(&root))?;
    let bench = Bench {
        truth,
        hardprune: Hardprune::new()?,
        work: work.path(),
    };
    let mut findings = Findings {
        id: "filesystem",
        registry: format!(
            "A folder: {} manifests, {} live and {} orphan blobs, {} files",
            bench.truth.manifests,
            bench.truth.live.len(),
            bench.truth.orphans.len(),
            bench.truth.objects
        ),
        ..Findings::default()
    };
    bench.warm_checks(effort, &root, &mut findings)?;
    bench.cold_checks(effort, &root, &mut findings)?;
    bench.deletes(effort, &root, &mut findings)?;
    findings.bound_memory();
    Ok(findings)
}

struct Bench<'b> {
    truth: Truth,
    hardprune: Hardprune,
    work: &'b Path,
}

impl Bench<'_> {
    fn warm_checks(&self, effort: &Effort, root: &Path, findings: &mut Findings) -> Result<()> {
        let (mut stock, mut product) = (effort.series_of_stock(), Series::default());
        let (mut blobs, mut everything) = (Series::default(), Series::default());
        for round in 0..=effort.rounds {
            eprintln!("check, warm cache: round {round} of {}", effort.rounds);
            let mut runs = Vec::new();
            for (collector, series) in &mut stock {
                runs.push((series, self.stock_check(collector, root)?));
            }
            runs.extend([
                (&mut product, self.product_check(root)?),
                (&mut blobs, find(&root.join("docker/registry/v2/blobs"))?),
                (&mut everything, find(root)?),
            ]);
            for (series, run) in runs {
                // The first round warms the cache.
                if round > 0 {
                    series.add(&run);
                }
            }
        }
        let of_find = product.median_seconds() / everything.median_seconds();
        findings.figures.push(Figure::held(
            "check, warm cache: of the time of `find` over the whole tree",
            format!("{:.0} %", of_find * 100.0),
            format!("at most {:.0} %", OF_FIND * 100.0),
            of_find <= OF_FIND,
        ));
        findings.comparisons.extend(Comparison::with_each(
            "check, warm cache",
            stock,
            &product,
            WANTED_WARM,
        )?);
        let yardstick = |tree| format!("`find -printf '%s %T@'` over {tree}, warm cache");
        findings.yardsticks.push((yardstick("the blobs"), blobs));
        findings
            .yardsticks
            .push((yardstick("the whole tree"), everything));
        Ok(())
    }

    fn cold_checks(&self, effort: &Effort, root: &Path, findings: &mut Findings) -> Result<()> {
        if drop_caches().is_err() {
            findings.notes.push(format!(
                "Nothing was measured with a cold cache: {DROP_CACHES} cannot be written."
            ));
            return Ok(());
        }
        let (mut stock, mut product) = (effort.series_of_stock(), Series::default());
        let mut everything = Series::default();
        for round in 1..=effort.cold_rounds {
            eprintln!("check, cold cache: round {round} of {}", effort.cold_rounds);
            for (collector, series) in &mut stock {
                drop_caches()?;
                series.add(&self.stock_check(collector, root)?);
            }
            drop_caches()?;
            product.add(&self.product_check(root)?);
            drop_caches()?;
            everything.add(&find(root)?);
        }
        findings.comparisons.extend(Comparison::with_each(
            "check, cold cache",
            stock,
            &product,
            WANTED_COLD,
        )?);
        let what = "`find -printf '%s %T@'` over the whole tree, cold cache".to_owned();
        findings.yardsticks.push((what, everything));
        Ok(())
    }

    fn deletes(&self, effort: &Effort, root: &Path, findings: &mut Findings) -> Result<()> {
        let before = Inventory::take(&Folder::new(root))?;
        let (mut stock, mut product) = (Series::default(), Series::default());
        let target = self.work.join("copy");
        for round in 1..=effort.few_rounds {
            eprintln!("delete: round {round} of {}", effort.few_rounds);
            copy(root, &target)?;
            let config = self.work.join("config");
            fs::create_dir_all(&config)?;
            stock.add(&measure(StockCollector::debian().command(
                &RegistryConfig::filesystem(&target),
                &config,
                false,
                false,
            )?)?);
            self.prove_deleted(&before, &target, false)?;

            copy(root, &target)?;
            let run = measure(self.hardprune.command(&[
                "delete",
                &target.to_string_lossy(),
                "--assume-read-only",
                "--output",
                "json",
                FILTER_SEED[0],
                FILTER_SEED[1],
            ]))?;
            let report = serde_json::from_str::<Value>(&run.stdout)?;
            ensure!(
                figure(&report, "/bytes/freed")? == self.truth.orphan_bytes(),
                "the freed bytes are not exact: {report}"
            );
            self.prove_deleted(&before, &target, true)?;
            product.add(&run);
        }
        fs::remove_dir_all(&target)?;
        findings.comparisons.push(Comparison {
            what: "delete, warm cache".to_owned(),
            stock,
            product,
            wanted_ratio: None,
        });
        findings.notes.push(format!(
            "The stock collector leaves the {} layer links of the orphans and their empty folders; hardprune removes them, \
             too, and keeps a journal that survives a power failure.",
            self.truth.dangling_links.len()
        ));
        Ok(())
    }

    fn stock_check(&self, collector: &StockCollector, root: &Path) -> Result<Measured> {
        let config = self.work.join("config");
        fs::create_dir_all(&config)?;
        let run = measure(collector.command(&RegistryConfig::filesystem(root), &config, true, false)?)?;
        self.prove_orphans(&eligible(&run.stdout))?;
        Ok(run)
    }

    fn product_check(&self, root: &Path) -> Result<Measured> {
        let candidates = self.work.join("candidates");
        let run = measure(self.hardprune.command(&[
            "check",
            &root.to_string_lossy(),
            "--candidates",
            &candidates.to_string_lossy(),
            FILTER_SEED[0],
            FILTER_SEED[1],
        ]))?;
        self.prove_orphans(&read_candidates(&candidates)?)?;
        Ok(run)
    }

    fn prove_orphans(&self, found: &BTreeSet<String>) -> Result<()> {
        ensure!(
            found.iter().eq(self.truth.orphans.keys()),
            "{} orphans were found where there are {}, or others",
            found.len(),
            self.truth.orphans.len()
        );
        Ok(())
    }

    fn prove_deleted(&self, before: &Inventory, target: &Path, links_too: bool) -> Result<()> {
        let storage = Folder::new(target);
        prove_deleted(&self.truth, before, &Inventory::take(&storage)?, links_too)?;
        let report = check_storage(&storage, Roots::Revisions)?;
        ensure!(
            report.violations.is_empty(),
            "something live is not complete: {:?}",
            report.violations
        );
        Ok(())
    }
}

/// Proves that exactly the orphans are gone, and with `links_too` exactly the links to them.
///
/// # Errors
///
/// Anything else.
pub fn prove_deleted(truth: &Truth, before: &Inventory, after: &Inventory, links_too: bool) -> Result<()> {
    let difference = before.until(after);
    ensure!(
        difference.removed_blobs() == truth.orphans,
        "what is gone is not what nothing names"
    );
    let links = if links_too { truth.dangling_links.len() } else { 0 };
    let removed = truth.orphans.len() + links;
    ensure!(
        difference.removed.len() == removed,
        "{} files are gone instead of {removed}",
        difference.removed.len()
    );
    Ok(())
}

/// Reads the digests of a file that `--candidates` wrote.
///
/// # Errors
///
/// A file of another form.
pub fn read_candidates(path: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    text.lines()
        .map(|line| {
            let candidate: Value = serde_json::from_str(line)?;
            let digest = candidate["digest"].as_str().context("a candidate has a digest")?;
            Ok(digest.to_owned())
        })
        .collect()
}

fn find(tree: &Path) -> Result<Measured> {
    let mut command = Command::new("find");
    command.arg(tree).args(["-printf", "%s %T@\n"]);
    measure(command)
}

/// Copies a registry with all times, to what stood elsewhere before.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    let mut command = Command::new("cp");
    command.arg("-a").arg(from).arg(to);
    measure(command)?;
    // What was written is on the disk before the time runs.
    measure(Command::new("sync"))?;
    Ok(())
}

fn drop_caches() -> Result<()> {
    measure(Command::new("sync"))?;
    fs::write(DROP_CACHES, "3").with_context(|| format!("writing {DROP_CACHES}"))
}
