//! The prompt cache: results of model invocations by prompt key, over the same two stores as the build cache.
//!
//! | module | owns |
//! |---|---|
//! | `asked` | from an invocation of the wire to its keys |
//! | `names`, `entry` | what the store holds, and under which names |
//! | `lookup`, `chain`, `conditions`, `files`, `glob`, `tree` | hit, prefix or miss, and why |
//! | `record`, `response`, `paths`, `text` | what may be stored, and how |
//! | `report`, `explain`, `volatile`, `invalidate`, `invalidations` | evidence, explanations, purges |
//! | `attest`, `statement`, `dsse`, `signers` | provenance, signed |
//! | `prices`, `savings`, `tally` | what calls cost, and what was spared |
//! | `flights`, `runs` | callers that wait for one another; calls repeated within a run |
//! | `grpc`, `http`, `json`, `refusal` | the wire |
//!
//! A wrong hit is wrong code, so whatever is in doubt is a miss that says why. Spec: prompt-key §6 to §9.

mod asked;
mod attest;
mod cache;
mod chain;
mod conditions;
mod dsse;
mod entry;
mod explain;
mod files;
mod flights;
mod glob;
mod grpc;
mod http;
mod invalidate;
mod invalidations;
mod json;
mod lookup;
mod names;
mod paths;
mod prices;
pub mod proto;
mod record;
mod refusal;
mod report;
mod response;
mod runs;
mod savings;
mod signers;
mod statement;
mod tally;
mod text;
mod tree;
mod volatile;

pub use cache::{PromptCache, Secret, Settings};
pub use dsse::{Envelope, Signed, key_id};

pub use files::{ABSENT, listing_digest};
pub use glob::{Glob, GlobError};
pub use grpc::Service;
pub use prices::{Multiples, PriceError, PriceTable, Rates};
pub use savings::{AgentHour, pays_from, replay_pays_from};
pub use signers::{Signer, SignerError};

#[cfg(test)]
mod tests;
