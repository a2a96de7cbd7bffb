use std::fmt;

use crate::digest::parse_size;
use crate::{Compressor, Digest, DigestError, DigestFunction, InstanceName, InstanceNameError};

/// The resource name of a ByteStream read: `[{instance}/](blobs | compressed-blobs/zstd)/[{function}/]{hash}/{size}`.
///
/// Spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadResource {
    /// The instance.
    pub instance: InstanceName,
    /// The digest of the uncompressed data, in both forms.
    pub digest: Digest,
    /// The form the bytes travel in.
    pub compressor: Compressor,
}

/// The resource name of a ByteStream write: `[{instance}/]uploads/{uuid}/` and the rest as for a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteResource {
    /// The client's own name for this upload; any text.
    pub uuid: Box<str>,
    /// What is uploaded.
    pub blob: ReadResource,
}

impl ReadResource {
    /// Reads a resource name; segments after the size are ignored.
    ///
    /// # Errors
    /// Any [`ResourceNameError`].
    pub fn parse(name: &str) -> Result<Self, ResourceNameError> {
        let segments: Vec<&str> = name.trim_start_matches('/').split('/').collect();
        let at = segments
            .iter()
            .position(|segment| matches!(*segment, "blobs" | "compressed-blobs"))
            .ok_or(ResourceNameError::NoBlobs)?;
        let (instance, blob) = segments.split_at(at);
        Self::from_parts(instance, blob)
    }

    /// `instance` are the segments before, `blob` those from `blobs` or `compressed-blobs` on.
    fn from_parts(instance: &[&str], blob: &[&str]) -> Result<Self, ResourceNameError> {
        let instance = InstanceName::from_segments(instance.iter().copied())?;
        let (compressor, rest) = match blob {
            ["blobs", rest @ ..] => (Compressor::Identity, rest),
            ["compressed-blobs", name, rest @ ..] => {
                (Compressor::from_segment(name).ok_or(ResourceNameError::Compressor)?, rest)
            }
            _ => return Err(ResourceNameError::NoBlobs),
        };
        let (function, rest) = match rest {
            [name, rest @ ..] if DigestFunction::from_name(name).is_some() => (DigestFunction::from_name(name), rest),
            rest => (None, rest),
        };
        let [hex, size, ..] = rest else {
            return Err(ResourceNameError::NoDigest);
        };
        let size = parse_size(size).ok_or(DigestError::Size)?;
        Ok(Self { instance, digest: Digest::parse(function, hex, size)?, compressor })
    }
}

impl WriteResource {
    /// Reads a resource name; segments after the size are ignored.
    ///
    /// # Errors
    /// Any [`ResourceNameError`].
    pub fn parse(name: &str) -> Result<Self, ResourceNameError> {
        let segments: Vec<&str> = name.trim_start_matches('/').split('/').collect();
        let at = segments.iter().position(|segment| *segment == "uploads").ok_or(ResourceNameError::NoUploads)?;
        let (instance, rest) = segments.split_at(at);
        let [_uploads, uuid, blob @ ..] = rest else {
            return Err(ResourceNameError::NoUploads);
        };
        if uuid.is_empty() {
            return Err(ResourceNameError::NoUploads);
        }
        Ok(Self { uuid: (*uuid).into(), blob: ReadResource::from_parts(instance, blob)? })
    }
}

fn write_instance(f: &mut fmt::Formatter<'_>, instance: &InstanceName) -> fmt::Result {
    match instance.as_str() {
        "" => Ok(()),
        name => write!(f, "{name}/"),
    }
}

fn write_blob(f: &mut fmt::Formatter<'_>, resource: &ReadResource) -> fmt::Result {
    match resource.compressor {
        Compressor::Identity => write!(f, "blobs/{}", resource.digest),
        compressor => write!(f, "compressed-blobs/{compressor}/{}", resource.digest),
    }
}

impl fmt::Display for ReadResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_instance(f, &self.instance)?;
        write_blob(f, self)
    }
}

impl fmt::Display for WriteResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_instance(f, &self.blob.instance)?;
        write!(f, "uploads/{}/", self.uuid)?;
        write_blob(f, &self.blob)
    }
}

/// Why a resource name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceNameError {
    /// No `blobs` or `compressed-blobs` where one must be.
    #[error("the resource name has no blobs/ or compressed-blobs/ segment in its place")]
    NoBlobs,
    /// No `uploads/{uuid}/`.
    #[error("the resource name of a write has uploads/{{uuid}}/ before the blob")]
    NoUploads,
    /// No hash and size.
    #[error("the resource name lacks hash and size")]
    NoDigest,
    /// A compressor that is not offered.
    #[error("the compressor is not one that is offered; zstd is")]
    Compressor,
    /// A bad instance name.
    #[error(transparent)]
    Instance(#[from] InstanceNameError),
    /// A bad digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    #[test]
    fn the_forms_that_clients_send_are_read() {
        let write = WriteResource::parse(&format!("a/b/uploads/u/blobs/{HEX}/1/x/y/z")).expect("write");
        assert_eq!(write.blob.instance.as_str(), "a/b");
        assert_eq!(write.blob.digest.size_bytes(), 1);
        let read = ReadResource::parse(&format!("/blobs/{HEX}/1")).expect("leading slash");
        assert_eq!(read.instance.as_str(), "");
        let zstd = WriteResource::parse(&format!("uploads/u/compressed-blobs/zstd/blake3/{HEX}/9")).expect("zstd");
        assert_eq!(zstd.blob.compressor, Compressor::Zstd);
        assert_eq!(zstd.blob.digest.function(), DigestFunction::Blake3);
        let redundant = ReadResource::parse(&format!("blobs/sha256/{HEX}/1")).expect("redundant function");
        assert_eq!(redundant.digest.function(), DigestFunction::Sha256);
    }

    #[test]
    fn names_that_no_client_may_send_are_refused() {
        for name in ["", "blobs", "blobs/x/1", "x//blobs/h/1", "compressed-blobs/identity/h/1", "uploads/u/blobs/h"] {
            assert!(ReadResource::parse(name).is_err(), "{name}");
        }
        for size in ["-1", "+1", "", "9223372036854775808", "1e3"] {
            assert!(ReadResource::parse(&format!("blobs/{HEX}/{size}")).is_err(), "size {size:?}");
        }
        assert!(ReadResource::parse(&format!("../blobs/{HEX}/1")).is_err());
        assert!(WriteResource::parse(&format!("uploads//blobs/{HEX}/1")).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(name in ".{0,200}") {
            let _read = ReadResource::parse(&name).is_ok();
            let _write = WriteResource::parse(&name).is_ok();
        }

        #[test]
        fn names_read_back_as_written(
            instance in "([a-z]{1,8}(/[a-z]{1,8}){0,3})?",
            uuid in "[0-9a-f-]{1,36}",
            data in proptest::collection::vec(any::<u8>(), 0..50),
            which in 0usize..7,
            zstd in any::<bool>(),
        ) {
            prop_assume!(InstanceName::parse(&instance).is_ok());
            let blob = ReadResource {
                instance: InstanceName::parse(&instance).expect("checked"),
                digest: Digest::of(DigestFunction::ALL[which], &data),
                compressor: if zstd { Compressor::Zstd } else { Compressor::Identity },
            };
            prop_assert_eq!(ReadResource::parse(&blob.to_string()), Ok(blob.clone()));
            let write = WriteResource { uuid: uuid.into(), blob };
            prop_assert_eq!(WriteResource::parse(&write.to_string()), Ok(write));
        }
    }
}
