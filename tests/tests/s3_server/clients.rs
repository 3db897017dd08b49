//! Clients for a server under test.

use std::time::Duration;

use hardprune_tests::s3_server::{S3Options, S3Server};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

/// Starts a server whose pages have three keys, so that listings have several.
pub fn server_of_small_pages() -> S3Server {
    S3Server::start(S3Options {
        page_size: 3,
        keeps_log: true,
        ..S3Options::default()
    })
    .expect("a port is free")
}

/// Makes an `object_store` client for a server, with as many retries.
pub fn client(server: &S3Server, retries: usize) -> AmazonS3 {
    client_with_secret(server, retries, server.secret_key())
}

/// Makes an `object_store` client that signs with another secret key.
pub fn client_with_secret(server: &S3Server, retries: usize, secret_key: &str) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(server.endpoint())
        .with_bucket_name(server.bucket())
        .with_region("us-east-1")
        .with_access_key_id(server.access_key())
        .with_secret_access_key(secret_key)
        .with_allow_http(true)
        .with_client_options(
            ClientOptions::new()
                .with_allow_http(true)
                .with_timeout(Duration::from_secs(2)),
        )
        .with_retry(RetryConfig {
            max_retries: retries,
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(1),
                ..BackoffConfig::default()
            },
            ..RetryConfig::default()
        })
        .build()
        .expect("the configuration is complete")
}

/// Makes a plain HTTP client that no proxy of the machine gets between.
pub fn http_client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("no TLS to set up")
}
