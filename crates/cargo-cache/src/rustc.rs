//! Compilations: the key of a call, the answer from the cache, and what goes on record.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cache_types::Digest;
use reapi::action::{ActionSpec, InputFile, Outcome};

use crate::dep_info::{self, DepInfo};
use crate::file_digests::FUNCTION;
use crate::key::KeyHasher;
use crate::links::{self, name};
use crate::manifest::{Manifest, Run};
use crate::outputs::{self, Made};
use crate::path_map::PathMap;
use crate::reason::Reason;
use crate::rustc_call::RustcCall;
use crate::session::{Looked, Pending as AnyPending, Record, Session};
use crate::standin::StandIn;
use crate::wire::{Call, Tool};

/// Variables that every compilation is keyed by: macros read them without a trace.
const VARIABLES: &[&str] =
    &["CARGO_CRATE_NAME", "CARGO_BIN_NAME", "CARGO_MANIFEST_DIR", "OUT_DIR", "RUSTC_BOOTSTRAP", "SOURCE_DATE_EPOCH"];

/// A compilation that runs.
pub(crate) struct Pending {
    call: RustcCall,
    folder: PathBuf,
    environment: BTreeMap<String, String>,
    key: String,
    /// All libraries that it reads.
    libraries: BTreeMap<PathBuf, Digest>,
    /// What the cache had, where the run is to be compared with it.
    compared: Option<Outcome>,
}

/// Answers a call of rustc.
pub(crate) fn look_up(session: &Session, call: &Call) -> Result<Looked, Reason> {
    let (program, arguments) = call.command.split_first().ok_or(Reason::NoCompilation)?;
    if call.command.iter().any(|argument| PathMap::is_ambiguous(argument)) {
        return Err(Reason::Text);
    }
    let parsed = RustcCall::parse(arguments)?;
    let folder = PathBuf::from(&call.folder);
    let libraries = libraries(session, &folder, &parsed)?;
    let key = key(session, call, (program, &parsed), &libraries)?;
    let manifest = session.ask(Manifest::get(&session.server, &key))?;
    let run_arguments = run_arguments(session, call);
    let miss = |reason, compared| {
        let environment = call.environment.clone();
        let pending = Pending {
            call: parsed.clone(),
            folder: folder.clone(),
            environment,
            key: key.clone(),
            libraries: libraries.clone(),
            compared,
        };
        Ok(Looked::Miss {
            reason,
            arguments: Some(run_arguments.clone()),
            pending: AnyPending::Rustc(Box::new(pending)),
        })
    };
    let run = match pick(session, &manifest, &call.environment) {
        Ok(run) => run,
        Err(reason) => return miss(reason, None),
    };
    let Ok(action) = run.action.parse::<Digest>() else {
        return miss(Reason::New, None);
    };
    let Some(outcome) = session.ask(session.server.outcome(&action))? else {
        return miss(Reason::Evicted, None);
    };
    if session.verifies(&action) {
        return miss(Reason::Verifying, Some(outcome));
    }
    let Some(bytes_restored) = restore(session, &parsed, &outcome)? else {
        return miss(Reason::Evicted, None);
    };
    note_links(session, &parsed, &folder, run, &outcome);
    for file in outcome.files.iter().filter(|file| parsed.is_test && file.executable) {
        session.note_test_executable(parsed.out_dir.join(&file.path), file.digest, !run.holds.is_empty());
    }
    Ok(Looked::Hit { outcome: session.with_real_paths(outcome), note: None, bytes_restored })
}

/// The libraries that the call reads: those that it names, and where it links, all below them.
fn libraries(session: &Session, folder: &Path, call: &RustcCall) -> Result<BTreeMap<PathBuf, Digest>, Reason> {
    let named: Vec<PathBuf> = call.externs.iter().map(|(_, path)| folder.join(path)).collect();
    if call.links {
        return session.links.closure(&named, &session.digests);
    }
    let digest = |path: PathBuf| {
        let digest = session.digests.of(&path).map_err(|_| Reason::Unreadable(name(&path)))?;
        Ok((path, digest))
    };
    named.into_iter().map(digest).collect()
}

fn key(
    session: &Session,
    call: &Call,
    (program, parsed): (&str, &RustcCall),
    libraries: &BTreeMap<PathBuf, Digest>,
) -> Result<String, Reason> {
    let map = &session.map;
    let unreadable = |path: &Path| Reason::Unreadable(name(path));
    let mut key = KeyHasher::new("rustc-1");
    key.part("compiler", session.toolchains.compiler(program, &call.environment)?.as_bytes());
    key.part("folder", map.to_names(&call.folder).as_bytes());
    for argument in &parsed.key_arguments {
        key.part("argument", map.to_names(argument).as_bytes());
    }
    for (path, digest) in libraries {
        key.file(&name(path), digest);
    }
    let folder = Path::new(&call.folder);
    for dir in &parsed.native_dirs {
        for file in outputs::in_folder(&folder.join(dir), |_| true).map_err(|_| unreadable(dir))? {
            key.file(&name(&file), &session.digests.of(&file).map_err(|_| unreadable(&file))?);
        }
    }
    for file in &parsed.link_files {
        key.file(&name(file), &session.digests.of(&folder.join(file)).map_err(|_| unreadable(file))?);
    }
    if parsed.links {
        let linker = session.toolchains.linker(parsed.linker.as_deref(), &call.environment, &session.digests)?;
        key.part("linker", linker.as_bytes());
    }
    let keyed = |name: &str| name.starts_with("CARGO_PKG_") || VARIABLES.contains(&name);
    for (name, value) in call.environment.iter().filter(|(name, _)| keyed(name)) {
        key.part(name, map.to_names(value).as_bytes());
    }
    Ok(key.finish())
}

/// The arguments of a run that goes on record: those of cargo, and what keeps folders out of the outputs.
fn run_arguments(session: &Session, call: &Call) -> Vec<String> {
    let arguments = call.command.iter().skip(1).cloned();
    arguments.chain(session.map.remap_arguments()).collect()
}

/// The first run on record whose inputs are the same now; else what is different in the newest.
fn pick<'a>(
    session: &Session,
    manifest: &'a Manifest,
    environment: &BTreeMap<String, String>,
) -> Result<&'a Run, Reason> {
    let mut nearest = Reason::New;
    for (n, run) in manifest.runs.iter().enumerate() {
        match difference(session, run, environment) {
            None => return Ok(run),
            Some(reason) if n == 0 => nearest = reason,
            Some(_) => {}
        }
    }
    Err(nearest)
}

fn difference(session: &Session, run: &Run, environment: &BTreeMap<String, String>) -> Option<Reason> {
    if run.holds.iter().any(|(name, was)| session.map.real(name) != Some(was)) {
        return Some(Reason::Changed("a folder that is written in the outputs".to_owned()));
    }
    for (variable, was) in &run.variables {
        let now = environment.get(variable).map(|value| session.map.to_names(value));
        if now != *was {
            return Some(Reason::Changed(format!("${variable}")));
        }
    }
    for (path, was) in &run.files {
        let now = session.digests.of(Path::new(&session.map.to_real(path)));
        if now.ok().map(|digest| digest.to_string()).as_ref() != Some(was) {
            return Some(Reason::Changed(path.rsplit('/').next().unwrap_or(path).to_owned()));
        }
    }
    None
}

/// Puts all files of a result in place; `None` when the cache lacks one.
fn restore(session: &Session, call: &RustcCall, outcome: &Outcome) -> Result<Option<u64>, Reason> {
    let mut bytes = 0;
    for file in &outcome.files {
        let unplaced = || Reason::Unreadable(format!("{}, which comes from the cache,", file.path));
        if file.path.contains('/') || !call.makes(&file.path) {
            return Ok(None);
        }
        let path = call.out_dir.join(&file.path);
        if file.path == call.dep_info_name() {
            let Some(text) = session.ask(outputs::text(&session.server, &file.digest))? else {
                return Ok(None);
            };
            outputs::write(&path, session.map.to_real(&text).as_bytes(), false).map_err(|_| unplaced())?;
        } else if call.is_test && file.executable && !session.settings.materialize_all && session.settings.test_cache {
            let standin = StandIn { digest: file.digest, server: session.address.clone() };
            outputs::write(&path, standin.script(&session.programs).as_bytes(), true).map_err(|_| unplaced())?;
        } else {
            let restored = outputs::restore(&session.server, &file.digest, &path, file.executable);
            match session.handle.block_on(restored) {
                Ok(true) => bytes += file.digest.size_bytes(),
                Ok(false) => return Ok(None),
                Err(error) => {
                    tracing::warn!(file = %file.path, %error, "a file could not be restored");
                    return Err(unplaced());
                }
            }
            session.digests.note(&path, file.digest).map_err(|_| unplaced())?;
        }
    }
    Ok(Some(bytes))
}

fn note_links(session: &Session, call: &RustcCall, folder: &Path, run: &Run, outcome: &Outcome) {
    let sources = run.files.keys().map(|path| PathBuf::from(session.map.to_real(path))).collect();
    note_made(session, call, folder, sources, outcome.files.iter().map(|file| file.digest));
}

fn note_made(
    session: &Session,
    call: &RustcCall,
    folder: &Path,
    sources: Vec<PathBuf>,
    digests: impl Iterator<Item = Digest>,
) {
    let dependencies = call.externs.iter().map(|(_, path)| folder.join(path)).collect();
    let made = links::Made { dependencies, sources };
    for digest in digests {
        session.links.note(&digest, &made);
    }
}

/// Puts a compilation on record that went well.
pub(crate) fn keep(session: &Session, tool: Tool, pending: Pending, outcome: Outcome) {
    let Some((record, sources)) = record(session, &pending, outcome) else {
        return;
    };
    note_made(session, &pending.call, &pending.folder, sources, record.made.iter().map(|made| made.digest));
    for made in record.made.iter().filter(|made| pending.call.is_test && made.executable) {
        session.note_test_executable(pending.call.out_dir.join(&made.name), made.digest, !made.holds.is_empty());
    }
    if let Some(before) = &pending.compared {
        compare(session, tool, &pending.call, before, &record.made);
    }
    session.send(tool, record);
}

fn compare(session: &Session, tool: Tool, call: &RustcCall, before: &Outcome, made: &[Made]) {
    let other = made.iter().find(|made| !before.files.iter().any(|file| *file == made.as_output()));
    session.counters.count(tool, |counts| match other {
        None => counts.verified += 1,
        Some(made) => counts.differed.push(format!("{} of {}", made.name, call.crate_name)),
    });
}

/// All that goes on record, and the sources; `None` where what was read or made is not sure.
fn record(session: &Session, pending: &Pending, outcome: Outcome) -> Option<(Record, Vec<PathBuf>)> {
    let call = &pending.call;
    let dep_info_path = call.out_dir.join(call.dep_info_name());
    let dep_info_text = std::fs::read_to_string(&dep_info_path).ok()?;
    let dep_info = DepInfo::parse(&dep_info_text)?;
    let mut made = vec![Made::text(call.dep_info_name(), dep_info::to_names(&dep_info_text, &session.map)?)];
    for path in outputs::in_folder(&call.out_dir, |name| call.makes(name) && name != call.dep_info_name()).ok()? {
        let file = Made::read(&path, &session.map).ok()?;
        session.digests.note(&path, file.digest).ok()?;
        made.push(file);
    }
    let holds: BTreeMap<String, String> = made.iter().flat_map(|made| made.holds.clone()).collect();
    let sources: Vec<PathBuf> = dep_info.files.iter().map(|file| pending.folder.join(file)).collect();
    let mut files = BTreeMap::new();
    let mut inputs = BTreeMap::new();
    let outcome = session.with_names(outcome)?;
    let (start, _) = outcome.ran?;
    for path in &sources {
        // What changed while rustc ran may not be what it read.
        if path.metadata().ok()?.modified().ok()? >= start {
            return None;
        }
        let digest = session.digests.of(path).ok()?;
        let mapped = session.map.to_names(path.to_str()?);
        inputs.insert(mapped.clone(), InputFile { digest, executable: false });
        files.insert(mapped, digest.to_string());
    }
    for (path, digest) in &pending.libraries {
        inputs.insert(session.map.to_names(path.to_str()?), InputFile { digest: *digest, executable: false });
    }
    let value = |value: &String| session.map.to_names(value);
    let seen = dep_info.variables.iter().map(|(name, _)| (name.clone(), pending.environment.get(name).map(value)));
    let variables: BTreeMap<String, Option<String>> = seen.collect();
    let spec = ActionSpec {
        arguments: std::iter::once("rustc".to_owned())
            .chain(call.key_arguments.iter().map(|argument| session.map.to_names(argument)))
            .collect(),
        environment: variables.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect(),
        inputs,
        output_paths: made.iter().map(|made| made.name.clone()).collect(),
        working_directory: session.map.to_names(pending.folder.to_str()?),
        salt: Bytes::from(format!("{} {holds:?}", pending.key)),
    };
    let action = spec.encode(FUNCTION);
    let run = Run { files, variables, holds, action: action.digest.to_string() };
    Some((Record { action, outcome, made, manifest: Some((pending.key.clone(), run)) }, sources))
}
