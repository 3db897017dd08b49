//! Progress: bars on a terminal, plain lines otherwise, on standard error; metrics; and a board that others may read it from.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hardprune_common::clock;
use hardprune_common::metrics::Label;
use hardprune_common::nats::RunProgress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::accounts::Accounts;
use crate::human::{bytes, printable_lines};
use crate::metrics::{CoordinatorMetrics, Stage};

/// How often a plain line is written at most.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often a bar is drawn at least.
const REDRAW_EVERY: Duration = Duration::from_secs(1);

/// How far the run is, for others to read.
#[derive(Debug, Default)]
pub struct Board(Mutex<Posted>);

#[derive(Debug, Default)]
struct Posted {
    progress: RunProgress,
    began: Option<Instant>,
}

impl Board {
    /// How far the run is now.
    #[must_use]
    pub fn now(&self) -> RunProgress {
        let posted = self.lock();
        let mut progress = posted.progress.clone();
        progress.seconds = posted
            .began
            .map_or(0.0, |began| clock::since(began).as_secs_f64());
        progress
    }

    /// So many workers of other processes are there.
    pub fn workers_alive(&self, workers: u64) {
        self.lock().progress.workers = workers;
    }

    fn begin(&self, name: &str, total: u64, unit: &str) {
        let mut posted = self.lock();
        posted.began = Some(clock::monotonic_now());
        let progress = &mut posted.progress;
        progress.stage = name.to_owned();
        progress.unit = unit.to_owned();
        (progress.total, progress.done, progress.items, progress.bytes) = (total, 0, 0, 0);
    }

    fn lock(&self) -> MutexGuard<'_, Posted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where progress is shown.
#[derive(Debug)]
pub struct Progress {
    bars: MultiProgress,
    on_terminal: bool,
    board: Arc<Board>,
    metrics: CoordinatorMetrics,
}

impl Progress {
    /// Shows progress on standard error: bars if it is a terminal.
    #[must_use]
    pub fn on_standard_error(metrics: CoordinatorMetrics) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let target = if on_terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            on_terminal,
            board: Arc::default(),
            metrics,
        }
    }

    /// How far the run is, for others to read.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Writes a line, above the bars where there are any.
    pub fn say(&self, line: &str) {
        let line = printable_lines(line);
        if self.on_terminal {
            // A terminal that cannot be written to loses a line of progress, nothing else.
            let _ = self.bars.println(line);
        } else {
            eprintln!("{line}");
        }
    }

    /// What else is counted.
    #[must_use]
    pub fn metrics(&self) -> &CoordinatorMetrics {
        &self.metrics
    }

    /// Shows what the accounts say is deleted, in all epochs; a sweep adds to that.
    pub fn set_deleted(&self, accounts: &Accounts) {
        let progress = &mut self.board.lock().progress;
        progress.deleted_blobs = accounts.deleted_blobs;
        progress.freed_bytes = accounts.freed_bytes;
        self.metrics
            .set_deleted(accounts.deleted_blobs, accounts.freed_bytes);
    }

    /// Begins a stage that has no pieces.
    pub fn enter(&self, stage: Stage) {
        self.board.begin(stage.value(), 0, "");
        self.metrics.enter(stage);
    }

    /// Begins a stage of so many pieces.
    #[must_use]
    pub fn stage(&self, stage: Stage, pieces: u64, unit: &'static str) -> StageProgress<'_> {
        let name = stage.value();
        self.metrics.enter(stage);
        self.metrics.tasks_published(stage, pieces);
        let bar = self.bars.add(ProgressBar::new(pieces));
        // The bar takes what room there is: a line that is too long for the terminal cannot be drawn over.
        let template = format!(
            "{{prefix:>7}} {{wide_bar}} {{pos}}/{{len}} {unit}  {{msg}}  {{elapsed}} (left: {{eta}})"
        );
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.set_prefix(name);
        if self.on_terminal {
            // The clock goes on while no piece ends.
            bar.enable_steady_tick(REDRAW_EVERY);
        }
        self.board.begin(name, pieces, unit);
        let now = clock::monotonic_now();
        StageProgress {
            progress: self,
            stage,
            unit,
            bar,
            sums: Mutex::new(Sums {
                items: 0,
                bytes: 0,
                began: now,
                last_line: now,
            }),
        }
    }
}

#[derive(Debug)]
struct Sums {
    items: u64,
    bytes: u64,
    began: Instant,
    last_line: Instant,
}

impl Sums {
    fn rate(&self) -> String {
        let seconds = clock::since(self.began).as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a rate for reading")]
        let per_second = self.items as f64 / seconds;
        let mut text = format!("{} ({per_second:.0}/s)", self.items);
        if self.bytes > 0 {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate for reading"
            )]
            let per_second = (self.bytes as f64 / seconds) as u64;
            // Writing to a String does not fail.
            let _ = write!(text, ", {} ({}/s)", bytes(self.bytes), bytes(per_second));
        }
        text
    }
}

/// The progress of one stage.
#[derive(Debug)]
pub struct StageProgress<'p> {
    progress: &'p Progress,
    stage: Stage,
    unit: &'static str,
    bar: ProgressBar,
    sums: Mutex<Sums>,
}

impl StageProgress<'_> {
    /// There are more pieces than thought.
    pub fn more(&self, pieces: u64) {
        self.bar.inc_length(pieces);
        self.progress.board.lock().progress.total += pieces;
        self.progress.metrics.tasks_published(self.stage, pieces);
    }

    /// Pieces are done; in them were so many items and bytes.
    pub fn done(&self, pieces: u64, items: u64, bytes: u64) {
        self.bar.inc(pieces);
        let Ok(mut sums) = self.sums.lock() else { return };
        sums.items += items;
        sums.bytes += bytes;
        let workers = self.post(pieces, items, bytes);
        let message = match workers {
            0 => sums.rate(),
            workers => format!("{}, {workers} workers", sums.rate()),
        };
        if !self.progress.on_terminal && clock::since(sums.last_line) >= LINE_EVERY {
            sums.last_line = clock::monotonic_now();
            let (position, length) = (self.bar.position(), self.bar.length().unwrap_or_default());
            let line = format!(
                "{}: {position} of {length} {}, {message}, {} s left",
                self.stage.value(),
                self.unit,
                self.bar.eta().as_secs()
            );
            self.progress.say(&line);
        }
        self.bar.set_message(message);
    }

    /// Posts what is done on the board. Returns how many workers of other processes there are.
    fn post(&self, pieces: u64, items: u64, bytes: u64) -> u64 {
        let mut posted = self.progress.board.lock();
        let progress = &mut posted.progress;
        progress.done += pieces;
        progress.items += items;
        progress.bytes += bytes;
        let metrics = &self.progress.metrics;
        for _ in 0..pieces {
            metrics.task_finished(self.stage);
        }
        if self.stage == Stage::Sweep {
            progress.deleted_blobs += items;
            progress.freed_bytes += bytes;
            metrics.set_deleted(progress.deleted_blobs, progress.freed_bytes);
        }
        progress.workers
    }

    /// The stage is over.
    pub fn finish(&self) {
        self.bar.finish();
        if !self.progress.on_terminal
            && let Ok(sums) = self.sums.lock()
        {
            let line = format!(
                "{}: {} {} in {:.1} s, {}",
                self.stage.value(),
                self.bar.position(),
                self.unit,
                clock::since(sums.began).as_secs_f64(),
                sums.rate()
            );
            self.progress.say(&line);
        }
    }
}
