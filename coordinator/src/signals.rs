//! Signals: the first stops the run in good order, the second ends the program at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::error::RunError;

/// The exit status of a program that was ended by a second signal.
const ENDED_AT_ONCE: i32 = 130;

/// Makes a token that the first SIGINT or SIGTERM cancels.
///
/// # Errors
///
/// Signals that cannot be listened for.
pub fn stop_on_signal() -> Result<CancellationToken, RunError> {
    let failed = |error| RunError::Usage(format!("signals cannot be listened for: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stopping.is_cancelled() {
                std::process::exit(ENDED_AT_ONCE);
            }
            eprintln!("stopping: batches in flight end first; a second signal ends at once");
            stopping.cancel();
        }
    });
    Ok(stop)
}
