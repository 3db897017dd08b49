//! The address of `--health-addr`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Where the health server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthAddress {
    /// On all addresses of the machine (`:8080`).
    Everywhere {
        /// The port; 0 lets the machine choose.
        port: u16,
    },
    /// On one address (`127.0.0.1:8080`, `[::1]:8080`).
    At(SocketAddr),
}

/// A text is no address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is no address to listen on: give :PORT (all addresses) or IP:PORT, \
     such as :8080, 127.0.0.1:8080 or [::1]:8080"
)]
pub struct InvalidHealthAddress {
    /// The text.
    pub given: String,
}

impl HealthAddress {
    /// The addresses to try in turn: a machine may have no IPv6, and otherwise takes IPv4 on the same socket.
    pub(super) fn to_try(self) -> Vec<SocketAddr> {
        match self {
            Self::At(address) => vec![address],
            Self::Everywhere { port } => [
                IpAddr::from(Ipv6Addr::UNSPECIFIED),
                IpAddr::from(Ipv4Addr::UNSPECIFIED),
            ]
            .map(|ip| SocketAddr::new(ip, port))
            .to_vec(),
        }
    }
}

impl FromStr for HealthAddress {
    type Err = InvalidHealthAddress;

    fn from_str(given: &str) -> Result<Self, InvalidHealthAddress> {
        let address = match given.strip_prefix(':') {
            // A number's own parser takes a sign.
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().ok().map(|port| Self::Everywhere { port })
            }
            Some(_) => None,
            None => given.parse().ok().map(Self::At),
        };
        address.ok_or_else(|| InvalidHealthAddress {
            given: given.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_means_all_addresses() {
        assert_eq!(":8080".parse(), Ok(HealthAddress::Everywhere { port: 8080 }));
        assert_eq!(
            HealthAddress::Everywhere { port: 8080 }.to_try(),
            ["[::]:8080".parse().unwrap(), "0.0.0.0:8080".parse().unwrap()]
        );
    }

    #[test]
    fn an_ip_and_a_port_mean_that_address() {
        for text in ["127.0.0.1:0", "[::1]:8080", "0.0.0.0:9090"] {
            let address: HealthAddress = text.parse().unwrap();
            assert_eq!(address, HealthAddress::At(text.parse().unwrap()));
            assert_eq!(address.to_try(), [text.parse().unwrap()]);
        }
    }

    #[test]
    fn anything_else_is_an_error_that_names_it_and_says_what_to_give() {
        for text in [
            "",
            ":",
            "8080",
            ":65536",
            ":+80",
            ": 80",
            "localhost:8080",
            "::1:8080",
            "127.0.0.1",
            "http://127.0.0.1:80",
        ] {
            let error = text.parse::<HealthAddress>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is no address")), "{error}");
            assert!(error.contains("127.0.0.1:8080"), "{error}");
        }
    }
}
