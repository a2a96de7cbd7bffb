use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use reapi::client::{Headers, Tls};

/// The variable that holds the token.
const TOKEN: &str = "TWOFOLD_TOKEN";

/// Who the caller is, and whom it trusts.
#[derive(clap::Args, Clone)]
pub struct Credentials {
    /// File with the token to show to the cache [default: the variable TWOFOLD_TOKEN, if it is set]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// User whose password the token is, for Basic authentication; without it the token is a bearer token
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Header to send with each call; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    header: Vec<String>,

    /// PEM file with the authorities to trust for grpcs:// [default: those of the system]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// PEM file with the certificate to show to the cache
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// PEM file with the key of that certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Credentials {
    /// The headers of each call.
    pub fn headers(&self) -> anyhow::Result<Headers> {
        let mut headers = Headers::default();
        for text in &self.header {
            let name = text.split('=').next().unwrap_or_default();
            headers = headers.with(text).with_context(|| format!("--header {name}"))?;
        }
        let token = match &self.token_file {
            Some(file) => Some(read(file)?),
            None => std::env::var_os(TOKEN).map(|token| token.into_encoded_bytes()),
        };
        let token = token.map(String::from_utf8).transpose().context("the token is not text")?;
        match (&self.user, token.as_deref().map(str::trim).filter(|token| !token.is_empty())) {
            (Some(user), Some(password)) => headers.basic(user, password).context("--user"),
            (None, Some(token)) => headers.bearer(token).context("the token"),
            (Some(_), None) => bail!("--user needs a password: give it by --token-file or in {TOKEN}"),
            (None, None) => Ok(headers),
        }
    }

    /// What is trusted and shown over TLS.
    pub fn tls(&self) -> anyhow::Result<Tls> {
        let ca = self.tls_ca.as_deref().map(read).transpose()?;
        let identity = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            _ => None,
        };
        Ok(Tls { ca, identity })
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
