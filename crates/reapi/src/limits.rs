//! Sizes of messages. Spec: reapi §4.

/// The sum of the declared sizes in one batch call, as advertised. Spec: R-030.
pub(crate) const MAX_BATCH_BYTES: u64 = 4_000_000;

/// The largest message read. Spec: R-031.
pub(crate) const MAX_INBOUND_BYTES: usize = 16 * 1024 * 1024;

/// The largest message sent: the default limit of every gRPC client. Spec: R-034.
pub(crate) const MAX_OUTBOUND_BYTES: usize = 4 * 1024 * 1024;
