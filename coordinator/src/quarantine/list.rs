//! `hardprune quarantine list`: of which runs something is kept, and how much, by the listing of the copies.

use futures::TryStreamExt;
use hardprune_common::quarantine::{Keeping, Undo, copies_of, parse_copy_key};
use hardprune_common::run::RunId;
use hardprune_common::store::{ListRange, Store};
use jiff::Timestamp;
use serde::Serialize;

use super::args::QuarantineListArgs;
use super::copies::Class;
use super::keeping;
use crate::cli::OutputFormat;
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::human;
use crate::open_stores::NamedRegistry;
use crate::print;

/// What is kept of a run now.
#[derive(Debug, Serialize)]
struct Kept {
    run: RunId,
    undo: Undo,
    online: bool,
    began: Timestamp,
    ended: Option<Timestamp>,
    /// Blobs that are there now; where versions are kept, those that the run removed.
    blobs: u64,
    /// Their bytes.
    bytes: u64,
    links: u64,
}

/// Lists them.
///
/// # Errors
///
/// The registry's storage.
pub async fn list(args: &QuarantineListArgs) -> Result<ExitStatus, RunError> {
    let registry = NamedRegistry::of(&args.registry)?.open()?;
    let mut kept = Vec::new();
    for keeping in keeping::read_all(&*registry).await? {
        kept.push(count(&*registry, keeping).await?);
    }
    match args.output {
        OutputFormat::Json => {
            let document = serde_json::to_string_pretty(&kept).map_err(|error| RunError::Output {
                path: "-".into(),
                source: error.into(),
            })?;
            print(&format!("{document}\n"))?;
        }
        OutputFormat::Text if kept.is_empty() => print("Nothing is in quarantine\n")?,
        OutputFormat::Text => print(&kept.iter().map(line).collect::<String>())?,
    }
    Ok(ExitStatus::Done)
}

async fn count(registry: &dyn Store, keeping: Keeping) -> Result<Kept, RunError> {
    let mut kept = Kept {
        run: keeping.run,
        undo: keeping.undo,
        online: keeping.online,
        began: keeping.began,
        ended: keeping.ended,
        blobs: keeping.blobs,
        bytes: keeping.bytes,
        links: keeping.links,
    };
    if keeping.undo == Undo::Versions {
        return Ok(kept);
    }
    (kept.blobs, kept.bytes, kept.links) = (0, 0, 0);
    let mut pages = registry.list(ListRange::prefix(copies_of(keeping.run)));
    while let Some(page) = pages.try_next().await? {
        for copy in page {
            match parse_copy_key(&copy.key).map(|key| Class::of(key.original)) {
                Some(Class::Blob) => {
                    kept.blobs += 1;
                    kept.bytes += copy.size;
                }
                Some(_) => kept.links += 1,
                None => {}
            }
        }
    }
    Ok(kept)
}

fn line(kept: &Kept) -> String {
    let when = match kept.ended {
        Some(ended) => ended.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => "not ended (delete --resume, or restore)".to_owned(),
    };
    let how = match kept.undo {
        Undo::Versions => "  (as versions of the bucket)",
        Undo::Nothing | Undo::Copies => "",
    };
    let online = if kept.online { "  online" } else { "" };
    format!(
        "{}  {when}  {} blobs, {}, {} links{how}{online}\n",
        kept.run,
        kept.blobs,
        human::bytes(kept.bytes),
        kept.links
    )
}
