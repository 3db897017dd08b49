//! Makes a synthetic registry in a folder, to try hardprune on: `make-registry FOLDER [small|filesystem|s3]`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use hardprune_tests::generate::{Shape, generate};
use hardprune_tests::storage_writer::Folder;

/// Makes a synthetic registry in a folder.
#[derive(Debug, Parser)]
struct Arguments {
    /// The folder; it should be empty.
    folder: PathBuf,
    /// `small`, or the shape of a benchmark: `filesystem` (110,000 files), `s3` (1,000 images).
    #[arg(default_value = "small")]
    shape: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let truth = generate(&Shape::named(&arguments.shape)?, &Folder::new(&arguments.folder))?;
    println!(
        "{} live blobs, {} orphans, {} objects",
        truth.live.len(),
        truth.orphans.len(),
        truth.objects
    );
    Ok(())
}
