use std::collections::BTreeMap;

use cache_types::{Digest, DigestFunction};

use crate::glob::Glob;
use crate::proto::{FileOp, OpKind, Read, ReadKind, Reason, Result as PromptResult};
use crate::refusal::Refusal;

/// What a tree says of a path where there is no file.
pub const ABSENT: &str = "absent";

/// Operations and reads that one result may name.
const MAX_FILES: usize = 20_000;

/// The digest of a folder's listing: its names in order, a line each, those of folders with `/` at the end.
pub fn listing_digest(mut names: Vec<String>) -> Digest {
    names.sort();
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    Digest::of(DigestFunction::Sha256, text.as_bytes())
}

/// The name in a tree of what a read looked at.
pub(crate) fn place(read: &Read) -> String {
    match read.kind() {
        ReadKind::Listing => format!("{}/", read.path),
        ReadKind::Glob => Glob::place(&read.path),
        _ => read.path.clone(),
    }
}

/// What the tree has to say for a read to be as it was recorded.
fn expected(read: &Read) -> &str {
    match read.kind() {
        ReadKind::Absent => ABSENT,
        _ => &read.digest,
    }
}

/// What the tree has to say before an operation: for each path, the digest or [`ABSENT`].
fn befores(op: &FileOp) -> Vec<(&str, &str)> {
    let before = if op.before.is_empty() { ABSENT } else { &op.before };
    match op.op() {
        OpKind::Rename => vec![(&op.source, before), (&op.path, ABSENT)],
        _ => vec![(&op.path, before)],
    }
}

/// Every place of the caller's tree that a result depends on.
pub(crate) fn needs(result: &PromptResult) -> Vec<String> {
    let reads = result.reads.iter().map(place);
    let befores = result.changes.iter().flat_map(|op| befores(op).into_iter().map(|(path, _)| path.to_owned()));
    let mut needs: Vec<String> = reads.chain(befores).collect();
    needs.sort();
    needs.dedup();
    needs
}

/// Where the caller's tree is not as it was when the result was recorded.
pub(crate) fn changed(result: &PromptResult, tree: &BTreeMap<String, String>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    for read in &result.reads {
        let place = place(read);
        reasons.extend(differs("read_changed", &place, expected(read), tree));
    }
    for op in &result.changes {
        for (path, before) in befores(op) {
            reasons.extend(differs("before_changed", path, before, tree));
        }
    }
    reasons
}

fn differs(code: &str, path: &str, was: &str, tree: &BTreeMap<String, String>) -> Option<Reason> {
    let now = tree.get(path).map(String::as_str);
    if now == Some(was) {
        return None;
    }
    let (code, now) = match now {
        Some(now) => (code, now),
        None => ("needs_tree", ""),
    };
    let text = match code {
        "read_changed" => format!("{path} is not what was read when the result was recorded"),
        "before_changed" => format!("{path} is not what it was before it was changed"),
        _ => format!("the state of {path} was not given"),
    };
    Some(Reason { code: code.to_owned(), text, path: path.to_owned(), was: was.to_owned(), now: now.to_owned() })
}

/// Refuses operations and reads that are not well formed or that could leave the folder they are applied in.
pub(crate) fn check(result: &PromptResult) -> Result<(), Refusal> {
    if result.changes.len() + result.reads.len() > MAX_FILES {
        return Err(Refusal::invalid(format!("a result names at most {MAX_FILES} files")));
    }
    for op in &result.changes {
        check_op(op)?;
    }
    let is_hex = |text: &str, lens: &[usize]| {
        text.is_empty()
            || lens.contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    if !is_hex(&result.commit, &[40, 64]) || !is_hex(&result.requester_statement, &[64]) {
        return Err(Refusal::invalid("`commit` and `requester_statement` are hexadecimal digests"));
    }
    let mut written: Vec<&str> = result.changes.iter().map(|op| op.path.as_str()).collect();
    written.sort_unstable();
    if let Some([path, _]) = written.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Refusal::invalid(format!("two operations on {path}: give the outcome of all of them")));
    }
    for read in &result.reads {
        match read.kind() {
            // The listing of the folder itself.
            ReadKind::Listing if read.path == "." => {}
            ReadKind::Glob => drop(Glob::new(&read.path).map_err(Refusal::invalid)?),
            _ => check_path(&read.path)?,
        }
        match read.kind() {
            ReadKind::File | ReadKind::Listing | ReadKind::Glob => check_digest(&read.digest)?,
            ReadKind::Absent if read.digest.is_empty() => {}
            ReadKind::Absent => return Err(Refusal::invalid("a file that is absent has no digest")),
            ReadKind::ReadUnspecified => {
                return Err(Refusal::invalid(format!("the read of {} has no kind", read.path)));
            }
        }
    }
    Ok(())
}

fn check_op(op: &FileOp) -> Result<(), Refusal> {
    let path = &op.path;
    check_path(path)?;
    if !op.before.is_empty() {
        check_digest(&op.before)?;
    }
    let given = |what: &str, is: bool| match is {
        true => Ok(()),
        false => Err(Refusal::invalid(format!("the operation on {path} needs `{what}`"))),
    };
    match op.op() {
        OpKind::Write => check_digest(&op.after)?,
        OpKind::Delete => given("before", !op.before.is_empty())?,
        OpKind::Chmod => given("before", !op.before.is_empty())?,
        OpKind::Rename => {
            check_path(&op.source)?;
            given("before", !op.before.is_empty())?;
        }
        OpKind::Symlink => given("source", !op.source.is_empty())?,
        OpKind::OpUnspecified => return Err(Refusal::invalid(format!("the operation on {path} has no kind"))),
    }
    if op.mode & !0o777 != 0 {
        return Err(Refusal::invalid(format!("the mode of {path} is more than permissions")));
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), Refusal> {
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains(['\0', '\\']);
    if Glob::of_place(path).is_some() {
        return Err(Refusal::invalid(format!("{path:?} is how patterns are written, not paths")));
    }
    if path.len() <= 4096 && path.split('/').all(is_segment) {
        return Ok(());
    }
    Err(Refusal::invalid(format!("{path:?} is no relative path without . and ..")))
}

fn check_digest(digest: &str) -> Result<(), Refusal> {
    digest.parse::<Digest>().map(|_| ()).map_err(|error| Refusal::invalid(format!("{digest:?}: {error}")))
}

/// Every blob that a result names.
pub(crate) fn blobs(result: &PromptResult) -> Result<Vec<Digest>, Refusal> {
    let named =
        [&result.response, &result.raw_sse, &result.dsse].into_iter().chain(result.changes.iter().map(|op| &op.after));
    let calls = result.calls.iter().flat_map(|call| [&call.input, &call.result]);
    let given = named.chain(calls).filter(|digest| !digest.is_empty());
    given.map(|digest| digest.parse().map_err(|error| Refusal::invalid(format!("{digest:?}: {error}")))).collect()
}
