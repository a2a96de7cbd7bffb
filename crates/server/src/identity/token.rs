use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use cache_types::{Caller, Grant};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::grants::{self, GrantError};

/// What every token starts with, so that scanners of code find one that leaked.
const PREFIX: &str = "twofold_";

/// The random bytes of a token.
const SECRET_BYTES: usize = 32;

/// The longest line, name and tenant included.
const MAX_LINE: usize = 16 * 1024;

/// The SHA-256 of a token. Tokens are random, so nothing slower is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token as it is sent.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

/// One line of a token file: who holds a token, its hash, and what it allows.
///
/// `NAME sha256:HEX ROLE,ROLE@INSTANCE… [tenant=NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenLine {
    /// The name that writes are kept under.
    pub name: String,
    /// The hash of the token.
    pub hash: TokenHash,
    /// What it allows.
    pub grants: Vec<Grant>,
    /// The tenant; empty for the default one.
    pub tenant: String,
}

impl TokenLine {
    /// A new token, and the line for it.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate(name: &str, tenant: &str, grants: Vec<Grant>) -> Result<(String, Self), getrandom::Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        let token = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&secret));
        let hash = TokenHash::of(&token);
        Ok((token, Self { name: name.to_owned(), hash, grants, tenant: tenant.to_owned() }))
    }

    /// Whether names and tenants may be written so: no spaces, no control characters, no `#` in front, some letters.
    pub fn is_name(text: &str) -> bool {
        let is_plain = |c: char| !c.is_whitespace() && !c.is_control();
        !text.is_empty() && text.len() <= 256 && !text.starts_with('#') && text.chars().all(is_plain)
    }
}

impl FromStr for TokenLine {
    type Err = TokenLineError;

    fn from_str(line: &str) -> Result<Self, TokenLineError> {
        if line.len() > MAX_LINE {
            return Err(TokenLineError::Form);
        }
        let mut parts = line.split_whitespace();
        let (Some(name), Some(hash), Some(roles)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(TokenLineError::Form);
        };
        if !Self::is_name(name) {
            return Err(TokenLineError::Form);
        }
        let hex = hash.strip_prefix("sha256:").ok_or(TokenLineError::Hash)?;
        let raw = HEXLOWER.decode(hex.as_bytes()).ok().and_then(|raw| <[u8; 32]>::try_from(raw).ok());
        let hash = TokenHash(raw.ok_or(TokenLineError::Hash)?);
        let grants = grants::parse(roles.split(','))?;
        let tenant = match (parts.next(), parts.next()) {
            (None, _) => "",
            (Some(part), None) => {
                part.strip_prefix("tenant=").filter(|tenant| Self::is_name(tenant)).ok_or(TokenLineError::Form)?
            }
            _ => return Err(TokenLineError::Form),
        };
        Ok(Self { name: name.to_owned(), hash, grants, tenant: tenant.to_owned() })
    }
}

impl fmt::Display for TokenLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles = grants::display(&self.grants).join(",");
        write!(f, "{} sha256:{} {roles}", self.name, HEXLOWER.encode(&self.hash.0))?;
        if !self.tenant.is_empty() {
            write!(f, " tenant={}", self.tenant)?;
        }
        Ok(())
    }
}

/// Why a line was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenLineError {
    /// Not the parts of a line.
    #[error("write NAME sha256:HEX ROLES [tenant=NAME], as `twofold token new` prints it")]
    Form,
    /// No hash.
    #[error("the hash is written sha256: and 64 lower-case hexadecimal digits")]
    Hash,
    /// No roles.
    #[error(transparent)]
    Grants(#[from] GrantError),
}

/// Reads a token file: a line each; blank lines and those that begin with `#` are skipped.
///
/// # Errors
/// The number of each line that is none, and why.
pub fn parse_file(text: &str) -> Result<Vec<TokenLine>, Vec<(usize, TokenLineError)>> {
    let mut lines = Vec::new();
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.parse() {
            Ok(line) => lines.push(line),
            Err(error) => faults.push((index, error)),
        }
    }
    if faults.is_empty() { Ok(lines) } else { Err(faults) }
}

/// The callers of all tokens.
#[derive(Debug, Default)]
pub(super) struct Tokens(HashMap<TokenHash, (TokenHash, Caller)>);

impl Tokens {
    pub(super) fn new(lines: &[TokenLine]) -> Self {
        let caller = |line: &TokenLine| Caller::known(&line.name, &line.tenant, line.grants.clone());
        Self(lines.iter().map(|line| (line.hash, (line.hash, caller(line)))).collect())
    }

    /// The caller who holds this token.
    pub(super) fn find(&self, token: &str) -> Option<Caller> {
        if self.0.is_empty() {
            return None;
        }
        let hash = TokenHash::of(token);
        let (known, caller) = self.0.get(&hash)?;
        bool::from(known.0.ct_eq(&hash.0)).then(|| caller.clone())
    }
}

#[cfg(test)]
mod tests {
    use cache_types::Role;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_new_token_is_found_by_its_line_alone() {
        let roles = grants::parse(["read", "ac-write@team"]).expect("roles");
        let (token, line) = TokenLine::generate("ci", "acme", roles).expect("randomness");
        assert!(token.starts_with(PREFIX) && token.len() >= PREFIX.len() + 43);
        let text = format!("# tokens\n\n  {line}  \n");
        assert!(!text.contains(&token));
        let tokens = Tokens::new(&parse_file(&text).expect("a file"));
        let caller = tokens.find(&token).expect("known");
        assert_eq!((caller.name(), caller.tenant()), ("ci", "acme"));
        assert!(caller.may_anywhere(Role::AcWrite) && !caller.may_anywhere(Role::Admin));
        let (other, _) = TokenLine::generate("ci", "", Vec::new()).expect("randomness");
        for unknown in [&other, "", &token[1..], &format!("{token} ")] {
            assert!(tokens.find(unknown).is_none());
        }
        // The hash is no token.
        assert!(tokens.find(&HEXLOWER.encode(&line.hash.0)).is_none());
    }

    #[test]
    fn faults_are_named_by_their_lines() {
        let hash = format!("sha256:{}", "0".repeat(64));
        let text = format!("a {hash} read\nb plain read\n#\nc {hash} write\nd {hash}\ne {hash} read tenant= x\n");
        let faults = parse_file(&text).expect_err("faults");
        assert_eq!(faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 4, 5, 6]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_line_that_reads_back_or_refused(line in ".{0,120}") {
            if let Ok(line) = line.parse::<TokenLine>() {
                prop_assert_eq!(line.to_string().parse(), Ok(line));
            }
        }

        #[test]
        fn lines_read_back(name in "[a-z][a-z0-9._@-]{0,20}", secret in any::<[u8; 32]>(), tenant in "[a-z]{0,8}") {
            let grants = grants::parse(["cas-write", "ac-write@a/b"]).expect("roles");
            let line = TokenLine { name, hash: TokenHash(secret), grants, tenant };
            prop_assert_eq!(line.to_string().parse(), Ok(line));
        }
    }
}
