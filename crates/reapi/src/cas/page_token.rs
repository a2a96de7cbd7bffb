use cache_types::{Digest, DigestFunction};

/// The bytes of a check value that a token carries.
const CHECK_LEN: usize = 8;

/// The token that continues a walk of `root` after `sent` directories: the count and a check value. No state is kept for
/// it. Spec: R-098.
pub(super) fn make(root: &Digest, sent: usize) -> String {
    format!("{sent}-{}", check(root, sent))
}

/// The count in a token that [`make`] gave for this root; `None` for any other text.
pub(super) fn read(root: &Digest, token: &str) -> Option<usize> {
    let (sent, _check) = token.split_once('-')?;
    let sent = sent.parse().ok()?;
    (make(root, sent) == token).then_some(sent)
}

fn check(root: &Digest, sent: usize) -> String {
    let text = format!("GetTree {:?} {sent}", root.hash());
    let hash = DigestFunction::Sha256.hash(text.as_bytes());
    hash.as_bytes().iter().take(CHECK_LEN).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_is_good_for_its_own_root_only(sent in any::<u32>(), data in any::<[u8; 4]>(), text in ".{0,30}") {
            let root = Digest::of(DigestFunction::Sha256, &data);
            let token = make(&root, sent as usize);
            prop_assert_eq!(read(&root, &token), Some(sent as usize));
            prop_assert_eq!(read(&Digest::of(DigestFunction::Sha256, b"other"), &token), None);
            prop_assert_eq!(read(&root, &text), None);
            prop_assert_eq!(read(&root, &format!("0{token}")), None);
        }
    }
}
