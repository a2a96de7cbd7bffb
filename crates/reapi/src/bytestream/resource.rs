use cache_types::{Digest, DigestFunction, Hash, ReadResource, WriteResource};
use tonic::Status;

use crate::{Settings, status};

/// The longest resource name that is looked at, in bytes.
const MAX_NAME_BYTES: usize = 64 * 1024;

/// Reads the resource name of a read.
pub(super) fn read(settings: &Settings, name: &str) -> Result<ReadResource, Status> {
    check_len(name)?;
    let mut resource = ReadResource::parse(name).map_err(|error| status::bad_resource(&error))?;
    resource.digest = with_default(settings, name, resource.digest);
    Ok(resource)
}

/// Reads the resource name of a write.
pub(super) fn write(settings: &Settings, name: &str) -> Result<WriteResource, Status> {
    check_len(name)?;
    let mut resource = WriteResource::parse(name).map_err(|error| status::bad_resource(&error))?;
    resource.blob.digest = with_default(settings, name, resource.blob.digest);
    Ok(resource)
}

fn check_len(name: &str) -> Result<(), Status> {
    if name.len() > MAX_NAME_BYTES {
        return Err(status::invalid(format!("a resource name has at most {MAX_NAME_BYTES} bytes")));
    }
    Ok(())
}

/// Gives a hash of 64 digits that names no function the default one. Spec: Q-21.
fn with_default(settings: &Settings, name: &str, digest: Digest) -> Digest {
    let Some(default) = settings.default_digest_function else {
        return digest;
    };
    let declared = || name.contains(&format!("sha256/{}", digest.hash()));
    if digest.function() != DigestFunction::Sha256 || declared() {
        return digest;
    }
    let hash = Hash::from_bytes(default, digest.hash().as_bytes());
    hash.and_then(|hash| Digest::new(hash, digest.size_bytes()).ok()).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_function_holds_where_no_segment_names_one() {
        let settings = Settings { default_digest_function: Some(DigestFunction::Blake3), ..Settings::default() };
        let digest = Digest::of(DigestFunction::Blake3, b"x");
        let (hash, size) = (digest.hash(), digest.size_bytes());
        let function = |name: String| read(&settings, &name).expect("a name").digest.function();
        assert_eq!(function(format!("blobs/{hash}/{size}")), DigestFunction::Blake3);
        assert_eq!(function(format!("blobs/sha256/{hash}/{size}")), DigestFunction::Sha256);
        assert_eq!(function(format!("blobs/sha256tree/{hash}/{size}")), DigestFunction::Sha256Tree);
        assert_eq!(write(&settings, &format!("uploads/u/blobs/{hash}/{size}")).expect("a name").blob.digest, digest);
        let long = format!("uploads/u/blobs/{hash}/{size}/{}", "/".repeat(MAX_NAME_BYTES));
        assert_eq!(write(&settings, &long).expect_err("too long").code(), tonic::Code::InvalidArgument);
    }
}
