//! Clients that push images all the time, whatever is done to the registry: what it confirmed to them must not be broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinHandle;

use crate::content::Seeded;
use crate::manifests::{self, Content, Family};
use crate::push::Pusher;
use crate::truth::Tag;

/// What one client pushes, again and again until it is told to stop.
struct Client {
    pusher: Pusher,
    number: u64,
    orphans: Vec<Vec<u8>>,
    confirmed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Client {
    /// Pushes images until it is told to stop; of each that was confirmed the tag.
    async fn push(self) -> Vec<Tag> {
        let mut pushed = Vec::new();
        let mut image = 0;
        while !self.stop.load(Ordering::SeqCst) {
            match self.push_image(image).await {
                Ok(tag) => {
                    pushed.push(tag);
                    image += 1;
                    self.confirmed.fetch_add(1, Ordering::SeqCst);
                }
                // Read-only, or away for a moment: a client tries again.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        pushed
    }

    async fn push_image(&self, image: u64) -> Result<Tag> {
        let repository = format!("clients/c{}", self.number);
        let mut seeded = Seeded::new(1_000 * (self.number + 1) + image);
        let own = manifests::layer(Family::Oci, &mut seeded, 3_000);
        // An old blob that nothing references: there already, as far as the registry can tell.
        let orphan = &self.orphans[usize::try_from(image)? % self.orphans.len()];
        let old = Content::new(own.media_type, orphan.clone());
        let layers = [&own, &old];
        let config = manifests::config(Family::Oci, "amd64", &layers);
        for blob in layers.into_iter().chain([&config]) {
            self.pusher.blob(&repository, blob).await?;
        }
        let manifest = manifests::image(Family::Oci, &config, &layers, None);
        let tag = format!("v{image}");
        self.pusher.manifest(&repository, &tag, &manifest).await?;
        Ok(Tag {
            repository,
            tag,
            digest: manifest.digest,
        })
    }
}

/// Starts three clients.
pub fn clients(
    pusher: &Pusher,
    orphans: &[Vec<u8>],
    confirmed: &Arc<AtomicUsize>,
    stop: &Arc<AtomicBool>,
) -> Vec<JoinHandle<Vec<Tag>>> {
    (0..3)
        .map(|number| {
            let client = Client {
                pusher: pusher.clone(),
                number,
                orphans: orphans.to_vec(),
                confirmed: Arc::clone(confirmed),
                stop: Arc::clone(stop),
            };
            tokio::spawn(client.push())
        })
        .collect()
}

/// Waits until more images than this are confirmed.
///
/// # Errors
///
/// A minute without it.
pub async fn more_than(confirmed: &AtomicUsize, count: usize) -> Result<()> {
    for _ in 0..3_000 {
        if confirmed.load(Ordering::SeqCst) > count {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("nothing more is pushed")
}
