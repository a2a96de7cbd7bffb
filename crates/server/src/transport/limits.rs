use std::time::Duration;

/// What the transport lets its peers use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportLimits {
    /// Connections open at once on all listeners; more wait in the kernel until one ends.
    pub max_connections: usize,
    /// Calls open at once on one HTTP/2 connection. Spec: R-182.
    pub max_streams: u32,
    /// The names and values of one request's headers together, in bytes.
    pub max_header_list_bytes: u32,
    /// What a peer may send on one stream before it is read. Spec: performance.
    pub stream_window_bytes: u32,
    /// What a peer may send on all streams of a connection before it is read; bounds what a connection holds in memory.
    pub connection_window_bytes: u32,
    /// What one stream may have waiting to be sent before its call stands still.
    pub stream_send_bytes: usize,
    /// Streams that a peer opened and reset while no call had begun on them; more end the connection.
    pub max_pending_resets: usize,
    /// How long a peer may take for its handshake and the first bytes of HTTP.
    pub handshake: Duration,
    /// How long an HTTP/1.1 peer may take for the headers of a request, the pause before them included.
    pub header_read: Duration,
    /// How often an HTTP/2 peer is asked whether it is there.
    pub ping_every: Duration,
    /// How long it may take to answer.
    pub ping_timeout: Duration,
    /// How long a peer may take none of the bytes that wait for it.
    pub no_progress: Duration,
}

impl Default for TransportLimits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_streams: 1000,
            max_header_list_bytes: 32 * 1024,
            stream_window_bytes: 4 * 1024 * 1024,
            connection_window_bytes: 16 * 1024 * 1024,
            stream_send_bytes: 256 * 1024,
            max_pending_resets: 100,
            handshake: Duration::from_secs(10),
            header_read: Duration::from_secs(60),
            ping_every: Duration::from_secs(60),
            ping_timeout: Duration::from_secs(20),
            no_progress: Duration::from_secs(60),
        }
    }
}
