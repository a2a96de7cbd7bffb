use bytes::{BufMut, BytesMut};
use cache_types::{DigestFunction, Hash, InstanceName};
use percent_encoding::percent_decode_str;
use store::{RecordKey, RecordKind};

use super::refusal::Refusal;
use crate::Settings;

/// More than any client uses; a record's key holds it.
const MAX_PATH_LEN: usize = 2048;

/// The digits of a ccache key.
const CCACHE_DIGITS: usize = 40;

/// What a path names. Empty segments count as absent. Spec: H-60.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `[instance/]cas/HASH`; blobs are shared by all instances. Spec: H-24.
    Cas { instance: InstanceName, hash: Hash },
    /// `[instance/]ac/HASH`
    Action { instance: InstanceName, hash: Hash },
    /// A value of a client with keys of its own.
    Value(ValueKey),
    /// `/webdav/…`
    WebDav { key: ValueKey, is_collection: bool },
    /// `/v8/artifacts/HASH`
    Artifact { hash: String },
    /// `/v8/artifacts`
    Artifacts,
    /// `/v8/artifacts/events`
    ArtifactEvents,
    /// `/v8/artifacts/status`
    ArtifactStatus,
    /// `/status`
    Status,
    /// `/healthz`
    Health,
}

/// Which clients share a space of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Space {
    /// What is put under `/ac/` and is no action result.
    Action = 1,
    Ccache = 2,
    WebDav = 3,
    Gradle = 4,
    Turborepo = 5,
    Nx = 6,
}

impl Space {
    const ALL: [Self; 6] = [Self::Action, Self::Ccache, Self::WebDav, Self::Gradle, Self::Turborepo, Self::Nx];
}

/// The key of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ValueKey {
    pub(super) space: Space,
    pub(super) path: String,
}

impl ValueKey {
    pub(super) fn new(space: Space, path: impl Into<String>) -> Self {
        Self { space, path: path.into() }
    }

    /// Bytes under `/ac/` that are no action result.
    pub(super) fn action(instance: &InstanceName, hash: &Hash) -> Self {
        Self::new(Space::Action, format!("{hash}/{instance}"))
    }

    pub(super) fn record(&self) -> RecordKey {
        let mut key = BytesMut::with_capacity(1 + self.path.len());
        key.put_u8(self.space as u8);
        key.put_slice(self.path.as_bytes());
        RecordKey { kind: RecordKind::HttpValue, key: key.freeze() }
    }

    /// What [`ValueKey::record`] wrote; `None` when it is something else.
    pub(super) fn parse(key: &[u8]) -> Option<Self> {
        let (&number, path) = key.split_first()?;
        let space = Space::ALL.into_iter().find(|space| *space as u8 == number)?;
        Some(Self { space, path: std::str::from_utf8(path).ok()?.to_owned() })
    }

    /// What stands for the instance: that behind the key, or all of the path where the client forms it.
    pub(super) fn instance_path(&self) -> &str {
        match self.space {
            Space::Action | Space::Ccache | Space::Turborepo => {
                self.path.split_once('/').map_or("", |(_, instance)| instance)
            }
            Space::WebDav | Space::Gradle => &self.path,
            Space::Nx => "",
        }
    }

    /// The hash of the action that it stands for, if it does.
    pub(super) fn action_hash(&self) -> Option<Hash> {
        let (hex, _) = self.path.split_once('/').filter(|_| self.space == Space::Action)?;
        Hash::from_hex(DigestFunction::infer(hex.len())?, hex).ok()
    }

    pub(super) fn may_be_deleted(&self) -> bool {
        matches!(self.space, Space::Ccache | Space::WebDav)
    }
}

impl Route {
    /// Reads the path of a URL. A hash has the function that one of its length stands for in its instance. Spec: H-02.
    pub(super) fn parse(path: &str, settings: &Settings) -> Result<Self, Refusal> {
        if path.len() > MAX_PATH_LEN {
            return Err(malformed("a path has at most 2048 bytes"));
        }
        let segments = path.split('/').filter(|segment| !segment.is_empty()).map(segment);
        let segments = segments.collect::<Result<Vec<String>, Refusal>>()?;
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["status"] => Ok(Self::Status),
            ["healthz"] => Ok(Self::Health),
            ["webdav", key @ ..] => Ok(Self::WebDav {
                key: ValueKey::new(Space::WebDav, key.join("/")),
                is_collection: key.is_empty() || path.ends_with('/'),
            }),
            ["gradle", key @ ..] => free(Space::Gradle, key),
            ["v8", "artifacts"] => Ok(Self::Artifacts),
            ["v8", "artifacts", "status"] => Ok(Self::ArtifactStatus),
            ["v8", "artifacts", "events"] => Ok(Self::ArtifactEvents),
            ["v8", "artifacts", hash] => Ok(Self::Artifact { hash: (*hash).to_owned() }),
            ["v1", "cache", key] => free(Space::Nx, &[key]),
            // A ccache key may begin with the digits `ac`, and its path then looks like an action's.
            [prefix @ .., head, rest] if head.len() == 2 && is_hex(head) && is_hex_of(rest, CCACHE_DIGITS - 2) => {
                ccache(prefix, &format!("{head}{rest}"))
            }
            [prefix @ .., "cas", hex] => {
                named(prefix, hex, settings).map(|(instance, hash)| Self::Cas { instance, hash })
            }
            [prefix @ .., "ac", hex] => {
                named(prefix, hex, settings).map(|(instance, hash)| Self::Action { instance, hash })
            }
            [prefix @ .., key] if is_hex_of(key, CCACHE_DIGITS) => ccache(prefix, key),
            _ => Err(Refusal::Missing),
        }
    }
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

fn free(space: Space, key: &[&str]) -> Result<Route, Refusal> {
    if key.is_empty() {
        return Err(Refusal::Missing);
    }
    Ok(Route::Value(ValueKey::new(space, key.join("/"))))
}

fn ccache(prefix: &[&str], key: &str) -> Result<Route, Refusal> {
    // One key in either layout.
    Ok(Route::Value(ValueKey::new(Space::Ccache, format!("{key}/{}", prefix.join("/")))))
}

/// The instance before `cas` or `ac`, and the hash after it.
fn named(prefix: &[&str], hex: &str, settings: &Settings) -> Result<(InstanceName, Hash), Refusal> {
    let instance = InstanceName::parse(&prefix.join("/")).map_err(|error| Refusal::Malformed(error.to_string()))?;
    let function = settings.infer_in(&instance, hex.len());
    let function = function.ok_or_else(|| malformed("a hash has 64 hexadecimal digits"))?;
    let hash = Hash::from_hex(function, hex).map_err(|error| Refusal::Malformed(error.to_string()))?;
    Ok((instance, hash))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_hex_of(text: &str, digits: usize) -> bool {
    text.len() == digits && is_hex(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(path: &str) -> Result<Route, Refusal> {
        Route::parse(path, &Settings::default())
    }

    fn value(path: &str) -> Option<(Space, String)> {
        match parse(path) {
            Ok(Route::Value(key) | Route::WebDav { key, .. }) => Some((key.space, key.path)),
            _ => None,
        }
    }

    #[test]
    fn bazels_paths_carry_an_instance_and_doubled_slashes_count_once() {
        for (path, name) in [("/ac/", ""), ("//ac/", ""), ("/team/a/ac/", "team/a"), ("/ac/ac/", "ac")] {
            let instance = InstanceName::parse(name).expect("a name");
            let hash = Hash::from_hex(DigestFunction::Sha256, HEX).expect("a hash");
            let route = parse(&format!("{path}{HEX}")).expect(path);
            assert_eq!(route, Route::Action { instance, hash });
        }
        assert!(matches!(parse(&format!("/x/cas/{HEX}")), Ok(Route::Cas { .. })));
    }

    #[test]
    fn malformed_names_are_400_and_unknown_paths_404() {
        let upper = HEX.to_uppercase();
        let long = format!("/webdav/{}", "a".repeat(3000));
        for path in ["/ac/abc", "/cas/../x", "/webdav/%2e%2e/x", "/webdav/a%2fb", "/webdav/a%00", "/gradle/%ff", &long]
        {
            assert!(matches!(parse(path), Err(Refusal::Malformed(_))), "{path}");
        }
        for path in [format!("/cas/{upper}"), format!("/blobs/ac/{HEX}"), format!("/a/./ac/{HEX}")] {
            assert!(matches!(parse(&path), Err(Refusal::Malformed(_))), "{path}");
        }
        for path in ["/", "/x", "/gradle", "/v1/cache", "/v8", "*", "/ac"] {
            assert!(matches!(parse(path), Err(Refusal::Missing)), "{path}");
        }
    }

    #[test]
    fn both_layouts_of_ccache_are_one_key_even_where_it_begins_like_an_action() {
        let key = format!("ac{}", &HEX[..38]);
        let flat = value(&format!("/p/{key}")).expect("flat");
        assert_eq!(flat, (Space::Ccache, format!("{key}/p")));
        assert_eq!(value(&format!("/p/ac/{}", &HEX[..38])), Some(flat));
        assert_eq!(value(&format!("/{key}")), Some((Space::Ccache, format!("{key}/"))));
    }

    #[test]
    fn other_clients_have_their_prefix() {
        assert_eq!(value("/webdav/a/b/c"), Some((Space::WebDav, "a/b/c".to_owned())));
        assert_eq!(value("/gradle/cache/0a"), Some((Space::Gradle, "cache/0a".to_owned())));
        assert_eq!(value("/v1/cache/123"), Some((Space::Nx, "123".to_owned())));
        assert_eq!(parse("/v8/artifacts/status").ok(), Some(Route::ArtifactStatus));
        assert!(matches!(parse("/webdav/a/"), Ok(Route::WebDav { is_collection: true, .. })));
        assert!(matches!(parse("/webdav/a"), Ok(Route::WebDav { is_collection: false, .. })));
    }

    proptest! {
        #[test]
        fn no_path_names_what_lies_outside(path in "(/?[a-f0-9.%2/]{0,6}|webdav|gradle|ac|cas){0,6}") {
            if let Ok(Route::Value(key) | Route::WebDav { key, .. }) = parse(&path) {
                prop_assert!(key.path.split('/').all(|segment| segment != ".."));
                prop_assert!(key.record().key.len() <= 4096);
            }
        }
    }
}
