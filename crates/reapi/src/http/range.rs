use cache_types::ByteRange;

/// What a `Range` header asks of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it: there is no header, or one that this server does not understand, which the protocol lets it ignore.
    All,
    /// The bytes from `start` to before `end`; at least one.
    Part {
        /// The first byte.
        start: u64,
        /// The byte after the last.
        end: u64,
    },
    /// None of what is there.
    Nothing,
}

impl Asked {
    /// Reads the header against a blob of `size_bytes`. Spec: H-09; RFC 9110 §14.
    pub(super) fn parse(header: Option<&str>, size_bytes: u64) -> Self {
        let Some((first, last)) = header.and_then(|text| text.strip_prefix("bytes=")?.trim().split_once('-')) else {
            return Self::All;
        };
        let (first, last) = match (number(first), number(last)) {
            (Ok(Some(first)), Ok(Some(last))) if first > last => return Self::All,
            (Ok(Some(first)), Ok(last)) => (first, last.map_or(size_bytes, |last| last.saturating_add(1))),
            (Ok(None), Ok(Some(0))) => return Self::Nothing,
            (Ok(None), Ok(Some(count))) => (size_bytes.saturating_sub(count), size_bytes),
            _ => return Self::All,
        };
        if first >= size_bytes {
            return Self::Nothing;
        }
        Self::Part { start: first, end: last.min(size_bytes) }
    }

    /// As the store takes it; `None` for nothing.
    pub(super) fn range(self) -> Option<ByteRange> {
        match self {
            Self::All => Some(ByteRange::ALL),
            Self::Part { start, end } => Some(ByteRange::new(start, Some(end - start))),
            Self::Nothing => None,
        }
    }
}

/// Decimal digits, or nothing at all.
fn number(text: &str) -> Result<Option<u64>, ()> {
    let text = text.trim();
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(());
    }
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_cut_to_the_blob_and_others_ignored() {
        let cases = [
            ("bytes=0-", Asked::Part { start: 0, end: 10 }),
            ("bytes=3-4", Asked::Part { start: 3, end: 5 }),
            ("bytes=9-100", Asked::Part { start: 9, end: 10 }),
            ("bytes=-4", Asked::Part { start: 6, end: 10 }),
            ("bytes=-40", Asked::Part { start: 0, end: 10 }),
            ("bytes=10-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=5-4", Asked::All),
            ("bytes=0-1,3-4", Asked::All),
            ("bytes=-", Asked::All),
            ("bytes=+1-2", Asked::All),
            ("lines=0-1", Asked::All),
            ("bytes=99999999999999999999-", Asked::All),
        ];
        for (header, asked) in cases {
            assert_eq!(Asked::parse(Some(header), 10), asked, "{header}");
        }
        assert_eq!(Asked::parse(None, 10), Asked::All);
        assert_eq!(Asked::parse(Some("bytes=0-"), 0), Asked::Nothing);
    }

    proptest! {
        #[test]
        fn any_header_gives_a_part_of_the_blob(text in "(bytes=)?[0-9 ,-]{0,30}", size in any::<u64>()) {
            if let Asked::Part { start, end } = Asked::parse(Some(&text), size) {
                prop_assert!(start < end && end <= size);
            }
        }
    }
}
