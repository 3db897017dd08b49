//! Whether a process can do its work, and if not, why.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether a process can do its work, and if not, why. Clones are one value.
///
/// Reasons are constants of the program: whoever can reach the health address reads them, so no message of a server or a
/// library, and nothing from a configuration, can get there.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<watch::Sender<Option<&'static str>>>);

impl Readiness {
    /// Begins with a process that is not ready.
    #[must_use]
    pub fn not_ready(reason: &'static str) -> Self {
        Self(Arc::new(watch::Sender::new(Some(reason))))
    }

    /// Says that the process is ready.
    pub fn set_ready(&self) {
        self.0.send_replace(None);
    }

    /// Says that the process is not ready, or no longer, and why.
    pub fn set_not_ready(&self, reason: &'static str) {
        self.0.send_replace(Some(reason));
    }

    /// Why the process is not ready. `None` if it is.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        *self.0.borrow()
    }
}
