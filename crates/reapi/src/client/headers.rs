use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// Headers that a client adds to each of its calls. Cheap to clone.
#[derive(Clone, Default)]
pub struct Headers(Arc<HeaderMap>);

impl fmt::Debug for Headers {
    /// Names alone: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Headers {
    /// Adds a header written `NAME=VALUE`.
    ///
    /// # Errors
    /// [`HeaderError`] says what is wrong with it.
    pub fn with(self, text: &str) -> Result<Self, HeaderError> {
        let (name, value) = text.split_once('=').ok_or(HeaderError::Form)?;
        let name = HeaderName::from_str(name.trim()).map_err(|_| HeaderError::Name)?;
        if name.as_str().starts_with("grpc-") || [header::CONTENT_TYPE, header::TE, header::HOST].contains(&name) {
            return Err(HeaderError::Reserved);
        }
        self.add(name, value.trim())
    }

    /// Adds a bearer token.
    ///
    /// # Errors
    /// [`HeaderError::Value`] when it holds what no header can.
    pub fn bearer(self, token: &str) -> Result<Self, HeaderError> {
        self.add(header::AUTHORIZATION, &format!("Bearer {token}"))
    }

    /// Adds a user's name and password, as Basic authentication has them.
    ///
    /// # Errors
    /// [`HeaderError::User`] when the name holds a colon.
    pub fn basic(self, user: &str, password: &str) -> Result<Self, HeaderError> {
        if user.contains(':') {
            return Err(HeaderError::User);
        }
        let encoded = BASE64.encode(format!("{user}:{password}").as_bytes());
        self.add(header::AUTHORIZATION, &format!("Basic {encoded}"))
    }

    fn add(self, name: HeaderName, value: &str) -> Result<Self, HeaderError> {
        let mut value = HeaderValue::from_str(value).map_err(|_| HeaderError::Value)?;
        value.set_sensitive(true);
        let mut headers = Arc::unwrap_or_clone(self.0);
        headers.insert(name, value);
        Ok(Self(Arc::new(headers)))
    }
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            let mut headers = std::mem::take(request.metadata_mut()).into_headers();
            headers.extend(self.0.iter().map(|(name, value)| (name.clone(), value.clone())));
            *request.metadata_mut() = MetadataMap::from_headers(headers);
        }
        Ok(request)
    }
}

/// Why a header was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No `=`.
    #[error("a header is written NAME=VALUE")]
    Form,
    /// A name that is none.
    #[error("the name of a header has letters, digits and hyphens")]
    Name,
    /// A header that the protocol sets itself.
    #[error("this header is set by the protocol itself")]
    Reserved,
    /// A value that no header can hold.
    #[error("the value of a header, or a token, has visible ASCII characters only")]
    Value,
    /// A colon in a user's name.
    #[error("the name of a user has no colon")]
    User,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(mut headers: Headers) -> HeaderMap {
        headers.call(Request::new(())).expect("never refused").into_parts().0.into_headers()
    }

    #[test]
    fn every_call_carries_them_and_debug_tells_no_secret() {
        let headers =
            Headers::default().with("x-api-key = abc=def ").expect("a header").bearer("secret").expect("a token");
        assert!(!format!("{headers:?}").contains("secret"));
        let sent = sent(headers);
        assert_eq!(sent["x-api-key"], "abc=def");
        assert_eq!(sent["authorization"], "Bearer secret");
        let basic = Headers::default().basic("ci", "pass:word").expect("a user");
        assert_eq!(self::tests::sent(basic)["authorization"], "Basic Y2k6cGFzczp3b3Jk");
    }

    #[test]
    fn what_is_no_header_is_refused_with_a_reason() {
        let refused = [
            ("novalue", HeaderError::Form),
            ("=v", HeaderError::Name),
            ("a b=v", HeaderError::Name),
            ("grpc-timeout=1S", HeaderError::Reserved),
            ("content-type=text", HeaderError::Reserved),
            ("x=a\nb", HeaderError::Value),
        ];
        for (text, reason) in refused {
            assert_eq!(Headers::default().with(text).err(), Some(reason), "{text:?}");
        }
        assert_eq!(Headers::default().bearer("a\nb").err(), Some(HeaderError::Value));
        assert_eq!(Headers::default().basic("a:b", "").err(), Some(HeaderError::User));
    }
}
