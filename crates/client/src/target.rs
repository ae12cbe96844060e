//! The URL of a cluster: `scheme://host:port[,host:port…]`. The scheme says how every broker of it is reached, the
//! addresses are only where to ask first.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// How brokers are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scheme {
    /// `quic://`: each Kafka connection is a stream of one QUIC connection (ALPN `kafka`), always encrypted.
    #[default]
    Quic,
    /// `kafka://`: TCP, not encrypted.
    Kafka,
    /// `kafkas://`: TLS over TCP.
    Kafkas,
}

impl Scheme {
    /// The part of the URL before `://`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Kafka => "kafka",
            Self::Kafkas => "kafkas",
        }
    }

    /// The port when the URL names none.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Quic | Self::Kafka => 9092,
            Self::Kafkas => 9093,
        }
    }
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// A name or an IP address, the latter without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Where a cluster is.
///
/// ```
/// use client::{Scheme, Target};
///
/// let target: Target = "kafka://one:9092,two:9093".parse()?;
/// assert_eq!(target.scheme, Scheme::Kafka);
/// assert_eq!(target.addresses[1].port, 9093);
/// assert_eq!(Target::default().to_string(), "quic://localhost:9092");
/// # Ok::<(), client::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// How every broker is reached.
    pub scheme: Scheme,
    /// Whom to ask first; at least one.
    pub addresses: Vec<Address>,
}

impl Default for Target {
    fn default() -> Self {
        Self { scheme: Scheme::Quic, addresses: vec![Address { host: "localhost".into(), port: 9092 }] }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.name())?;
        for (at, address) in self.addresses.iter().enumerate() {
            write!(f, "{}{address}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let wrong = |problem| Error::Target { url: url.to_owned(), problem };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let scheme = [Scheme::Quic, Scheme::Kafka, Scheme::Kafkas]
            .into_iter()
            .find(|known| known.name() == scheme)
            .ok_or_else(|| wrong("the scheme is not known"))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(wrong("there is more in it than hosts and ports"));
        }
        let addresses: Result<Vec<_>, _> = rest.split(',').map(|part| address(part, scheme).map_err(wrong)).collect();
        Ok(Self { scheme, addresses: addresses? })
    }
}

fn address(text: &str, scheme: Scheme) -> Result<Address, &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("a bracket is not closed")?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err("the port is not a number"),
            }
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an IPv6 address needs brackets"),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err("a host is missing");
    }
    let port = match port {
        Some(port) => port.parse().map_err(|_| "the port is not a number")?,
        None => scheme.default_port(),
    };
    Ok(Address { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written_back() {
        for (url, written) in [
            ("quic://localhost", "quic://localhost:9092"),
            ("kafka://a:1,b:2", "kafka://a:1,b:2"),
            ("kafkas://broker.example", "kafkas://broker.example:9093"),
            ("quic://[::1]:7", "quic://[::1]:7"),
            ("kafka://[::1]/", "kafka://[::1]:9092"),
        ] {
            let target: Target = url.parse().unwrap();
            assert_eq!(target.to_string(), written);
            assert_eq!(written.parse::<Target>().unwrap(), target);
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for url in [
            "",
            "localhost:9092",
            "http://a",
            "quic://",
            "kafka://a:b",
            "kafka://::1",
            "kafka://a/x",
            "kafka://a,",
            "kafka://[::1",
        ] {
            assert!(url.parse::<Target>().is_err(), "{url}");
        }
    }
}
