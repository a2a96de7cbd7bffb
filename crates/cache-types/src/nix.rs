//! What Nix names things by: store paths, hashes in its base 32, narinfo files, signatures. Spec: nix-binary-cache §3, §4.

mod base32;
mod base64;
mod content_address;
mod hash_text;
mod nar_info;
mod signature;
mod store_path;

pub use base32::{Base32Error, base32_decode, base32_encode, base32_len};
pub use content_address::{Algorithm, ContentAddress, ContentAddressError, Method, SelfReference};
pub use hash_text::{HashTextError, hash_text, parse_hash_text};
pub use nar_info::{MAX_NAR_INFO_BYTES, MAX_REFERENCES, NarFile, NarInfo, NarInfoError};
pub use signature::{KeyError, PublicKey, SecretKey, Signature, fingerprint};
pub use store_path::{StoreDir, StorePath, StorePathError, StorePathHash, hash_part};
