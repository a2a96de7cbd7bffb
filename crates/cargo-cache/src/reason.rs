use std::fmt;

/// Why a call is not cached, or why it was a miss. The texts are what `--stats` counts by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// No run of it is on record.
    New,
    /// Runs are on record, and in the nearest this was different.
    Changed(String),
    /// Its result was on record and is no longer in the cache.
    Evicted,
    /// A share of the hits is run all the same, to compare.
    Verifying,
    /// rustc or rustdoc was asked for something else than a compilation.
    NoCompilation,
    /// Another compiler in rustc's place.
    OtherCompiler,
    /// The arguments hold something whose inputs are not known.
    Argument(&'static str),
    /// Arguments, variables or paths are not UTF-8, or cannot be told from a name of ours.
    Text,
    /// Incremental compilation keeps its own state.
    Incremental,
    /// A dependency that was not compiled under this command, so what it consists of is not known.
    UnknownDependency(String),
    /// An input could not be read.
    Unreadable(String),
    /// Test results are not to be cached here.
    TestCacheOff,
    /// The executable belongs to no package of the workspace.
    OtherPackage,
    /// The compiler refused it, as it does where a build script tries what it can do.
    Refused,
    /// The cache cannot be asked.
    NoServer,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("not seen before"),
            Self::Changed(what) => write!(f, "{what} changed"),
            Self::Evicted => f.write_str("evicted from the cache"),
            Self::Verifying => f.write_str("run again to compare"),
            Self::NoCompilation => f.write_str("no compilation"),
            Self::OtherCompiler => f.write_str("another compiler"),
            Self::Argument(which) => write!(f, "{which}, whose inputs are not known"),
            Self::Text => f.write_str("arguments or variables that are not plain text"),
            Self::Incremental => f.write_str("incremental compilation"),
            Self::UnknownDependency(name) => write!(f, "dependency {name} was built without the cache"),
            Self::Unreadable(path) => write!(f, "{path} could not be read"),
            Self::TestCacheOff => f.write_str("test results are not cached here"),
            Self::OtherPackage => f.write_str("not of this workspace"),
            Self::Refused => f.write_str("refused by the compiler"),
            Self::NoServer => f.write_str("the cache did not answer"),
        }
    }
}
