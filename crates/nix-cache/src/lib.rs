//! A Nix binary cache over the same store: NARs taken apart into the blobs and folders that build clients share, put
//! together again byte for byte. Spec: nix-binary-cache.
//!
//! | module | owns |
//! |---|---|
//! | `nar` | the archive: reader and writer |
//! | `compression`, `spool`, `feed`, `unpack` | an upload, taken apart with bounded memory |
//! | `keep`, `records` | blobs, and the records that name them |
//! | `render` | a NAR put together again |
//! | `served`, `recent` | narinfo files as they are served, and what is remembered of both |
//! | `route`, `access`, `read`, `push`, `text`, `pins` | the routes |
//! | `upstream` | other caches |
//! | `response` | the one table from faults to status codes |

mod access;
mod caches;
mod compression;
mod feed;
mod keep;
mod key_file;
pub mod nar;
mod pins;
mod push;
mod range;
mod read;
mod recent;
mod records;
mod render;
mod response;
mod route;
mod served;
mod settings;
mod spool;
mod text;
mod unpack;
mod upstream;

#[cfg(test)]
mod tests;

pub use caches::NixCaches;
pub use key_file::{KeyFileError, make_key, read_key, read_or_make_key, write_key};
pub use settings::{
    Audience, CacheName, CacheSettings, Completeness, DEFAULT_CACHE, DEFAULT_PRIORITY, Place, Settings, Sign, Transfer,
    UploadLimits, Uploads, Upstream,
};
