use std::fmt;

use data_encoding::BASE64_NOPAD;

/// The longest header that is looked at, in bytes; tokens of OIDC issuers stay far below.
const MAX_LEN: usize = 16 * 1024;

/// What an `Authorization` header says.
#[derive(Clone, PartialEq, Eq)]
pub enum Authorization {
    /// A token by itself.
    Bearer(String),
    /// A user and a password. Nix and ccache send tokens as the password.
    Basic {
        /// The user; may be empty.
        user: String,
        /// The password; may hold colons.
        password: String,
    },
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer",
            Self::Basic { .. } => "Basic",
        })
    }
}

impl Authorization {
    /// Reads the value of the header; `None` when it is of no known scheme or broken.
    ///
    /// Both alphabets of base64 are read, with and without padding: Bazel sends the URL-safe one. Spec: H-10.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() > MAX_LEN {
            return None;
        }
        let value = std::str::from_utf8(value).ok()?;
        let (scheme, rest) = value.trim().split_once(' ')?;
        let rest = rest.trim_start();
        if scheme.eq_ignore_ascii_case("bearer") {
            return (!rest.is_empty()).then(|| Self::Bearer(rest.to_owned()));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(decode(rest)?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        Some(Self::Basic { user: user.to_owned(), password: password.to_owned() })
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let ordinary = text.trim_end_matches('=').bytes().map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    });
    BASE64_NOPAD.decode(&ordinary.collect::<Vec<u8>>()).ok()
}

#[cfg(test)]
mod tests {
    use data_encoding::{BASE64, BASE64URL, BASE64URL_NOPAD};
    use proptest::prelude::*;

    use super::*;

    fn basic(user: &str, password: &str) -> Option<Authorization> {
        Some(Authorization::Basic { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn the_forms_that_clients_send_are_read() {
        assert_eq!(Authorization::parse(b"Bearer abc"), Some(Authorization::Bearer("abc".to_owned())));
        assert_eq!(Authorization::parse(b"bearer  abc "), Some(Authorization::Bearer("abc".to_owned())));
        assert_eq!(Authorization::parse(b"Basic dXNlcjpwYXNz"), basic("user", "pass"));
        // Different bytes in the two alphabets.
        assert_eq!(Authorization::parse(b"Basic dTo/Pz8+"), basic("u", "???>"));
        assert_eq!(Authorization::parse(b"BASIC dTo_Pz8-"), basic("u", "???>"));
        assert_eq!(Authorization::parse(b"Basic OmE6Yg=="), basic("", "a:b"));
        for broken in ["", "Bearer", "Bearer ", "Basic", "Basic !", "Basic dXNlcg==", "Digest a", "Basic /////w=="] {
            assert_eq!(Authorization::parse(broken.as_bytes()), None, "{broken}");
        }
        assert_eq!(Authorization::parse(&[b"Bearer ".as_slice(), &[b'a'; MAX_LEN]].concat()), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}{:?}", basic("u", "secret"), Authorization::parse(b"Bearer secret"));
        assert!(!shown.contains("secret"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _read = Authorization::parse(&value).is_some();
        }

        #[test]
        fn users_and_passwords_read_back_in_each_encoding(user in "[^:]{0,20}", password in ".{0,40}") {
            let pair = format!("{user}:{password}");
            for encoding in [BASE64, BASE64URL, BASE64URL_NOPAD, BASE64_NOPAD] {
                let header = format!("Basic {}", encoding.encode(pair.as_bytes()));
                prop_assert_eq!(Authorization::parse(header.as_bytes()), basic(&user, &password));
            }
        }
    }
}
