mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytesize::ByteSize;
use server::{Config, ConfigError, RawAuth, RawConfig, RawLimits, RawTls, Reload};

const EXAMPLES: &str = "\
Examples:
  twofold serve
      on 127.0.0.1:8980, data in the user's data folder, at most a fifth of the disk
  twofold serve --listen 127.0.0.1:0 --listen unix:/run/user/1000/twofold.sock --data /srv/cache --max-size 200GiB
      on a free port and a Unix socket; the lines `listening on …` on standard output say where
  twofold serve --listen 0.0.0.0:8980 --tls-cert cert.pem --tls-key key.pem --tokens-file tokens --anonymous-role read
      for a network: everyone may read, and the holders of tokens may do what the file says (twofold token new)
  twofold serve --upstream grpcs://cache.example --upstream-token-file /run/secrets/cache
      in front of another cache: what it has is fetched once and kept here, what is written here goes there too

Then: bazel build --remote_cache=grpc://127.0.0.1:8980 //...";

/// Settings of `twofold serve`.
#[derive(clap::Args, Clone)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// TOML file with these and more settings; flags count for more, and SIGHUP reads it again
    #[arg(long, value_name = "FILE", env = "TWOFOLD_CONFIG")]
    pub config: Option<PathBuf>,

    /// Address to listen on, HOST:PORT or unix:PATH; may be given again. Port 0 picks a free one. Beyond loopback only
    /// with authentication, or --allow-anonymous [default: 127.0.0.1:8980]
    #[arg(long, value_name = "ADDRESS", env = "TWOFOLD_LISTEN", value_delimiter = ',')]
    listen: Vec<String>,

    /// Folder that holds the data [default: twofold in the user's data folder]
    #[arg(long, value_name = "DIR", env = "TWOFOLD_DATA")]
    data: Option<PathBuf>,

    /// The most the data folder may hold, such as 200GiB [default: a fifth of its file system]
    #[arg(long, value_name = "SIZE", env = "TWOFOLD_MAX_SIZE")]
    max_size: Option<ByteSize>,

    /// How long blobs and action results are kept after a client was told that they are there [default: 3h]
    #[arg(long, value_name = "TIME", env = "TWOFOLD_LEASE", value_parser = humantime::parse_duration)]
    lease: Option<Duration>,

    /// How long what was written stays, even if nobody asked for it since; at most the lease. Writes that find no other
    /// room are refused [default: 5m, or a sixteenth of the lease where that is less]
    #[arg(long, value_name = "TIME", env = "TWOFOLD_EVICT_FLOOR", value_parser = humantime::parse_duration)]
    evict_floor: Option<Duration>,

    /// What an acknowledged write survives [default: power-loss]
    #[arg(long, value_name = "EVENT", env = "TWOFOLD_DURABILITY", value_enum)]
    durability: Option<Durability>,

    /// How long SIGTERM waits for calls in flight [default: 30s]
    #[arg(long, value_name = "TIME", env = "TWOFOLD_DRAIN", value_parser = humantime::parse_duration)]
    drain: Option<Duration>,

    /// End by itself after nobody was connected for so long [default: never]
    #[arg(long, value_name = "TIME", env = "TWOFOLD_IDLE_EXIT", value_parser = humantime::parse_duration)]
    idle_exit: Option<Duration>,

    /// A Nix cache at /nix/NAME/; may be given again [default: the cache `default`]. NAME, then any of: public, closure,
    /// priority=N, store-dir=DIR, key=FILE, sign=never|always|only-if-unsigned, transfer=zstd|plain, upstream=URL#KEY
    #[arg(long, value_name = "NAME[,SETTING]...")]
    nix_cache: Vec<String>,

    #[command(flatten)]
    upstream: upstream::Args,

    /// A limit on what clients may use, as in the section `limits` of the file: no_progress=30s, blob=2GiB,
    /// concurrent_uploads=100 and others (see `twofold config show`); may be given again
    #[arg(long, value_name = "KEY=VALUE", env = "TWOFOLD_LIMIT", value_delimiter = ',')]
    limit: Vec<String>,

    /// What to log on standard error: a level, or one for each part, such as info,reapi=debug [default: info]
    #[arg(long, value_name = "FILTER", env = "TWOFOLD_LOG")]
    log: Option<String>,

    /// Collector that each request's span is sent to, http://HOST:PORT; OTLP over gRPC [default: none]
    #[arg(long, value_name = "URL", env = "TWOFOLD_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,

    /// Share of the traces begun here that is sent, 0 to 1; callers that send `traceparent` decide for theirs
    /// [default: 1]
    #[arg(long, value_name = "SHARE", env = "TWOFOLD_OTLP_SAMPLE")]
    otlp_sample: Option<f64>,

    #[command(flatten)]
    access: Access,
}

/// Who may reach the server, and how.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Access")]
struct Access {
    /// Listen beyond loopback without authentication: whoever reaches the server may read everything in it and write what
    /// others then build from
    #[arg(long)]
    allow_anonymous: bool,

    /// What callers without a credential may do: ROLE or ROLE@INSTANCE; may be given again. Roles are read, cas-write,
    /// ac-write, prompt-write, nix-push, admin
    #[arg(long, value_name = "ROLE", env = "TWOFOLD_ANONYMOUS_ROLE", value_delimiter = ',')]
    anonymous_role: Vec<String>,

    /// File with tokens, a line each as `twofold token new` prints it
    #[arg(long, value_name = "FILE", env = "TWOFOLD_TOKENS_FILE")]
    tokens_file: Option<PathBuf>,

    /// File with users and passwords as `htpasswd -B` makes it. They may read, cas-write and ac-write, unless the
    /// configuration says otherwise
    #[arg(long, value_name = "FILE", env = "TWOFOLD_HTPASSWD")]
    htpasswd: Option<PathBuf>,

    /// PEM file with the server's certificate and those between it and the authority: TCP listeners then speak TLS
    #[arg(long, value_name = "FILE", env = "TWOFOLD_TLS_CERT")]
    tls_cert: Option<PathBuf>,

    /// PEM file with the key of that certificate
    #[arg(long, value_name = "FILE", env = "TWOFOLD_TLS_KEY")]
    tls_key: Option<PathBuf>,

    /// PEM file with the authorities whose client certificates are taken
    #[arg(long, value_name = "FILE", env = "TWOFOLD_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Durability {
    /// A power cut: writes are synced to the disk in groups
    PowerLoss,
    /// The end of the process, SIGKILL included; a power cut may lose the last seconds. Faster
    Process,
}

impl Args {
    /// The settings: those of the file, and the flags and variables over them.
    pub fn settings(&self) -> Result<Config, ConfigError> {
        let file = self.config.as_deref().map(RawConfig::read).transpose()?;
        Config::check(self.raw()?.over(file.unwrap_or_default()))
    }

    fn raw(&self) -> Result<RawConfig, ConfigError> {
        let access = self.access.clone();
        Ok(RawConfig {
            listen: self.listen.clone(),
            allow_anonymous: access.allow_anonymous.then_some(true),
            data: self.data.clone(),
            max_size: self.max_size,
            lease: self.lease,
            evict_floor: self.evict_floor,
            durability: self.durability.map(|durability| match durability {
                Durability::PowerLoss => server::Durability::PowerLoss,
                Durability::Process => server::Durability::Process,
            }),
            drain: self.drain,
            idle_exit: self.idle_exit,
            nix_caches: self.nix_cache.clone(),
            upstream: self.upstream.clone().into_raw(),
            log: self.log.clone(),
            otlp_endpoint: self.otlp_endpoint.clone(),
            otlp_sample: self.otlp_sample,
            limits: RawLimits::parse(&self.limit)?,
            tls: RawTls { cert: access.tls_cert, key: access.tls_key, client_ca: access.tls_client_ca },
            auth: RawAuth {
                anonymous_roles: access.anonymous_role,
                token_file: access.tokens_file,
                htpasswd: access.htpasswd,
                ..RawAuth::default()
            },
            ..RawConfig::default()
        })
    }
}

/// Serves until it is told to stop.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.settings()?;
    let (log, spans) = server::start_logs(&config.log, config.spans.as_ref())?;
    let served = server::run(config, Reload { read: Box::new(move || args.settings()), log }).await;
    tokio::task::spawn_blocking(|| spans.finish()).await?;
    served?;
    Ok(ExitCode::SUCCESS)
}
