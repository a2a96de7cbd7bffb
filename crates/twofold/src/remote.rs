mod credentials;

use anyhow::Context;
use cache_types::{Digest, DigestError, DigestFunction, InstanceName};
use reapi::client::{Address, Compression, ConnectError, RemoteStore, Settings};

use self::credentials::Credentials;

/// Which cache a command talks to, and how.
#[derive(clap::Args, Clone)]
pub struct RemoteArgs {
    /// The cache: grpc://HOST:PORT, grpcs://HOST for TLS, or unix:PATH
    #[arg(long, value_name = "ADDRESS", default_value = "grpc://127.0.0.1:8980")]
    pub remote: Address,

    /// Instance name, where the cache has several
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true, value_parser = InstanceName::parse)]
    pub instance: InstanceName,

    /// Function that digests are made with: sha256, blake3, sha1, sha384, sha512, sha256tree, gitsha1
    /// [default: sha256, or what the digest says]
    #[arg(long, value_name = "FUNCTION", value_parser = parse_function)]
    digest_function: Option<DigestFunction>,

    #[command(flatten)]
    credentials: Credentials,

    /// Compress blobs on the way, where the cache offers zstd
    #[arg(long)]
    compress: bool,

    /// Print JSON for machines
    #[arg(long)]
    pub json: bool,
}

impl RemoteArgs {
    /// The function for blobs that have no digest yet.
    pub fn digest_function(&self) -> DigestFunction {
        self.digest_function.unwrap_or(DigestFunction::Sha256)
    }

    /// A digest of the command line: `HASH/SIZE` or `FUNCTION/HASH/SIZE`.
    pub fn digest(&self, text: &str) -> anyhow::Result<Digest> {
        let parsed = match (self.digest_function, text.split_once('/')) {
            (Some(function), Some((hex, size))) if !size.contains('/') => size
                .parse()
                .map_err(|_| DigestError::Size)
                .and_then(|size_bytes| Digest::parse(Some(function), hex, size_bytes)),
            _ => text.parse(),
        };
        parsed.with_context(|| format!("{text:?} is not a digest such as `twofold put` prints"))
    }

    /// Connects, and says what to do when that fails.
    pub async fn connect(&self) -> anyhow::Result<RemoteStore> {
        let compression = if self.compress { Compression::ZstdWhenOffered } else { Compression::Off };
        let settings = Settings {
            instance: self.instance.clone(),
            digest_function: self.digest_function,
            compression,
            headers: self.credentials.headers()?,
            tls: self.credentials.tls()?,
            ..Settings::default()
        };
        let connected = RemoteStore::connect(&self.remote, settings).await;
        connected.map_err(|error| {
            let advice = match &error {
                ConnectError::Tls(_) => "look at the PEM files of --tls-ca, --tls-cert and --tls-key",
                ConnectError::Unreachable { .. } if matches!(self.remote, Address::Tls { .. }) => {
                    "no cache answers there over TLS, or its certificate is for another name or from an authority that \
                     --tls-ca does not name"
                }
                ConnectError::Unreachable { .. } => {
                    "no cache answers there: start one with `twofold serve`, or name another with --remote"
                }
                ConnectError::Capabilities { .. } => {
                    "what answers there is no remote cache for builds, or it refuses this caller (--token-file, --header) or --instance"
                }
                ConnectError::DigestFunction { .. } => "choose another --digest-function",
            };
            anyhow::Error::new(error).context(advice)
        })
    }
}

fn parse_function(name: &str) -> Result<DigestFunction, String> {
    let names = || DigestFunction::ALL.map(DigestFunction::name).join(", ");
    DigestFunction::from_name(name).ok_or_else(|| format!("the functions are {}", names()))
}
