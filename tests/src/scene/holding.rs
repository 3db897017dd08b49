//! A registry that holds what a recorded case has.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::Result;

use super::Scene;
use crate::generate::Shape;
use crate::s3_server::S3Options;
use crate::storage_writer::REGISTRY_ROOT;

const OLD: Duration = Duration::from_secs(3 * 86_400);

impl Scene {
    /// Makes a registry of these files below `docker/registry/v2/`, written three days ago; a path that ends with `/` is an empty
    /// folder, where there are such.
    ///
    /// # Errors
    ///
    /// As [`Scene::on_folder`] and [`Scene::on_s3`].
    pub fn holding(files: &BTreeMap<String, String>, on_s3: bool) -> Result<Self> {
        let mut scene = match on_s3 {
            true => Self::on_s3(&Shape::small(1), S3Options::default())?,
            false => Self::on_folder(&Shape::small(1))?,
        };
        for key in scene.storage.keys()?.into_keys() {
            scene.storage.remove(&key)?;
        }
        if !on_s3 {
            // With the folders that were left.
            std::fs::remove_dir_all(scene.state.join("docker"))?;
        }
        for (path, text) in files {
            let key = format!("{REGISTRY_ROOT}{path}");
            if !path.ends_with('/') {
                scene
                    .storage
                    .put(&key, text.as_bytes(), SystemTime::now() - OLD)?;
            } else if !on_s3 {
                std::fs::create_dir_all(scene.state.join(&key))?;
            }
        }
        scene.start = scene.inventory()?;
        Ok(scene)
    }
}
