//! `twofold serve`: configuration, assembly of the store and the services, listeners, and drain.

mod assemble;
mod config;
mod identity;
mod idle;
mod listen;
mod logs;
mod metrics;
mod nix;
mod operation;
mod pages;
mod run;
mod spans;
mod status_page;
mod transport;

pub use config::{Config, ConfigError, DEFAULT_DISK_SHARE, DEFAULT_LEASE, Durability, RawConfig};
pub use listen::{Endpoint, EndpointError};
pub use logs::start as start_logs;
pub use nix::NixCache;
pub use run::run;
pub use spans::{SpanExport, Spans};
pub use transport::{Peer, PeerAddress, TransportLimits};
