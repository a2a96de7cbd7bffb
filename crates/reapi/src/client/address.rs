use std::fmt;
use std::str::FromStr;

/// The port of `grpcs://` when none is named.
const TLS_PORT: u16 = 443;

/// Where a REAPI server listens: `grpc://HOST:PORT`, `grpcs://HOST[:PORT]` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// gRPC without TLS over TCP.
    Tcp {
        /// Host name or address; IPv6 in brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// gRPC over TLS.
    Tls {
        /// Host name or address, which the server's certificate must be for; IPv6 in brackets.
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
            Self::Tls { host, port } => format!("https://{host}:{port}"),
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
        if let Some(place) = text.strip_prefix("grpcs://") {
            let (host, port) = host_and_port(place, Some(TLS_PORT))?;
            return Ok(Self::Tls { host, port });
        }
        let place = text.strip_prefix("grpc://").ok_or(AddressError::Scheme)?;
        let (host, port) = host_and_port(place, None)?;
        Ok(Self::Tcp { host, port })
    }
}

fn host_and_port(place: &str, default: Option<u16>) -> Result<(String, u16), AddressError> {
    let place = place.strip_suffix('/').unwrap_or(place);
    let (host, port) = match (place.rsplit_once(':'), default) {
        (Some((host, port)), _) if !port.ends_with(']') => (host, port.parse().map_err(|_| AddressError::NoPort)?),
        (_, Some(port)) => (place, port),
        (_, None) => return Err(AddressError::NoPort),
    };
    let bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || bare_ipv6 || host.contains(['/', '@', '?', '#']) {
        return Err(AddressError::Host);
    }
    Ok((host.to_owned(), port))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "grpc://{host}:{port}"),
            Self::Tls { host, port } => write!(f, "grpcs://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// Why an address was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No scheme, or another one.
    #[error("an address is written grpc://HOST:PORT, grpcs://HOST for TLS, or unix:PATH")]
    Scheme,
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
        for text in [
            "grpc://127.0.0.1:8980",
            "grpc://[::1]:1",
            "grpc://cache.example:65535",
            "grpcs://cache.example:8980",
            "grpcs://[::1]:1",
            "unix:/run/a.sock",
            "unix:a",
        ] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
        for text in ["grpcs://cache.example", "grpcs://cache.example/", "grpcs://cache.example:443/"] {
            assert_eq!(text.parse(), Ok(Address::Tls { host: "cache.example".to_owned(), port: 443 }), "{text}");
        }
        let ipv6 = Address::Tls { host: "[::1]".to_owned(), port: 443 };
        assert_eq!("grpcs://[::1]".parse(), Ok(ipv6));
        assert_eq!("unix:///run/a".parse::<Address>(), Ok(Address::Unix("/run/a".to_owned())));
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        let refused = [
            ("localhost:8980", AddressError::Scheme),
            ("http://a:1", AddressError::Scheme),
            ("https://a:1", AddressError::Scheme),
            ("grpcs://", AddressError::Host),
            ("grpcs://user@a", AddressError::Host),
            ("grpcs://a:x", AddressError::NoPort),
            ("grpc://[::1]", AddressError::NoPort),
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
