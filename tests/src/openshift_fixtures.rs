//! The recorded runs of OpenShift's own tools (`tests/fixtures/openshift`, see its README): what was there, what was asked,
//! what was done.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// A cluster, and the runs on it.
#[derive(Debug)]
pub struct Case {
    folder: PathBuf,
    /// Its `case.json`.
    pub description: Value,
}

/// What the real tool did.
#[derive(Debug)]
pub struct Recorded {
    /// The arguments, with their placeholders.
    pub arguments: Vec<String>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The exit status.
    pub status: i32,
    /// `after.json`.
    pub after: Value,
    /// The requests, in order of completion; of some runs they are not kept.
    pub requests: Option<Vec<Value>>,
}

/// What stands for the placeholders of a case.
#[derive(Debug, Clone)]
pub struct Scenery {
    registry: String,
    now: Timestamp,
}

impl Scenery {
    /// A registry's host and port; the case's time is now.
    #[must_use]
    pub fn now(registry: &str) -> Self {
        Self {
            registry: registry.to_owned(),
            now: Timestamp::now(),
        }
    }

    /// The same, so long ago: everything of the case is older.
    #[must_use]
    pub fn ago(registry: &str, ago: SignedDuration) -> Self {
        Self {
            registry: registry.to_owned(),
            now: Timestamp::now() - ago,
        }
    }

    /// Puts in what placeholders stand for.
    ///
    /// # Errors
    ///
    /// A placeholder of no known form.
    pub fn fill(&self, text: &str) -> Result<String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find('@') {
            filled.push_str(&rest[..start]);
            rest = &rest[start..];
            let end = rest[1..].find('@').map(|length| length + 2);
            let value = end.and_then(|end| Some((self.value(&rest[1..end - 1])?, end)));
            match value {
                Some((value, end)) => {
                    filled.push_str(&value);
                    rest = &rest[end..];
                }
                None => {
                    filled.push('@');
                    rest = &rest[1..];
                }
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn value(&self, placeholder: &str) -> Option<String> {
        if placeholder == "REG" {
            return Some(self.registry.clone());
        }
        let (sign, rest) = match placeholder.split_at_checked(1)? {
            ("-", rest) => (-1, rest),
            ("+", rest) => (1, rest),
            _ => return None,
        };
        let (number, unit) = rest.split_at_checked(rest.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let number: i64 = number.parse().ok()?;
        let time = self.now + SignedDuration::from_secs(sign * number * seconds);
        Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    }

    /// The text with the placeholder of the registry put back.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        text.replace(&self.registry, "@REG@")
    }
}

impl Case {
    /// Reads one by its name.
    ///
    /// # Errors
    ///
    /// A case that is not there.
    pub fn load(name: &str) -> Result<Self> {
        let folder = all().join(name);
        let text = read(&folder.join("case.json"))?;
        Ok(Self {
            folder,
            description: serde_json::from_str(&text)?,
        })
    }

    /// The names of its runs.
    #[must_use]
    pub fn runs(&self) -> Vec<String> {
        let runs = self.description["runs"].as_object();
        runs.into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }

    /// The API objects before the runs.
    ///
    /// # Errors
    ///
    /// A case without them.
    pub fn objects(&self, scenery: &Scenery) -> Result<Vec<Value>> {
        let text = read(&self.folder.join("objects.json"))?;
        Ok(serde_json::from_str(&scenery.fill(&text)?)?)
    }

    /// The registry's files below `docker/registry/v2`; none where the case has no registry.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn storage(&self) -> Result<BTreeMap<String, String>> {
        let path = self.folder.join("storage.json");
        if !path.exists() {
            return Ok(BTreeMap::new());
        }
        Ok(serde_json::from_str(&read(&path)?)?)
    }

    /// What the real tool did in a run.
    ///
    /// # Errors
    ///
    /// A run that is not there.
    pub fn recorded(&self, run: &str) -> Result<Recorded> {
        let folder = self.folder.join("runs").join(run);
        let file = |name: &str| read(&folder.join(name));
        let requests = match folder.join("http.jsonl").exists() {
            false => None,
            true => {
                let requests = file("http.jsonl")?;
                let requests = requests.lines().map(serde_json::from_str);
                Some(requests.collect::<Result<_, _>>()?)
            }
        };
        let after = file("after.json")?;
        let recorded = Recorded {
            arguments: file("args")?.lines().map(str::to_owned).collect(),
            stdout: file("stdout")?,
            stderr: file("stderr")?,
            status: file("rc")?.trim().parse()?,
            after: serde_json::from_str(&after)?,
            requests,
        };
        ensure!(recorded.after.is_object(), "{run}: after.json is no object");
        Ok(recorded)
    }
}

/// The names of all cases.
///
/// # Errors
///
/// A folder that cannot be read.
pub fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(all())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn all() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/openshift")
}

fn read(path: &std::path::Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
