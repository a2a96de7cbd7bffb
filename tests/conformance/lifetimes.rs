//! How long things stay. Spec: reapi §13, R-045, R-092, R-100.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tonic::{Code, Status};

use crate::case::{
    Case, Context, action, case, directory_node, file_node, item_code, message, message_blob, output_file, result_with,
};
use crate::errors::details_with;
use crate::harness::{Blob, Client, Random, Server, re, say};

pub fn cases() -> Vec<Case> {
    vec![
        case("r_045_what_was_promised_outlives_eviction", r_045).slow(),
        case("r_092_r_100_r_160_every_kind_of_use_keeps_a_blob", r_160).slow(),
        case("r_161_no_result_is_served_whose_output_was_evicted", r_161).slow(),
        case("r_150_r_162_when_all_is_promised_uploads_are_refused_and_reads_go_on", r_162).slow(),
        case("pain_01_a_hit_keeps_what_it_names_through_eviction", r_045).slow(),
    ]
}

/// The smallest bound that the server takes.
const BOUND: &str = "64MiB";
const BOUND_BYTES: usize = 64 << 20;

/// Flips a bit of stored data, wherever below `folder` it is. The server must not run.
pub fn damage(folder: &Path, data: &[u8]) {
    let window = &data[data.len() / 2..data.len() / 2 + 64];
    let flipped: usize = files(folder).iter().map(|file| flip(file, window)).sum();
    assert!(flipped > 0, "the data was not found on disk");
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the data folder") {
        let path = entry.expect("the data folder").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn flip(file: &Path, window: &[u8]) -> usize {
    let bytes = std::fs::read(file).expect("a file of the server");
    let mut flipped = 0;
    let mut from = 0;
    // The first byte finds candidates fast; random data has few.
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == window[0]) {
        let start = from + at;
        if bytes[start..].starts_with(window) {
            let open = std::fs::File::options().write(true).open(file).expect("a file of the server");
            open.write_all_at(&[bytes[start + 20] ^ 0x10], u64::try_from(start + 20).expect("an offset"))
                .expect("a write");
            flipped += 1;
        }
        from = start + 1;
    }
    flipped
}

/// Writes `total` bytes that nobody asked to be kept, in batches. A store that is full for the moment is asked again.
async fn fill(client: &Client, random: &mut Random, total: usize) {
    let mut written = 0;
    while written < total {
        let blobs: Vec<Blob> = (0..19).map(|_| Blob::random(random, 200_000)).collect();
        let mut tries = 0;
        loop {
            let codes: Vec<Code> = match client.batch_update(&blobs).await {
                Ok(answer) => answer.iter().map(|item| item_code(item.status.as_ref())).collect(),
                Err(status) => vec![status.code()],
            };
            if codes.iter().all(|code| *code == Code::Ok) {
                break;
            }
            assert!(codes.iter().all(|code| matches!(code, Code::Ok | Code::ResourceExhausted)), "{codes:?}");
            tries += 1;
            assert!(tries < 600, "the store stays full");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        written += 19 * 200_000;
    }
}

/// Waits for the clock to show another second.
async fn next_second() {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
    let now = second();
    while second() == now {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Three times the bound passes through the store: what was promised is there at the end, what was not is gone.
async fn r_045(context: Context) {
    // What nobody asked for may go at any age, so that it makes room as fast as it comes.
    let server = Server::start(&["--max-size", BOUND, "--evict-floor", "0s"]);
    let client = server.client();
    let mut random = context.random();
    let unasked: Vec<Blob> = (0..24).map(|_| Blob::random(&mut random, 100_000)).collect();
    let promised: Vec<Blob> = (0..24).map(|_| Blob::random(&mut random, 100_000)).collect();
    let (file, in_tree) = (Blob::random(&mut random, 50_000), Blob::random(&mut random, 50_001));
    let root = re::Directory { files: vec![file_node("f", &in_tree)], ..Default::default() };
    let tree = message_blob(&re::Tree { root: Some(root), ..Default::default() });
    for blob in unasked.iter().chain(&promised).chain([&file, &in_tree, &tree]) {
        client.write(blob).await.expect("Write");
    }
    let action = action(&mut random);
    let result = re::ActionResult {
        output_files: vec![output_file("f", &file)],
        output_directories: vec![re::OutputDirectory {
            path: "d".to_owned(),
            tree_digest: Some(tree.digest.clone()),
            ..Default::default()
        }],
        ..Default::default()
    };
    client.update_action_result(&action, result).await.expect("UpdateActionResult");
    // The promises: a hit, and a question answered with "not missing".
    client.action_result(&action).await.expect("GetActionResult");
    let digests: Vec<re::Digest> = promised.iter().map(|blob| blob.digest.clone()).collect();
    assert!(client.find_missing(&digests).await.expect("FindMissing").is_empty());

    fill(&client, &mut random, 3 * BOUND_BYTES).await;
    for blob in promised.iter().chain([&file, &in_tree, &tree]) {
        assert!(client.read(&blob.digest).await.expect("a promised blob") == blob.data);
    }
    client.action_result(&action).await.expect("a promised result");
    let digests: Vec<re::Digest> = unasked.iter().map(|blob| blob.digest.clone()).collect();
    assert!(!client.find_missing(&digests).await.expect("FindMissing").is_empty(), "nothing was evicted");
}

/// What the calls of R-160 use, each through blobs of its own.
struct Used {
    read: Blob,
    read_zstd: Blob,
    batch_read: Blob,
    find_missing: Blob,
    write: Blob,
    action: re::Digest,
    output: Blob,
    root: Blob,
    leaf: Blob,
    leaf_file: Blob,
    split: Blob,
    chunks: [Blob; 2],
    spliced: Blob,
}

impl Used {
    async fn store(client: &Client, random: &mut Random) -> Self {
        let mut next = |len| Blob::random(random, len);
        let leaf_file = next(40_000);
        let leaf = message_blob(&re::Directory { files: vec![file_node("f", &leaf_file)], ..Default::default() });
        let root = message_blob(&re::Directory { directories: vec![directory_node("d", &leaf)], ..Default::default() });
        let chunks = [next(30_000), next(40_000)];
        let spliced = Blob::new([&chunks[0].data[..], &chunks[1].data].concat());
        let used = Self {
            read: next(50_000),
            read_zstd: next(50_000),
            batch_read: next(50_000),
            find_missing: next(50_000),
            // What is left after the first message is above what the server reads to its end.
            write: next(1_500_000),
            action: next(50).digest,
            output: next(50_000),
            root,
            leaf,
            leaf_file,
            split: next(3_000_000),
            chunks,
            spliced,
        };
        for blob in used.blobs() {
            client.write(blob).await.expect("Write");
        }
        client.update_action_result(&used.action, result_with(&used.output)).await.expect("UpdateActionResult");
        used
    }

    fn blobs(&self) -> [&Blob; 12] {
        [
            &self.read,
            &self.read_zstd,
            &self.batch_read,
            &self.find_missing,
            &self.write,
            &self.output,
            &self.root,
            &self.leaf,
            &self.leaf_file,
            &self.split,
            &self.chunks[0],
            &self.chunks[1],
        ]
    }

    /// Each by its own call. A call fails if what it uses is gone.
    async fn use_all(&self, client: &Client) -> Result<(), Status> {
        client.read(&self.read.digest).await?;
        client.read_zstd(&self.read_zstd.digest).await?;
        let answer = client.batch_read(std::slice::from_ref(&self.batch_read.digest), &[]).await?;
        assert_eq!(item_code(answer[0].status.as_ref()), Code::Ok, "BatchRead");
        assert!(client.find_missing(std::slice::from_ref(&self.find_missing.digest)).await?.is_empty(), "FindMissing");
        // The beginning of an upload: it ends early with OK because the blob is there.
        let name = client.write_name(&self.write.digest);
        client.write_messages(vec![message(&name, 0, &self.write.data[..10], false)]).await?;
        client.action_result(&self.action).await?;
        let request = re::GetTreeRequest { root_digest: Some(self.root.digest.clone()), ..Default::default() };
        let mut tree = client.cas().get_tree(request).await?.into_inner();
        let mut directories = 0;
        while let Some(page) = tree.message().await? {
            directories += page.directories.len();
        }
        assert_eq!(directories, 2, "GetTree");
        let request = re::SplitBlobRequest { blob_digest: Some(self.split.digest.clone()), ..Default::default() };
        client.cas().split_blob(request).await?;
        let request = re::SpliceBlobRequest {
            blob_digest: Some(self.spliced.digest.clone()),
            chunk_digests: self.chunks.iter().map(|chunk| chunk.digest.clone()).collect(),
            ..Default::default()
        };
        client.cas().splice_blob(request).await?;
        Ok(())
    }
}

async fn r_160(context: Context) {
    // A short lease: what keeps a blob here is its use.
    let server = Server::start(&["--max-size", BOUND, "--lease", "1s"]);
    let client = server.client();
    let mut random = context.random();
    let unused: Vec<Blob> = (0..24).map(|_| Blob::random(&mut random, 100_000)).collect();
    for blob in &unused {
        client.write(blob).await.expect("Write");
    }
    let used = Used::store(&client, &mut random).await;
    for round in 0..14 {
        fill(&client, &mut random, BOUND_BYTES / 5).await;
        next_second().await;
        used.use_all(&client).await.unwrap_or_else(|status| panic!("round {round}: {status}"));
    }
    for blob in used.blobs().into_iter().chain([&used.spliced]) {
        assert!(client.read(&blob.digest).await.expect("a blob in use") == blob.data);
    }
    let digests: Vec<re::Digest> = unused.iter().map(|blob| blob.digest.clone()).collect();
    assert_eq!(client.find_missing(&digests).await.expect("FindMissing").len(), 24, "what nobody used goes first");
}

async fn r_161(context: Context) {
    let server = Server::start(&["--max-size", BOUND, "--lease", "1s"]);
    let client = server.client();
    let mut random = context.random();
    let mut stored = Vec::new();
    let mut served = 0;
    for _ in 0..12 {
        for _ in 0..20 {
            let (action, output) = (action(&mut random), Blob::random(&mut random, 60_000));
            client.write(&output).await.expect("Write");
            client.update_action_result(&action, result_with(&output)).await.expect("UpdateActionResult");
            stored.push((action, output));
        }
        fill(&client, &mut random, BOUND_BYTES / 4).await;
        next_second().await;
        // Half of the results are in use; nobody asks for the others until the end.
        for (action, output) in stored.iter().step_by(2) {
            served += usize::from(is_hit_and_whole(&client, action, output).await);
        }
    }
    let mut missed = 0;
    for (action, output) in &stored {
        missed += usize::from(!is_hit_and_whole(&client, action, output).await);
    }
    say(format!("under eviction: {served} hits, each whole; {missed} of {} results gone at the end", stored.len()));
    assert!(served > 0 && missed > 0, "{served} served, {missed} gone");
}

/// Whether a result is served; if it is, its output can be read.
async fn is_hit_and_whole(client: &Client, action: &re::Digest, output: &Blob) -> bool {
    match client.action_result(action).await {
        Ok(_) => {
            assert!(client.read(&output.digest).await.expect("what a hit names") == output.data);
            true
        }
        Err(status) => {
            assert_eq!(status.code(), Code::NotFound);
            false
        }
    }
}

async fn r_162(context: Context) {
    let server = Server::start(&["--max-size", BOUND]);
    let client = server.client();
    let mut random = context.random();
    let mut promised = Vec::new();
    let mut uploads = 0;
    let refusal = loop {
        let blob = Blob::random(&mut random, 500_000);
        match client.write(&blob).await {
            // Near the bound, what was just written and not asked for yet is all that may be evicted.
            Ok(_) if client.has(&blob.digest).await => promised.push(blob),
            Ok(_) => {}
            Err(status) => break status,
        }
        uploads += 1;
        assert!(uploads < 2000, "{} blobs of 500,000 bytes are promised, and no upload was refused", promised.len());
        assert!(promised.len() < 2 * BOUND_BYTES / 500_000, "twice the bound was promised");
    };
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
    assert!(details_with(&refusal, "RetryInfo").is_some(), "when to ask again is not said: {refusal:?}");
    let answer = client.batch_update(&[Blob::random(&mut random, 500_000)]).await;
    match answer {
        Ok(answer) => assert_eq!(item_code(answer[0].status.as_ref()), Code::ResourceExhausted),
        Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
    }
    for blob in &promised {
        assert!(client.read(&blob.digest).await.expect("reads go on") == blob.data);
    }
    // A blob that is there can be uploaded again.
    client.write(&promised[0]).await.expect("an upload of a present blob");
    assert!(promised.len() > BOUND_BYTES / 500_000 / 2, "only {} blobs fitted", promised.len());
}
