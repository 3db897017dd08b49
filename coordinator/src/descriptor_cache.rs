//! The registry's cache of blob descriptors: it remembers blobs that are gone, and a push of one of them would "succeed" without
//! its data. Which cache there is say the options or the registry's configuration; entries in Redis are removed as deletion
//! proceeds and again when the books are closed (R6); one in memory goes when the registry is restarted (`read_only/restart.rs`);
//! everything else is the operator's to clear, and said at the end.

mod clear;
mod redis_cache;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::error::RunError;
use crate::registry_config::Secret;
use crate::registry_config::{DescriptorCache, RedisAddress, RegistryStorage};

pub use clear::{CacheClearer, ClearError, clear_begun};
pub use redis_cache::{CacheError, RedisCache, RedisTarget};

/// Holds the password of the Redis server: on a command line every list of processes would show it.
const PASSWORD_VARIABLE: &str = "HARDPRUNE_CACHE_PASSWORD";

/// Which cache the registry has, from the command line.
#[derive(Debug, Clone, Default, Args)]
pub struct CacheArgs {
    /// The registry's cache of blob descriptors, which remembers blobs that are gone. none: there is no cache. manual: it is
    /// cleared by hand, and the end says how. restart: it is in memory, and the registry is restarted through its cluster
    /// (--read-only-via or --restart-via) before it takes writes again. redis://USER@HOST:PORT/DATABASE, or rediss:// with TLS (user, port and database may
    /// be left out): the entries of what goes are removed from there; the password by --cache-password-file or in
    /// HARDPRUNE_CACHE_PASSWORD. Default: what the registry's configuration says, else manual.
    #[arg(long, value_name = "CACHE", env = "HARDPRUNE_CACHE", hide_env_values = true)]
    pub cache: Option<String>,
    /// A file with the password of the cache's Redis server.
    #[arg(
        long,
        value_name = "FILE",
        env = "HARDPRUNE_CACHE_PASSWORD_FILE",
        requires = "cache"
    )]
    pub cache_password_file: Option<PathBuf>,
}

impl CacheArgs {
    /// Whether the registry is restarted for its cache.
    #[must_use]
    pub fn is_restart(&self) -> bool {
        self.cache.as_deref() == Some("restart")
    }
}

/// The registry's cache.
#[derive(Debug)]
pub enum Cache {
    /// There is none.
    None,
    /// It is in memory, and the registry is restarted before it takes writes again.
    Restart,
    /// It is cleared by hand; this says how.
    Manual(String),
    /// Redis.
    Redis(Arc<RedisCache>),
}

impl Cache {
    /// The cache that was named, or that the registry's configuration names.
    ///
    /// # Errors
    ///
    /// A name that means no cache, a password in it, a file that cannot be read.
    pub fn of(args: &CacheArgs, config: Option<&RegistryStorage>) -> Result<Self, RunError> {
        let by_hand = || Self::Manual(cache_reminder(config));
        Ok(match args.cache.as_deref() {
            Some("none") => Self::None,
            Some("manual") => by_hand(),
            _ if args.is_restart() => Self::Restart,
            Some(url) => Self::redis_at(RedisTarget::parse(url)?.with_password(password(args)?)),
            None => match config.map(|config| (config.cache, &config.redis)) {
                Some((DescriptorCache::Redis, Some(redis))) => {
                    of_config(redis)?.map_or_else(by_hand, Self::redis_at)
                }
                _ => by_hand(),
            },
        })
    }

    fn redis_at(target: RedisTarget) -> Self {
        Self::Redis(Arc::new(RedisCache::new(target)))
    }

    /// The Redis server whose entries are removed, if it is one.
    #[must_use]
    pub fn redis(&self) -> Option<Arc<RedisCache>> {
        match self {
            Self::Redis(redis) => Some(Arc::clone(redis)),
            Self::None | Self::Restart | Self::Manual(_) => None,
        }
    }

    /// Makes sure that entries can be removed, before anything is deleted.
    ///
    /// # Errors
    ///
    /// A Redis server that does not answer, or refuses.
    pub async fn refuse_unreachable(&self) -> Result<(), RunError> {
        let Self::Redis(redis) = self else {
            return Ok(());
        };
        redis.probe().await.map_err(|error| {
            RunError::Refused(format!(
                "{error}. The registry would remember blobs that are gone; nothing was deleted. Make it reachable, or say --cache \
                 manual and clear the cache yourself before the registry takes writes again"
            ))
        })
    }
}

fn password(args: &CacheArgs) -> Result<Option<Secret>, RunError> {
    let Some(path) = &args.cache_password_file else {
        return Ok(std::env::var(PASSWORD_VARIABLE).ok().map(Secret::new));
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        RunError::Usage(format!(
            "the file {path:?} with the cache's password cannot be read: {error}"
        ))
    })?;
    Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']))))
}

/// The server that a configuration names. `None` for a cluster or sentinels, which this does not speak to.
fn of_config(redis: &RedisAddress) -> Result<Option<RedisTarget>, RunError> {
    let [address] = redis.addresses.as_slice() else {
        return Ok(None);
    };
    let scheme = if redis.tls { "rediss" } else { "redis" };
    let mut target = RedisTarget::parse(&format!("{scheme}://{address}/{}", redis.database))?;
    target.user.clone_from(&redis.username);
    Ok(Some(target.with_password(redis.password.clone())))
}

/// What is still to do by hand after a delete.
fn cache_reminder(config: Option<&RegistryStorage>) -> String {
    let why = "Clear the registry's cache before it takes writes again: it remembers blobs that are gone, and a push of one \
               of them would \"succeed\" without its data.";
    let how = match config.map(|config| (&config.cache, &config.redis)) {
        Some((DescriptorCache::Redis, Some(redis))) => format!(
            "  Redis at {}, database {}: redis-cli -n {} FLUSHDB (if nothing else uses it), or delete the keys blobs::* and \
             repository::*",
            redis.addresses.join(", "),
            redis.database,
            redis.database
        ),
        Some((DescriptorCache::InMemory, _)) => "  It is in memory: restart every replica of the registry.".to_owned(),
        _ => "  In memory (the default): restart every replica of the registry.\n  Redis: delete the keys blobs::* and \
              repository::*, or flush its database."
            .to_owned(),
    };
    format!("{why}\n{how}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(name: &str) -> Result<Cache, RunError> {
        let args = CacheArgs {
            cache: Some(name.to_owned()),
            cache_password_file: None,
        };
        Cache::of(&args, None)
    }

    #[test]
    fn what_means_no_cache_is_refused_and_no_password_is_repeated() {
        assert!(matches!(cache("none"), Ok(Cache::None)));
        assert!(matches!(cache("manual"), Ok(Cache::Manual(_))));
        assert!(matches!(cache("restart"), Ok(Cache::Restart)));
        for bad in [
            "memcached://host",
            "redis://",
            "redis://host/x",
            "redis://:Pl4ntedS3cret@host",
            "redis://user:Pl4ntedS3cret@host:port",
            "Pl4ntedS3cret",
        ] {
            let error = cache(bad).unwrap_err();
            assert!(matches!(error, RunError::Usage(_)), "{bad}: {error}");
            assert!(
                !format!("{error} {error:?}").contains("Pl4ntedS3cret"),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn a_server_is_named_without_its_password() {
        let Ok(Cache::Redis(redis)) = cache("rediss://user@[::1]:7000/3") else {
            panic!("this is a server");
        };
        assert_eq!(redis.to_string(), "rediss://[::1]:7000/3");
        let target = RedisTarget::parse("redis://host").unwrap();
        assert_eq!(
            target.with_password(Some(Secret::new("x"))).to_string(),
            "redis://host:6379/0"
        );
    }
}
