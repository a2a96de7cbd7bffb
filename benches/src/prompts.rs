//! Lookups of the prompt cache beside FindMissingBlobs of the same size, on one server in one run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use bytes::Bytes;
use cache_types::{Digest, DigestFunction};
use futures::{StreamExt, TryStreamExt};
use prompt_cache::proto::prompt_cache_client::PromptCacheClient;
use prompt_cache::proto::{Chain, Invocation, LookupRequest, Outcome, RecordRequest};
use reapi::proto::re;
use reapi::proto::re::content_addressable_storage_client::ContentAddressableStorageClient;
use tonic::transport::Channel;

use crate::target::{Kind, Target};

const MODEL: &str = "bench-1";
/// Connections, and calls at once while the cache is filled.
const FILLING: usize = 128;

/// What is measured.
#[derive(clap::Args)]
pub struct Options {
    /// Built program to measure [default: twofold beside this program]
    #[arg(long, value_name = "PATH")]
    server: Option<std::path::PathBuf>,

    /// Results to record first
    #[arg(long, value_name = "COUNT", default_value_t = 1_000_000)]
    entries: u64,

    /// Content blocks of a chain, and digests of a FindMissingBlobs call
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    blocks: u64,

    /// Seconds for each measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    seconds: f64,

    /// Calls at once
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    concurrency: usize,
}

/// Records, then measures hits, misses with a known beginning, and FindMissingBlobs.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let beside = std::env::current_exe()?.with_file_name("twofold");
    let server = options.server.clone().unwrap_or(beside);
    let target = Target::start(Kind::TwofoldProcess, &server, &std::env::temp_dir())?;
    let channels = target.connect(FILLING.max(options.concurrency)).await?;
    let started = Instant::now();
    fill(options, &channels).await?;
    println!("recorded {} results in {:.0} s", options.entries, started.elapsed().as_secs_f64());
    let blocks = options.blocks;
    let conversations = options.entries / blocks;
    measure("lookup, hit", options, &target, &channels, move |channel, n| async move {
        let answer = prompts(channel).lookup(lookup(n % conversations, blocks, blocks)).await?.into_inner();
        check(answer.outcome() == Outcome::Hit)
    })
    .await?;
    measure("lookup, half the chain known", options, &target, &channels, move |channel, n| async move {
        let answer = prompts(channel).lookup(lookup(n % conversations, blocks, blocks / 2)).await?.into_inner();
        check(answer.outcome() == Outcome::Prefix && u64::from(answer.common_prefix) == blocks / 2 + 1)
    })
    .await?;
    store(options, &channels).await?;
    // As widely spread over as many blobs as the lookups are over results.
    measure("FindMissingBlobs, all present", options, &target, &channels, move |channel, n| async move {
        check(find_missing(channel, digests("blob", n % conversations, blocks)).await? == 0)
    })
    .await?;
    measure("FindMissingBlobs, half present", options, &target, &channels, move |channel, n| async move {
        let conversation = n % conversations;
        let mut digests = digests("blob", conversation, blocks / 2);
        digests.extend(self::digests("absent", conversation, blocks - blocks / 2));
        check(find_missing(channel, digests).await? as u64 == blocks - blocks / 2)
    })
    .await?;
    // What was asked for just now is in a table.
    measure("FindMissingBlobs, the same ones", options, &target, &channels, move |channel, _| async move {
        check(find_missing(channel, digests("blob", 0, blocks)).await? == 0)
    })
    .await?;
    measure("FindMissingBlobs, none present", options, &target, &channels, move |channel, n| async move {
        check(find_missing(channel, digests("absent", n, blocks)).await? as u64 == blocks)
    })
    .await
}

fn prompts(channel: Channel) -> PromptCacheClient<Channel> {
    PromptCacheClient::new(channel)
}

fn check(is_right: bool) -> anyhow::Result<()> {
    if is_right { Ok(()) } else { bail!("a wrong answer") }
}

/// The link after `block` blocks of a conversation; `told` of them as they were recorded.
fn link(conversation: u64, block: u64, told: u64) -> [u8; 32] {
    let other = if block > told { "other" } else { "" };
    let name = format!("{conversation} {block} {other}");
    *prompt_key::hash("bench", [name.as_bytes()]).as_bytes()
}

fn invocation(conversation: u64, blocks: u64, told: u64) -> Invocation {
    let links = (0..=blocks).map(|block| Bytes::copy_from_slice(&link(conversation, block, told)));
    let key = prompt_key::KeyDigest::from_bytes(link(conversation, blocks, told));
    let chain = Chain {
        key: prompt_key::PromptKeyId(key).to_string(),
        links: links.collect(),
        task: String::new(),
        model: MODEL.to_owned(),
    };
    Invocation { api: "neutral".to_owned(), chain: Some(chain), ..Invocation::default() }
}

fn lookup(conversation: u64, blocks: u64, told: u64) -> LookupRequest {
    LookupRequest { invocation: Some(invocation(conversation, blocks, told)), ..LookupRequest::default() }
}

/// Records each turn of each conversation.
async fn fill(options: &Options, channels: &[Channel]) -> anyhow::Result<()> {
    let response = Bytes::from(format!(r#"{{"model":"{MODEL}","stop_reason":"end_turn"}}"#));
    let conversations = options.entries / options.blocks;
    let all = (0..conversations).map(|conversation| {
        let channel = channels[usize::try_from(conversation).unwrap_or(0) % channels.len()].clone();
        let response = response.clone();
        async move {
            for blocks in 1..=options.blocks {
                let invocation = Some(invocation(conversation, blocks, blocks));
                let request = RecordRequest { invocation, response: response.clone(), ..RecordRequest::default() };
                let answer = prompts(channel.clone()).record(request).await?.into_inner();
                check(answer.refused.is_empty() && !answer.already)?;
            }
            anyhow::Ok(())
        }
    });
    futures::stream::iter(all).buffer_unordered(FILLING).try_collect::<()>().await
}

/// The text of a blob; those of one group are asked for together.
fn text(kind: &str, group: u64, number: u64) -> String {
    format!("{kind} {group} {number}")
}

fn digest(text: &str) -> re::Digest {
    let digest = Digest::of(DigestFunction::Sha256, text.as_bytes());
    re::Digest { hash: digest.hash().to_string(), size_bytes: digest.size_i64() }
}

fn digests(kind: &str, group: u64, count: u64) -> Vec<re::Digest> {
    (0..count).map(|number| digest(&text(kind, group, number))).collect()
}

/// Stores as many blobs as there are results.
async fn store(options: &Options, channels: &[Channel]) -> anyhow::Result<()> {
    let all = (0..options.entries / options.blocks).map(|group| {
        let channel = channels[usize::try_from(group).unwrap_or(0) % channels.len()].clone();
        let texts = (0..options.blocks).map(move |number| text("blob", group, number));
        let requests = texts.map(|text| re::batch_update_blobs_request::Request {
            digest: Some(digest(&text)),
            data: text.into(),
            ..Default::default()
        });
        let request = re::BatchUpdateBlobsRequest { requests: requests.collect(), ..Default::default() };
        async move {
            ContentAddressableStorageClient::new(channel).batch_update_blobs(request).await?;
            anyhow::Ok(())
        }
    });
    futures::stream::iter(all).buffer_unordered(FILLING).try_collect::<()>().await
}

async fn find_missing(channel: Channel, blob_digests: Vec<re::Digest>) -> anyhow::Result<usize> {
    let request = re::FindMissingBlobsRequest { blob_digests, ..Default::default() };
    let answer = ContentAddressableStorageClient::new(channel).find_missing_blobs(request).await?;
    Ok(answer.into_inner().missing_blob_digests.len())
}

/// Drives the server and prints calls a second, latencies, and CPU time of the server for each call.
async fn measure<F>(
    name: &str,
    options: &Options,
    target: &Target,
    channels: &[Channel],
    call: impl Fn(Channel, u64) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let next = Arc::new(AtomicU64::new(0));
    let length = Duration::from_secs_f64(options.seconds);
    let before = target.usage()?;
    let started = Instant::now();
    let workers = (0..options.concurrency).map(|worker| {
        let (next, call) = (next.clone(), &call);
        let channel = channels[worker % channels.len()].clone();
        async move {
            let mut times = Vec::new();
            while started.elapsed() < length {
                // A stride that visits conversations far from one another.
                let n = next.fetch_add(1, Ordering::Relaxed).wrapping_mul(7919);
                let since = Instant::now();
                call(channel.clone(), n).await?;
                times.push(since.elapsed());
            }
            anyhow::Ok(times)
        }
    });
    let mut times = futures::future::try_join_all(workers).await?.concat();
    let elapsed = started.elapsed().as_secs_f64();
    let cpu = target.usage()?.cpu_micros - before.cpu_micros;
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default().as_micros();
    let (calls, p50, p99) = (times.len(), at(0.5), at(0.99));
    let each = cpu as f64 / calls.max(1) as f64;
    println!(
        "{name:<32} {:>8.0} calls/s  p50 {p50:>6} µs  p99 {p99:>6} µs  server CPU {each:>6.1} µs/call",
        calls as f64 / elapsed
    );
    Ok(())
}
