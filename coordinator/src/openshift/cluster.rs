//! The cluster: found as `oc` and `kubectl` find it, and spoken to with a bearer token.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hardprune_common::store::cloud::is_loopback;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::registry_config::Secret;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A page of a list, or silence on a watch.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Which cluster.
#[derive(Debug, Clone, Default, Args)]
pub struct ClusterArgs {
    /// The kubeconfig file. Default: KUBECONFIG, then ~/.kube/config; inside of a pod its service account.
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. Default: its current one.
    #[arg(
        long,
        value_name = "NAME",
        env = "HARDPRUNE_CONTEXT",
        help_heading = "Cluster"
    )]
    pub context: Option<String>,
}

/// No cluster.
#[derive(Debug, thiserror::Error)]
#[error(
    "no cluster can be reached: {problem}. Inside of one the pod's service account is used, outside of one --kubeconfig, KUBECONFIG or \
     ~/.kube/config"
)]
pub struct NoCluster {
    problem: String,
}

/// A cluster that can be asked.
pub struct Cluster {
    /// Asks it.
    pub client: Client,
    /// The namespace of the context.
    pub default_namespace: String,
    /// `host:port` of its API.
    pub server: String,
    /// Whether the user's configuration lets any certificate pass.
    pub accepts_invalid_certificates: bool,
    /// The authorities that the user's configuration trusts, in DER form; none for the system's.
    pub root_certificates: Vec<Vec<u8>>,
    token: Token,
}

enum Token {
    None,
    Fixed(Secret),
    /// Is renewed where it lies.
    File(PathBuf),
}

impl Cluster {
    /// Finds it. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// No configuration, or one that cannot be used.
    pub async fn find(args: &ClusterArgs) -> Result<Self, NoCluster> {
        let no_cluster = |error: &dyn std::error::Error| NoCluster {
            problem: crate::with_sources(error),
        };
        let config = if args.kubeconfig.is_none() && args.context.is_none() {
            Config::infer().await.map_err(|error| no_cluster(&error))
        } else {
            let read = match &args.kubeconfig {
                Some(file) => Kubeconfig::read_from(file),
                None => Kubeconfig::read(),
            };
            let options = KubeConfigOptions {
                context: args.context.clone(),
                ..KubeConfigOptions::default()
            };
            let kubeconfig = read.map_err(|error| no_cluster(&error))?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            config.map_err(|error| no_cluster(&error))
        };
        let mut config = config?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(REQUEST_TIMEOUT);
        config.write_timeout = Some(REQUEST_TIMEOUT);
        config.reset_reader_on_write = true;
        if url::Url::parse(&config.cluster_url.to_string()).is_ok_and(|url| is_loopback(&url)) {
            config.proxy_url = None;
        }
        let info = &config.auth_info;
        let token = match (&info.token, &info.token_file) {
            (Some(token), _) => {
                use secrecy::ExposeSecret;
                Token::Fixed(Secret::new(token.expose_secret()))
            }
            (None, Some(file)) => Token::File(file.into()),
            (None, None) => Token::None,
        };
        let server = config.cluster_url.authority();
        Ok(Self {
            default_namespace: config.default_namespace.clone(),
            server: server.map(ToString::to_string).unwrap_or_default(),
            accepts_invalid_certificates: config.accept_invalid_certs,
            root_certificates: config.root_cert.clone().unwrap_or_default(),
            client: Client::try_from(config).map_err(|error| no_cluster(&error))?,
            token,
        })
    }

    /// The bearer token, as it is now; `None` where there is none.
    #[must_use]
    pub fn token(&self) -> Option<Secret> {
        match &self.token {
            Token::None => None,
            Token::Fixed(token) if token.expose().is_empty() => None,
            Token::Fixed(token) => Some(token.clone()),
            Token::File(file) => {
                let text = std::fs::read_to_string(file).ok()?;
                let text = text.trim();
                (!text.is_empty()).then(|| Secret::new(text))
            }
        }
    }
}
