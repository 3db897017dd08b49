//! What both programs are to their machine: a name in locks, claims and messages, and signals that stop them in good order.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit status of a program that was ended by a second signal.
const ENDED_AT_ONCE: i32 = 130;

/// Names this process: host and number.
#[must_use]
pub fn place() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("process {} on {host}", std::process::id())
}

/// Makes a token that the first SIGINT or SIGTERM cancels, after `say` has told so. The second ends the program at once.
///
/// # Errors
///
/// Signals that cannot be listened for.
pub fn stop_on_signal(say: fn()) -> io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
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
            say();
            stopping.cancel();
        }
    });
    Ok(stop)
}
