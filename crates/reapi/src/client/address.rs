use std::fmt;
use std::str::FromStr;

/// Where a REAPI server listens: `grpc://HOST:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// gRPC without TLS over TCP.
    Tcp {
        /// Host name or address; IPv6 in brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// gRPC over a Unix socket.
    Unix(String),
}

impl Address {
    /// The address as tonic wants it.
    pub(super) fn to_uri(&self) -> String {
        match self {
            Self::Tcp { host, port } => format!("http://{host}:{port}"),
            Self::Unix(path) => format!("unix:{path}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(AddressError::NoPath) } else { Ok(Self::Unix(path.to_owned())) };
        }
        if text.starts_with("grpcs://") || text.starts_with("https://") {
            return Err(AddressError::Tls);
        }
        let place = text.strip_prefix("grpc://").ok_or(AddressError::Scheme)?;
        let (host, port) = place.trim_end_matches('/').rsplit_once(':').ok_or(AddressError::NoPort)?;
        let port = port.parse().map_err(|_| AddressError::NoPort)?;
        let bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        if host.is_empty() || bare_ipv6 || host.contains(['/', '@', '?', '#']) {
            return Err(AddressError::Host);
        }
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "grpc://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// Why an address was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No scheme, or another one.
    #[error("an address is written grpc://HOST:PORT or unix:PATH")]
    Scheme,
    /// TLS.
    #[error("TLS is not built into this client yet; use grpc://HOST:PORT, or unix:PATH")]
    Tls,
    /// No port, or none that is a number up to 65535.
    #[error("the address needs a port, as in grpc://HOST:8980")]
    NoPort,
    /// An empty or malformed host.
    #[error("the host is a name or an address; an IPv6 address stands in brackets, as in grpc://[::1]:8980")]
    Host,
    /// `unix:` and nothing after it.
    #[error("the address needs a path, as in unix:/run/twofold.sock")]
    NoPath,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_written() {
        for text in
            ["grpc://127.0.0.1:8980", "grpc://[::1]:1", "grpc://cache.example:65535", "unix:/run/a.sock", "unix:a"]
        {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("unix:///run/a".parse::<Address>(), Ok(Address::Unix("/run/a".to_owned())));
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        let refused = [
            ("localhost:8980", AddressError::Scheme),
            ("http://a:1", AddressError::Scheme),
            ("grpcs://a:1", AddressError::Tls),
            ("grpc://a", AddressError::NoPort),
            ("grpc://a:65536", AddressError::NoPort),
            ("grpc://:1", AddressError::Host),
            ("grpc://::1:1", AddressError::Host),
            ("grpc://a/b:1", AddressError::Host),
            ("unix:", AddressError::NoPath),
        ];
        for (text, reason) in refused {
            assert_eq!(text.parse::<Address>(), Err(reason), "{text}");
        }
    }
}
