//! What can go wrong with NATS.

use std::path::PathBuf;

use crate::queue::QueueClosed;

/// A failure of NATS, or of what is kept there. Messages never name credentials.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// No server answered as it should.
    #[error("cannot connect to NATS at {servers}: {problem}")]
    Connect {
        /// The servers, without credentials.
        servers: String,
        /// What happened, and what to do.
        problem: String,
    },
    /// The server has no JetStream for this account.
    #[error(
        "NATS at {servers} offers no JetStream to this account ({problem}); start nats-server with -js, or enable it for the account"
    )]
    NoJetStream {
        /// The servers, without credentials.
        servers: String,
        /// What the server said.
        problem: String,
    },
    /// A stream or consumer is there already, and is another than hardprune's.
    #[error(
        "the {what} {name:?} exists with another configuration, and is left as it is: {differences}. Remove it if it is not in \
         use, or use another NATS account"
    )]
    Differs {
        /// "stream", "consumer".
        what: &'static str,
        /// Its name.
        name: String,
        /// Each field: what it is, what was wanted.
        differences: String,
    },
    /// Nothing was set up by a coordinator yet.
    #[error("there is no stream {0:?} yet: no coordinator has used this NATS account")]
    NotSetUp(&'static str),
    /// A request failed.
    #[error("NATS: could not {action}: {problem}")]
    Request {
        /// What was tried, on what.
        action: String,
        /// What happened.
        problem: String,
    },
    /// A file that was named cannot be used.
    #[error("{path:?} ({what}): {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why it cannot be used.
        problem: String,
    },
    /// A message is of a version that this program does not read.
    #[error("{what} is of message version {found}, this program reads {read}")]
    OtherVersion {
        /// Which message.
        what: String,
        /// Its version.
        found: u32,
        /// The versions read.
        read: String,
    },
    /// A message is none of hardprune's.
    #[error("{what} cannot be read: {problem}")]
    Garbage {
        /// Which message.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl NatsError {
    /// A request that failed.
    pub(super) fn request(action: impl Into<String>, problem: impl ToString) -> Self {
        Self::Request {
            action: action.into(),
            problem: problem.to_string(),
        }
    }

    /// Whether the same request may succeed later, without anybody doing anything.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Request { .. } | Self::Connect { .. } | Self::NotSetUp(_)
        )
    }
}

impl From<NatsError> for QueueClosed {
    fn from(error: NatsError) -> Self {
        Self(error.to_string())
    }
}
