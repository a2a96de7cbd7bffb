//! What an action result may hold. Spec: R-130.

use cache_types::{Digest, DigestError};
use prost::Message;

use crate::Settings;
use crate::convert::DigestReader;
use crate::proto::re;

/// Why an action result was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionResultError {
    /// Not the message.
    #[error("not an ActionResult message")]
    Malformed(#[source] prost::DecodeError),
    /// A digest that is none.
    #[error("{field}: {source}")]
    Digest {
        /// Where it is.
        field: &'static str,
        /// What is wrong with it.
        source: DigestError,
    },
    /// A rule of the message is broken.
    #[error("{field}: {rule}")]
    Rule {
        /// Where.
        field: &'static str,
        /// The rule.
        rule: &'static str,
    },
}

/// Checks an encoded `ActionResult`; the digest function is inferred.
///
/// # Errors
/// Any [`ActionResultError`].
pub fn action_result(encoded: &[u8]) -> Result<(), ActionResultError> {
    let result = re::ActionResult::decode(encoded).map_err(ActionResultError::Malformed)?;
    check(&result, &mut DigestReader::inferring(&Settings::default())).map(|_named| ())
}

/// What an action result names, sorted by what has to be looked at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// Blobs that are asked for by digest only.
    pub(crate) blobs: Vec<Digest>,
    /// `Tree` messages.
    pub(crate) trees: Vec<Digest>,
    /// Roots of trees of `Directory` messages.
    pub(crate) directories: Vec<Digest>,
}

/// Checks a decoded result and gathers what it names.
#[expect(deprecated, reason = "the old forms of symlinks are checked like the new one")]
pub(crate) fn check(result: &re::ActionResult, reader: &mut DigestReader) -> Result<Named, ActionResultError> {
    let mut named = Named::default();
    for file in &result.output_files {
        check_file(file, reader, &mut named)?;
    }
    for directory in &result.output_directories {
        check_directory(directory, reader, &mut named)?;
    }
    let symlinks = [&result.output_symlinks, &result.output_file_symlinks, &result.output_directory_symlinks];
    for symlink in symlinks.into_iter().flatten() {
        check_symlink(symlink)?;
    }
    for (field, digest) in [("stdout_digest", &result.stdout_digest), ("stderr_digest", &result.stderr_digest)] {
        if let Some(digest) = digest {
            named.blobs.push(read(reader, digest, field)?);
        }
    }
    Ok(named)
}

fn check_file(file: &re::OutputFile, reader: &mut DigestReader, named: &mut Named) -> Result<(), ActionResultError> {
    const FIELD: &str = "output_files";
    check_path(&file.path, FIELD)?;
    if file.path.is_empty() {
        return Err(rule(FIELD, "a path must not be empty"));
    }
    match &file.digest {
        Some(digest) => named.blobs.push(read(reader, digest, FIELD)?),
        None if file.contents.is_empty() => return Err(rule(FIELD, "a file must have a digest")),
        None => {}
    }
    Ok(())
}

fn check_directory(
    directory: &re::OutputDirectory,
    reader: &mut DigestReader,
    named: &mut Named,
) -> Result<(), ActionResultError> {
    const FIELD: &str = "output_directories";
    check_path(&directory.path, FIELD)?;
    if directory.tree_digest.is_none() && directory.root_directory_digest.is_none() {
        return Err(rule(FIELD, "a directory must have a tree_digest or a root_directory_digest"));
    }
    if let Some(digest) = &directory.tree_digest {
        named.trees.push(read(reader, digest, FIELD)?);
    }
    if let Some(digest) = &directory.root_directory_digest {
        named.directories.push(read(reader, digest, FIELD)?);
    }
    Ok(())
}

fn check_symlink(symlink: &re::OutputSymlink) -> Result<(), ActionResultError> {
    const FIELD: &str = "output_symlinks";
    check_path(&symlink.path, FIELD)?;
    if symlink.path.is_empty() || symlink.target.is_empty() {
        return Err(rule(FIELD, "a symlink must have a path and a target"));
    }
    if symlink.target.contains('\0') {
        return Err(rule(FIELD, "a target must not hold NUL"));
    }
    Ok(())
}

fn check_path(path: &str, field: &'static str) -> Result<(), ActionResultError> {
    if path.starts_with('/') {
        return Err(rule(field, "a path must not start with '/'"));
    }
    if path.contains('\0') {
        return Err(rule(field, "a path must not hold NUL"));
    }
    Ok(())
}

fn read(reader: &mut DigestReader, digest: &re::Digest, field: &'static str) -> Result<Digest, ActionResultError> {
    reader.read(digest).map_err(|source| ActionResultError::Digest { field, source })
}

fn rule(field: &'static str, rule: &'static str) -> ActionResultError {
    ActionResultError::Rule { field, rule }
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;
    use proptest::prelude::*;

    use super::*;
    use crate::convert::to_wire;

    fn digest(data: &[u8]) -> Option<re::Digest> {
        Some(to_wire(&Digest::of(DigestFunction::Sha256, data)))
    }

    fn file(path: &str) -> re::OutputFile {
        re::OutputFile { path: path.to_owned(), digest: digest(path.as_bytes()), ..Default::default() }
    }

    fn refused(result: &re::ActionResult) -> bool {
        action_result(&result.encode_to_vec()).is_err()
    }

    #[test]
    #[expect(deprecated, reason = "the old forms of symlinks are checked like the new one")]
    fn each_rule_refuses_what_breaks_it() {
        let with_file = |file| re::ActionResult { output_files: vec![file], ..Default::default() };
        assert!(!refused(&with_file(file("a/../b"))));
        for path in ["", "/a", "a\0b"] {
            assert!(refused(&with_file(file(path))), "{path:?}");
        }
        assert!(refused(&with_file(re::OutputFile { digest: None, ..file("a") })));
        let inline = re::OutputFile { digest: None, contents: b"x".as_slice().into(), ..file("a") };
        assert!(!refused(&with_file(inline)));
        let negative = re::Digest { size_bytes: -1, ..digest(b"").expect("made") };
        assert!(refused(&with_file(re::OutputFile { digest: Some(negative), ..file("a") })));

        let with_directory = |path: &str, tree, root| re::ActionResult {
            output_directories: vec![re::OutputDirectory {
                path: path.to_owned(),
                tree_digest: tree,
                root_directory_digest: root,
                ..Default::default()
            }],
            ..Default::default()
        };
        assert!(!refused(&with_directory("", digest(b"t"), None)));
        assert!(!refused(&with_directory("d", None, digest(b"r"))));
        assert!(refused(&with_directory("d", None, None)));
        assert!(refused(&with_directory("/d", digest(b"t"), None)));

        let link = |path: &str, target: &str| re::OutputSymlink {
            path: path.to_owned(),
            target: target.to_owned(),
            ..Default::default()
        };
        for (link, bad) in
            [(link("l", "/abs"), false), (link("", "t"), true), (link("/l", "t"), true), (link("l", ""), true)]
        {
            let new = re::ActionResult { output_symlinks: vec![link.clone()], ..Default::default() };
            let old = re::ActionResult { output_file_symlinks: vec![link], ..Default::default() };
            assert_eq!((refused(&new), refused(&old)), (bad, bad));
        }
    }

    #[test]
    fn digests_of_two_functions_in_one_result_are_refused() {
        let mut result = re::ActionResult { output_files: vec![file("a")], ..Default::default() };
        result.stdout_digest = Some(to_wire(&Digest::of(DigestFunction::Sha1, b"x")));
        assert!(refused(&result));
    }

    proptest! {
        #[test]
        fn any_bytes_are_checked_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _checked = action_result(&bytes).is_ok();
        }

        #[test]
        fn well_formed_results_pass_and_name_all_they_hold(
            files in proptest::collection::vec("[a-z]{1,8}(/[a-z.]{1,8}){0,3}", 0..6),
            trees in proptest::collection::vec("[a-z]{0,8}", 0..4),
            exit_code in any::<i32>(),
        ) {
            let result = re::ActionResult {
                output_files: files.iter().map(|path| file(path)).collect(),
                output_directories: trees
                    .iter()
                    .map(|path| re::OutputDirectory {
                        path: path.clone(),
                        tree_digest: digest(path.as_bytes()),
                        ..Default::default()
                    })
                    .collect(),
                exit_code,
                stdout_digest: digest(b"out"),
                ..Default::default()
            };
            let named = check(&result, &mut DigestReader::of(DigestFunction::Sha256)).expect("well formed");
            prop_assert_eq!(named.blobs.len(), files.len() + 1);
            prop_assert_eq!(named.trees.len(), trees.len());
            prop_assert!(!refused(&result));
        }
    }
}
