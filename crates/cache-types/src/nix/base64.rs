use data_encoding::BASE64;

/// Reads base 64 with padding at its end alone; the codec itself also takes several padded texts one after the other, so
/// that one value had many forms.
pub(super) fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let is_one = !text.trim_end_matches('=').contains('=');
    BASE64.decode(text.as_bytes()).ok().filter(|_| is_one)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padding_within_the_text_is_refused() {
        assert_eq!(base64_decode("YQ==").as_deref(), Some(&b"a"[..]));
        for text in ["YQ==YQ==", "YWI=YWI=", "YQ=", "YQ", "YR=="] {
            assert_eq!(base64_decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn each_value_has_one_text(text in "[A-Za-z0-9+/=]{0,24}") {
            if let Some(bytes) = base64_decode(&text) {
                prop_assert_eq!(BASE64.encode(&bytes), text);
            }
        }
    }
}
