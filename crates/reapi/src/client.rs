//! The client half: [`RemoteStore`], a [`BlobStore`] that is any REAPI server.

mod actions;
mod address;
mod batch;
mod capabilities;
mod chunks;
mod connect;
mod guarded;
mod headers;
mod outcomes;
mod post;
mod presence;
mod read;
mod retry;
mod status;
mod write;
mod zstd;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use cache_types::{ByteRange, Digest, DigestFunction, InstanceName};
use store::{BlobBody, BlobStore, StoreError, write_each};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::proto::bytestream::byte_stream_client::ByteStreamClient;
use crate::proto::re;
use crate::proto::re::capabilities_client::CapabilitiesClient;
use crate::proto::re::content_addressable_storage_client::ContentAddressableStorageClient;

pub use address::{Address, AddressError};
pub use capabilities::{Capabilities, Version};
pub use connect::Tls;
pub use guarded::{Guarded, Link};
pub use headers::{HeaderError, Headers};
pub use post::PostError;
use retry::{Backoff, within};

/// The largest answer that is read; servers keep theirs under 4 MiB, chunk lists and full batches come near.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// How a [`RemoteStore`] speaks to its server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The instance that every call names.
    pub instance: InstanceName,
    /// The function that the caller will use, which the server must offer; `None` leaves that to each call.
    pub digest_function: Option<DigestFunction>,
    /// Whether blobs travel compressed where the server offers it.
    pub compression: Compression,
    /// Headers that every call carries, such as the caller's credentials.
    pub headers: Headers,
    /// What `grpcs://` trusts and shows.
    pub tls: Tls,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// Connections that calls take turns on; at least one.
    pub connections: usize,
    /// How long a call may go without an answer or a piece of one.
    pub no_progress: Duration,
    /// How often one call is tried in all; progress in between starts the count anew.
    pub attempts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            instance: InstanceName::default(),
            digest_function: None,
            compression: Compression::Off,
            headers: Headers::default(),
            tls: Tls::default(),
            connect_timeout: Duration::from_secs(10),
            connections: 1,
            no_progress: Duration::from_secs(60),
            attempts: 5,
        }
    }
}

/// Whether blobs are compressed on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Never.
    Off,
    /// By zstd, when the server offers it.
    ZstdWhenOffered,
}

/// A connection that sends the headers of [`Settings`] with each call.
pub type Transport = InterceptedService<Channel, Headers>;

/// Another REAPI server as a [`BlobStore`]. Cheap to clone; clones share the connections, which are made anew when lost.
///
/// What it reads is checked for length only: wrap it in [`store::Verifying`] where the server is not trusted.
#[derive(Clone)]
pub struct RemoteStore {
    channels: Arc<[Channel]>,
    turn: Arc<AtomicUsize>,
    settings: Arc<Settings>,
    capabilities: Arc<Capabilities>,
}

/// Why no [`RemoteStore`] came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error("cannot reach {address}")]
    Unreachable {
        /// Where.
        address: Address,
        /// The cause.
        source: tonic::transport::Error,
    },
    /// The certificates or the key cannot be used.
    #[error("the settings for TLS cannot be used")]
    Tls(#[source] tonic::transport::Error),
    /// It answers, but not as a REAPI server does.
    #[error("{address} does not answer GetCapabilities")]
    Capabilities {
        /// Where.
        address: Address,
        /// The answer.
        source: Box<Status>,
    },
    /// The server keeps no blobs under this function.
    #[error("{address} does not offer {function}; it offers {offered}")]
    DigestFunction {
        /// Where.
        address: Address,
        /// The function asked for.
        function: DigestFunction,
        /// The names of those it offers.
        offered: String,
    },
}

impl RemoteStore {
    /// Connects and reads the server's capabilities once.
    ///
    /// # Errors
    /// Any [`ConnectError`].
    pub async fn connect(address: &Address, settings: Settings) -> Result<Self, ConnectError> {
        let channels = connect::channels(address, &settings).await?;
        let settings = Arc::new(settings);
        let mut remote = Self { channels, turn: Arc::default(), settings, capabilities: Arc::default() };
        let capabilities = remote
            .ask_capabilities()
            .await
            .map_err(|source| ConnectError::Capabilities { address: address.clone(), source: Box::new(source) })?;
        let wanted = remote.settings.digest_function;
        if let Some(function) = wanted.filter(|function| !capabilities.digest_functions.contains(function)) {
            let names: Vec<&str> = capabilities.digest_functions.iter().map(|function| function.name()).collect();
            let offered = names.join(", ");
            return Err(ConnectError::DigestFunction { address: address.clone(), function, offered });
        }
        remote.capabilities = Arc::new(capabilities);
        Ok(remote)
    }

    /// What the server said of itself when the connection was made.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The time of one GetCapabilities call, which waits for no storage.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the server does not answer.
    pub async fn round_trip(&self) -> Result<Duration, StoreError> {
        let start = Instant::now();
        self.ask_capabilities().await.map_err(|status| status::store_error(status, None))?;
        Ok(start.elapsed())
    }

    async fn ask_capabilities(&self) -> Result<Capabilities, Status> {
        let answer = self
            .call(|| {
                let mut client = CapabilitiesClient::new(self.transport());
                async move { client.get_capabilities(re::GetCapabilitiesRequest { instance_name: self.instance() }).await }
            })
            .await?;
        Ok(Capabilities::from_wire(answer))
    }

    /// One unary call: sent until it succeeds, fails for good, or the attempts are used up.
    async fn call<T, F, Fut>(&self, send: F) -> Result<T, Status>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let mut backoff = Backoff::new(self.settings.attempts);
        loop {
            match within(self.settings.no_progress, send()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) if !backoff.wait(&status).await => return Err(status),
                Err(_retried) => {}
            }
        }
    }

    fn instance(&self) -> String {
        self.settings.instance.to_string()
    }

    /// The next connection in turn; for other services of the same server too.
    pub fn transport(&self) -> Transport {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.channels.len();
        let channel =
            self.channels.get(turn).unwrap_or_else(|| self.channels.first().expect("one connection at least"));
        InterceptedService::new(channel.clone(), self.settings.headers.clone())
    }

    fn cas(&self) -> ContentAddressableStorageClient<Transport> {
        ContentAddressableStorageClient::new(self.transport()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn byte_stream(&self) -> ByteStreamClient<Transport> {
        ByteStreamClient::new(self.transport()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// Whether a stream of a blob goes compressed.
    fn streams_zstd(&self) -> bool {
        self.settings.compression == Compression::ZstdWhenOffered && self.capabilities.stream_zstd
    }
}

#[async_trait]
impl BlobStore for RemoteStore {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        presence::find_missing(self, digests).await.map_err(|status| status::store_error(status, None))
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<Option<BlobBody>, StoreError> {
        read::read(self, digest, range).await
    }

    async fn write(&self, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        write::write(self, digest, body).await
    }

    async fn write_all(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        write_each(self, blobs).await
    }

    async fn split(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        chunks::split(self, digest).await
    }

    async fn splice(&self, digest: Digest, chunks: &[Digest]) -> Result<(), StoreError> {
        chunks::splice(self, digest, chunks).await
    }
}

/// A digest as messages carry it.
fn wire(digest: &Digest) -> re::Digest {
    re::Digest { hash: digest.hash().to_string(), size_bytes: digest.size_i64() }
}

/// A function as messages carry it.
fn wire_function(function: DigestFunction) -> i32 {
    i32::from(function.number())
}

/// A digest that a server sent.
fn parse(function: DigestFunction, digest: &re::Digest) -> Result<Digest, Status> {
    Digest::parse(Some(function), &digest.hash, digest.size_bytes)
        .map_err(|error| Status::internal(format!("the server sent a digest that is none: {error}")))
}
