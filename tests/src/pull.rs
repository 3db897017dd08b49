//! Pulling over a registry's HTTP API, completely and with every byte checked: the proof that what is live is served.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::Value;

use crate::checker::named;
use crate::content::digest_of;
use crate::docker_registry::DockerRegistry;
use crate::manifests::{DOCKER_LIST, DOCKER_MANIFEST, DOCKER_SCHEMA1, OCI_INDEX, OCI_MANIFEST};
use crate::truth::Tag;

/// Pulls from one registry and keeps account of what came.
#[derive(Debug)]
pub struct Puller {
    client: reqwest::Client,
    url: String,
    /// Manifests pulled, by repository and digest.
    pub manifests: BTreeSet<(String, String)>,
    /// Blobs pulled, by repository and digest, with their sizes.
    pub blobs: BTreeMap<(String, String), u64>,
}

/// Pulls all tags with everything that they need.
pub async fn pull_everything(registry: &DockerRegistry, tags: &[Tag]) -> Result<Puller> {
    let mut puller = Puller::new(registry);
    for tag in tags {
        puller
            .tag(tag)
            .await
            .with_context(|| format!("pulling {}:{}", tag.repository, tag.tag))?;
    }
    Ok(puller)
}

impl Puller {
    /// Pulls from a registry that runs.
    pub fn new(registry: &DockerRegistry) -> Self {
        let (client, url) = (registry.client().clone(), registry.url().to_string());
        Self {
            client,
            url,
            manifests: BTreeSet::new(),
            blobs: BTreeMap::new(),
        }
    }

    /// Pulls a tag, which must still name the digest that it named.
    pub async fn tag(&mut self, tag: &Tag) -> Result<()> {
        let bytes = self.get_manifest(&tag.repository, &tag.tag, &tag.digest).await?;
        self.contents(&tag.repository, &tag.digest, bytes).await
    }

    /// Pulls a manifest by its digest, and what it needs.
    pub async fn digest(&mut self, repository: &str, digest: &str) -> Result<()> {
        let bytes = self.get_manifest(repository, digest, digest).await?;
        self.contents(repository, digest, bytes).await
    }

    /// Makes sure that a blob is not served any more.
    pub async fn blob_is_gone(&self, repository: &str, digest: &str) -> Result<()> {
        self.is_gone(&format!("{repository}/blobs/{digest}")).await
    }

    /// Makes sure that a manifest is not served any more.
    pub async fn manifest_is_gone(&self, repository: &str, digest: &str) -> Result<()> {
        self.is_gone(&format!("{repository}/manifests/{digest}")).await
    }

    async fn is_gone(&self, path: &str) -> Result<()> {
        let url = format!("{}/v2/{path}", self.url);
        let status = self
            .client
            .get(&url)
            .header(ACCEPT, accepted())
            .send()
            .await?
            .status();
        ensure!(
            status == StatusCode::NOT_FOUND,
            "{url} should be gone and answers {status}"
        );
        Ok(())
    }

    async fn contents(&mut self, repository: &str, digest: &str, manifest: Vec<u8>) -> Result<()> {
        let mut pending = vec![(digest.to_string(), manifest)];
        while let Some((digest, bytes)) = pending.pop() {
            if !self.manifests.insert((repository.to_string(), digest.clone())) {
                continue;
            }
            let named =
                named::read(&bytes).with_context(|| format!("{digest} is no manifest of a known shape"))?;
            for child in named.children {
                let bytes = self.get_manifest(repository, &child, &child).await?;
                pending.push((child, bytes));
            }
            for (blob, size) in named.blobs {
                self.blob(repository, &blob, size).await?;
            }
        }
        Ok(())
    }

    async fn get_manifest(&self, repository: &str, reference: &str, digest: &str) -> Result<Vec<u8>> {
        let url = format!("{}/v2/{repository}/manifests/{reference}", self.url);
        let answer = self.client.get(&url).header(ACCEPT, accepted()).send().await?;
        let status = answer.status();
        let media_type = answer
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(str::to_string);
        let mut bytes = answer.bytes().await?.to_vec();
        if status != StatusCode::OK {
            bail!("{url} answered {status}: {}", String::from_utf8_lossy(&bytes));
        }
        if media_type.as_deref() == Some(DOCKER_SCHEMA1) {
            bytes =
                without_signatures(&bytes).with_context(|| format!("{url} is not signed as schema 1 is"))?;
        }
        let served = digest_of(&bytes);
        ensure!(served == digest, "{url} serves {served} instead of {digest}");
        Ok(bytes)
    }

    async fn blob(&mut self, repository: &str, digest: &str, size: Option<u64>) -> Result<()> {
        let known = (repository.to_string(), digest.to_string());
        if self.blobs.contains_key(&known) {
            return Ok(());
        }
        let url = format!("{}/v2/{repository}/blobs/{digest}", self.url);
        let answer = self.client.get(&url).send().await?;
        ensure!(
            answer.status() == StatusCode::OK,
            "{url} answered {}",
            answer.status()
        );
        let bytes = answer.bytes().await?;
        let length = bytes.len() as u64;
        ensure!(
            size.is_none_or(|size| size == length),
            "{url} serves {length} bytes instead of {size:?}"
        );
        let served = digest_of(&bytes);
        ensure!(served == digest, "{url} serves {served}");
        self.blobs.insert(known, length);
        Ok(())
    }
}

fn accepted() -> String {
    [
        DOCKER_MANIFEST,
        DOCKER_LIST,
        OCI_MANIFEST,
        OCI_INDEX,
        DOCKER_SCHEMA1,
    ]
    .join(", ")
}

/// A schema 1 manifest's payload, which its digest is of: the signature's protected header says how many of the
/// bytes it begins with and what it ends with.
fn without_signatures(signed: &[u8]) -> Result<Vec<u8>> {
    let manifest: Value = serde_json::from_slice(signed)?;
    let protected = manifest["signatures"][0]["protected"]
        .as_str()
        .context("there is no signature")?;
    let protected: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(protected)?)?;
    let length = protected["formatLength"].as_u64().context("there is no length")?;
    let tail = protected["formatTail"].as_str().context("there is no tail")?;
    let mut payload = signed
        .get(..usize::try_from(length)?)
        .context("the length is too long")?
        .to_vec();
    payload.extend(BASE64_URL_SAFE_NO_PAD.decode(tail)?);
    Ok(payload)
}
