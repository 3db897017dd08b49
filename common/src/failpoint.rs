//! Named places at which tests kill the program, hold it, or make a task of it panic.
//!
//! Nothing happens there unless the program was built with the feature `failpoints`, and then only what the variable
//! `FAILPOINTS` says, as `NAME=ACTION`, separated by `;`. An action may be counted: `NAME=3*off->return` kills the program
//! when it comes there for the fourth time.
//!
//! | action | what happens |
//! | --- | --- |
//! | `return` | the process ends there and then, as by SIGKILL |
//! | `1*return(FILE)` | the file is made, and whoever came here waits until it is removed |
//! | `1*panic` | the task panics |

use std::path::Path;
use std::time::Duration;

const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// A place that a test may name.
pub async fn here(name: &str) {
    if let Some(file) = held_by(name) {
        hold(Path::new(&file)).await;
    }
}

/// The file that holds whoever comes here, if one is to.
fn held_by(_name: &str) -> Option<String> {
    fail::fail_point!(_name, |file: Option<String>| Some(
        file.unwrap_or_else(|| std::process::abort())
    ));
    None
}

async fn hold(file: &Path) {
    // A test that waits for this file would wait for ever.
    if std::fs::write(file, b"").is_err() {
        std::process::abort();
    }
    while file.exists() {
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}
