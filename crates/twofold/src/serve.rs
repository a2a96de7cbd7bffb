use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytesize::ByteSize;
use server::{Config, RawConfig, SpanExport};

const EXAMPLES: &str = "\
Examples:
  twofold serve
      on 127.0.0.1:8980, data in the user's data folder, at most a fifth of the disk
  twofold serve --listen 127.0.0.1:0 --listen unix:/run/user/1000/twofold.sock --data /srv/cache --max-size 200GiB
      on a free port and a Unix socket; the lines `listening on …` on standard output say where

Then: bazel build --remote_cache=grpc://127.0.0.1:8980 //...";

/// Settings of `twofold serve`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Address to listen on, HOST:PORT or unix:PATH; may be given again. Port 0 picks a free one. Only loopback for now
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8980")]
    listen: Vec<String>,

    /// Folder that holds the data [default: twofold in the user's data folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// The most the data folder may hold, such as 200GiB [default: a fifth of its file system]
    #[arg(long, value_name = "SIZE")]
    max_size: Option<ByteSize>,

    /// How long blobs and action results are kept after a client was told that they are there
    #[arg(long, value_name = "TIME", default_value = "3h", value_parser = humantime::parse_duration)]
    lease: Duration,

    /// What an acknowledged write survives
    #[arg(long, value_name = "EVENT", value_enum, default_value_t = Durability::PowerLoss)]
    durability: Durability,

    /// How long SIGTERM waits for calls in flight
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    drain: Duration,

    /// End by itself after nobody was connected for so long [default: never]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    idle_exit: Option<Duration>,

    /// A Nix cache at /nix/NAME/; may be given again [default: the cache `default`]. NAME, then any of: public, closure,
    /// priority=N, store-dir=DIR, key=FILE, sign=never|always|only-if-unsigned, transfer=zstd|plain, upstream=URL#KEY
    #[arg(long, value_name = "NAME[,SETTING]...")]
    nix_cache: Vec<String>,

    /// What to log on standard error: a level, or one for each part, such as info,reapi=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,

    /// Collector that each request's span is sent to, http://HOST:PORT; OTLP over gRPC [default: none]
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,

    /// Share of the traces begun here that is sent, 0 to 1; callers that send `traceparent` decide for theirs
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    otlp_sample: f64,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Durability {
    /// A power cut: writes are synced to the disk in groups
    PowerLoss,
    /// The end of the process, SIGKILL included; a power cut may lose the last seconds. Faster
    Process,
}

/// Serves until it is told to stop.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let export = args.otlp_endpoint.map(|endpoint| SpanExport { endpoint, share: args.otlp_sample });
    let spans = server::start_logs(&args.log, export.as_ref())?;
    let raw = RawConfig {
        listen: args.listen,
        data: args.data,
        max_size: args.max_size,
        lease: Some(args.lease),
        durability: Some(match args.durability {
            Durability::PowerLoss => server::Durability::PowerLoss,
            Durability::Process => server::Durability::Process,
        }),
        drain: Some(args.drain),
        idle_exit: args.idle_exit,
        nix_caches: args.nix_cache,
    };
    let served = server::run(Config::check(raw)?).await;
    tokio::task::spawn_blocking(|| spans.finish()).await?;
    served?;
    Ok(ExitCode::SUCCESS)
}
