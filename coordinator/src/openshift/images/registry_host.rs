//! Where the registry is, and whether it may be spoken to without a certificate that is known.

use std::net::IpAddr;

use super::graph::Lists;
use super::image_reference;
use crate::openshift::objects::{Image, ImageStream};

/// The registry's host as the youngest managed image names it, or, where there is none, the oldest stream that names one.
///
/// # Errors
///
/// No image and no stream names it.
pub fn registry_host(lists: &Lists) -> Result<String, String> {
    let managed = lists.images.iter().filter(|image| image.metadata.is_managed);
    let youngest =
        managed.max_by_key(|image: &&Image| (image.metadata.creation_timestamp, &image.metadata.name));
    let pull_spec = match youngest {
        Some(image) => image.docker_image_reference.as_str(),
        None => {
            let named = lists.streams.iter();
            let named = named.filter(|stream| !stream.status.docker_image_repository.is_empty());
            let oldest = named.min_by_key(|stream: &&ImageStream| stream.metadata.creation_timestamp);
            oldest.map_or("", |stream| stream.status.docker_image_repository.as_str())
        }
    };
    if pull_spec.is_empty() {
        return Err("no managed image found".to_owned());
    }
    let reference = image_reference::parse(pull_spec)
        .map_err(|problem| format!("unable to parse {pull_spec:?}: {problem}"))?;
    if reference.registry.is_empty() {
        return Err(format!("{pull_spec} does not include a registry"));
    }
    Ok(reference.registry)
}

/// Whether a host, with its port or without, is this machine or in a private network. With a scheme in front it is neither:
/// then the scheme decides.
#[must_use]
pub fn is_private(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.contains(':') => name,
        Some((name, _)) if name.starts_with('[') => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if name == "localhost" {
        return true;
    }
    match name.parse() {
        Ok(IpAddr::V4(address)) => address.to_string() == "127.0.0.1" || address.is_private(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_hosts() {
        for host in [
            "127.0.0.1:5000",
            "localhost",
            "10.1.2.3",
            "172.30.30.30:5000",
            "192.168.0.1",
            "[::1]:5000",
            "fe80::1",
        ] {
            assert!(is_private(host), "{host}");
        }
        for host in [
            "registry.example:5000",
            "8.8.8.8",
            "http://127.0.0.1:5000",
            "172.32.0.1",
            "127.0.0.2",
            "",
        ] {
            assert!(!is_private(host), "{host}");
        }
    }
}
