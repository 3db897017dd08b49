//! Logs go to standard error; results never do.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// As lines for people.
    Text,
    /// As JSON, one document a line.
    Json,
}

/// Starts logging.
pub fn start(format: LogFormat, verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "hardprune_common=info,hardprune_worker=info,hardprune_coordinator=info,warn",
        _ => "hardprune_common=debug,hardprune_worker=debug,hardprune_coordinator=debug,info",
    };
    let logs = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        // Colours are for a terminal; a file or a collector would keep them as they are.
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(EnvFilter::new(level));
    match format {
        LogFormat::Text => logs.with_target(false).init(),
        LogFormat::Json => logs.json().init(),
    }
}
