//! Debian's `docker-registry` with its S3 driver on the server: an image goes in and comes out again.

use std::fmt::Write;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use hardprune_tests::s3_server::{S3Options, S3Server};
use reqwest::Client;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use sha2::{Digest, Sha256};
use tokio::process::{Child, Command};

use crate::clients::http_client;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry whose process ends with it.
struct Registry {
    url: String,
    http: Client,
    _process: Child,
}

impl Registry {
    async fn start(server: &S3Server, folder: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a port is free");
        // The small threshold lets the driver copy large blobs in parts and small ones in one piece.
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             http: {{addr: '{address}', secret: of-a-test}}\n\
             storage:\n  s3: {{accesskey: {}, secretkey: {}, region: us-east-1, regionendpoint: '{}', \
             bucket: {}, secure: false, v4auth: true, forcepathstyle: true, \
             multipartcopychunksize: 5242880, multipartcopythresholdsize: 8388608}}\n",
            server.access_key(),
            server.secret_key(),
            server.endpoint(),
            server.bucket(),
        );
        let path = folder.join("config.yml");
        std::fs::write(&path, config).expect("the temporary folder can be written");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", folder)
            .kill_on_drop(true)
            .spawn()
            .expect("docker-registry is missing: apt-get install docker-registry");
        let registry = Self {
            url: format!("http://{address}"),
            http: http_client(),
            _process: process,
        };
        let begun = Instant::now();
        while registry
            .http
            .get(format!("{}/v2/", registry.url))
            .send()
            .await
            .is_err()
        {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "the registry does not answer"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        registry
    }

    /// Pushes a blob in chunks, each a request of its own, and returns its digest.
    async fn push_blob(&self, repository: &str, chunks: &[&[u8]]) -> String {
        let begin = self
            .http
            .post(format!("{}/v2/{repository}/blobs/uploads/", self.url));
        let mut location = location_of(&begin.send().await.expect("the registry answers"));
        for chunk in chunks {
            let answer = self.http.patch(&location).body(chunk.to_vec()).send().await;
            location = location_of(&answer.expect("the registry answers"));
        }
        let digest = digest(&chunks.concat());
        let answer = self.http.put(format!("{location}&digest={digest}")).send().await;
        assert_eq!(answer.expect("the registry answers").status(), 201);
        digest
    }

    async fn pull(&self, path: &str) -> Vec<u8> {
        let request = self
            .http
            .get(format!("{}/v2/{path}", self.url))
            .header("accept", MANIFEST_TYPE);
        let answer = request.send().await.expect("the registry answers");
        assert!(answer.status().is_success(), "{answer:?}");
        answer.bytes().await.expect("the body is whole").to_vec()
    }
}

fn location_of(answer: &reqwest::Response) -> String {
    assert!(answer.status().is_success(), "{answer:?}");
    answer.headers()[LOCATION]
        .to_str()
        .expect("a URL is ASCII")
        .to_owned()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".to_owned(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
            text
        })
}

#[tokio::test]
async fn the_registrys_s3_driver_pushes_and_pulls_an_image() {
    let server = S3Server::start(S3Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(&server, folder.path()).await;

    // The large layer has chunks that the driver keeps as parts, the small one is rewritten chunk by chunk.
    let large = [vec![1; 6 << 20], vec![2; 6 << 20]];
    let small: [&[u8]; 2] = [b"two ", b"chunks"];
    let config: &[u8] = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let large: Vec<&[u8]> = large.iter().map(Vec::as_slice).collect();
    let blobs = [large.concat(), small.concat(), config.to_vec()];
    let digests = [
        registry.push_blob("team/app", &large).await,
        registry.push_blob("team/app", &small).await,
        registry.push_blob("team/app", &[config]).await,
    ];
    let descriptor = |media_type: &str, number: usize| {
        let (digest, size) = (&digests[number], blobs[number].len());
        serde_json::json!({ "mediaType": media_type, "digest": digest, "size": size })
    };
    let layer_type = "application/vnd.oci.image.layer.v1.tar";
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor("application/vnd.oci.image.config.v1+json", 2),
        "layers": [descriptor(layer_type, 0), descriptor(layer_type, 1)],
    })
    .to_string();
    let put = registry
        .http
        .put(format!("{}/v2/team/app/manifests/1.0", registry.url));
    let answer = put
        .header(CONTENT_TYPE, MANIFEST_TYPE)
        .body(manifest.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());

    assert_eq!(registry.pull("team/app/manifests/1.0").await, manifest.as_bytes());
    for (digest, bytes) in digests.iter().zip(&blobs) {
        assert!(
            registry.pull(&format!("team/app/blobs/{digest}")).await == *bytes,
            "{digest}"
        );
        let hex = digest.strip_prefix("sha256:").unwrap();
        let key = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        assert_eq!(server.inventory()[&key].0, bytes.len() as u64);
    }
    let uploads = server
        .inventory()
        .into_keys()
        .filter(|key| key.contains("/_uploads/"))
        .count();
    assert_eq!(
        uploads, 0,
        "the driver deletes the upload's folder with listings and DeleteObjects"
    );
    let tags = registry.pull("team/app/tags/list").await;
    assert_eq!(
        String::from_utf8(tags).unwrap().trim(),
        r#"{"name":"team/app","tags":["1.0"]}"#
    );

    let counters = server.counters();
    let used = [
        counters.list,
        counters.get,
        counters.put,
        counters.copy,
        counters.multipart,
    ];
    assert!(used.iter().all(|count| *count > 0), "{counters:?}");
    assert_eq!(
        counters.other, 0,
        "the server knows every request of the driver: {counters:?}"
    );
}
