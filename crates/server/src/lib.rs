//! `twofold serve`: configuration, assembly of the store and the services, listeners, and drain.

mod admin;
mod assemble;
mod config;
pub mod identity;
mod idle;
mod listen;
mod logs;
mod metrics;
mod nix;
mod operation;
mod pages;
mod reload;
mod run;
mod spans;
mod status_page;
mod tls;
mod transport;
pub mod upkeep;
mod upstream;

pub use config::{
    Config, ConfigError, DEFAULT_DISK_SHARE, DEFAULT_EVICT_FLOOR, DEFAULT_LEASE, DEFAULT_LOG, Durability, Fault,
    RawAuth, RawConfig, RawInstance, RawIssuer, RawLimits, RawPrompt, RawRights, RawRule, RawTls,
};
pub use listen::{Endpoint, EndpointError};
pub use logs::{Log, start as start_logs};
pub use nix::NixCache;
pub use reload::Reload;
pub use run::run;
pub use spans::{SpanExport, Spans};
pub use tls::TlsSettings;
pub use transport::{Peer, PeerAddress, TransportLimits};
pub use upstream::RawUpstream;
