//! The demo's registry: a small one in the Distribution layout, with real layers, as pushes, deletes and broken pushes
//! leave it.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use hardprune_common::clock;
use hardprune_common::digest::{Algorithm, Digest};
use hardprune_common::layout::{RepositoryEntry, UploadFile, blob_key, repository_key};
use serde_json::{Value, json};

const OLD: Duration = Duration::from_secs(3 * 86_400);
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry being built.
#[derive(Debug)]
pub(super) struct DemoRegistry {
    root: PathBuf,
    modified: SystemTime,
    /// What each blob is, for people.
    pub names: BTreeMap<String, String>,
}

/// A blob that was pushed.
#[derive(Debug, Clone)]
struct Pushed {
    digest: Digest,
    size: usize,
}

impl DemoRegistry {
    /// Builds the whole registry.
    pub fn build(root: &Path) -> io::Result<Self> {
        let now = SystemTime::from(clock::machine_now());
        let mut registry = Self {
            root: root.to_owned(),
            modified: now - OLD,
            names: BTreeMap::new(),
        };
        registry.push_live_images()?;
        registry.leave_garbage()?;
        registry.modified = now;
        registry.push_in_progress()?;
        Ok(registry)
    }

    fn push_live_images(&mut self) -> io::Result<()> {
        let web = "shop/web";
        let base = self.layer(web, "base system, shared by all images", 120_000)?;
        let v1 = self.image(web, "shop/web:v1", &[&base], "web server, version 1", 60_000)?;
        self.tag(web, "v1", &v1)?;
        // `latest` moved on: what it named before is untagged, and stays unless --delete-untagged.
        let before = self.image(
            web,
            "an earlier shop/web:latest",
            &[&base],
            "web server, release candidate",
            50_000,
        )?;
        self.tag(web, "latest", &before)?;
        let v2 = self.image(web, "shop/web:v2", &[&base], "web server, version 2", 70_000)?;
        self.tag(web, "v2", &v2)?;
        self.tag(web, "latest", &v2)?;
        let signature = self.signature(web, &v2)?;
        self.tag(web, &format!("sha256-{}.sig", v2.digest.hex()), &signature)?;

        let api = "shop/api";
        self.link(api, &RepositoryEntry::LayerLink(base.digest), &base.digest)?;
        let amd64 = self.image(api, "shop/api:1.0 (amd64)", &[&base], "api for amd64", 40_000)?;
        let arm64 = self.image(api, "shop/api:1.0 (arm64)", &[&base], "api for arm64", 42_000)?;
        let children: Vec<Value> = [(&amd64, "amd64"), (&arm64, "arm64")]
            .map(|(child, architecture)| {
                let mut descriptor = descriptor(MANIFEST, child);
                descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
                descriptor
            })
            .to_vec();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children});
        let index = self.manifest(api, "shop/api:1.0 (multi-arch index)", &index)?;
        self.tag(api, "1.0", &index)
    }

    fn leave_garbage(&mut self) -> io::Result<()> {
        let web = "shop/web";
        let deleted = self.image(
            web,
            "the deleted shop/web:v0",
            &[],
            "web server, version 0",
            300_000,
        )?;
        // What `DELETE /v2/shop/web/manifests/…` does: the revision's link goes, the blobs stay.
        let link = repository_key(web, &RepositoryEntry::RevisionLink(deleted.digest));
        fs::remove_dir_all(self.root.join(link).parent().unwrap_or(&self.root))?;
        // Pushes that broke off before their manifest came.
        self.layer("team/ci", "a layer whose push broke off", 200_000)?;
        self.layer(web, "another layer whose push broke off", 90_000)?;
        let upload = "5fdb8a3c-9d0c-4b3e-8a55-0a2c1a7f3b11".to_owned();
        let entry = RepositoryEntry::Upload {
            upload,
            file: UploadFile::Data,
        };
        self.write(
            &repository_key("team/ci", &entry),
            &bytes_of("half an upload", 30_000),
        )
    }

    fn push_in_progress(&mut self) -> io::Result<()> {
        self.layer("shop/worker", "a layer pushed a moment ago", 80_000)
            .map(|_| ())
    }

    fn image(
        &mut self,
        repository: &str,
        name: &str,
        layers: &[&Pushed],
        top: &str,
        size: usize,
    ) -> io::Result<Pushed> {
        let mut layers: Vec<Pushed> = layers.iter().map(|layer| (*layer).clone()).collect();
        layers.push(self.layer(repository, top, size)?);
        let config = json!({"architecture": "amd64", "os": "linux", "config": {"Labels": {"demo": name}}});
        let config = self.blob(
            repository,
            &format!("config of {name}"),
            config.to_string().as_bytes(),
        )?;
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers,
        });
        self.manifest(repository, &format!("manifest of {name}"), &manifest)
    }

    fn signature(&mut self, repository: &str, image: &Pushed) -> io::Result<Pushed> {
        let payload = json!({"critical": {"image": {"docker-manifest-digest": image.digest.to_string()}}});
        let payload = self.blob(
            repository,
            "signature of shop/web:v2",
            payload.to_string().as_bytes(),
        )?;
        let config = self.blob(repository, "config of the signature", b"{}")?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.dev.cosign.simplesigning.v1+json", &payload)],
            "subject": descriptor(MANIFEST, image),
        });
        self.manifest(repository, "manifest of the signature", &manifest)
    }

    /// Pushes a layer: a real tar archive, compressed, with one file in it.
    fn layer(&mut self, repository: &str, name: &str, size: usize) -> io::Result<Pushed> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let content = bytes_of(name, size);
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, "usr/share/demo", content.as_slice())?;
        let layer = archive.into_inner()?.finish()?;
        self.blob(repository, name, &layer)
    }

    fn manifest(&mut self, repository: &str, name: &str, manifest: &Value) -> io::Result<Pushed> {
        let manifest = self.store(name, manifest.to_string().as_bytes())?;
        self.link(
            repository,
            &RepositoryEntry::RevisionLink(manifest.digest),
            &manifest.digest,
        )?;
        Ok(manifest)
    }

    fn blob(&mut self, repository: &str, name: &str, bytes: &[u8]) -> io::Result<Pushed> {
        let blob = self.store(name, bytes)?;
        self.link(repository, &RepositoryEntry::LayerLink(blob.digest), &blob.digest)?;
        Ok(blob)
    }

    fn tag(&mut self, repository: &str, tag: &str, manifest: &Pushed) -> io::Result<()> {
        let (tag, digest) = (tag.to_owned(), manifest.digest);
        self.link(
            repository,
            &RepositoryEntry::TagIndexEntry {
                tag: tag.clone(),
                digest,
            },
            &digest,
        )?;
        self.link(repository, &RepositoryEntry::TagCurrent { tag }, &digest)
    }

    fn store(&mut self, name: &str, bytes: &[u8]) -> io::Result<Pushed> {
        let digest = Digest::of(Algorithm::Sha256, bytes);
        self.names.insert(digest.to_string(), name.to_owned());
        self.write(&blob_key(&digest), bytes)?;
        Ok(Pushed {
            digest,
            size: bytes.len(),
        })
    }

    fn link(&self, repository: &str, entry: &RepositoryEntry, digest: &Digest) -> io::Result<()> {
        self.write(&repository_key(repository, entry), digest.to_string().as_bytes())
    }

    fn write(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.root.join(key);
        fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
        fs::write(&path, bytes)?;
        File::options()
            .write(true)
            .open(&path)?
            .set_times(FileTimes::new().set_modified(self.modified))
    }
}

fn descriptor(media_type: &str, blob: &Pushed) -> Value {
    json!({"mediaType": media_type, "digest": blob.digest.to_string(), "size": blob.size})
}

/// Bytes that do not compress, and are the same each time.
fn bytes_of(name: &str, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 32);
    let mut block = Digest::of(Algorithm::Sha256, name.as_bytes());
    while bytes.len() < size {
        bytes.extend_from_slice(block.hash());
        block = Digest::of(Algorithm::Sha256, block.hash());
    }
    bytes.truncate(size);
    bytes
}
