//! Runs a program to its end and measures it from outside: time, processor time, peak memory, output.

use std::fs::{self, File};
use std::io::Read;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often the kernel's accounts are read, the mark of the peak memory and the processor's time: they only grow, so only the last
/// moment is missed.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One run of a program.
#[derive(Debug, Clone)]
pub struct Measured {
    /// From before its start to after its end.
    pub elapsed: Duration,
    /// The processor's time that all of its threads had, in the program and in the kernel for it.
    pub processor: Duration,
    /// The most memory that it had resident (`VmHWM`), in bytes.
    pub peak_bytes: u64,
    /// All of its standard output.
    pub stdout: String,
}

/// Runs a program that must succeed.
///
/// # Errors
///
/// A program that does not start or does not succeed; its last words are in the error.
pub fn measure(mut command: Command) -> Result<Measured> {
    let name = format!("{command:?}");
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
    let id = child.id();
    let (ended, waits) = channel::<()>();
    let watch = thread::spawn(move || {
        let (mut peak, mut processor) = (0, Duration::ZERO);
        loop {
            peak = peak.max(peak_bytes(id).unwrap_or(0));
            processor = processor.max(processor_time(id).unwrap_or_default());
            if waits.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout) {
                return (peak, processor);
            }
        }
    });
    let status = child.wait()?;
    let elapsed = started.elapsed();
    drop(ended);
    let (peak_bytes, processor) = watch.join().unwrap_or_default();
    let stdout = content(&mut stdout)?;
    if !status.success() {
        bail!("{name} ended with {status}:\n{stdout}{}", content(&mut stderr)?);
    }
    Ok(Measured {
        elapsed,
        processor,
        peak_bytes,
        stdout,
    })
}

/// The most memory that a process has had resident so far (`VmHWM`), in bytes.
#[must_use]
pub fn peak_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The time of a process on processors (`utime` and `stime`, proc(5)), to a hundredth of a second.
fn processor_time(process: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is a name in brackets, which may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    // A tick is the same on every Linux for programs (`USER_HZ`).
    Some(Duration::from_millis((user + system) * 10))
}

fn content(file: &mut File) -> Result<String> {
    use std::io::{Seek, SeekFrom};
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The runs of one program on one registry.
#[derive(Debug, Clone, Default)]
pub struct Series {
    seconds: Vec<f64>,
    peak_bytes: u64,
}

impl Series {
    /// Takes in a run.
    pub fn add(&mut self, run: &Measured) {
        self.seconds.push(run.elapsed.as_secs_f64());
        self.peak_bytes = self.peak_bytes.max(run.peak_bytes);
    }

    /// Takes in a part of a run: so many seconds, with no more memory than this.
    pub fn add_part(&mut self, seconds: f64, peak_bytes: u64) {
        self.seconds.push(seconds);
        self.peak_bytes = self.peak_bytes.max(peak_bytes);
    }

    /// How often it ran.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.seconds.len()
    }

    /// The median time in seconds; of an even number of runs, the mean of the two in the middle.
    #[must_use]
    pub fn median_seconds(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            runs if runs % 2 == 1 => sorted[runs / 2],
            runs => f64::midpoint(sorted[runs / 2 - 1], sorted[runs / 2]),
        }
    }

    /// The shortest and the longest time in seconds.
    #[must_use]
    pub fn extremes(&self) -> (f64, f64) {
        self.seconds
            .iter()
            .fold((f64::INFINITY, 0.0), |(least, most), seconds| {
                (least.min(*seconds), most.max(*seconds))
            })
    }

    /// The peak memory of the run that had the most, in bytes.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_measured_and_its_output_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 0.05; echo done"]);
        let run = measure(command).unwrap();
        assert_eq!(run.stdout, "done\n");
        assert!(run.elapsed >= Duration::from_millis(50));
        assert!(run.peak_bytes > 100_000, "{}", run.peak_bytes);
        // It slept.
        assert!(run.processor < run.elapsed, "{run:?}");
        let mut command = Command::new("sh");
        command.args(["-c", "echo why >&2; exit 3"]);
        assert!(measure(command).unwrap_err().to_string().contains("why"));
    }

    #[test]
    fn what_a_program_does_takes_processor_time() {
        let mut command = Command::new("sh");
        command.args(["-c", "while [ $((n += 1)) -lt 300000 ]; do :; done"]);
        let run = measure(command).unwrap();
        assert!(run.processor > Duration::ZERO, "{run:?}");
    }

    #[test]
    fn medians() {
        let series = |seconds: &[f64]| Series {
            seconds: seconds.to_vec(),
            peak_bytes: 0,
        };
        assert!((series(&[3.0, 1.0, 2.0]).median_seconds() - 2.0).abs() < 1e-9);
        assert!((series(&[4.0, 1.0, 2.0, 3.0]).median_seconds() - 2.5).abs() < 1e-9);
        assert_eq!(series(&[4.0, 1.0]).extremes(), (1.0, 4.0));
    }
}
