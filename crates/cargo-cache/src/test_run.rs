//! Runs of test executables: each is an action, keyed by all that it can tell apart.

use std::path::Path;
use std::sync::Arc;

use cache_types::Digest;
use reapi::action::{ActionSpec, InputFile, Outcome};

use crate::file_digests::FUNCTION;
use crate::inputs::TestInputs;
use crate::key::KeyHasher;
use crate::links::name;
use crate::outputs;
use crate::path_map::PathMap;
use crate::reason::Reason;
use crate::seen::Files;
use crate::session::{Looked, Pending as AnyPending, Record, Session};
use crate::standin::StandIn;
use crate::wire::{Call, Tool};
use crate::workspace::Package;

/// Variables that differ from one terminal, login or build to the next, and that no test should look at.
const UNKEYED: &[&str] = &[
    "_",
    "CARGO_MAKEFLAGS",
    "CLICOLOR",
    "COLORTERM",
    "COLUMNS",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "HOSTNAME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LINES",
    "LOGNAME",
    "LS_COLORS",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
    "OLDPWD",
    "PWD",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "SHLVL",
    "TERM",
    "TERM_PROGRAM",
    "TMPDIR",
    "USER",
    "WINDOWID",
];
/// Beginnings of such variables.
const UNKEYED_PREFIXES: &[&str] = &["SSH_", "XDG_SESSION", "TWOFOLD_", "CARGO_TARGET_"];

/// A run that happens, and the action that it is.
pub(crate) struct Pending {
    pub(crate) spec: ActionSpec,
    /// What the cache had, where the run is to be compared with it.
    pub(crate) compared: Option<String>,
}

/// Answers a run of a test executable.
pub(crate) fn look_up(session: &Session, call: &Call) -> Result<Looked, Reason> {
    let (program, arguments) = call.command.split_first().ok_or(Reason::NoCompilation)?;
    let program = Path::new(&call.folder).join(program);
    let package = package(session, call, &program)?;
    let standin = StandIn::at(&program).map_err(|_| Reason::Unreadable(name(&program)))?;
    let executable = match &standin {
        Some(standin) => standin.digest,
        None => session.digests.of(&program).map_err(|_| Reason::Unreadable(name(&program)))?,
    };
    let key = key(session, package, &program, &executable)?;
    let note = || Some(format!("    Replayed {} (passed before)", name(&program)));
    let asked = |files: &Files| {
        let mut spec = spec(session, call, arguments, files, key.clone())?;
        let program = session.map.to_names(program.to_str().ok_or(Reason::Text)?);
        spec.inputs.insert(program, InputFile { digest: executable, executable: true });
        answer(session, spec, note)
    };
    if let Some(files) = session.seen.still(package.folder())
        && let hit @ Looked::Hit { .. } = asked(&files)?
    {
        return Ok(hit);
    }
    // What runs is put on record under what is there now.
    let look = session.seen.look();
    let inputs = TestInputs { workspace: &session.workspace, package, digests: &session.digests };
    let inputs = inputs.without_targets(|_| false)?;
    let files = Arc::new(Files::named(&session.map, inputs)?);
    session.seen.note(look, package.folder(), files.clone());
    let found = asked(&files)?;
    if let (Looked::Miss { .. }, Some(standin)) = (&found, &standin) {
        materialize(session, standin, &program)?;
    }
    Ok(found)
}

/// What decides of a run beside its package's files.
fn key(session: &Session, package: &Package, program: &Path, executable: &Digest) -> Result<String, Reason> {
    let mut key = KeyHasher::new("test-1");
    key.file("executable", executable);
    for library in session.links.made(executable).map(|made| made.dependencies).unwrap_or_default() {
        if library.extension().is_some_and(|extension| extension == "so") {
            key.file(&name(&library), &session.digests.of(&library).map_err(|_| Reason::Unreadable(name(&library)))?);
        }
    }
    programs(session, package, program, &mut key)?;
    Ok(key.finish())
}

/// The member whose test this is, if its results may be cached.
fn package<'a>(session: &'a Session, call: &Call, program: &Path) -> Result<&'a Package, Reason> {
    if !session.settings.test_cache {
        return Err(Reason::TestCacheOff);
    }
    if !program.starts_with(&session.workspace.target) {
        return Err(Reason::OtherPackage);
    }
    let folder = call.environment.get("CARGO_MANIFEST_DIR").ok_or(Reason::OtherPackage)?;
    let package = session.workspace.package_in(Path::new(folder)).ok_or(Reason::OtherPackage)?;
    let declared = &package.metadata.twofold;
    // cargo appends a hash to the target's name.
    let file = name(program);
    let target = file.rsplit_once('-').map_or(file.as_str(), |(target, _)| target);
    let always_runs = |test: &String| test.replace('-', "_") == target || test == target;
    if !declared.test_cache || declared.uncached_tests.iter().any(always_runs) {
        return Err(Reason::TestCacheOff);
    }
    Ok(package)
}

/// Mixes in the programs of the package, which its tests may run.
fn programs(session: &Session, package: &Package, program: &Path, key: &mut KeyHasher) -> Result<(), Reason> {
    let profile = program.parent().and_then(Path::parent).ok_or(Reason::OtherPackage)?;
    for (path, target) in package.programs() {
        let path = profile.join(path);
        if path.is_file() {
            key.file(target, &session.digests.of(&path).map_err(|_| Reason::Unreadable(target.to_owned()))?);
        }
    }
    Ok(())
}

/// Whether a variable is part of the key of what may read all variables.
pub(crate) fn is_keyed(name: &str) -> bool {
    !UNKEYED.contains(&name) && !UNKEYED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The action of a run that reads these files in this environment.
pub(crate) fn spec(
    session: &Session,
    call: &Call,
    arguments: &[String],
    files: &Files,
    salt: String,
) -> Result<ActionSpec, Reason> {
    if arguments.iter().any(|argument| PathMap::is_ambiguous(argument)) {
        return Err(Reason::Text);
    }
    let variables = call.environment.iter().filter(|(name, _)| is_keyed(name));
    Ok(ActionSpec {
        arguments: arguments.iter().map(|argument| session.map.to_names(argument)).collect(),
        environment: variables.map(|(name, value)| (name.clone(), session.map.to_names(value))).collect(),
        inputs: files.present.clone(),
        output_paths: Vec::new(),
        working_directory: session.map.to_names(&call.folder),
        salt: format!("{salt}\n{}", files.absent.join("\n")).into(),
    })
}

/// Asks the cache for the result of a run.
pub(crate) fn answer(session: &Session, spec: ActionSpec, note: impl Fn() -> Option<String>) -> Result<Looked, Reason> {
    let action = spec.encode(FUNCTION).digest;
    let found = session.ask(session.server.outcome(&action))?.filter(|outcome| outcome.exit_code == 0);
    let pending = |compared| AnyPending::Test(Box::new(Pending { spec: spec.clone(), compared }));
    Ok(match found {
        None => Looked::Miss { reason: Reason::New, arguments: None, pending: pending(None) },
        Some(_) if session.verifies(&action) => {
            let what = note().unwrap_or_default().trim().to_owned();
            Looked::Miss { reason: Reason::Verifying, arguments: None, pending: pending(Some(what)) }
        }
        Some(outcome) => Looked::Hit { outcome: session.with_real_paths(outcome), note: note(), bytes_restored: 0 },
    })
}

/// Puts the executable in place of what stands for it.
fn materialize(session: &Session, standin: &StandIn, program: &Path) -> Result<(), Reason> {
    let restored = outputs::restore(&session.server, &standin.digest, program, true);
    let lost = || Reason::Unreadable(format!("{}, which is no longer in the cache,", name(program)));
    match session.handle.block_on(restored) {
        Ok(true) => session.digests.note(program, standin.digest).map_err(|_| lost()),
        Ok(false) | Err(_) => Err(lost()),
    }
}

/// Puts a run on record that went well.
pub(crate) fn keep(session: &Session, tool: Tool, pending: Pending, outcome: Outcome) {
    if pending.compared.is_some() {
        session.counters.count(tool, |counts| counts.verified += 1);
    }
    if let Some(outcome) = session.with_names(outcome) {
        let action = pending.spec.encode(FUNCTION);
        session.send(tool, Record { action, outcome, made: Vec::new(), manifest: None });
    }
}

/// Notes that a run which is known to have gone well went wrong when it was run again.
pub(crate) fn failed(session: &Session, tool: Tool, pending: &Pending) {
    if let Some(what) = &pending.compared {
        session.counters.count(tool, |counts| counts.differed.push(what.clone()));
    }
}
