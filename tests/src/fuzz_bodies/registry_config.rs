//! A registry's configuration never shows what may be a credential in an error, whatever is wrong with it.
//!
//! The input is a `config.yml`, then perhaps a line `%%environment` and lines `NAME=VALUE`.

use std::ffi::OsString;
use std::path::Path;

use hardprune_coordinator::registry_config::parse;

/// Stands in the seeds wherever a credential stands.
pub const PLANTED: &str = "Pl4ntedS3cret";

/// Checks one configuration.
///
/// # Panics
///
/// Where an error quotes the planted credential.
pub fn check(input: &[u8]) {
    const SEPARATOR: &[u8] = b"\n%%environment\n";
    let split = input
        .windows(SEPARATOR.len())
        .position(|window| window == SEPARATOR);
    let (config, variables) = split.map_or((input, &b""[..]), |at| {
        (&input[..=at], &input[at + SEPARATOR.len()..])
    });
    let variables = String::from_utf8_lossy(variables);
    let environment = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        // Errors do say which variable they are about.
        .filter(|(name, _)| !name.contains(PLANTED))
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    if let Err(error) = parse(Path::new("config.yml"), config, environment) {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(PLANTED), "{shown}");
    }
}
