//! The HTTP server of `--health-addr`, of both programs: `/metrics`, `/healthz`, `/readyz`.
//!
//! It reads what it shows and changes nothing, asks nobody for a password and has nothing to hide: figures, and
//! reasons that are constants of the program. Nobody can hold it up: a connection has one request, little room and little time,
//! and of too many the oldest goes.

mod address;
mod heartbeat;
mod readiness;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use prometheus::{Registry, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};

pub use address::{HealthAddress, InvalidHealthAddress};
pub use heartbeat::Heartbeat;
pub use readiness::Readiness;

/// From the first byte of a request to the last of its answer.
const CONNECTION_TIME: Duration = Duration::from_secs(10);

/// Connections at one time. Prometheus and a kubelet need three.
const MOST_CONNECTIONS: usize = 64;

/// Bytes of a request's head, or of what of an answer its reader has not taken yet.
const LARGEST_BUFFER: usize = 16 << 10;

const MOST_HEADERS: usize = 64;

/// How long requests under way may go on after a shutdown.
const SHUTDOWN_TIME: Duration = Duration::from_secs(1);

/// After a connection that could not be accepted: mostly there are too many open files.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (--health-addr): {source}")]
pub struct HealthError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// What the server shows of its process.
#[derive(Debug, Clone)]
pub struct Health {
    /// What `/metrics` shows.
    pub registry: Registry,
    /// What `/healthz` goes by.
    pub heartbeat: Heartbeat,
    /// What `/readyz` goes by.
    pub readiness: Readiness,
}

/// A server that has its address and answers nobody yet.
#[derive(Debug)]
pub struct HealthServer {
    listener: TcpListener,
    address: SocketAddr,
}

impl HealthServer {
    /// Takes the address, so that one that cannot be had ends the program before it has done anything.
    ///
    /// # Errors
    ///
    /// An address that is in use, is not this machine's, or may not be listened on.
    pub async fn bind(address: HealthAddress) -> Result<Self, HealthError> {
        let mut last = None;
        for address in address.to_try() {
            match TcpListener::bind(address)
                .await
                .and_then(|listener| listener.local_addr().map(|address| (listener, address)))
            {
                Ok((listener, address)) => return Ok(Self { listener, address }),
                Err(source) => {
                    let in_use = source.kind() == io::ErrorKind::AddrInUse;
                    last = Some(HealthError { address, source });
                    // Only a machine without IPv6 is to get the next one.
                    if in_use {
                        break;
                    }
                }
            }
        }
        Err(last.expect("there is at least one address to try"))
    }

    /// The address, with the port that was chosen where port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is there, and lets requests under way end for a second more.
    pub async fn serve(self, health: Health, shutdown: impl Future<Output = ()>) {
        let router = router(health);
        let mut connections = JoinSet::new();
        let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => by_age.retain(|connection| !connection.is_finished()),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        if by_age.len() >= MOST_CONNECTIONS && let Some(oldest) = by_age.pop_front() {
                            oldest.abort();
                        }
                        by_age.push_back(connections.spawn(answer(stream, router.clone())));
                    }
                    Err(problem) => {
                        warn!(%problem, "a connection to the health address was not accepted");
                        sleep(ACCEPT_AGAIN_AFTER).await;
                    }
                }
            }
        }
        drop(self.listener);
        let all = async { while connections.join_next().await.is_some() {} };
        if timeout(SHUTDOWN_TIME, all).await.is_err() {
            debug!("connections to the health address were cut off");
        }
    }
}

async fn answer(stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_headers(MOST_HEADERS)
        .max_buf_size(LARGEST_BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(problem)) => debug!(%problem, "a connection to the health address failed"),
        Err(_) => debug!("a connection to the health address took too long"),
    }
}

fn router(health: Health) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(|| async {
            (
                StatusCode::NOT_FOUND,
                "there are /metrics, /healthz and /readyz\n",
            )
        })
        .with_state(Arc::new(health))
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    match TextEncoder::new().encode_to_string(&health.registry.gather()) {
        Ok(text) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(problem) => {
            error!(%problem, "the metrics cannot be written");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics cannot be written\n",
            )
                .into_response()
        }
    }
}

async fn healthz(State(health): State<Arc<Health>>) -> Response {
    match health.heartbeat.silence() {
        None => "alive\n".into_response(),
        Some(silence) => {
            let reason = format!("the main loop has not moved for {} s\n", silence.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
        }
    }
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    match health.readiness.reason() {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests;
