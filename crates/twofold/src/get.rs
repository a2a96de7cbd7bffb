use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use cache_types::{ByteRange, Digest};
use futures::StreamExt;
use store::{BlobBody, BlobStore, Verifying};

use crate::progress::Progress;
use crate::remote::RemoteArgs;

const EXAMPLES: &str = "\
Examples:
  twofold get 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824/5
  twofold get blake3/af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262/0 -o empty
  twofold get \"$(cat app.digest)\" -o app

The bytes are hashed on the way. A file appears under its name only when they are the right ones; on standard output,
trust them only when the exit code is 0. It is 1 when the cache lacks the blob or the transfer failed.";

/// Settings of `twofold get`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Digest of the blob: HASH/SIZE or FUNCTION/HASH/SIZE
    #[arg(value_name = "DIGEST")]
    digest: String,

    /// File to write; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Fetches the blob.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let digest = args.remote.digest(&args.digest)?;
    let remote = Verifying::new(args.remote.connect().await?);
    let body = remote.read(&digest, ByteRange::ALL).await.with_context(|| format!("cannot fetch {digest}"))?;
    let body = body.with_context(|| format!("{} has no blob {digest}", args.remote.remote))?;
    let progress = Progress::new(digest.size_bytes());
    let body = progress.count(body);
    let to_stdout = args.output == Path::new("-");
    let written =
        if to_stdout { copy(body, &mut std::io::stdout().lock()).await } else { save(body, &args.output).await };
    progress.finish();
    written.with_context(|| format!("cannot fetch {digest}"))?;
    if args.remote.json && !to_stdout {
        print_json(&digest, &args.output);
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the body aside and gives it its name when it is whole.
async fn save(body: BlobBody, path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".twofold-")
        // What the umask leaves of it, as for any new file.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .with_context(|| format!("cannot write in {}", folder.display()))?;
    copy(body, file.as_file_mut()).await?;
    file.persist(path).with_context(|| format!("cannot name the file {}", path.display()))?;
    Ok(())
}

async fn copy(mut body: BlobBody, to: &mut impl Write) -> anyhow::Result<()> {
    while let Some(piece) = body.next().await.transpose()? {
        // One blob to one file: blocking here holds up nothing else.
        to.write_all(&piece).context("cannot write")?;
    }
    to.flush().context("cannot write")
}

fn print_json(digest: &Digest, path: &Path) {
    let line = serde_json::json!({
        "file": path.display().to_string(),
        "digest": digest.to_string(),
        "size_bytes": digest.size_bytes(),
    });
    println!("{line}");
}
