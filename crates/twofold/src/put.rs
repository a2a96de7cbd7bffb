use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::BytesMut;
use cache_types::{Digest, DigestFunction, Hasher};
use futures::{StreamExt, TryStreamExt};
use reapi::client::RemoteStore;
use store::{BlobBody, BlobStore, BodyError, StoreError};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::progress::Progress;
use crate::remote::RemoteArgs;

const EXAMPLES: &str = "\
Examples:
  twofold put target/release/app
      prints the digest, HASH/SIZE, and the file's name
  tar c src | twofold put -
  twofold put --remote unix:/run/twofold.sock --digest-function blake3 *.o

What the cache has already is not sent again.";

/// Files that are hashed at once, and blobs that travel at once.
const HASHED_AT_ONCE: usize = 4;
const SENT_AT_ONCE: usize = 16;
const PIECE_BYTES: usize = 256 * 1024;

/// Settings of `twofold put`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Files to store; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// A blob to store: what it is called, its digest, and a file that holds its bytes.
struct Blob {
    name: PathBuf,
    digest: Digest,
    /// Standard input, set aside in a file that has no name; `None` is the file called `name`.
    set_aside: Option<Arc<std::fs::File>>,
}

/// Stores the files and prints a line for each, in the order given.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.files.iter().filter(|file| is_stdin(file)).count() > 1 {
        bail!("standard input, -, can be stored only once");
    }
    let remote = args.remote.connect().await?;
    let function = args.remote.digest_function();
    let blobs: Vec<Blob> = futures::stream::iter(args.files)
        .map(|file| async move { tokio::task::spawn_blocking(move || hash(file, function)).await? })
        .buffered(HASHED_AT_ONCE)
        .try_collect()
        .await?;
    let digests: Vec<Digest> = blobs.iter().map(|blob| blob.digest).collect();
    let missing = remote.find_missing(&digests).await.context("cannot ask the cache what it has")?;
    send(&remote, &blobs, &missing).await?;
    print(&blobs, &missing, args.remote.json)
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

/// Sends each missing blob once.
async fn send(remote: &RemoteStore, blobs: &[Blob], missing: &[Digest]) -> anyhow::Result<()> {
    let progress = Progress::new(missing.iter().map(Digest::size_bytes).sum());
    let by_digest: HashMap<Digest, &Blob> = blobs.iter().map(|blob| (blob.digest, blob)).collect();
    let chosen = missing.iter().filter_map(|digest| by_digest.get(digest));
    let sent = futures::stream::iter(chosen.map(|blob| send_one(remote, blob, &progress)).collect::<Vec<_>>())
        .buffer_unordered(SENT_AT_ONCE)
        .try_collect::<()>()
        .await;
    progress.finish();
    sent
}

async fn send_one(remote: &RemoteStore, blob: &Blob, progress: &Progress) -> anyhow::Result<()> {
    let open = || async { body(blob).await.map(|body| progress.count(body)) };
    remote.write_from(blob.digest, open).await.with_context(|| match is_stdin(&blob.name) {
        true => "cannot store standard input".to_owned(),
        false => format!("cannot store {} (if it changed meanwhile, put it again)", blob.name.display()),
    })
}

/// The bytes of a blob, from the start.
async fn body(blob: &Blob) -> Result<BlobBody, StoreError> {
    let failed = |error: io::Error| StoreError::Body(BodyError::Interrupted(error.into()));
    let mut file = match &blob.set_aside {
        None => tokio::fs::File::open(&blob.name).await.map_err(failed)?,
        Some(file) => tokio::fs::File::from_std(file.try_clone().map_err(failed)?),
    };
    file.rewind().await.map_err(failed)?;
    Ok(BlobBody::from_stream(futures::stream::try_unfold(file, move |mut file| async move {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        let read = file.read_buf(&mut piece).await.map_err(failed)?;
        Ok((read > 0).then(|| (piece.freeze(), file)))
    })))
}

/// Reads a file through once for its digest. Standard input is set aside on the way, for its size must be known first.
fn hash(name: PathBuf, function: DigestFunction) -> anyhow::Result<Blob> {
    if is_stdin(&name) {
        let mut aside =
            tempfile::tempfile().context("cannot set standard input aside in the folder for temporary files")?;
        copy(&mut io::stdin().lock(), &mut aside).context("cannot read standard input")?;
        let digest = digest_of(&mut aside, function)?;
        return Ok(Blob { name, digest, set_aside: Some(Arc::new(aside)) });
    }
    let mut file = std::fs::File::open(&name).with_context(|| format!("cannot open {}", name.display()))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        bail!("{} is a folder; name the files in it", name.display());
    }
    let digest = digest_of(&mut file, function).with_context(|| format!("cannot read {}", name.display()))?;
    Ok(Blob { name, digest, set_aside: None })
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    io::copy(from, to).map(|_bytes| ())
}

fn digest_of(file: &mut std::fs::File, function: DigestFunction) -> anyhow::Result<Digest> {
    // GITSHA1 wants the size before the bytes.
    let claimed = file.seek(io::SeekFrom::End(0))?;
    file.rewind()?;
    let mut hasher = Hasher::new(function, claimed);
    let mut piece = vec![0; PIECE_BYTES];
    let mut size_bytes = 0;
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        hasher.update(piece.get(..read).unwrap_or_default());
        size_bytes += read as u64;
    }
    if size_bytes != claimed {
        bail!("it is not a plain file or changes in size; pipe it in instead: twofold put - < FILE");
    }
    Ok(Digest::new(hasher.finish(), size_bytes)?)
}

fn print(blobs: &[Blob], missing: &[Digest], json: bool) -> anyhow::Result<ExitCode> {
    let missing: HashSet<&Digest> = missing.iter().collect();
    let mut out = io::stdout().lock();
    for blob in blobs {
        let name = blob.name.display().to_string();
        if json {
            let line = serde_json::json!({
                "file": name,
                "digest": blob.digest.to_string(),
                "digest_function": blob.digest.function().name(),
                "hash": blob.digest.hash().to_string(),
                "size_bytes": blob.digest.size_bytes(),
                "sent": missing.contains(&blob.digest),
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{}  {name}", blob.digest)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
