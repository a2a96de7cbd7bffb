use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, bail};
use cache_types::nix::{NarFile, NarInfo, SecretKey, base32_encode};
use cache_types::{DigestFunction, Hash, Hasher};

use super::cache::{Cache, CacheArgs};
use super::closure::{self, PathInfo};
use crate::progress::Progress;

const EXAMPLES: &str = "\
Examples:
  twofold nix push ./result
  twofold nix push --cache https://cache.example.org/nix/main --compression zstd $OUT_PATHS
      as a post-build hook does

What the cache has already is not sent again.";

/// How NARs are packed on their way.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Packing {
    /// Not at all: the fastest where the network is
    None,
    /// With zstd: fewer bytes over a slow network
    Zstd,
}

/// Settings of `twofold nix push`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Store paths, or links to them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,

    /// How NARs are packed on their way
    #[arg(long, value_enum, default_value_t = Packing::None)]
    compression: Packing,

    /// NARs that are sent at once
    #[arg(long, value_name = "NUMBER", default_value_t = 8)]
    jobs: usize,

    /// File with a secret key to sign with, beside the cache's own
    #[arg(long, value_name = "FILE")]
    secret_key: Option<std::path::PathBuf>,

    #[command(flatten)]
    cache: CacheArgs,
}

/// Pushes the closure of the paths.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let key = args.secret_key.as_deref().map(nix_cache::read_key).transpose()?;
    let cache = args.cache.connect()?;
    let closure = closure::of(&args.paths, &cache.store_dir)?;
    let total = closure.len();
    let jobs = args.jobs.max(1);
    let known = in_parallel(jobs, &closure, |info| cache.has(&format!("{}.narinfo", info.path.hash())))?;
    let missing: Vec<PathInfo> =
        closure.into_iter().zip(known).filter(|(_, known)| !known).map(|(info, _)| info).collect();
    let progress = Progress::new(missing.iter().map(|info| info.nar_size).sum());
    let pusher = Pusher { cache: &cache, packing: args.compression, key: key.as_ref(), progress: &progress };
    let files = in_parallel(jobs, &missing, |info| pusher.nar(info));
    progress.finish();
    // References come first, so no narinfo is put before those that it refers to.
    for (info, file) in missing.iter().zip(files?) {
        pusher.narinfo(info, file)?;
    }
    print(&args.cache, &cache, &missing, total)
}

fn print(args: &CacheArgs, cache: &Cache, pushed: &[PathInfo], total: usize) -> anyhow::Result<ExitCode> {
    let bytes: u64 = pushed.iter().map(|info| info.nar_size).sum();
    let mut out = io::stdout().lock();
    if args.json {
        let paths: Vec<String> = pushed.iter().map(|info| cache.store_dir.join(&info.path)).collect();
        writeln!(out, "{}", serde_json::json!({ "pushed": paths, "nar_bytes": bytes, "closure": total }))?;
    } else {
        for info in pushed {
            writeln!(out, "{}", cache.store_dir.join(&info.path))?;
        }
        eprintln!("{} of {total} paths pushed to {}, {}", pushed.len(), cache.url(), bytesize::ByteSize(bytes));
    }
    Ok(ExitCode::SUCCESS)
}

/// Does `work` for each item in a few threads; the results in the order of the items, or the first fault.
fn in_parallel<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> anyhow::Result<R> + Sync,
) -> anyhow::Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    let fault: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let held = "a thread that panics ends the program";
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at).filter(|_| fault.lock().expect(held).is_none()) else { return };
                    match work(item) {
                        Ok(result) => done.lock().expect(held).push((at, result)),
                        Err(error) => *fault.lock().expect(held) = Some(error),
                    }
                }
            });
        }
    });
    if let Some(error) = fault.into_inner().expect(held) {
        return Err(error);
    }
    let mut done = done.into_inner().expect(held);
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

struct Pusher<'a> {
    cache: &'a Cache,
    packing: Packing,
    key: Option<&'a SecretKey>,
    progress: &'a Progress,
}

impl Pusher<'_> {
    /// Sends the NAR of a path; what its narinfo says about the file.
    fn nar(&self, info: &PathInfo) -> anyhow::Result<NarFile> {
        let path = self.cache.store_dir.join(&info.path);
        match self.packing {
            Packing::None => self.plain(info, Path::new(&path)),
            Packing::Zstd => self.packed(info, Path::new(&path)),
        }
        .with_context(|| format!("cannot push {path}"))
    }

    fn plain(&self, info: &PathInfo, path: &Path) -> anyhow::Result<NarFile> {
        let file = nar_file(&info.nar_hash, info.nar_size, "", "none");
        if self.cache.has(&file.url)? {
            self.progress.add(info.nar_size);
            return Ok(file);
        }
        let (reader, mut writer) = io::pipe()?;
        std::thread::scope(|scope| {
            let packing = scope.spawn(move || nix_cache::nar::pack(path, &mut writer));
            let sent = self.cache.put(&file.url, info.nar_size, self.counted(reader));
            let packed = packing.join().map_err(|_| anyhow::anyhow!("packing panicked"))?;
            // Where both failed, the cache's answer says why.
            sent?;
            packed?;
            Ok(file)
        })
    }

    /// Packs into a file first: the name of what is sent is its hash.
    fn packed(&self, info: &PathInfo, path: &Path) -> anyhow::Result<NarFile> {
        let mut packed = tempfile::tempfile().context("cannot make a file in the folder for temporary files")?;
        let mut encoder = zstd::stream::write::Encoder::new(io::BufWriter::new(&mut packed), 0)?;
        nix_cache::nar::pack(path, &mut encoder)?;
        encoder.finish()?.flush()?;
        let (hash, size) = hash(&mut packed)?;
        let file = nar_file(&hash, size, ".zst", "zstd");
        if !self.cache.has(&file.url)? {
            self.cache.put(&file.url, size, packed)?;
        }
        self.progress.add(info.nar_size);
        Ok(file)
    }

    fn narinfo(&self, info: &PathInfo, file: NarFile) -> anyhow::Result<()> {
        let mut narinfo = NarInfo {
            path: info.path.clone(),
            file,
            nar_hash: info.nar_hash,
            nar_size: info.nar_size,
            references: info.references.clone(),
            deriver: info.deriver.clone(),
            signatures: info.signatures.clone(),
            content_address: info.content_address.clone(),
        };
        if let Some(key) = self.key {
            narinfo.add_signature(key.sign(&narinfo.fingerprint(&self.cache.store_dir)));
        }
        let text = narinfo.print(&self.cache.store_dir);
        let name = format!("{}.narinfo", info.path.hash());
        self.cache.put(&name, text.len() as u64, text.as_bytes()).with_context(|| format!("cannot push {}", info.path))
    }

    fn counted<R: Read>(&self, reader: R) -> impl Read {
        Counted { reader, progress: self.progress }
    }
}

struct Counted<'a, R> {
    reader: R,
    progress: &'a Progress,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(out)?;
        self.progress.add(count as u64);
        Ok(count)
    }
}

fn nar_file(hash: &Hash, size: u64, suffix: &str, compression: &str) -> NarFile {
    NarFile {
        url: format!("nar/{}.nar{suffix}", base32_encode(hash.as_bytes())),
        compression: compression.to_owned(),
        hash: Some(*hash),
        size: Some(size),
    }
}

/// The hash and size of a file, which is at its start again afterwards.
fn hash(file: &mut File) -> anyhow::Result<(Hash, u64)> {
    file.rewind()?;
    let mut hasher = Hasher::new(DigestFunction::Sha256, 0);
    let mut piece = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            break;
        }
        hasher.update(piece.get(..count).unwrap_or_default());
        size += count as u64;
    }
    file.rewind()?;
    if size == 0 {
        bail!("nothing was packed");
    }
    Ok((hasher.finish(), size))
}
