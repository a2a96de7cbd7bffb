use std::time::{Duration, SystemTime};

use backends::Goal;
use bytesize::ByteSize;
use cache_types::{Digest, DigestFunction, Hash, InstanceName};
use reapi::Origin;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Upkeep that somebody asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Evict down to a goal.
    Gc(Gc),
    /// Check everything.
    Fsck(Fsck),
    /// Drop what a filter names.
    Purge(Purge),
}

/// An eviction; at least one goal is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gc {
    /// The most that the store shall take on disk, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// What was not used for so many seconds goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unused_for_seconds: Option<u64>,
    /// Whether nothing is changed.
    pub dry_run: bool,
}

/// A check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fsck {
    /// Whether nothing is changed.
    pub dry_run: bool,
}

/// A purge: what all that is given names. At least one is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Purge {
    /// An action, or a blob: `HASH`, `HASH/SIZE`, or either behind `FUNCTION/`. A blob goes when nothing else is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// An instance and those below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// Written before this time, as RFC 3339 has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Written at this time or after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Whether nothing is changed.
    pub dry_run: bool,
}

/// What is wrong with a request.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No such task.
    #[error("there is no such task; there are gc, fsck and purge")]
    Task,
    /// The body.
    #[error("the body is not what this task takes: {0}")]
    Body(#[from] serde_json::Error),
    /// An eviction without a goal.
    #[error("give a goal: a size, an age, or both")]
    NoGoal,
    /// A purge without a filter.
    #[error("say what to purge: by digest, instance, writer or time")]
    NoFilter,
    /// A digest.
    #[error("{0:?} is not a digest: write HASH, HASH/SIZE, or either behind FUNCTION/")]
    Digest(String),
    /// An instance name.
    #[error("instance {0:?}: {1}")]
    Instance(String, cache_types::InstanceNameError),
    /// A time.
    #[error("{0:?} is not a time such as 2026-01-31T12:00:00Z")]
    Time(String),
}

impl Request {
    /// Reads the body of a request for a task.
    ///
    /// # Errors
    /// [`RequestError`], also for what parses and makes no sense.
    pub fn parse(task: &str, body: &[u8]) -> Result<Self, RequestError> {
        let body = if body.is_empty() { b"{}" } else { body };
        // An array would do for a struct too, and that is nobody's meaning.
        let body = Value::Object(serde_json::from_slice(body)?);
        let request = match task {
            "gc" => Self::Gc(serde_json::from_value(body)?),
            "fsck" => Self::Fsck(serde_json::from_value(body)?),
            "purge" => Self::Purge(serde_json::from_value(body)?),
            _ => return Err(RequestError::Task),
        };
        request.check()?;
        Ok(request)
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn check(&self) -> Result<(), RequestError> {
        match self {
            Self::Gc(gc) if gc.goal() == Goal::default() => Err(RequestError::NoGoal),
            Self::Purge(purge) => purge.filter().map(|_| ()),
            Self::Gc(_) | Self::Fsck(_) => Ok(()),
        }
    }

    /// The name of the task.
    pub fn task(&self) -> &'static str {
        match self {
            Self::Gc(_) => "gc",
            Self::Fsck(_) => "fsck",
            Self::Purge(_) => "purge",
        }
    }

    /// The body that [`Request::parse`] reads.
    pub fn body(&self) -> String {
        let body = match self {
            Self::Gc(gc) => serde_json::to_string(gc),
            Self::Fsck(fsck) => serde_json::to_string(fsck),
            Self::Purge(purge) => serde_json::to_string(purge),
        };
        body.expect("plain fields become JSON")
    }

    /// The instance in which it has effect; the empty one stands for all.
    pub(crate) fn instance(&self) -> InstanceName {
        let named = match self {
            Self::Purge(purge) => purge.instance.as_deref().and_then(|name| InstanceName::parse(name).ok()),
            Self::Gc(_) | Self::Fsck(_) => None,
        };
        named.unwrap_or_default()
    }
}

impl Gc {
    /// A goal as people give it.
    pub fn new(max_size: Option<ByteSize>, unused_for: Option<Duration>) -> Self {
        Self {
            max_bytes: max_size.map(|size| size.as_u64()),
            unused_for_seconds: unused_for.map(|time| time.as_secs()),
            dry_run: false,
        }
    }

    pub(super) fn goal(&self) -> Goal {
        Goal { max_bytes: self.max_bytes, unused_for: self.unused_for_seconds.map(Duration::from_secs) }
    }
}

/// A purge's filter, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filter {
    pub(super) digest: Option<Hash>,
    instance: Option<InstanceName>,
    writer: Option<String>,
    before: Option<SystemTime>,
    after: Option<SystemTime>,
}

impl Purge {
    pub(super) fn filter(&self) -> Result<Filter, RequestError> {
        let instance =
            |name: &String| InstanceName::parse(name).map_err(|error| RequestError::Instance(name.clone(), error));
        let time =
            |text: &String| humantime::parse_rfc3339_weak(text).map_err(|_error| RequestError::Time(text.clone()));
        let hash = |text: &String| parse_hash(text).ok_or_else(|| RequestError::Digest(text.clone()));
        let filter = Filter {
            digest: self.digest.as_ref().map(hash).transpose()?,
            instance: self.instance.as_ref().map(instance).transpose()?,
            writer: self.writer.clone(),
            before: self.before.as_ref().map(time).transpose()?,
            after: self.after.as_ref().map(time).transpose()?,
        };
        let none = Filter { digest: None, instance: None, writer: None, before: None, after: None };
        if filter == none { Err(RequestError::NoFilter) } else { Ok(filter) }
    }
}

impl Filter {
    pub(super) fn is_digest_alone(&self) -> bool {
        self.instance.is_none() && self.writer.is_none() && self.before.is_none() && self.after.is_none()
    }

    /// Whether it names a record. One that does not say who wrote it, or when, is named by neither.
    pub(super) fn names(&self, origin: &Origin) -> bool {
        let provenance = origin.provenance.as_ref();
        let written = |fits: &dyn Fn(SystemTime) -> bool| provenance.is_some_and(|by| fits(by.written()));
        self.digest.is_none_or(|hash| origin.hashes.contains(&hash))
            && self.instance.as_ref().is_none_or(|prefix| origin.is_under(prefix.as_str()))
            && self.writer.as_ref().is_none_or(|name| provenance.is_some_and(|by| by.writer() == name))
            && self.before.is_none_or(|time| written(&|at| at < time))
            && self.after.is_none_or(|time| written(&|at| at >= time))
    }
}

fn parse_hash(text: &str) -> Option<Hash> {
    if let Ok(digest) = text.parse::<Digest>() {
        return Some(*digest.hash());
    }
    match text.split_once('/') {
        Some((function, hex)) => Hash::from_hex(DigestFunction::from_name(function)?, hex).ok(),
        None => Hash::from_hex(DigestFunction::infer(text.len())?, text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use store::Provenance;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn purge(body: &str) -> Result<Filter, RequestError> {
        match Request::parse("purge", body.as_bytes())? {
            Request::Purge(purge) => purge.filter(),
            _ => unreachable!("a purge was parsed"),
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = [
            ("gc", "{}"),
            ("gc", r#"{"max_bytes": -1}"#),
            ("gc", r#"{"max_bytes": 1, "force": true}"#),
            ("fsck", r#"{"dry-run": true}"#),
            ("fsck", "[]"),
            ("purge", ""),
            ("purge", r#"{"dry_run": true}"#),
            ("purge", r#"{"digest": "abc"}"#),
            ("purge", r#"{"instance": "a/blobs"}"#),
            ("purge", r#"{"before": "yesterday"}"#),
            ("format", "{}"),
        ];
        for (task, body) in refused {
            assert!(Request::parse(task, body.as_bytes()).is_err(), "{task} {body}");
        }
        assert_eq!(Request::parse("fsck", b"").expect("the defaults"), Request::Fsck(Fsck::default()));
    }

    #[test]
    fn a_digest_is_read_in_each_of_its_forms() {
        for text in [HEX, &format!("{HEX}/0"), &format!("sha256/{HEX}"), &format!("sha256/{HEX}/0")] {
            assert_eq!(parse_hash(text), Some(DigestFunction::Sha256.empty_hash()), "{text}");
        }
        let blake3 = parse_hash(&format!("blake3/{HEX}")).map(|hash| hash.function());
        assert_eq!(blake3, Some(DigestFunction::Blake3));
    }

    #[test]
    fn a_record_is_named_when_all_parts_of_the_filter_name_it() {
        let written = humantime::parse_rfc3339("2026-03-01T00:00:00Z").expect("a time");
        let origin = Origin {
            hashes: vec![DigestFunction::Sha256.empty_hash()],
            instance: "team/a".to_owned(),
            provenance: Some(Provenance::at("ci", written)),
        };
        let unsigned = Origin { provenance: None, ..origin.clone() };
        let cases = [
            (r#"{"writer": "ci"}"#, true, false),
            (r#"{"writer": "c"}"#, false, false),
            (r#"{"instance": "team"}"#, true, true),
            (r#"{"instance": "te"}"#, false, false),
            (r#"{"after": "2026-03-01T00:00:00Z", "before": "2026-03-01T00:00:01Z"}"#, true, false),
            (r#"{"before": "2026-03-01T00:00:00Z"}"#, false, false),
            (r#"{"after": "2026-03-01 00:00:01"}"#, false, false),
            (r#"{"instance": "team/a", "writer": "ci", "after": "2026-02-01T00:00:00Z"}"#, true, false),
            (r#"{"instance": "team/b", "writer": "ci"}"#, false, false),
        ];
        for (body, signed, not_signed) in cases {
            let filter = purge(body).expect(body);
            assert_eq!((filter.names(&origin), filter.names(&unsigned)), (signed, not_signed), "{body}");
            assert!(!filter.is_digest_alone());
        }
        let digest = purge(&format!(r#"{{"digest": "{HEX}/0"}}"#)).expect("a digest");
        assert!(digest.is_digest_alone() && digest.names(&origin) && digest.names(&unsigned));
    }

    proptest! {
        #[test]
        fn any_body_is_a_request_or_refused(body in proptest::collection::vec(any::<u8>(), 0..100), task in 0usize..4) {
            let task = ["gc", "fsck", "purge", "other"][task];
            if let Ok(request) = Request::parse(task, &body) {
                prop_assert_eq!(Request::parse(request.task(), request.body().as_bytes()).ok(), Some(request));
            }
        }

        #[test]
        fn bodies_read_back(
            max_bytes: Option<u64>, seconds: Option<u64>, dry_run: bool, writer in proptest::option::of(".{0,20}"),
        ) {
            let gc = Request::Gc(Gc { max_bytes, unused_for_seconds: seconds, dry_run });
            if gc.check().is_ok() {
                prop_assert_eq!(Request::parse("gc", gc.body().as_bytes()).ok(), Some(gc));
            }
            let purge = Request::Purge(Purge { writer, dry_run, ..Purge::default() });
            if purge.check().is_ok() {
                prop_assert_eq!(Request::parse("purge", purge.body().as_bytes()).ok(), Some(purge));
            }
        }
    }
}
