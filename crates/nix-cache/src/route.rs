use cache_types::Hash;
use cache_types::nix::{StorePath, StorePathHash, base32_decode, base32_encode};
use percent_encoding::percent_decode_str;

use crate::compression::Compression;
use crate::response::Refusal;
use crate::unpack::sha256;

/// The longest path of a URL.
const MAX_PATH_LEN: usize = 2048;

/// What a path within a cache names. Spec: nix-binary-cache §1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    CacheInfo,
    PublicKey,
    NarInfo(StorePathHash),
    Listing(StorePathHash),
    Nar(NarName),
    Text { kind: TextKind, name: String },
    Pins,
    Pin(StorePathHash),
}

/// A text beside the paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextKind {
    Log,
    Realisation,
    BuildTrace,
    DebugInfo,
}

/// `HASH.nar` and what says how it is packed. The hash is that of the NAR or of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NarName {
    pub(crate) hash: Hash,
    pub(crate) compression: Compression,
}

impl NarName {
    pub(crate) fn new(hash: Hash, compression: Compression) -> Self {
        Self { hash, compression }
    }

    /// Reads the name of a file below `nar/`.
    pub(crate) fn parse(file: &str) -> Result<Self, Refusal> {
        let (hash, suffix) = file.split_once(".nar").ok_or(Refusal::Missing)?;
        let hash = base32_decode::<32>(hash).map_err(|_| Refusal::Missing)?;
        let compression = Compression::from_suffix(suffix).ok_or_else(|| {
            Refusal::Encoding(format!(
                "NARs packed as {suffix} are not taken: use none, zstd, xz, bzip2, gzip or br (?compression=zstd)"
            ))
        })?;
        Ok(Self { hash: sha256(&hash), compression })
    }

    /// The URL in narinfo files.
    pub(crate) fn url(&self) -> String {
        format!("nar/{}.nar{}", base32_encode(self.hash.as_bytes()), self.compression.suffix())
    }
}

/// The name of the cache and what the path names in it.
pub(crate) fn parse(path: &str) -> Result<(String, Route), Refusal> {
    if path.len() > MAX_PATH_LEN {
        return Err(malformed("a path has at most 2048 bytes"));
    }
    let segments = path.split('/').filter(|segment| !segment.is_empty()).map(segment);
    let segments = segments.collect::<Result<Vec<String>, Refusal>>()?;
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let ["nix", cache, rest @ ..] = parts.as_slice() else {
        return Err(Refusal::Missing);
    };
    Ok(((*cache).to_owned(), route(rest)?))
}

fn route(parts: &[&str]) -> Result<Route, Refusal> {
    let text = |kind, name: &str| Ok(Route::Text { kind, name: name.to_owned() });
    match parts {
        ["nix-cache-info"] => Ok(Route::CacheInfo),
        ["pubkey"] => Ok(Route::PublicKey),
        ["pins"] => Ok(Route::Pins),
        ["pins", hash] => Ok(Route::Pin(path_hash(hash)?)),
        ["nar", file] => NarName::parse(file).map(Route::Nar),
        ["log", name] => {
            // A derivation's base name; what is no store path has no log.
            StorePath::parse(name).map_err(|_| Refusal::Missing)?;
            text(TextKind::Log, name)
        }
        ["realisations", name] if name.ends_with(".doi") => text(TextKind::Realisation, name),
        ["build-trace-v2", derivation, output] if output.ends_with(".doi") => {
            text(TextKind::BuildTrace, &format!("{derivation}/{output}"))
        }
        ["debuginfo", name] => text(TextKind::DebugInfo, name),
        [file] => match file.rsplit_once('.') {
            Some((hash, "narinfo")) => Ok(Route::NarInfo(path_hash(hash)?)),
            Some((hash, "ls")) => Ok(Route::Listing(path_hash(hash)?)),
            _ => Err(Refusal::Missing),
        },
        _ => Err(Refusal::Missing),
    }
}

fn path_hash(text: &str) -> Result<StorePathHash, Refusal> {
    // A name that cannot be is absent: clients probe.
    StorePathHash::parse(text).map_err(|_| Refusal::Missing)
}

fn malformed(reason: &str) -> Refusal {
    Refusal::Malformed(reason.to_owned())
}

/// One segment, decoded. What would lead out of its folder, were it a file, is refused.
fn segment(encoded: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(encoded).decode_utf8().map_err(|_| malformed("a path is UTF-8"))?;
    if matches!(&*decoded, "." | "..") || decoded.contains(['/', '\\']) || decoded.chars().any(char::is_control) {
        return Err(malformed("a path has no '.' or '..' segments, encoded slashes or control characters"));
    }
    Ok(decoded.into_owned())
}

impl TextKind {
    /// The folder that the text is in, which is also the start of its key.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Realisation => "realisations",
            Self::BuildTrace => "build-trace-v2",
            Self::DebugInfo => "debuginfo",
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Log => "text/plain; charset=utf-8",
            _ => "application/json",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "faq2j1z6jrkqk23mhzq65iy3ghv0zrj8";
    const FILE: &str = "07nfrah36r0l2scpm9cf0jgfd9raf2smhni4cgm5hjk3jpq82vx0";

    fn of(rest: &str) -> Option<Route> {
        parse(&format!("/nix/main/{rest}")).ok().map(|(_, route)| route)
    }

    #[test]
    fn every_route_of_a_cache_is_known() {
        assert_eq!(parse("//nix/a/nix-cache-info").ok(), Some(("a".to_owned(), Route::CacheInfo)));
        assert!(matches!(of(&format!("{HASH}.narinfo")), Some(Route::NarInfo(_))));
        assert!(matches!(of(&format!("{HASH}.ls")), Some(Route::Listing(_))));
        for (suffix, name) in
            [("", "none"), (".xz", "xz"), (".zst", "zstd"), (".bz2", "bzip2"), (".gz", "gzip"), (".br", "br")]
        {
            let Some(Route::Nar(nar)) = of(&format!("nar/{FILE}.nar{suffix}")) else { panic!("{suffix}") };
            assert_eq!(nar.compression.name(), name);
            assert_eq!(nar.url(), format!("nar/{FILE}.nar{suffix}"));
        }
        let realisation = Route::Text { kind: TextKind::Realisation, name: "sha256:ab!out.doi".to_owned() };
        assert_eq!(of("realisations/sha256:ab!out.doi").as_ref(), Some(&realisation));
        assert_eq!(of("realisations/sha256:ab%21out.doi"), Some(realisation));
        assert!(matches!(of(&format!("log/{HASH}-x.drv")), Some(Route::Text { kind: TextKind::Log, .. })));
        let trace = of(&format!("build-trace-v2/{HASH}-x.drv/out.doi"));
        assert!(matches!(trace, Some(Route::Text { kind: TextKind::BuildTrace, .. })));
    }

    #[test]
    fn what_cannot_be_is_absent_and_what_leads_out_malformed() {
        for path in
            ["/nix", "/nix/main", "/nix/main/x", "/nix/main/e.narinfo", "/nix/main/nar/x.nar", "/nix/main/log/x"]
        {
            assert!(matches!(parse(path), Err(Refusal::Missing)), "{path}");
        }
        for path in ["/nix/main/log/%2e%2e", "/nix/main/log/a%2fb", "/nix/main/debuginfo/%00", "/nix/%ff/x"] {
            assert!(matches!(parse(path), Err(Refusal::Malformed(_))), "{path}");
        }
        let lzip = format!("/nix/main/nar/{FILE}.nar.lzip");
        assert!(matches!(parse(&lzip), Err(Refusal::Encoding(_))));
    }

    proptest! {
        #[test]
        fn any_path_is_a_route_or_refused(path in "/nix/[a-z]{1,3}/[ -~]{0,80}") {
            if let Ok((_, Route::Text { name, .. })) = parse(&path) {
                prop_assert!(name.split('/').all(|segment| !matches!(segment, "" | "." | "..")));
            }
        }
    }
}
