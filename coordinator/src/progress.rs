//! Progress: bars on a terminal, plain lines otherwise, on standard error.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hardprune_common::clock;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::human::bytes;

/// How often a plain line is written at most.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often a bar is drawn at least.
const REDRAW_EVERY: Duration = Duration::from_secs(1);

/// Where progress is shown.
#[derive(Debug)]
pub struct Progress {
    bars: MultiProgress,
    on_terminal: bool,
    quiet: bool,
}

impl Progress {
    /// Shows progress on standard error: bars if it is a terminal.
    #[must_use]
    pub fn on_standard_error() -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let target = if on_terminal {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            on_terminal,
            quiet: false,
        }
    }

    /// Shows nothing.
    #[must_use]
    pub fn hidden() -> Self {
        Self {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            on_terminal: false,
            quiet: true,
        }
    }

    /// Writes a line, above the bars where there are any.
    pub fn say(&self, line: &str) {
        if self.quiet {
            return;
        }
        if self.on_terminal {
            // A terminal that cannot be written to loses a line of progress, nothing else.
            let _ = self.bars.println(line);
        } else {
            eprintln!("{line}");
        }
    }

    /// Begins a stage of so many pieces.
    #[must_use]
    pub fn stage(&self, name: &'static str, pieces: u64, unit: &'static str) -> StageProgress<'_> {
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
        let now = clock::monotonic_now();
        StageProgress {
            progress: self,
            name,
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
            // Writing to a String does not fail.
            let _ = write!(text, ", {}", bytes(self.bytes));
        }
        text
    }
}

/// The progress of one stage.
#[derive(Debug)]
pub struct StageProgress<'p> {
    progress: &'p Progress,
    name: &'static str,
    unit: &'static str,
    bar: ProgressBar,
    sums: Mutex<Sums>,
}

impl StageProgress<'_> {
    /// There are more pieces than thought.
    pub fn more(&self, pieces: u64) {
        self.bar.inc_length(pieces);
    }

    /// Pieces are done; in them were so many items and bytes.
    pub fn done(&self, pieces: u64, items: u64, bytes: u64) {
        self.bar.inc(pieces);
        let Ok(mut sums) = self.sums.lock() else { return };
        sums.items += items;
        sums.bytes += bytes;
        self.bar.set_message(sums.rate());
        if !self.progress.on_terminal && clock::since(sums.last_line) >= LINE_EVERY {
            sums.last_line = clock::monotonic_now();
            let (position, length) = (self.bar.position(), self.bar.length().unwrap_or_default());
            let line = format!(
                "{}: {position} of {length} {}, {}",
                self.name,
                self.unit,
                sums.rate()
            );
            self.progress.say(&line);
        }
    }

    /// The stage is over.
    pub fn finish(&self) {
        self.bar.finish();
        if !self.progress.on_terminal
            && let Ok(sums) = self.sums.lock()
        {
            let line = format!(
                "{}: {} {} in {:.1} s, {}",
                self.name,
                self.bar.position(),
                self.unit,
                clock::since(sums.began).as_secs_f64(),
                sums.rate()
            );
            self.progress.say(&line);
        }
    }
}
