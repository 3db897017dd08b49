//! A port of 127.0.0.1 that nobody listens on.

use std::net::TcpListener;

use anyhow::{Context, Result};

/// Looks for a free port. Another process may take it before it is used.
///
/// # Errors
///
/// A machine without any.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}
