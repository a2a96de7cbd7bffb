//! Between the wire and `cache-types`.

use cache_types::{Digest, DigestError, DigestFunction, InstanceName};
use tonic::Status;

use crate::proto::re;
use crate::{Settings, status};

/// Why a field of a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A number that is no digest function, or one that is not offered.
    #[error("digest function {0} is not offered")]
    Function(i32),
    /// No digest function where nothing can be inferred.
    #[error("digest_function must be set in this call")]
    NoFunction,
    /// A message that must be there is not.
    #[error("{0} must be set")]
    Absent(&'static str),
}

/// The instance of a request. Spec: R-015.
pub(crate) fn instance(name: &str) -> Result<InstanceName, Status> {
    InstanceName::parse(name).map_err(status::bad_instance)
}

/// A digest as messages carry it.
pub(crate) fn to_wire(digest: &Digest) -> re::Digest {
    re::Digest { hash: digest.hash().to_string(), size_bytes: digest.size_i64() }
}

/// Reads the digests of one request, which all have one function. Spec.
#[derive(Clone, Debug)]
pub(crate) struct DigestReader {
    function: Option<DigestFunction>,
    /// What a hash of 64 digits stands for when none is named. Spec: Q-21.
    default: Option<DigestFunction>,
}

impl DigestReader {
    /// For a request with this number in `digest_function`, where 0 means that the hashes tell.
    pub(crate) fn new(settings: &Settings, number: i32) -> Result<Self, Invalid> {
        let function = match number {
            0 => None,
            number => Some(named(number)?),
        };
        Ok(Self { function, default: settings.default_digest_function })
    }

    /// For digests whose hashes tell their function.
    pub(crate) fn inferring(settings: &Settings) -> Self {
        Self { function: None, default: settings.default_digest_function }
    }

    /// For a request that must name its function. Spec: R-108.
    pub(crate) fn declared(settings: &Settings, number: i32) -> Result<Self, Invalid> {
        if number == 0 {
            return Err(Invalid::NoFunction);
        }
        Self::new(settings, number)
    }

    /// For digests that must have this function.
    pub(crate) fn of(function: DigestFunction) -> Self {
        Self { function: Some(function), default: None }
    }

    /// Reads a digest; the first one settles the function.
    pub(crate) fn read(&mut self, digest: &re::Digest) -> Result<Digest, DigestError> {
        self.read_parts(&digest.hash, digest.size_bytes)
    }

    /// Reads a digest from its hash and size.
    pub(crate) fn read_parts(&mut self, hash: &str, size_bytes: i64) -> Result<Digest, DigestError> {
        let function = self.function.or_else(|| infer(self.default, hash.len()));
        let digest = Digest::parse(function, hash, size_bytes)?;
        self.function = Some(digest.function());
        Ok(digest)
    }

    /// Reads a digest that the field `what` must hold.
    pub(crate) fn required(&mut self, digest: Option<&re::Digest>, what: &'static str) -> Result<Digest, Status> {
        let digest = digest.ok_or(Invalid::Absent(what))?;
        self.read(digest).map_err(|error| status::bad_digest(&error))
    }

    /// Reads a list.
    pub(crate) fn list(&mut self, digests: &[re::Digest]) -> Result<Vec<Digest>, Status> {
        digests.iter().map(|digest| self.read(digest).map_err(|error| status::bad_digest(&error))).collect()
    }
}

/// The function an undeclared hash of this many digits stands for. Spec: R-003.
pub(crate) fn infer(default: Option<DigestFunction>, hex_len: usize) -> Option<DigestFunction> {
    default
        .filter(|function| hex_len == 64 && function.hash_len() * 2 == hex_len)
        .or_else(|| DigestFunction::infer(hex_len))
}

fn named(number: i32) -> Result<DigestFunction, Invalid> {
    u8::try_from(number).ok().and_then(DigestFunction::from_number).ok_or(Invalid::Function(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(function: DigestFunction) -> re::Digest {
        to_wire(&Digest::of(function, b"abc"))
    }

    #[test]
    fn a_function_is_inferred_once_and_then_holds_for_the_request() {
        let mut reader = DigestReader::new(&Settings::default(), 0).expect("not named");
        assert_eq!(reader.read(&wire(DigestFunction::Sha1)), Ok(Digest::of(DigestFunction::Sha1, b"abc")));
        assert!(reader.read(&wire(DigestFunction::Sha256)).is_err());
    }

    #[test]
    fn functions_that_are_not_offered_are_refused() {
        for number in [3, 4, 7, 11, -1, 265, i32::MAX] {
            assert_eq!(DigestReader::new(&Settings::default(), number).err(), Some(Invalid::Function(number)));
        }
        assert_eq!(DigestReader::declared(&Settings::default(), 0).err(), Some(Invalid::NoFunction));
    }

    #[test]
    fn the_default_function_holds_for_sixty_four_digits_that_name_none() {
        let settings = Settings { default_digest_function: Some(DigestFunction::Blake3), ..Settings::default() };
        let read = |number, function| {
            let mut reader = DigestReader::new(&settings, number).expect("offered");
            reader.read(&wire(function)).expect("fits").function()
        };
        assert_eq!(read(0, DigestFunction::Blake3), DigestFunction::Blake3);
        assert_eq!(read(1, DigestFunction::Sha256), DigestFunction::Sha256);
        assert_eq!(read(0, DigestFunction::Sha1), DigestFunction::Sha1);
    }
}
