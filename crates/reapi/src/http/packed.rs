//! Bodies that travel as zstd. Spec: H-20, H-21.

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use store::{BlobBody, BodyError, StoreError};

use super::refusal::Refusal;
use crate::ZstdLimits;
use crate::zstd_stream::Decompressor;

/// Says how long the bytes of a packed upload are.
const DIGEST_SIZE: HeaderName = HeaderName::from_static("x-digest-sizebytes");

/// The name of the coding.
pub(super) const ZSTD: HeaderValue = HeaderValue::from_static("zstd");

/// How a body is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Zstd,
}

impl Coding {
    /// How an upload says that it is coded.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
        match (codings.next().map(HeaderValue::as_bytes), codings.next()) {
            (None, _) => Ok(Self::Identity),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"identity") => Ok(Self::Identity),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"zstd") => Ok(Self::Zstd),
            _ => Err(Refusal::Encoding),
        }
    }

    /// What a download may be coded as: zstd only where it is named, and not with weight 0.
    pub(super) fn accepted(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT_ENCODING).iter();
        let names_zstd =
            values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|item| {
                let mut parts = item.split(';').map(str::trim);
                let is_zstd = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("zstd"));
                is_zstd && !parts.any(|part| part.strip_prefix("q=").is_some_and(|weight| weight.parse() == Ok(0.0f32)))
            });
        if names_zstd { Self::Zstd } else { Self::Identity }
    }
}

/// The size that a packed upload says it has.
pub(super) fn declared_size(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(DIGEST_SIZE) else {
        return Ok(None);
    };
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let size = digits.and_then(|text| text.parse::<i64>().ok()).and_then(|size| u64::try_from(size).ok());
    size.map(Some).ok_or_else(|| Refusal::Malformed("X-Digest-SizeBytes is a size in decimal digits".to_owned()))
}

/// The bytes of a packed body, of which there are `limit_bytes` at most; more fails the body.
pub(super) fn unpacked(packed: BlobBody, limit_bytes: u64, limits: ZstdLimits) -> Result<BlobBody, Refusal> {
    let decompressor = Decompressor::new(limit_bytes, limits).map_err(|error| crate::status::bad_zstd(&error))?;
    Ok(BlobBody::from_stream(stream::try_unfold(
        (packed, Box::new(decompressor)),
        |(mut packed, mut decompressor)| async move {
            let next = next_piece(&mut packed, &mut decompressor).await?;
            Ok(next.map(|piece| (piece, (packed, decompressor))))
        },
    )))
}

async fn next_piece(packed: &mut BlobBody, decompressor: &mut Decompressor) -> Result<Option<Bytes>, StoreError> {
    let invalid = |error: crate::zstd_stream::ZstdError| StoreError::Body(BodyError::Invalid(error.to_string()));
    loop {
        if let Some(piece) = decompressor.next_piece().map_err(invalid)? {
            return Ok(Some(piece));
        }
        match packed.next().await.transpose()? {
            Some(input) => decompressor.push(input),
            None => return decompressor.finish().map(|()| None).map_err(invalid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn zstd_is_sent_to_who_names_it_alone() {
        for (value, coding) in [
            ("zstd", Coding::Zstd),
            ("gzip, deflate, br, ZSTD", Coding::Zstd),
            ("gzip;q=1.0, zstd;q=0.5", Coding::Zstd),
            ("zstd; q=0", Coding::Identity),
            ("zstd;q=0.000", Coding::Identity),
            ("*", Coding::Identity),
            ("gzip", Coding::Identity),
            ("", Coding::Identity),
        ] {
            assert_eq!(Coding::accepted(&headers(header::ACCEPT_ENCODING, &[value])), coding, "{value}");
        }
        assert_eq!(Coding::accepted(&headers(header::ACCEPT_ENCODING, &["gzip", "zstd"])), Coding::Zstd);
        assert_eq!(Coding::accepted(&HeaderMap::new()), Coding::Identity);
    }

    #[test]
    fn uploads_are_plain_or_zstd_and_say_sizes_in_digits() {
        let of = |values: &[&'static str]| Coding::of(&headers(header::CONTENT_ENCODING, values));
        assert!(matches!(
            (of(&[]), of(&["identity"]), of(&["Zstd"])),
            (Ok(Coding::Identity), Ok(Coding::Identity), Ok(Coding::Zstd))
        ));
        for other in [&["gzip"][..], &["zstd, gzip"], &["zstd", "zstd"], &[""]] {
            assert!(matches!(of(other), Err(Refusal::Encoding)), "{other:?}");
        }
        let size = |value: &'static str| declared_size(&headers(DIGEST_SIZE, &[value])).ok();
        assert_eq!((size("0"), size("9223372036854775807")), (Some(Some(0)), Some(Some(u64::MAX / 2))));
        for other in ["-1", "+1", "1 ", "0x1", "", "9223372036854775808", "99999999999999999999"] {
            assert_eq!(size(other), None, "{other:?}");
        }
        assert_eq!(declared_size(&HeaderMap::new()).ok(), Some(None));
    }
}
