use std::ops::Range;

/// The bytes that a `Range` header asks for; `None` where there is no header, or one that is not understood, which the
/// protocol lets a server ignore. Spec: N-42; RFC 9110 §14.
///
/// # Errors
/// None of what is asked for is there.
pub(crate) fn asked(header: Option<&str>, size: u64) -> Result<Option<Range<u64>>, OutOfRange> {
    let Some((first, last)) = header.and_then(|text| text.strip_prefix("bytes=")?.trim().split_once('-')) else {
        return Ok(None);
    };
    let range = match (number(first), number(last)) {
        (Some(Some(first)), Some(Some(last))) if first <= last => first..last.saturating_add(1).min(size),
        (Some(Some(first)), Some(None)) => first..size,
        (Some(None), Some(Some(count))) => size.saturating_sub(count)..size,
        _ => return Ok(None),
    };
    if range.start >= range.end { Err(OutOfRange) } else { Ok(Some(range)) }
}

/// A range past the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OutOfRange;

/// Decimal digits, or nothing at all; `None` is neither.
fn number(text: &str) -> Option<Option<u64>> {
    let text = text.trim();
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_cut_to_the_nar_and_others_ignored() {
        let ok = |header, expected| assert_eq!(asked(Some(header), 10), Ok(expected), "{header}");
        ok("bytes=0-", Some(0..10));
        ok("bytes=3-4", Some(3..5));
        ok("bytes=9-100", Some(9..10));
        ok("bytes=-4", Some(6..10));
        ok("bytes=-40", Some(0..10));
        for ignored in
            ["bytes=5-4", "bytes=0-1,3-4", "bytes=-", "bytes=+1-2", "lines=0-1", "bytes=99999999999999999999-"]
        {
            ok(ignored, None);
        }
        for outside in ["bytes=10-", "bytes=-0"] {
            assert_eq!(asked(Some(outside), 10), Err(OutOfRange), "{outside}");
        }
        assert_eq!(asked(None, 10), Ok(None));
    }

    proptest! {
        #[test]
        fn any_header_gives_a_part(text in "(bytes=)?[0-9 ,-]{0,30}", size: u64) {
            if let Ok(Some(range)) = asked(Some(&text), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
