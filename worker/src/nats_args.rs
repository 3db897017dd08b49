//! How NATS is reached, from the command line: the same options for both programs.

use std::path::{Path, PathBuf};

use clap::Args;
use hardprune_common::nats::{Credentials, NatsError, Secret, Settings};

/// Holds the password of `--nats-user`: on a command line every list of processes would show it.
pub const PASSWORD_VARIABLE: &str = "HARDPRUNE_NATS_PASSWORD";
/// Holds a token.
pub const TOKEN_VARIABLE: &str = "HARDPRUNE_NATS_TOKEN";

/// How NATS is reached.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "NATS")]
pub struct NatsArgs {
    /// Addresses of NATS servers, separated by commas: nats://host:4222, or tls://host:4222.
    #[arg(long, value_name = "URL", env = "HARDPRUNE_NATS", hide_env_values = true)]
    pub nats: Option<String>,
    /// A file with NATS credentials: a JWT and its seed.
    #[arg(long, value_name = "FILE", env = "HARDPRUNE_NATS_CREDS", conflicts_with_all = ["nats_nkey", "nats_user", "nats_token_file"])]
    pub nats_creds: Option<PathBuf>,
    /// A file with the seed of an nkey.
    #[arg(long, value_name = "FILE", env = "HARDPRUNE_NATS_NKEY", conflicts_with_all = ["nats_user", "nats_token_file"])]
    pub nats_nkey: Option<PathBuf>,
    /// A user of NATS; the password by --nats-password-file or in HARDPRUNE_NATS_PASSWORD.
    #[arg(
        long,
        value_name = "NAME",
        env = "HARDPRUNE_NATS_USER",
        conflicts_with = "nats_token_file"
    )]
    pub nats_user: Option<String>,
    /// A file with the user's password.
    #[arg(
        long,
        value_name = "FILE",
        env = "HARDPRUNE_NATS_PASSWORD_FILE",
        requires = "nats_user"
    )]
    pub nats_password_file: Option<PathBuf>,
    /// A file with a token. The token itself may stand in HARDPRUNE_NATS_TOKEN.
    #[arg(long, value_name = "FILE", env = "HARDPRUNE_NATS_TOKEN_FILE")]
    pub nats_token_file: Option<PathBuf>,
    /// Certificates (PEM) to trust instead of the system's, for tls://.
    #[arg(long, value_name = "FILE", env = "HARDPRUNE_NATS_CA")]
    pub nats_ca: Option<PathBuf>,
    /// This program's certificate (PEM), where the server asks for one.
    #[arg(long, value_name = "FILE", env = "HARDPRUNE_NATS_CERT", requires = "nats_key")]
    pub nats_cert: Option<PathBuf>,
    /// The key (PEM) of the certificate.
    #[arg(long, value_name = "FILE", env = "HARDPRUNE_NATS_KEY", requires = "nats_cert")]
    pub nats_key: Option<PathBuf>,
}

impl NatsArgs {
    /// What to connect with, under a name that the server shows. `None` where no server was named. A password or a token may
    /// stand in the environment, never on the command line, which every list of processes shows.
    ///
    /// # Errors
    ///
    /// Files that cannot be read, a user without a password.
    pub fn settings(&self, name: &str) -> Result<Option<Settings>, NatsError> {
        let Some(servers) = &self.nats else {
            return Ok(None);
        };
        Ok(Some(Settings {
            servers: servers.clone(),
            credentials: self.credentials()?,
            ca: self.nats_ca.clone(),
            client_certificate: self.nats_cert.clone().zip(self.nats_key.clone()),
            name: name.to_owned(),
        }))
    }

    fn credentials(&self) -> Result<Credentials, NatsError> {
        if let Some(path) = &self.nats_creds {
            return Ok(Credentials::Creds(path.clone()));
        }
        if let Some(path) = &self.nats_nkey {
            return Ok(Credentials::Nkey(path.clone()));
        }
        if let Some(name) = &self.nats_user {
            let password = match (&self.nats_password_file, std::env::var(PASSWORD_VARIABLE)) {
                (Some(path), _) => read(path, "a password")?,
                (None, Ok(password)) => password,
                (None, Err(_)) => {
                    return Err(NatsError::Connect {
                        servers: "the servers".to_owned(),
                        problem: "--nats-user needs --nats-password-file or HARDPRUNE_NATS_PASSWORD"
                            .to_owned(),
                    });
                }
            };
            return Ok(Credentials::User {
                name: name.clone(),
                password: Secret::new(password),
            });
        }
        if let Some(path) = &self.nats_token_file {
            return Ok(Credentials::Token(Secret::new(read(path, "a token")?)));
        }
        Ok(match std::env::var(TOKEN_VARIABLE) {
            Ok(token) => Credentials::Token(Secret::new(token)),
            Err(_) => Credentials::None,
        })
    }
}

fn read(path: &Path, what: &'static str) -> Result<String, NatsError> {
    let text = std::fs::read_to_string(path).map_err(|error| NatsError::File {
        path: path.to_owned(),
        what,
        problem: error.to_string(),
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
