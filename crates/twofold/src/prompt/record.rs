use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use cache_types::{Digest, DigestFunction};
use prompt_cache::proto::{
    Completeness, FileOp, OpKind, Read, ReadKind, RecordRequest, Result as PromptResult, ToolCall,
};
use reapi::client::RemoteStore;
use store::{BlobBody, BlobStore};

use super::state;
use super::wire::{self, InvocationArgs};
use crate::remote::RemoteArgs;

const EXAMPLES: &str = "\
Examples:
  twofold prompt record --api anthropic.messages --response response.json request.json
  twofold prompt record --api anthropic.messages --repo github.com/me/app --response response.json \\
      --before ../base --after . --read src/lib.rs --completeness traced request.json
      what differs between the two folders is what the agent changed

What was recorded first under a key stays. The exit code is 0 when a result is recorded, 1 when it is refused.";

/// Settings of `twofold prompt record`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    invocation: InvocationArgs,

    /// File with the response, the JSON that the provider sent
    #[arg(long, value_name = "FILE")]
    response: PathBuf,

    /// File with the stream as it came
    #[arg(long, value_name = "FILE")]
    raw_sse: Option<PathBuf>,

    /// Folder as it was before the agent worked
    #[arg(long, value_name = "DIR", requires = "after")]
    before: Option<PathBuf>,

    /// Folder as the agent left it
    #[arg(long, value_name = "DIR", requires = "before")]
    after: Option<PathBuf>,

    /// File below --before that the agent read, DIR/ that it listed, or glob:PATTERN that it looked for; may be given again
    #[arg(long = "read", value_name = "PATH", requires = "before")]
    reads: Vec<String>,

    /// Tool that the agent called; may be given again
    #[arg(long = "call", value_name = "TOOL")]
    calls: Vec<String>,

    /// How complete the reads are: declared by tool calls, or traced
    #[arg(long, value_name = "HOW", value_enum, default_value_t = How::Declared)]
    completeness: How,

    /// Name of the harness
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    harness: String,

    /// Version of the harness
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    harness_version: String,

    /// Where the sources come from, such as git+https://host/repo
    #[arg(long, value_name = "URI", default_value = "", hide_default_value = true)]
    source: String,

    /// Commit that was checked out
    #[arg(long, value_name = "HASH", default_value = "", hide_default_value = true)]
    commit: String,

    /// Who asked for it
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    requester: String,

    /// File with what the requester stated, whose digest goes into the statement
    #[arg(long, value_name = "FILE")]
    requester_statement: Option<PathBuf>,

    /// Keep the request on the server, encrypted, for `explain --text`
    #[arg(long)]
    keep_text: bool,

    /// How long it may be replayed
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = humantime::parse_duration)]
    ttl: Duration,

    /// How long the model took
    #[arg(long, value_name = "TIME", default_value = "0s", hide_default_value = true, value_parser = humantime::parse_duration)]
    took: Duration,

    /// When the call to the model began, such as 2026-11-24T10:00:00Z [default: before now by --took]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_rfc3339_weak)]
    started: Option<SystemTime>,

    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum How {
    /// What the tool calls say; not enough for others once a shell ran
    Declared,
    /// A file trace saw every read
    Traced,
}

/// Files below a folder: digest and permissions.
type Files = BTreeMap<String, (Digest, u32)>;

/// Records and prints the key.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (mut client, store) = wire::connect(&args.remote).await?;
    let mut result = PromptResult {
        completeness: match args.completeness {
            How::Declared => Completeness::Declared.into(),
            How::Traced => Completeness::Traced.into(),
        },
        calls: args.calls.iter().map(|name| ToolCall { name: name.clone(), ..ToolCall::default() }).collect(),
        harness: args.harness.clone(),
        requester: args.requester.clone(),
        harness_version: args.harness_version.clone(),
        source: args.source.clone(),
        commit: args.commit.clone(),
        started_ms: args.started.map_or(0, since_1970_ms),
        model_ms: u64::try_from(args.took.as_millis()).unwrap_or(u64::MAX),
        ..PromptResult::default()
    };
    let function = args.remote.digest_function();
    if let (Some(before), Some(after)) = (&args.before, &args.after) {
        result.changes = changes(&store, before, after, function).await?;
        result.reads = reads(before, &args.reads, function)?;
    }
    if let Some(statement) = &args.requester_statement {
        let digest = state::digest(statement, DigestFunction::Sha256);
        let digest = digest.with_context(|| format!("cannot read {}", statement.display()))?;
        result.requester_statement = digest.hash().to_string();
    }
    if let Some(raw) = &args.raw_sse {
        result.raw_sse = send(&store, raw, function).await?.to_string();
    }
    let response = fs::read(&args.response).with_context(|| format!("cannot read {}", args.response.display()))?;
    let request = RecordRequest {
        invocation: Some(args.invocation.read()?),
        response: response.into(),
        result: Some(result),
        ttl_seconds: args.ttl.as_secs(),
        keep_text: args.keep_text,
    };
    let answer = client.record(request).await.map_err(wire::said)?.into_inner();
    match (args.remote.json, answer.refused.is_empty()) {
        (true, _) => wire::print_json(&answer)?,
        (false, false) => println!("refused: {}", answer.refused),
        (false, true) if !answer.backend_drift.is_empty() => {
            println!("recorded {}; the backend of the model was {}", answer.key, answer.backend_drift);
        }
        (false, true) => println!("{} {}", if answer.already { "kept" } else { "recorded" }, answer.key),
    }
    Ok(if answer.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn since_1970_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What differs between the two folders, the new bytes stored.
async fn changes(
    store: &RemoteStore,
    before: &Path,
    after: &Path,
    function: DigestFunction,
) -> anyhow::Result<Vec<FileOp>> {
    let (old, new) = (files(before, function)?, files(after, function)?);
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut ops = Vec::new();
    for path in paths {
        let was = old.get(path).map(|(digest, _)| digest.to_string()).unwrap_or_default();
        let op = match (old.get(path), new.get(path)) {
            (old, Some(now)) if old.map(|(digest, _)| digest) != Some(&now.0) => {
                send(store, &after.join(path), function).await?;
                FileOp { op: OpKind::Write.into(), after: now.0.to_string(), mode: now.1, ..FileOp::default() }
            }
            (Some((_, old)), Some((_, now))) if old != now => {
                FileOp { op: OpKind::Chmod.into(), mode: *now, ..FileOp::default() }
            }
            (Some(_), None) => FileOp { op: OpKind::Delete.into(), ..FileOp::default() },
            _ => continue,
        };
        ops.push(FileOp { path: path.clone(), before: was, ..op });
    }
    Ok(ops)
}

fn files(folder: &Path, function: DigestFunction) -> anyhow::Result<Files> {
    let mut found = Files::new();
    let mut folders = vec![String::new()];
    while let Some(prefix) = folders.pop() {
        let here = folder.join(&prefix);
        for entry in fs::read_dir(&here).with_context(|| format!("cannot read {}", here.display()))? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| anyhow::anyhow!("{name:?} is no UTF-8"))?;
            let kind = entry.file_type()?;
            // Version control keeps its own books, and links that a build left behind are not followed.
            if name == ".git" || kind.is_symlink() {
                continue;
            }
            let path = format!("{prefix}{name}");
            if kind.is_dir() {
                folders.push(format!("{path}/"));
            } else if kind.is_file() {
                let digest = state::digest(&entry.path(), function)?;
                found.insert(path, (digest, entry.metadata()?.permissions().mode() & 0o777));
            }
        }
    }
    Ok(found)
}

fn reads(folder: &Path, paths: &[String], function: DigestFunction) -> anyhow::Result<Vec<Read>> {
    let states = state::of(folder, paths, function)?;
    let read = |place: &String| {
        let Some(state) = states.get(place) else { bail!("{place} is neither a file nor absent") };
        if let Some(pattern) = place.strip_prefix("glob:") {
            return Ok(Read { path: pattern.to_owned(), kind: ReadKind::Glob.into(), digest: state.clone() });
        }
        let path = place.trim_end_matches('/').to_owned();
        Ok(match (state.as_str(), place.ends_with('/')) {
            (prompt_cache::ABSENT, _) => Read { path, kind: ReadKind::Absent.into(), digest: String::new() },
            (digest, true) => Read { path, kind: ReadKind::Listing.into(), digest: digest.to_owned() },
            (digest, false) => Read { path, kind: ReadKind::File.into(), digest: digest.to_owned() },
        })
    };
    paths.iter().map(read).collect()
}

async fn send(store: &RemoteStore, path: &Path, function: DigestFunction) -> anyhow::Result<Digest> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let digest = Digest::of(function, &bytes);
    store.write(digest, BlobBody::from(bytes::Bytes::from(bytes))).await.context("cannot store the file")?;
    Ok(digest)
}
