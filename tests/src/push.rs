//! Pushing through a registry's HTTP API, request by request as clients do it.

mod builder;
mod everything;

use anyhow::{Context, Result, bail};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};

use crate::docker_registry::DockerRegistry;
use crate::manifests::Content;

pub use builder::Pushed;
pub use everything::{add_artifact_manifest, build_everything};

/// Pushes to one registry.
#[derive(Debug, Clone)]
pub struct Pusher {
    client: reqwest::Client,
    url: String,
}

impl Pusher {
    /// Pushes to a registry that runs.
    pub fn new(registry: &DockerRegistry) -> Self {
        Self {
            client: registry.client().clone(),
            url: registry.url().to_string(),
        }
    }

    /// Pushes to whatever registry answers at an address.
    pub fn at(registry: &DockerRegistry, url: &str) -> Self {
        Self {
            client: registry.client().clone(),
            url: url.to_owned(),
        }
    }

    /// Pushes a blob in one request after the one that starts the upload.
    pub async fn blob(&self, repository: &str, blob: &Content) -> Result<()> {
        let upload = self.start_upload(repository).await?;
        let request = self
            .client
            .put(with_digest(upload, &blob.digest))
            .body(blob.bytes.clone());
        self.send(request, StatusCode::CREATED, "pushing a blob").await?;
        Ok(())
    }

    /// Pushes a blob in pieces, as clients do over bad lines.
    pub async fn blob_in_chunks(&self, repository: &str, blob: &Content, chunk_bytes: usize) -> Result<()> {
        let mut upload = self.start_upload(repository).await?;
        let mut sent = 0;
        for chunk in blob.bytes.chunks(chunk_bytes) {
            upload = self.send_chunk(upload, sent, chunk).await?;
            sent += chunk.len();
        }
        let request = self.client.put(with_digest(upload, &blob.digest));
        self.send(request, StatusCode::CREATED, "ending a chunked upload")
            .await?;
        Ok(())
    }

    /// Links a blob of another repository into this one without sending it.
    pub async fn mount(&self, repository: &str, digest: &str, from: &str) -> Result<()> {
        let mut url = self.address(repository, "blobs/uploads/")?;
        url.query_pairs_mut()
            .append_pair("mount", digest)
            .append_pair("from", from);
        self.send(self.client.post(url), StatusCode::CREATED, "mounting a blob")
            .await?;
        Ok(())
    }

    /// Starts an upload, sends some bytes and leaves it at that. Returns the upload's id.
    pub async fn abandon_upload(&self, repository: &str, bytes: &[u8]) -> Result<String> {
        let upload = self.start_upload(repository).await?;
        let id = upload
            .path_segments()
            .and_then(|mut parts| parts.next_back())
            .unwrap_or_default()
            .to_string();
        if !bytes.is_empty() {
            self.send_chunk(upload, 0, bytes).await?;
        }
        Ok(id)
    }

    /// Pushes a manifest under a tag, or under its digest.
    pub async fn manifest(&self, repository: &str, reference: &str, manifest: &Content) -> Result<()> {
        let request = self
            .client
            .put(self.address(repository, &format!("manifests/{reference}"))?)
            .header(CONTENT_TYPE, manifest.media_type)
            .body(manifest.bytes.clone());
        self.send(request, StatusCode::CREATED, "pushing a manifest")
            .await?;
        Ok(())
    }

    /// Deletes a manifest by digest; the tags that name it go with it, its blobs stay.
    pub async fn delete_manifest(&self, repository: &str, digest: &str) -> Result<()> {
        let request = self
            .client
            .delete(self.address(repository, &format!("manifests/{digest}"))?);
        self.send(request, StatusCode::ACCEPTED, "deleting a manifest")
            .await?;
        Ok(())
    }

    async fn start_upload(&self, repository: &str) -> Result<Url> {
        let request = self.client.post(self.address(repository, "blobs/uploads/")?);
        self.location(
            self.send(request, StatusCode::ACCEPTED, "starting an upload")
                .await?,
        )
    }

    async fn send_chunk(&self, upload: Url, sent: usize, chunk: &[u8]) -> Result<Url> {
        let range = format!("{sent}-{}", sent + chunk.len() - 1);
        let request = self
            .client
            .request(Method::PATCH, upload)
            .header(CONTENT_RANGE, range)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(chunk.to_vec());
        self.location(
            self.send(request, StatusCode::ACCEPTED, "sending a chunk")
                .await?,
        )
    }

    fn address(&self, repository: &str, rest: &str) -> Result<Url> {
        let address = format!("{}/v2/{repository}/{rest}", self.url);
        Url::parse(&address).with_context(|| format!("{address} is no address"))
    }

    /// Where the upload goes on; registries may answer with a path only.
    fn location(&self, answer: Response) -> Result<Url> {
        let location = answer
            .headers()
            .get(LOCATION)
            .context("an upload's answer has no location")?;
        answer
            .url()
            .join(location.to_str()?)
            .context("an upload's location is no address")
    }

    async fn send(&self, request: RequestBuilder, expected: StatusCode, what: &str) -> Result<Response> {
        let answer = request.send().await.with_context(|| what.to_string())?;
        let (status, url) = (answer.status(), answer.url().clone());
        if status != expected {
            bail!(
                "{what}: {url} answered {status}: {}",
                answer.text().await.unwrap_or_default()
            );
        }
        Ok(answer)
    }
}

fn with_digest(mut upload: Url, digest: &str) -> Url {
    upload.query_pairs_mut().append_pair("digest", digest);
    upload
}
