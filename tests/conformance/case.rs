//! What a case is, and what cases share.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use futures::channel::{mpsc, oneshot};
use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::harness::bytestream::WriteRequest;
use crate::harness::{Blob, Client, Listener, Random, Server, digest_of, re};

pub use re::compressor::Value as Compressor;
pub use re::digest_function::Value as Function;

/// The SHA-256 of nothing.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// One case: named after its requirement, `r_040_…`.
#[derive(Clone)]
pub struct Case {
    pub name: &'static str,
    pub run: Arc<dyn Fn(Context) -> BoxFuture<'static, ()> + Send + Sync>,
    /// It waits for a time limit of the server, so it runs beside the others.
    pub is_slow: bool,
}

/// A case of an async function.
pub fn case<F, Fut>(name: &'static str, run: F) -> Case
where
    F: Fn(Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Case { name, run: Arc::new(move |context| Box::pin(run(context))), is_slow: false }
}

impl Case {
    pub fn slow(self) -> Self {
        Self { is_slow: true, ..self }
    }
}

/// The server that the cases share, and data that no other case has.
#[derive(Clone)]
pub struct Context {
    pub client: Client,
    listener: Listener,
    name: &'static str,
}

impl Context {
    pub fn new(server: &Server, name: &'static str) -> Self {
        Self { client: server.client(), listener: server.listener().clone(), name }
    }

    /// A client with a connection of its own.
    pub fn another_client(&self) -> Client {
        Client::connect(&self.listener)
    }

    /// `host:port` of the shared server.
    pub fn address(&self) -> &str {
        match &self.listener {
            Listener::Tcp(address) => address,
            Listener::Unix(_) => unreachable!("the cases' server listens on TCP"),
        }
    }

    /// Repeatable data of this case.
    pub fn random(&self) -> Random {
        // FNV-1a of the name.
        Random::new(
            self.name
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)),
        )
    }

    /// A blob of this case that is not stored.
    pub fn blob(&self, len: usize) -> Blob {
        Blob::random(&mut self.random(), len)
    }

    /// As many different blobs of this case, not stored.
    pub fn blobs(&self, count: usize, len: usize) -> Vec<Blob> {
        let mut random = self.random();
        (0..count).map(|_| Blob::random(&mut random, len)).collect()
    }

    /// A blob of this case that is stored.
    pub async fn stored(&self, len: usize) -> Blob {
        let blob = self.blob(len);
        self.client.write(&blob).await.expect("Write");
        blob
    }
}

/// The code of an outcome; `Ok` for success.
pub fn code<T>(outcome: &Result<T, Status>) -> Code {
    outcome.as_ref().map_or_else(Status::code, |_| Code::Ok)
}

/// The call was refused with this code.
#[track_caller]
pub fn refused<T: Debug>(outcome: Result<T, Status>, with: Code, what: &str) {
    assert_eq!(code(&outcome), with, "{what}: {outcome:?}");
}

/// The call was refused as malformed.
#[track_caller]
pub fn invalid<T: Debug>(outcome: Result<T, Status>, what: &str) {
    refused(outcome, Code::InvalidArgument, what);
}

/// The code in one item of a batch's answer; the item must have a status.
#[track_caller]
pub fn item_code(status: Option<&bazel_remote_apis::google::rpc::Status>) -> Code {
    Code::from_i32(status.expect("an item always has a status").code)
}

/// BatchUpdateBlobs of one item: the code of the call, or that of the item.
pub async fn update_code(client: &Client, digest: &re::Digest, data: &[u8], compressor: Compressor) -> Code {
    let request = re::batch_update_blobs_request::Request {
        digest: Some(digest.clone()),
        data: data.to_vec(),
        compressor: compressor.into(),
    };
    match client.batch_update_requests(vec![request]).await {
        Ok(responses) => item_code(responses[0].status.as_ref()),
        Err(status) => status.code(),
    }
}

/// BatchReadBlobs of one digest: the code of the call, or that of the item.
pub async fn read_code(client: &Client, digest: &re::Digest) -> Code {
    match client.batch_read(std::slice::from_ref(digest), &[]).await {
        Ok(responses) => item_code(responses[0].status.as_ref()),
        Err(status) => status.code(),
    }
}

/// One message of an upload.
pub fn message(name: &str, write_offset: i64, data: &[u8], finish_write: bool) -> WriteRequest {
    WriteRequest { resource_name: name.to_owned(), write_offset, data: data.to_vec(), finish_write }
}

/// An upload whose messages are sent by hand. Returned when its first message is on its way: a call that is made on the
/// same connection after that comes to the server after it.
pub async fn open_upload(client: &Client, first: WriteRequest) -> Upload {
    let (send, receive) = mpsc::unbounded();
    let (tell, told) = oneshot::channel();
    let mut tell = Some(tell);
    let messages = receive.inspect(move |_| {
        if let Some(tell) = tell.take() {
            // The one who waits for it may have given up.
            tell.send(()).ok();
        }
    });
    let client = client.clone();
    let answer = tokio::spawn(async move { client.write_stream(messages).await });
    let upload = Upload { send, answer };
    upload.send(first);
    told.await.expect("the connection takes the first message");
    upload
}

/// An upload that is under way.
pub struct Upload {
    send: mpsc::UnboundedSender<WriteRequest>,
    answer: JoinHandle<Result<i64, Status>>,
}

impl Upload {
    /// Sends the next message, if the server has not answered yet.
    pub fn send(&self, message: WriteRequest) {
        self.send.unbounded_send(message).ok();
    }

    /// Ends the stream and waits for the answer.
    pub async fn finish(self) -> Result<i64, Status> {
        drop(self.send);
        self.answer.await.expect("the task")
    }
}

/// A length as the protocol has it.
pub fn signed(len: usize) -> i64 {
    i64::try_from(len).expect("a length that memory holds")
}

/// The digest of an action that nobody has, from the case's data.
pub fn action(random: &mut Random) -> re::Digest {
    let blob = Blob::random(random, 40);
    digest_of(&blob.digest.hash, 40)
}

/// A result with one output file.
pub fn result_with(blob: &Blob) -> re::ActionResult {
    re::ActionResult { output_files: vec![output_file("out/file", blob)], ..Default::default() }
}

/// An output file.
pub fn output_file(path: &str, blob: &Blob) -> re::OutputFile {
    re::OutputFile { path: path.to_owned(), digest: Some(blob.digest.clone()), ..Default::default() }
}

/// A file in a Directory.
pub fn file_node(name: &str, blob: &Blob) -> re::FileNode {
    re::FileNode { name: name.to_owned(), digest: Some(blob.digest.clone()), ..Default::default() }
}

/// A folder in a Directory.
pub fn directory_node(name: &str, directory: &Blob) -> re::DirectoryNode {
    re::DirectoryNode { name: name.to_owned(), digest: Some(directory.digest.clone()) }
}

/// A message as the blob that it is.
pub fn message_blob(message: &impl prost::Message) -> Blob {
    Blob::new(message.encode_to_vec())
}
