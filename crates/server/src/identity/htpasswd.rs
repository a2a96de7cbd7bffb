use std::collections::HashMap;

use data_encoding::BASE64;
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

/// The users of an htpasswd file and the hashes of their passwords.
#[derive(Debug, Default)]
pub struct Htpasswd(HashMap<String, Hash>);

/// The hash of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hash {
    /// `$2y$…`: slow on purpose.
    Bcrypt(String),
    /// `{SHA}…`
    Sha1([u8; 20]),
}

/// Why a line was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HtpasswdError {
    /// No user and no hash.
    #[error("write USER:HASH")]
    Form,
    /// A hash of another kind, or none.
    #[error("the password is hashed in a way that is not taken; make the line with `htpasswd -B`")]
    Hash,
}

impl Htpasswd {
    /// Reads the file: a user each line; blank lines and those that begin with `#` are skipped. The last line of a user
    /// counts.
    ///
    /// # Errors
    /// The number of each line that is none, and why.
    pub fn parse(text: &str) -> Result<Self, Vec<(usize, HtpasswdError)>> {
        let mut users = HashMap::new();
        let mut faults = Vec::new();
        for (index, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match parse_line(line) {
                Ok((user, hash)) => _ = users.insert(user, hash),
                Err(error) => faults.push((index, error)),
            }
        }
        if faults.is_empty() { Ok(Self(users)) } else { Err(faults) }
    }

    /// The names.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether there is a user of this name.
    pub fn has(&self, user: &str) -> bool {
        self.0.contains_key(user)
    }

    /// Whether this is the user's password. Takes tens of milliseconds where the hash is bcrypt: not for async threads.
    pub fn verify(&self, user: &str, password: &str) -> bool {
        match self.0.get(user) {
            Some(Hash::Bcrypt(hash)) => bcrypt::verify(password, hash).unwrap_or(false),
            Some(Hash::Sha1(hash)) => {
                let found: [u8; 20] = Sha1::digest(password.as_bytes()).into();
                found.ct_eq(hash).into()
            }
            None => false,
        }
    }
}

fn parse_line(line: &str) -> Result<(String, Hash), HtpasswdError> {
    let (user, hash) = line.split_once(':').ok_or(HtpasswdError::Form)?;
    if user.is_empty() || user.chars().any(char::is_control) {
        return Err(HtpasswdError::Form);
    }
    if let Some(encoded) = hash.strip_prefix("{SHA}") {
        let raw = BASE64.decode(encoded.as_bytes()).ok().and_then(|raw| <[u8; 20]>::try_from(raw).ok());
        return Ok((user.to_owned(), Hash::Sha1(raw.ok_or(HtpasswdError::Hash)?)));
    }
    let is_bcrypt = ["$2y$", "$2b$", "$2a$", "$2x$"].iter().any(|kind| hash.starts_with(kind));
    if !is_bcrypt || hash.parse::<bcrypt::HashParts>().is_err() {
        return Err(HtpasswdError::Hash);
    }
    Ok((user.to_owned(), Hash::Bcrypt(hash.to_owned())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `htpasswd -nbB -C 4 alice secret` and `htpasswd -nbs bob secret`.
    fn file() -> String {
        let alice = bcrypt::hash("secret", 4).expect("hashes");
        format!("# users\nalice:{alice}\n\nbob:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
    }

    #[test]
    fn both_kinds_of_hash_are_verified() {
        let users = Htpasswd::parse(&file()).expect("a file");
        for user in ["alice", "bob"] {
            assert!(users.verify(user, "secret"), "{user}");
            assert!(!users.verify(user, "Secret") && !users.verify(user, ""), "{user}");
        }
        assert!(!users.verify("carol", "secret") && !users.has("carol"));
    }

    #[test]
    fn plain_passwords_and_weak_hashes_are_refused_by_line() {
        let text = "a:plain\nb:$apr1$x$y\n\nc\n:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\nd:{SHA}short\ne:$2y$05$short\n";
        let faults = Htpasswd::parse(text).expect_err("faults");
        assert_eq!(faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 4, 5, 6, 7]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_file_or_refused(text in "([a-z:{}$/=#\\n]|\\{SHA\\}|\\$2y\\$05\\$){0,60}") {
            if let Ok(users) = Htpasswd::parse(&text) {
                prop_assert!(users.users().all(|user| !user.is_empty() && !user.contains(':')));
            }
        }
    }
}
