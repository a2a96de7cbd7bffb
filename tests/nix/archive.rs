//! NARs and narinfo files by hand, without our own code.

use sha2::Digest as _;

/// A NAR of a folder with these files, whose names rise.
pub fn nar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    strings(&mut out, &[b"nix-archive-1", b"(", b"type", b"directory"]);
    for (name, data) in files {
        strings(&mut out, &[b"entry", b"(", b"name", name.as_bytes(), b"node"]);
        strings(&mut out, &[b"(", b"type", b"regular", b"contents", data, b")", b")"]);
    }
    strings(&mut out, &[b")"]);
    out
}

fn strings(out: &mut Vec<u8>, all: &[&[u8]]) {
    for bytes in all {
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(8), 0);
    }
}

/// SHA-256 in Nix's base 32.
pub fn hash(bytes: &[u8]) -> String {
    base32(&sha2::Sha256::digest(bytes))
}

/// The hash part of a made-up path.
pub fn path_hash(name: &str) -> String {
    base32(&sha2::Sha256::digest(name.as_bytes())[..20])
}

fn base32(bytes: &[u8]) -> String {
    let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
    let digits = (bytes.len() * 8).div_ceil(5);
    let digit = |place: usize| (0..5).fold(0, |value, at| value | usize::from(bit(place * 5 + at)) << at);
    (0..digits).rev().map(|place| char::from(b"0123456789abcdfghijklmnpqrsvwxyz"[digit(place)])).collect()
}

/// The narinfo of a made-up path whose NAR is not packed.
pub fn narinfo(name: &str, nar: &[u8]) -> String {
    let (hash, size, path) = (hash(nar), nar.len(), path_hash(name));
    format!(
        "StorePath: /nix/store/{path}-{name}\nURL: nar/{hash}.nar\nCompression: none\nFileHash: sha256:{hash}\n\
         FileSize: {size}\nNarHash: sha256:{hash}\nNarSize: {size}\nReferences: \n"
    )
}
