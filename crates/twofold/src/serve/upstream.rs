use std::path::PathBuf;
use std::time::Duration;

use reapi::UpstreamWrite;
use reapi::client::Compression;
use server::RawUpstream;

/// The far server that this one stands in front of.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Upstream")]
pub struct Args {
    /// Far cache behind this one, any server of the Remote Execution API: grpc://HOST:PORT, grpcs://HOST or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    upstream: Option<String>,

    /// When what is written here goes to the upstream [default: async]
    #[arg(long, value_name = "WHEN", value_enum)]
    upstream_write: Option<Write>,

    /// Instance name that blobs have on the upstream, and that stands before the instance of each action result
    #[arg(long, value_name = "NAME")]
    upstream_instance: Option<String>,

    /// Header to send with each call to the upstream; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    upstream_header: Vec<String>,

    /// File with the token for the upstream [default: the variable TWOFOLD_UPSTREAM_TOKEN, if it is set]
    #[arg(long, value_name = "FILE")]
    upstream_token_file: Option<PathBuf>,

    /// User whose password the token is, for Basic authentication; without it the token is a bearer token
    #[arg(long, value_name = "NAME")]
    upstream_user: Option<String>,

    /// PEM file with the authorities to trust for grpcs:// [default: those of the system]
    #[arg(long, value_name = "FILE")]
    upstream_tls_ca: Option<PathBuf>,

    /// PEM file with the certificate to show to the upstream
    #[arg(long, value_name = "FILE")]
    upstream_tls_cert: Option<PathBuf>,

    /// PEM file with the key of that certificate
    #[arg(long, value_name = "FILE")]
    upstream_tls_key: Option<PathBuf>,

    /// Compress blobs on the way to and from the upstream, where it offers zstd
    #[arg(long)]
    upstream_compress: bool,

    /// How long a connection to the upstream may take to come about [default: 500ms]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    upstream_connect_timeout: Option<Duration>,

    /// How long the upstream may take to answer a call, or to go on with an answer [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    upstream_timeout: Option<Duration>,

    /// How long the upstream's word that a blob is there holds without asking again [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    upstream_remember: Option<Duration>,

    /// The most blobs and action results that wait to be sent to the upstream [default: 65536]
    #[arg(long, value_name = "COUNT")]
    upstream_queue: Option<usize>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Write {
    /// Soon after it was acknowledged
    Async,
    /// Before it is acknowledged: a write fails when the upstream does
    Sync,
    /// Never
    Off,
}

impl Args {
    /// The settings as the server checks them.
    pub fn into_raw(self) -> RawUpstream {
        RawUpstream {
            address: self.upstream,
            write: self.upstream_write.map(|write| match write {
                Write::Async => UpstreamWrite::Async,
                Write::Sync => UpstreamWrite::Sync,
                Write::Off => UpstreamWrite::Off,
            }),
            instance: self.upstream_instance,
            headers: self.upstream_header,
            token_file: self.upstream_token_file,
            user: self.upstream_user,
            tls_ca: self.upstream_tls_ca,
            tls_cert: self.upstream_tls_cert,
            tls_key: self.upstream_tls_key,
            compression: self.upstream_compress.then_some(Compression::ZstdWhenOffered),
            connect_timeout: self.upstream_connect_timeout,
            timeout: self.upstream_timeout,
            remember: self.upstream_remember,
            queue: self.upstream_queue,
        }
    }
}
