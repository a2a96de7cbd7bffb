//! Actions and their results in plain types, for callers that key work of their own by the protocol's rules.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cache_types::{Digest, DigestFunction};
use prost::Message;

use crate::convert::to_wire;
use crate::proto::re;

/// An action before it is encoded: what runs, with which environment, on which files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActionSpec {
    /// The command line.
    pub arguments: Vec<String>,
    /// The environment; sorted, as the protocol wants it.
    pub environment: BTreeMap<String, String>,
    /// The input files by path, segments joined by `/`, without a leading one.
    pub inputs: BTreeMap<String, InputFile>,
    /// The files that it makes.
    pub output_paths: Vec<String>,
    /// The folder that it runs in, relative to the input root.
    pub working_directory: String,
    /// What tells apart actions that are alike otherwise.
    pub salt: Bytes,
}

/// One input of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputFile {
    /// Its content.
    pub digest: Digest,
    /// Whether it can be run.
    pub executable: bool,
}

/// An encoded action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The digest of the action: the key of its result.
    pub digest: Digest,
    /// The messages that it consists of: Action, Command, directories.
    pub blobs: Vec<(Digest, Bytes)>,
}

/// A folder of the input root while it is put together.
#[derive(Default)]
struct Folder {
    files: BTreeMap<String, InputFile>,
    folders: BTreeMap<String, Folder>,
}

impl ActionSpec {
    /// Encodes the action in canonical form, so that equal actions have equal digests. Spec: R-140.
    pub fn encode(&self, function: DigestFunction) -> Action {
        let mut blobs = Vec::new();
        let command = re::Command {
            arguments: self.arguments.clone(),
            environment_variables: self
                .environment
                .iter()
                .map(|(name, value)| re::command::EnvironmentVariable { name: name.clone(), value: value.clone() })
                .collect(),
            output_paths: self.output_paths.clone(),
            working_directory: self.working_directory.clone(),
            ..Default::default()
        };
        let command = push(&mut blobs, function, &command);
        let mut root = Folder::default();
        for (path, file) in &self.inputs {
            root.insert(path, *file);
        }
        let root = root.encode(function, &mut blobs);
        let action = re::Action {
            command_digest: Some(to_wire(&command)),
            input_root_digest: Some(to_wire(&root)),
            salt: self.salt.clone(),
            ..Default::default()
        };
        let digest = push(&mut blobs, function, &action);
        Action { digest, blobs }
    }
}

impl Folder {
    fn insert(&mut self, path: &str, file: InputFile) {
        match path.split_once('/') {
            Some(("" | ".", rest)) => self.insert(rest, file),
            Some((segment, rest)) => self.folders.entry(segment.to_owned()).or_default().insert(rest, file),
            None => {
                self.files.insert(path.to_owned(), file);
            }
        }
    }

    fn encode(self, function: DigestFunction, blobs: &mut Vec<(Digest, Bytes)>) -> Digest {
        let files = self.files.into_iter().map(|(name, file)| re::FileNode {
            name,
            digest: Some(to_wire(&file.digest)),
            is_executable: file.executable,
            ..Default::default()
        });
        let files = files.collect();
        let folders = self
            .folders
            .into_iter()
            .map(|(name, folder)| re::DirectoryNode { name, digest: Some(to_wire(&folder.encode(function, blobs))) });
        let directories = folders.collect();
        push(blobs, function, &re::Directory { files, directories, ..Default::default() })
    }
}

fn push(blobs: &mut Vec<(Digest, Bytes)>, function: DigestFunction, message: &impl Message) -> Digest {
    let bytes = Bytes::from(message.encode_to_vec());
    let digest = Digest::of(function, &bytes);
    blobs.push((digest, bytes));
    digest
}

/// The result of an action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The files that it made.
    pub files: Vec<OutputFile>,
    /// The exit code.
    pub exit_code: i32,
    /// All of standard output.
    pub stdout: Bytes,
    /// All of standard error.
    pub stderr: Bytes,
    /// When the run began, and how long it took.
    pub ran: Option<(SystemTime, Duration)>,
}

/// One file that an action made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFile {
    /// Its path, relative to the working directory.
    pub path: String,
    /// Its content.
    pub digest: Digest,
    /// Whether it can be run.
    pub executable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(data: &[u8]) -> InputFile {
        InputFile { digest: Digest::of(DigestFunction::Sha256, data), executable: false }
    }

    #[test]
    fn each_part_of_an_action_changes_its_digest() {
        let base = ActionSpec {
            arguments: vec!["cc".to_owned()],
            inputs: [("a/b.c".to_owned(), file(b"1")), ("a.c".to_owned(), file(b"2"))].into(),
            ..Default::default()
        };
        let digest = |spec: &ActionSpec| spec.encode(DigestFunction::Sha256).digest;
        let mut others = vec![digest(&base)];
        let mut changed = |change: &dyn Fn(&mut ActionSpec)| {
            let mut spec = base.clone();
            change(&mut spec);
            let found = digest(&spec);
            assert!(!others.contains(&found), "{spec:?}");
            others.push(found);
        };
        changed(&|spec| spec.arguments.push("-c".to_owned()));
        changed(&|spec| spec.environment.extend([("A".to_owned(), "1".to_owned())]));
        changed(&|spec| spec.inputs.extend([("a/b.c".to_owned(), file(b"3"))]));
        changed(&|spec| spec.inputs.extend([("a/c.c".to_owned(), file(b"1"))]));
        changed(&|spec| spec.output_paths.push("o".to_owned()));
        changed(&|spec| spec.working_directory.push('w'));
        changed(&|spec| spec.salt = Bytes::from_static(b"s"));
    }

    #[test]
    fn an_action_brings_all_its_messages() {
        let spec = ActionSpec {
            inputs: [("x/y/z".to_owned(), file(b"1")), ("x/w".to_owned(), file(b"2"))].into(),
            ..Default::default()
        };
        let action = spec.encode(DigestFunction::Blake3);
        // The command, x/y, x, the root, the action.
        assert_eq!(action.blobs.len(), 5);
        for (digest, bytes) in &action.blobs {
            assert_eq!(*digest, Digest::of(DigestFunction::Blake3, bytes));
        }
        assert!(action.blobs.iter().any(|(digest, _)| *digest == action.digest));
    }
}
