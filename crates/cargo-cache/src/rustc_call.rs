use std::path::{Path, PathBuf};

use crate::reason::Reason;

/// One command line of rustc that compiles, taken apart as far as its key needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RustcCall {
    /// The crate's name.
    pub(crate) crate_name: String,
    /// The crate's root file.
    pub(crate) source: PathBuf,
    /// Where outputs go.
    pub(crate) out_dir: PathBuf,
    /// What cargo appends to file names.
    pub(crate) extra_filename: String,
    /// The files of dependencies by crate name.
    pub(crate) externs: Vec<(String, PathBuf)>,
    /// Folders with native libraries.
    pub(crate) native_dirs: Vec<PathBuf>,
    /// Folders with dependencies.
    pub(crate) dependency_dirs: Vec<PathBuf>,
    /// Files that link arguments name.
    pub(crate) link_files: Vec<PathBuf>,
    /// The linker, where one is named.
    pub(crate) linker: Option<String>,
    /// Whether the linker runs.
    pub(crate) links: bool,
    /// Whether it makes a test executable.
    pub(crate) is_test: bool,
    /// The arguments that decide what comes out, in order: without widths, paths of outputs and dependencies.
    pub(crate) key_arguments: Vec<String>,
}

/// The arguments that take their value as the next one.
const WITH_VALUE: &[&str] = &[
    "--crate-name",
    "--crate-type",
    "--edition",
    "--emit",
    "--print",
    "--out-dir",
    "--cfg",
    "--check-cfg",
    "--cap-lints",
    "--target",
    "--extern",
    "--error-format",
    "--json",
    "--color",
    "--diagnostic-width",
    "--remap-path-prefix",
    "--sysroot",
    "--explain",
    "-o",
    "-C",
    "--codegen",
    "-L",
    "-l",
    "-A",
    "-W",
    "-D",
    "-F",
    "--allow",
    "--warn",
    "--deny",
    "--forbid",
    "--force-warn",
    "-Z",
    "--env-set",
];

/// What an argument and its value add to a call.
impl RustcCall {
    /// Takes a command line apart, the compiler itself left out.
    ///
    /// # Errors
    /// The reason why such a call is not cached.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Reason> {
        let mut call = Self::default();
        let mut seen = Seen::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument.starts_with('@') {
                return Err(Reason::Argument("an argument file"));
            }
            if argument == "-" {
                return Err(Reason::Argument("source from standard input"));
            }
            match split(argument) {
                Some((flag, Some(value))) => call.take(flag, value, &mut seen)?,
                Some((flag, None)) if WITH_VALUE.contains(&flag) => {
                    let value = rest.next().ok_or(Reason::NoCompilation)?;
                    call.take(flag, value, &mut seen)?;
                }
                Some((flag, None)) => call.flag(flag)?,
                None if call.source.as_os_str().is_empty() => {
                    call.source = PathBuf::from(argument);
                    call.key_arguments.push(argument.clone());
                }
                None => return Err(Reason::NoCompilation),
            }
        }
        call.finish(&seen)
    }

    fn flag(&mut self, flag: &str) -> Result<(), Reason> {
        match flag {
            "-vV" | "-V" | "--version" | "-h" | "--help" => return Err(Reason::NoCompilation),
            "--test" => self.is_test = true,
            _ => {}
        }
        self.key_arguments.push(flag.to_owned());
        Ok(())
    }

    fn take(&mut self, flag: &str, value: &str, seen: &mut Seen) -> Result<(), Reason> {
        match flag {
            "--print" | "--explain" => return Err(Reason::NoCompilation),
            "-o" => return Err(Reason::Argument("-o")),
            "-Z" => return Err(Reason::Argument("-Z")),
            "--sysroot" => return Err(Reason::Argument("--sysroot")),
            "--target" if value.ends_with(".json") => return Err(Reason::Argument("a target file")),
            "--diagnostic-width" | "--color" => return Ok(()),
            "--out-dir" => {
                self.out_dir = PathBuf::from(value);
                return Ok(());
            }
            "--extern" => return self.take_extern(value),
            "-L" => return self.take_search_path(value),
            "--crate-name" => value.clone_into(&mut self.crate_name),
            "--crate-type" => seen.crate_types.extend(value.split(',').map(str::to_owned)),
            "--emit" => seen.emits.extend(value.split(',').map(str::to_owned)),
            "-C" | "--codegen" => self.take_codegen(value)?,
            _ => {}
        }
        self.key_arguments.push(format!("{flag} {value}"));
        Ok(())
    }

    fn take_extern(&mut self, value: &str) -> Result<(), Reason> {
        if let Some((name, path)) = value.split_once('=') {
            let plain = name.rsplit_once(':').map_or(name, |(_options, name)| name);
            self.externs.push((plain.to_owned(), PathBuf::from(path)));
        }
        // The options and the name of the file, whose folder and content are keyed elsewhere.
        let (name, path) = value.split_once('=').unwrap_or((value, ""));
        let file = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        self.key_arguments.push(format!("--extern {name}={file}"));
        Ok(())
    }

    fn take_search_path(&mut self, value: &str) -> Result<(), Reason> {
        let (kind, path) = value.split_once('=').unwrap_or(("all", value));
        match kind {
            "dependency" | "crate" => self.dependency_dirs.push(PathBuf::from(path)),
            "native" => {
                self.native_dirs.push(PathBuf::from(path));
                self.key_arguments.push("-L native".to_owned());
            }
            _ => return Err(Reason::Argument("a search path for everything")),
        }
        Ok(())
    }

    fn take_codegen(&mut self, value: &str) -> Result<(), Reason> {
        let (name, value) = value.split_once('=').unwrap_or((value, ""));
        match name {
            "incremental" => return Err(Reason::Incremental),
            "extra-filename" => value.clone_into(&mut self.extra_filename),
            "linker" => self.linker = Some(value.to_owned()),
            "save-temps" | "profile-use" | "profile-generate" | "link-self-contained" | "llvm-args" => {
                return Err(Reason::Argument("a code generation option that reads or leaves files"));
            }
            "link-arg" | "link-args" | "pre-link-args" => {
                let words = value.split([' ', ',', '=']).filter(|word| word.contains('/'));
                self.link_files.extend(words.map(PathBuf::from).filter(|path| path.is_file()));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self, seen: &Seen) -> Result<Self, Reason> {
        if self.source.as_os_str().is_empty() || self.crate_name.is_empty() || self.out_dir.as_os_str().is_empty() {
            return Err(Reason::NoCompilation);
        }
        if !seen.emits.iter().any(|emit| emit == "dep-info") || seen.emits.iter().any(|emit| emit.contains('=')) {
            return Err(Reason::Argument("--emit"));
        }
        let executable = |kind: &String| !matches!(kind.as_str(), "lib" | "rlib");
        let made = self.is_test || seen.crate_types.is_empty() || seen.crate_types.iter().any(executable);
        self.links = made && seen.emits.iter().any(|emit| emit == "link");
        Ok(self)
    }

    /// Whether rustc gives this file name to an output of the call.
    pub(crate) fn makes(&self, file_name: &str) -> bool {
        let stem = format!("{}{}", self.crate_name, self.extra_filename);
        let rest = file_name.strip_prefix(&stem).or_else(|| file_name.strip_prefix("lib")?.strip_prefix(&stem));
        rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('.') && !rest.ends_with(".rcgu.o")))
    }

    /// The name of the dep-info file.
    pub(crate) fn dep_info_name(&self) -> String {
        format!("{}{}.d", self.crate_name, self.extra_filename)
    }
}

#[derive(Default)]
struct Seen {
    crate_types: Vec<String>,
    emits: Vec<String>,
}

/// The flag and the value that is written in one with it; `None` for what is no flag.
fn split(argument: &str) -> Option<(&str, Option<&str>)> {
    if argument.starts_with("--") {
        return Some(match argument.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (argument, None),
        });
    }
    if !argument.starts_with('-') {
        return None;
    }
    for flag in ["-C", "-L", "-l", "-A", "-W", "-D", "-F", "-Z", "-o"] {
        if let Some(value) = argument.strip_prefix(flag).filter(|value| !value.is_empty()) {
            return Some((flag, Some(value)));
        }
    }
    Some((argument, None))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    const LIBRARY: &str = "--crate-name a --edition=2021 src/lib.rs --error-format=json --json=artifacts --crate-type lib \
        --emit=dep-info,metadata,link -C embed-bitcode=no -C metadata=1 -C extra-filename=-1 --out-dir /t/debug/deps \
        -L dependency=/t/debug/deps --extern b=/t/debug/deps/libb-2.rmeta --extern priv:c=/t/debug/deps/libc-3.rmeta \
        -L native=/t/debug/build/x/out -l static=x --cap-lints allow --diagnostic-width=80";

    #[test]
    fn a_library_is_taken_apart() {
        let call = RustcCall::parse(&words(LIBRARY)).expect("a compilation");
        assert_eq!((call.crate_name.as_str(), call.extra_filename.as_str()), ("a", "-1"));
        assert!(!call.links && !call.is_test);
        let names: Vec<&str> = call.externs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(call.native_dirs, [PathBuf::from("/t/debug/build/x/out")]);
        for made in ["liba-1.rlib", "liba-1.rmeta", "a-1.d", "a-1"] {
            assert!(call.makes(made), "{made}");
        }
        for other in ["liba-12.rlib", "libaa-1.rlib", "a-1.x.rcgu.o", "b-1"] {
            assert!(!call.makes(other), "{other}");
        }
    }

    #[test]
    fn width_and_folders_of_dependencies_are_not_in_the_key() {
        let other = LIBRARY.replace("=80", "=120").replace("/t/debug/deps", "/u/debug/deps");
        let key = |text: &str| RustcCall::parse(&words(text)).expect("a compilation").key_arguments;
        assert_eq!(key(LIBRARY), key(&other));
        assert_ne!(key(LIBRARY), key(&LIBRARY.replace("2021", "2024")));
        assert_ne!(key(LIBRARY), key(&LIBRARY.replace("libb-2", "libb-3")));
    }

    #[test]
    fn what_links_is_told_from_what_does_not() {
        for (kind, links) in [("bin", true), ("proc-macro", true), ("cdylib", true), ("rlib", false), ("lib", false)] {
            let call = RustcCall::parse(&words(&LIBRARY.replace("crate-type lib", &format!("crate-type {kind}"))));
            assert_eq!(call.expect("a compilation").links, links, "{kind}");
        }
        let test = RustcCall::parse(&words(&LIBRARY.replace("--crate-type lib", "--test"))).expect("a compilation");
        assert!(test.links && test.is_test);
        let check = RustcCall::parse(&words(&LIBRARY.replace("metadata,link", "metadata"))).expect("a compilation");
        assert!(!check.links);
    }

    #[test]
    fn what_cannot_be_keyed_is_refused_with_a_reason() {
        for (extra, reason) in [
            ("-", Reason::Argument("source from standard input")),
            ("@args", Reason::Argument("an argument file")),
            ("-vV", Reason::NoCompilation),
            ("--print cfg", Reason::NoCompilation),
            ("-C incremental=/t/i", Reason::Incremental),
            ("-Zfoo", Reason::Argument("-Z")),
            ("-o x", Reason::Argument("-o")),
            ("-L /usr/lib", Reason::Argument("a search path for everything")),
            ("-C profile-use=/x", Reason::Argument("a code generation option that reads or leaves files")),
            ("--target x.json", Reason::Argument("a target file")),
        ] {
            assert_eq!(RustcCall::parse(&words(&format!("{LIBRARY} {extra}"))), Err(reason), "{extra}");
        }
        assert_eq!(RustcCall::parse(&words("-vV")), Err(Reason::NoCompilation));
        assert_eq!(RustcCall::parse(&[]), Err(Reason::NoCompilation));
    }

    proptest! {
        #[test]
        fn any_arguments_are_taken_apart_or_refused(arguments in proptest::collection::vec(
            prop_oneof![
                proptest::sample::select(words(LIBRARY)),
                "[-@a-z=/,]{0,12}",
            ],
            0..30,
        )) {
            let _parsed = RustcCall::parse(&arguments);
        }
    }
}
