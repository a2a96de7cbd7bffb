use std::fmt::Write;

use crate::Hash;
use crate::nix::{
    ContentAddress, ContentAddressError, HashTextError, KeyError, Signature, StoreDir, StorePath, StorePathError,
    fingerprint, hash_text, parse_hash_text,
};

/// The longest narinfo that is read, in bytes. Spec: N-22.
pub const MAX_NAR_INFO_BYTES: usize = 2 * 1024 * 1024;
/// The most references of one path. Spec: N-22.
pub const MAX_REFERENCES: usize = 100_000;

/// What a cache says about one store path. Spec: nix-binary-cache §4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarInfo {
    /// The path.
    pub path: StorePath,
    /// The file that holds the NAR.
    pub file: NarFile,
    /// SHA-256 of the NAR.
    pub nar_hash: Hash,
    /// Bytes of the NAR; more than 0.
    pub nar_size: u64,
    /// The paths it refers to, itself perhaps among them.
    pub references: Vec<StorePath>,
    /// The derivation that made it.
    pub deriver: Option<StorePath>,
    /// Each once.
    pub signatures: Vec<Signature>,
    /// How the path follows from the content, where it does.
    pub content_address: Option<ContentAddress>,
}

/// Where the NAR is and how it is packed; not covered by signatures. Spec: N-27.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarFile {
    /// Relative to the root of the cache.
    pub url: String,
    /// The name of the compression; `none` is none.
    pub compression: String,
    /// SHA-256 of the file.
    pub hash: Option<Hash>,
    /// Bytes of the file.
    pub size: Option<u64>,
}

#[derive(Default)]
struct Fields {
    path: Option<StorePath>,
    url: Option<String>,
    compression: Option<String>,
    file_hash: Option<Hash>,
    file_size: Option<u64>,
    nar_hash: Option<Hash>,
    nar_size: Option<u64>,
    references: Option<Vec<StorePath>>,
    deriver: Option<StorePath>,
    signatures: Vec<Signature>,
    content_address: Option<ContentAddress>,
}

impl Fields {
    fn take(&mut self, key: &str, value: &str, dir: &StoreDir) -> Result<(), NarInfoError> {
        let twice = NarInfoError::Twice;
        match key {
            "StorePath" => once(&mut self.path, dir.parse_path(value)?, "StorePath")?,
            "URL" => once(&mut self.url, value.to_owned(), "URL")?,
            "Compression" => once(&mut self.compression, value.to_owned(), "Compression")?,
            "FileHash" => once(&mut self.file_hash, parse_hash_text(value)?, "FileHash")?,
            "FileSize" => once(&mut self.file_size, number(value, "FileSize")?, "FileSize")?,
            "NarHash" => once(&mut self.nar_hash, parse_hash_text(value)?, "NarHash")?,
            "NarSize" => once(&mut self.nar_size, number(value, "NarSize")?, "NarSize")?,
            "References" => once(&mut self.references, references(value)?, "References")?,
            "Deriver" if value == "unknown-deriver" || value.is_empty() => {}
            "Deriver" => once(&mut self.deriver, StorePath::parse(value)?, "Deriver")?,
            "Sig" => {
                let signature = Signature::parse(value)?;
                if !self.signatures.contains(&signature) {
                    self.signatures.push(signature);
                }
            }
            "CA" if self.content_address.is_some() => return Err(twice("CA")),
            "CA" if value.is_empty() => {}
            "CA" => self.content_address = Some(ContentAddress::parse(value)?),
            _ => {}
        }
        Ok(())
    }
}

impl NarInfo {
    /// Reads a narinfo of a store in `dir`. Keys that are not known are ignored. Spec: N-20.
    ///
    /// # Errors
    /// Any [`NarInfoError`].
    pub fn parse(text: &str, dir: &StoreDir) -> Result<Self, NarInfoError> {
        if text.len() > MAX_NAR_INFO_BYTES {
            return Err(NarInfoError::TooLong);
        }
        let mut fields = Fields::default();
        for line in text.lines() {
            let (key, value) = line.split_once(": ").ok_or(NarInfoError::Line)?;
            fields.take(key, value, dir)?;
        }
        let missing = NarInfoError::Missing;
        let nar_size = fields.nar_size.filter(|size| *size > 0).ok_or(missing("NarSize"))?;
        Ok(Self {
            path: fields.path.ok_or(missing("StorePath"))?,
            file: NarFile {
                url: fields.url.filter(|url| !url.is_empty()).ok_or(missing("URL"))?,
                // What Nix takes for granted where the line is not there.
                compression: fields.compression.filter(|name| !name.is_empty()).unwrap_or_else(|| "bzip2".to_owned()),
                hash: fields.file_hash,
                size: fields.file_size,
            },
            nar_hash: fields.nar_hash.ok_or(missing("NarHash"))?,
            nar_size,
            references: fields.references.unwrap_or_default(),
            deriver: fields.deriver,
            signatures: fields.signatures,
            content_address: fields.content_address,
        })
    }

    /// The text, its lines in Nix's order.
    pub fn print(&self, dir: &StoreDir) -> String {
        let mut text = String::with_capacity(512);
        let mut line = |key: &str, value: &str| {
            writeln!(text, "{key}: {value}").expect("writing to memory succeeds");
        };
        line("StorePath", &dir.join(&self.path));
        line("URL", &self.file.url);
        line("Compression", &self.file.compression);
        if let Some(hash) = &self.file.hash {
            line("FileHash", &hash_text(hash));
        }
        if let Some(size) = self.file.size {
            line("FileSize", &size.to_string());
        }
        line("NarHash", &hash_text(&self.nar_hash));
        line("NarSize", &self.nar_size.to_string());
        let references: Vec<String> = self.references.iter().map(StorePath::to_string).collect();
        line("References", &references.join(" "));
        if let Some(deriver) = &self.deriver {
            line("Deriver", &deriver.to_string());
        }
        for signature in &self.signatures {
            line("Sig", &signature.to_string());
        }
        if let Some(address) = &self.content_address {
            line("CA", &address.to_string());
        }
        text
    }

    /// The text that signatures sign.
    pub fn fingerprint(&self, dir: &StoreDir) -> String {
        fingerprint(dir, &self.path, &self.nar_hash, self.nar_size, &self.references)
    }

    /// Adds a signature that is not there yet; one of the same key is replaced.
    pub fn add_signature(&mut self, signature: Signature) {
        self.signatures.retain(|known| known.key() != signature.key());
        self.signatures.push(signature);
    }

    /// Whether the path is among its own references.
    pub fn refers_to_itself(&self) -> bool {
        self.references.contains(&self.path)
    }

    /// The references but the path itself.
    pub fn other_references(&self) -> impl Iterator<Item = &StorePath> {
        self.references.iter().filter(|reference| **reference != self.path)
    }
}

fn once<T>(slot: &mut Option<T>, value: T, key: &'static str) -> Result<(), NarInfoError> {
    if slot.replace(value).is_some() { Err(NarInfoError::Twice(key)) } else { Ok(()) }
}

fn number(text: &str, key: &'static str) -> Result<u64, NarInfoError> {
    crate::digest::parse_size(text).and_then(|size| u64::try_from(size).ok()).ok_or(NarInfoError::Number(key))
}

fn references(value: &str) -> Result<Vec<StorePath>, NarInfoError> {
    let names = value.split(' ').filter(|name| !name.is_empty());
    let paths: Vec<StorePath> =
        names.take(MAX_REFERENCES + 1).map(StorePath::parse).collect::<Result<_, StorePathError>>()?;
    if paths.len() > MAX_REFERENCES {
        return Err(NarInfoError::TooLong);
    }
    Ok(paths)
}

/// Why a narinfo was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoError {
    /// A line without a key.
    #[error("a narinfo has lines of the form KEY: VALUE")]
    Line,
    /// A line that must be there.
    #[error("a narinfo has a line {0}")]
    Missing(&'static str),
    /// A line that may be there once.
    #[error("a narinfo has one line {0} at most")]
    Twice(&'static str),
    /// No number.
    #[error("{0} is a decimal number of bytes")]
    Number(&'static str),
    /// Longer than the limits.
    #[error("a narinfo has at most {MAX_NAR_INFO_BYTES} bytes and {MAX_REFERENCES} references")]
    TooLong,
    /// A path.
    #[error(transparent)]
    Path(#[from] StorePathError),
    /// A hash.
    #[error(transparent)]
    Hash(#[from] HashTextError),
    /// A signature.
    #[error(transparent)]
    Signature(#[from] KeyError),
    /// The content address.
    #[error(transparent)]
    ContentAddress(#[from] ContentAddressError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEMO: &str = "StorePath: /nix/store/faq2j1z6jrkqk23mhzq65iy3ghv0zrj8-demo\n\
        URL: nar/07nfrah36r0l2scpm9cf0jgfd9raf2smhni4cgm5hjk3jpq82vx0.nar\n\
        Compression: none\n\
        FileHash: sha256:07nfrah36r0l2scpm9cf0jgfd9raf2smhni4cgm5hjk3jpq82vx0\n\
        FileSize: 1080\n\
        NarHash: sha256:07nfrah36r0l2scpm9cf0jgfd9raf2smhni4cgm5hjk3jpq82vx0\n\
        NarSize: 1080\n\
        References: \n\
        Sig: test.example-1:fVh6OEx1vnB6GO2K9eas1GgMqiiktnaY7B8FoQ80A5SSVYpusXUAsE5QVDp6NNEqhgxSU6BaVKWGGYaQoWncBA==\n\
        CA: fixed:r:sha256:07nfrah36r0l2scpm9cf0jgfd9raf2smhni4cgm5hjk3jpq82vx0\n";

    fn parse(text: &str) -> Result<NarInfo, NarInfoError> {
        NarInfo::parse(text, &StoreDir::default())
    }

    #[test]
    fn what_nix_writes_reads_back_byte_for_byte() {
        let info = parse(DEMO).expect("a narinfo");
        assert_eq!(info.print(&StoreDir::default()), DEMO);
        assert!(info.references.is_empty() && !info.refers_to_itself());
    }

    #[test]
    fn corrupt_files_are_refused() {
        let with = |line: &str| format!("{DEMO}{line}\n");
        assert_eq!(parse(&with("nonsense")), Err(NarInfoError::Line));
        assert_eq!(parse(&with("References: ")), Err(NarInfoError::Twice("References")));
        assert_eq!(
            parse(&with("CA: text:sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq")),
            Err(NarInfoError::Twice("CA"))
        );
        assert!(parse(&with("System: x86_64-linux")).is_ok());
        for key in ["StorePath", "URL", "NarHash", "NarSize"] {
            let without: String = DEMO
                .lines()
                .filter(|line| !line.starts_with(&format!("{key}:")))
                .map(|line| format!("{line}\n"))
                .collect();
            assert_eq!(parse(&without), Err(NarInfoError::Missing(key)));
        }
        assert_eq!(parse(&DEMO.replace("NarSize: 1080", "NarSize: 0")), Err(NarInfoError::Missing("NarSize")));
        assert_eq!(parse(&DEMO.replace("NarSize: 1080", "NarSize: -1")), Err(NarInfoError::Number("NarSize")));
        assert!(parse(&DEMO.replace("/nix/store", "/gnu/store")).is_err());
        let absent = parse(&DEMO.replace("Compression: none\n", "")).expect("a narinfo");
        assert_eq!(absent.file.compression, "bzip2");
    }

    proptest! {
        #[test]
        fn any_text_is_a_narinfo_or_refused(
            lines in proptest::collection::vec("(StorePath|URL|NarHash|NarSize|References|Sig|CA|X|): ?[ -~]{0,60}", 0..8),
        ) {
            let text = format!("{DEMO}{}", lines.join("\n"));
            for text in [text.as_str(), &lines.join("\n")] {
                if let Ok(info) = parse(text) {
                    prop_assert_eq!(parse(&info.print(&StoreDir::default())), Ok(info));
                }
            }
        }
    }
}
