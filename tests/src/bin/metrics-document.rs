//! `make docs`: writes docs/metrics.md from the metrics that the programs register.

use std::fs;

use anyhow::{Context, Result};
use hardprune_tests::metrics_document::{PATH, render};

fn main() -> Result<()> {
    fs::write(PATH, render()?)
        .with_context(|| format!("cannot write {PATH}; run this at the workspace's root"))?;
    println!("written to {PATH}");
    Ok(())
}
