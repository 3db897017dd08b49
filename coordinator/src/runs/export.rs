//! `runs export`: what a run removed, or a check would, a line for each key: what, how large, from when, why, by whom, when.
//! Streamed part by part from the books (R9); a blob counts once, as in the accounts (R5), so that the sizes add up to the freed
//! bytes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use hardprune_common::digest::Digest;
use hardprune_common::journal::Witness;
use hardprune_common::removal::{Removal, RemovalKind, RemovalReason};
use hardprune_common::run::{Epoch, RunId};
use hardprune_common::seal::{PlanDocument, plan_key};
use hardprune_common::state::StateStore;
use jiff::Timestamp;
use serde::Serialize;

use crate::books::EpochBooks;
use crate::cli::RunsPlace;
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::gone::{Detail, Gone, GoneParts};
use crate::run_record::{Mode, RunRecord};
use crate::runs::places::find_run;

/// Arguments of `runs export`.
#[derive(Debug, Args)]
pub struct RunsExportArgs {
    /// The run.
    pub run: RunId,
    /// Where to look.
    #[command(flatten)]
    pub place: RunsPlace,
    /// The form of the lines.
    #[command(flatten)]
    pub form: ExportForm,
    /// Writes to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
}

/// The form of the lines.
#[derive(Debug, Clone, Copy, Args)]
#[group(required = true, multiple = false)]
pub struct ExportForm {
    /// As CSV (RFC 4180). The first line names the columns: run, epoch, status (removed, planned), kind, reason, key, repository,
    /// digest, size in bytes, `last_modified`, worker (who sent the request), removed (when).
    #[arg(long)]
    pub csv: bool,
    /// As JSON lines.
    #[arg(long)]
    pub jsonl: bool,
}

/// Whether a key is gone.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Removed,
    Planned,
}

/// One line. The order of the fields is that of the columns.
#[derive(Serialize)]
struct Line<'r> {
    run: RunId,
    epoch: u32,
    status: Status,
    kind: RemovalKind,
    reason: RemovalReason,
    key: &'r str,
    repository: Option<&'r str>,
    digest: Option<Digest>,
    size: u64,
    last_modified: Option<Timestamp>,
    worker: Option<&'r str>,
    removed: Option<Timestamp>,
}

pub(super) async fn export(args: &RunsExportArgs) -> Result<ExitStatus, RunError> {
    let (state, record) = find_run(&args.place, args.run).await?;
    let path = args.to.as_deref();
    let out: Box<dyn Write> = match path {
        Some(path) => Box::new(BufWriter::new(
            File::create(path).map_err(|error| unwritten(Some(path), error))?,
        )),
        None => Box::new(BufWriter::new(io::stdout())),
    };
    let mut lines = Lines::new(out, args.form, path);
    let written = match record.mode {
        Mode::Check => planned(&state, &record, &mut lines).await,
        Mode::Delete | Mode::Purge => removed(&state, &record, &mut lines).await,
    };
    match written.and_then(|()| lines.finish()) {
        // A reader that has gone is no failure.
        Err(RunError::Output { source, .. })
            if path.is_none() && source.kind() == io::ErrorKind::BrokenPipe =>
        {
            Ok(ExitStatus::Done)
        }
        result => result.map(|()| ExitStatus::Done),
    }
}

/// What a check would remove, in the order of its plan.
async fn planned(state: &StateStore, record: &RunRecord, lines: &mut Lines<'_>) -> Result<(), RunError> {
    let Some((number, sha256)) = record
        .epochs
        .last()
        .and_then(|epoch| Some((epoch.number, epoch.sealed_plan?)))
    else {
        return Ok(());
    };
    let epoch = Epoch {
        run: record.run,
        number,
    };
    let plan: PlanDocument = state.read_sealed(&plan_key(&epoch), sha256).await?;
    let parts = plan.shards.iter().flat_map(|shard| &shard.findings.parts);
    for file in plan.before_shards().chain(parts) {
        for removal in state.read_lines::<Removal>(file).await? {
            lines.write(&line(&epoch, &removal, Status::Planned, None))?;
        }
    }
    Ok(())
}

/// What a delete removed.
async fn removed(state: &StateStore, record: &RunRecord, lines: &mut Lines<'_>) -> Result<(), RunError> {
    let books = EpochBooks::open_all(state, record).await?;
    let mut parts = GoneParts::of(state, &books, Detail::Witnesses);
    while let Some(part) = parts.next().await? {
        for Gone {
            epoch,
            removal,
            witness,
        } in &part
        {
            lines.write(&line(epoch, removal, Status::Removed, Some(witness)))?;
        }
    }
    Ok(())
}

fn line<'r>(epoch: &Epoch, removal: &'r Removal, status: Status, witness: Option<&'r Witness>) -> Line<'r> {
    Line {
        run: epoch.run,
        epoch: epoch.number,
        status,
        kind: removal.kind,
        reason: removal.reason,
        key: &removal.key,
        repository: removal.repository(),
        digest: removal.digest(),
        size: removal.size,
        last_modified: removal.last_modified,
        worker: witness.and_then(|witness| witness.sender.as_deref()),
        removed: witness.and_then(|witness| witness.ended),
    }
}

/// The names of the columns: a file without any line has them, too.
const COLUMNS: [&str; 12] = [
    "run",
    "epoch",
    "status",
    "kind",
    "reason",
    "key",
    "repository",
    "digest",
    "size",
    "last_modified",
    "worker",
    "removed",
];

/// Writes lines in the form that was asked for.
enum Form {
    Csv(Box<csv::Writer<Box<dyn Write>>>),
    Jsonl(Box<dyn Write>),
}

struct Lines<'p> {
    form: Form,
    path: Option<&'p Path>,
    has_names: bool,
}

impl<'p> Lines<'p> {
    fn new(out: Box<dyn Write>, form: ExportForm, path: Option<&'p Path>) -> Self {
        let form = if form.csv {
            let writer = csv::WriterBuilder::new().has_headers(false).from_writer(out);
            Form::Csv(Box::new(writer))
        } else {
            Form::Jsonl(out)
        };
        Self {
            form,
            path,
            has_names: false,
        }
    }

    fn write(&mut self, line: &Line<'_>) -> Result<(), RunError> {
        self.write_names()?;
        let written = match &mut self.form {
            Form::Csv(csv) => csv.serialize(line).map_err(into_io),
            Form::Jsonl(out) => serde_json::to_writer(&mut *out, line)
                .map_err(io::Error::from)
                .and_then(|()| out.write_all(b"\n")),
        };
        written.map_err(|error| unwritten(self.path, error))
    }

    fn write_names(&mut self) -> Result<(), RunError> {
        let written = match &mut self.form {
            Form::Csv(csv) if !self.has_names => csv.write_record(COLUMNS).map_err(into_io),
            _ => Ok(()),
        };
        self.has_names = true;
        written.map_err(|error| unwritten(self.path, error))
    }

    fn finish(mut self) -> Result<(), RunError> {
        self.write_names()?;
        let flushed = match &mut self.form {
            Form::Csv(csv) => csv.flush(),
            Form::Jsonl(out) => out.flush(),
        };
        flushed.map_err(|error| unwritten(self.path, error))
    }
}

fn into_io(error: csv::Error) -> io::Error {
    let text = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        _ => io::Error::other(text),
    }
}

fn unwritten(path: Option<&Path>, source: io::Error) -> RunError {
    RunError::Output {
        path: path.unwrap_or(Path::new("-")).to_owned(),
        source,
    }
}
