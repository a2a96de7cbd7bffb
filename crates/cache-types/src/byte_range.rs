use std::ops::Range;

/// A part of a blob: an offset and an upper bound on the length, both in uncompressed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    offset: u64,
    limit: Option<u64>,
}

impl ByteRange {
    /// The whole blob.
    pub const ALL: Self = Self { offset: 0, limit: None };

    /// From `offset`, at most `limit` bytes; `None` is no bound.
    pub fn new(offset: u64, limit: Option<u64>) -> Self {
        Self { offset, limit }
    }

    /// Reads the two numbers of a ByteStream read, where a limit of 0 means none. Spec.
    ///
    /// # Errors
    /// [`RangeError::Offset`] for a negative offset, [`RangeError::Limit`] for a negative limit.
    pub fn parse(offset: i64, limit: i64) -> Result<Self, RangeError> {
        let offset = u64::try_from(offset).map_err(|_| RangeError::Offset)?;
        let limit = u64::try_from(limit).map_err(|_| RangeError::Limit)?;
        Ok(Self { offset, limit: (limit > 0).then_some(limit) })
    }

    /// The bytes of a blob of `size_bytes` that this range covers; more than is left is cut to what is left.
    ///
    /// # Errors
    /// [`RangeError::Offset`] when the range starts past the end.
    pub fn within(&self, size_bytes: u64) -> Result<Range<u64>, RangeError> {
        if self.offset > size_bytes {
            return Err(RangeError::Offset);
        }
        let rest = size_bytes - self.offset;
        let len = self.limit.map_or(rest, |limit| limit.min(rest));
        Ok(self.offset..self.offset + len)
    }

    /// Where it starts, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// At most this many bytes; `None` is to the end.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }
}

/// Why a range was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Before the first byte or past the last.
    #[error("the offset lies outside the blob")]
    Offset,
    /// Negative.
    #[error("the limit is negative")]
    Limit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_past_the_end_is_cut_and_an_offset_past_the_end_refused() {
        assert_eq!(ByteRange::new(3, Some(100)).within(10), Ok(3..10));
        assert_eq!(ByteRange::new(10, None).within(10), Ok(10..10));
        assert_eq!(ByteRange::new(11, None).within(10), Err(RangeError::Offset));
        assert_eq!(ByteRange::parse(-1, 0), Err(RangeError::Offset));
        assert_eq!(ByteRange::parse(0, -1), Err(RangeError::Limit));
        assert_eq!(ByteRange::new(u64::MAX, Some(u64::MAX)).within(u64::MAX), Ok(u64::MAX..u64::MAX));
    }
}
