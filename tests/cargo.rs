//! Real cargo through `twofold cargo`: a workspace with build scripts, a procedural macro, C, features, an example,
//! documentation tests and a program that its tests run.

mod harness;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::tmpfs::{Tmpfs, fill_up};
use harness::tool::{Run, checkout, copy_folder, run};
use harness::{Listener, Server, say};
use serde_json::Value;
use tempfile::TempDir;

/// A server, and checkouts of the sample workspace in folders of their own.
struct Bench {
    server: Server,
    folder: TempDir,
}

/// What stands for the absence of an option: most tests look at single units.
const WITH_SNAPSHOTS: &str = "with snapshots";

/// One checkout.
#[derive(Clone)]
struct Checkout {
    root: PathBuf,
    /// `None` is a server of the user's own.
    server: Option<String>,
    home: PathBuf,
}

/// Variables and their values.
type Environment<'a> = &'a [(&'a str, &'a str)];

/// What one `twofold cargo` did.
struct Done {
    run: Run,
    stats: Value,
}

impl Bench {
    fn new() -> Self {
        Self { server: Server::start_unix(&["--durability", "process"]), folder: TempDir::new().expect("a folder") }
    }

    fn checkout(&self, name: &str) -> Checkout {
        let root = self.folder.path().join(name).join("workspace");
        copy_folder(&checkout().join("fixtures/cargo-workspace"), &root);
        let server = match self.server.listener() {
            Listener::Unix(path) => format!("unix:{}", path.display()),
            Listener::Tcp(address) => format!("grpc://{address}"),
        };
        Checkout { root, server: Some(server), home: self.folder.path().join("cache") }
    }
}

impl Checkout {
    fn command(&self, options: &[&str], arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twofold"));
        command
            .arg("cargo")
            .args(self.server.iter().flat_map(|server| ["--server", server]))
            .arg("--stats-json")
            .arg(self.root.join("stats.json"))
            .args(options.iter().filter(|option| **option != WITH_SNAPSHOTS))
            .args((!options.contains(&WITH_SNAPSHOTS)).then_some("--no-snapshots"))
            .arg("--")
            .args(arguments)
            .arg("--offline")
            .current_dir(&self.root)
            .env("XDG_CACHE_HOME", &self.home)
            .envs(environment.iter().copied());
        // What the cargo that runs this test says of its own build is not for the one within.
        for (name, _) in std::env::vars() {
            if name.starts_with("CARGO_") && name != "CARGO_HOME" || name == "CARGO" || name == "RUSTFLAGS" {
                command.env_remove(name);
            }
        }
        command
    }

    fn cargo(&self, options: &[&str], arguments: &[&str], environment: &[(&str, &str)]) -> Done {
        let run = run(&mut self.command(options, arguments, environment));
        let stats = std::fs::read(self.root.join("stats.json")).expect("what was counted");
        Done { run, stats: serde_json::from_slice(&stats).expect("JSON") }
    }

    fn test(&self) -> Done {
        self.cargo(&[], &["test", "--workspace"], &[])
    }

    fn write(&self, file: &str, content: &str) {
        std::fs::write(self.root.join(file), content).expect("a write");
    }

    fn replace(&self, file: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.root.join(file)).expect("a file of the workspace");
        assert!(text.contains(from), "{file} has no {from:?}");
        self.write(file, &text.replace(from, to));
    }

    /// The test executable whose name starts with `name`.
    fn executable(&self, name: &str) -> PathBuf {
        let deps = self.root.join("target/debug/deps");
        let found = std::fs::read_dir(deps).expect("a target folder").map(|entry| entry.expect("an entry").path());
        let is_it = |path: &PathBuf| {
            path.extension().is_none() && path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name))
        };
        found.into_iter().find(is_it).expect("the executable")
    }
}

impl Done {
    fn expect_success(self) -> Self {
        assert_eq!(self.run.code, 0, "{}", self.run.output);
        self
    }

    fn count(&self, tool: &str, what: &str) -> u64 {
        match &self.stats[tool][what] {
            Value::Number(n) => n.as_u64().expect("a count"),
            Value::Object(reasons) => reasons.values().map(|n| n.as_u64().expect("a count")).sum(),
            other => panic!("{tool}.{what} is {other}"),
        }
    }

    /// Each test's verdict, as the test harnesses print it.
    fn verdicts(&self) -> BTreeMap<String, String> {
        let lines = self.run.output.lines().filter_map(|line| line.strip_prefix("test "));
        lines
            .filter_map(|line| line.rsplit_once(" ... "))
            .map(|(name, verdict)| (name.into(), verdict.into()))
            .collect()
    }
}

#[test]
fn another_checkout_compiles_and_runs_nothing_that_does_not_hold_its_folder() {
    let bench = Bench::new();
    let cold = bench.checkout("a").test().expect_success();
    say(format!("cold: {}", cold.run.line_with("twofold: ")));
    assert_eq!((cold.count("rustc", "hits"), cold.count("tests", "hits"), cold.count("rustdoc", "hits")), (0, 0, 0));
    assert_eq!(cold.count("rustdoc", "misses"), 5);

    let warm = bench.checkout("b").test().expect_success();
    say(format!("warm: {}", warm.run.line_with("twofold: ")));
    assert_eq!(warm.verdicts(), cold.verdicts());
    // tests/output.rs has CARGO_BIN_EXE_tool compiled in, a path.
    assert_eq!(warm.count("rustc", "misses"), 1, "{}", warm.stats);
    assert_eq!(warm.count("rustc", "hits"), cold.count("rustc", "misses") - 1);
    assert_eq!(warm.count("tests", "misses"), 1, "{}", warm.stats);
    assert_eq!(warm.count("tests", "hits"), cold.count("tests", "misses") - 1);
    // tests/clock.rs asks to run always.
    assert_eq!(warm.count("tests", "not_cached"), 1);
    assert_eq!(warm.count("rustdoc", "hits"), 5, "{}", warm.stats);
}

#[test]
fn a_fresh_target_folder_in_the_same_place_compiles_and_runs_nothing() {
    let bench = Bench::new();
    let checkout = bench.checkout("a");
    let cold = checkout.test().expect_success();
    std::fs::remove_dir_all(checkout.root.join("target")).expect("the target folder");
    let hot = checkout.test().expect_success();
    say(format!("hot: {}", hot.run.line_with("twofold: ")));
    for tool in ["rustc", "tests", "rustdoc"] {
        assert_eq!(hot.count(tool, "misses"), 0, "{}", hot.stats);
        assert_eq!(hot.count(tool, "hits"), cold.count(tool, "misses"));
    }
    assert_eq!(hot.verdicts(), cold.verdicts());
    assert!(hot.run.output.contains("Replayed known-"), "{}", hot.run.output);
    // cargo takes what was put back for its own.
    let again = checkout.test().expect_success();
    assert_eq!(again.count("rustc", "misses"), 0, "{}", again.stats);
    assert!(!again.run.output.contains("Compiling"), "{}", again.run.output);
}

#[test]
fn benches_examples_and_a_named_target_hit_elsewhere() {
    let bench = Bench::new();
    let checkout = |name| {
        let checkout = bench.checkout(name);
        std::fs::create_dir_all(checkout.root.join("model/benches")).expect("a folder");
        checkout.write("model/benches/count.rs", "fn main() {\n    assert_eq!(model::words(\"a b\").len(), 2);\n}\n");
        let manifest = std::fs::read_to_string(checkout.root.join("model/Cargo.toml")).expect("a manifest");
        checkout.write("model/Cargo.toml", &format!("{manifest}\n[[bench]]\nname = \"count\"\nharness = false\n"));
        checkout
    };
    let version = run(Command::new("rustc").arg("-vV")).expect_success();
    let host = version.output.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host").to_owned();
    let all = ["test", "--workspace", "--all-targets", "--target", &host];
    let cold = checkout("a").cargo(&[], &all, &[]).expect_success();
    assert_eq!((cold.count("rustc", "hits"), cold.count("tests", "hits")), (0, 0), "{}", cold.stats);
    let other = checkout("b");
    let hot = other.cargo(&[], &all, &[]).expect_success();
    say(format!("all targets for {host}: {}", hot.run.line_with("twofold: ")));
    assert_eq!(hot.verdicts(), cold.verdicts());
    // The test that has a path of its checkout compiled in.
    assert_eq!((hot.count("rustc", "misses"), hot.count("tests", "misses")), (1, 1), "{}", hot.stats);
    assert!(hot.run.output.contains("Replayed count-"), "{}", hot.run.output);
    assert!(hot.run.output.contains("Replayed say-"), "{}", hot.run.output);
    // A bench that would fail now runs, and is not replayed.
    other.replace("model/benches/count.rs", "2", "3");
    let failed = other.cargo(&[], &all, &[]);
    assert_ne!(failed.run.code, 0, "{}", failed.run.output);
    assert!(!failed.run.output.contains("Replayed count-"), "{}", failed.run.output);
}

#[test]
fn what_the_compiler_refuses_is_told_and_not_on_record() {
    let bench = Bench::new();
    let checkout = bench.checkout("a");
    checkout.replace("model/src/lib.rs", "text.split_whitespace()", "text.split_nothing()");
    for _ in 0..2 {
        let refused = checkout.cargo(&[], &["build", "-p", "model"], &[]);
        assert_ne!(refused.run.code, 0, "{}", refused.run.output);
        assert_eq!(refused.stats["rustc"]["not_cached"]["refused by the compiler"], 1, "{}", refused.stats);
        assert_eq!((refused.count("rustc", "hits"), refused.count("rustc", "misses")), (0, 0), "{}", refused.stats);
    }
}

#[test]
fn what_is_put_back_is_what_would_be_compiled() {
    let bench = Bench::new();
    bench.checkout("a").test().expect_success();
    let verified = bench.checkout("b").cargo(&["--verify", "100%"], &["test", "--workspace"], &[]).expect_success();
    assert_eq!(verified.stats["rustc"]["differed"], Value::Array(Vec::new()), "{}", verified.stats);
    assert_eq!(verified.stats["tests"]["differed"], Value::Array(Vec::new()), "{}", verified.stats);
    assert!(verified.count("rustc", "verified") >= 15, "{}", verified.stats);
    assert_eq!(verified.count("rustc", "hits"), 0);
}

#[test]
fn the_target_folder_of_an_earlier_run_is_put_back_where_all_sources_are_the_same() {
    let bench = Bench::new();
    let all: &[&str] = &["test", "--workspace"];
    let with: &[&str] = &[WITH_SNAPSHOTS];
    let cold = bench.checkout("a").cargo(with, all, &[]).expect_success();
    assert_eq!(cold.stats["snapshot_files"], 0);
    let b = bench.checkout("b");
    let hot = b.cargo(with, all, &[]).expect_success();
    say(format!("hot: {}", hot.run.line_with("twofold: ")));
    assert!(hot.stats["snapshot_files"].as_u64() > Some(50), "{}", hot.stats);
    assert_eq!(hot.verdicts(), cold.verdicts());
    // tests/output.rs has a path compiled in, so it is no part of the snapshot; all else cargo finds fresh.
    assert_eq!((hot.count("rustc", "hits"), hot.count("rustc", "misses")), (0, 1), "{}", hot.stats);
    assert_eq!((hot.count("tests", "misses"), hot.count("rustdoc", "misses")), (1, 0), "{}", hot.stats);
    // What was put back is a target folder as any other: an edit is seen.
    b.replace("tool/src/main.rs", "anyone", "everyone");
    b.cargo(with, &["build", "--workspace"], &[]).expect_success();
    assert!(run(&mut Command::new(b.root.join("target/debug/tool"))).output.contains("everyone"));

    // One file that is different, even if no compiler reads it, and the units are looked up one by one.
    let other = bench.checkout("c");
    other.write("tool/tests/data/more.txt", "more\n");
    let units = other.cargo(with, all, &[]).expect_success();
    assert_eq!(units.stats["snapshot_files"], 0, "{}", units.stats);
    assert!(units.count("rustc", "hits") > 10, "{}", units.stats);
    // A run that fails leaves none.
    for name in ["d", "e"] {
        let failing = bench.checkout(name);
        failing.write("tool/tests/data/expected.txt", "something else\n");
        let failed = failing.cargo(with, all, &[]);
        assert_eq!((failed.run.code, &failed.stats["snapshot_files"]), (101, &Value::from(0)), "{}", failed.run.output);
    }
}

#[test]
fn each_kind_of_input_is_a_miss_when_it_changes() {
    let bench = Bench::new();
    let build: &[&str] = &["build", "--workspace", "--all-targets"];
    bench.checkout("base").cargo(&[], build, &[]).expect_success();
    type Change = fn(&Checkout);
    let files: &[(&str, Change, u64)] = &[
        ("a source of the root library", |c| c.replace("model/src/lib.rs", "Words, and", "Some words, and"), 8),
        ("an included file", |c| c.write("model/words.txt", "alpha beta gamma \n"), 8),
        ("what a build script writes", |c| c.write("generated/table.txt", "one\nthree\n"), 7),
        ("a library in C", |c| c.replace("native/sum.c", "a + b", "b + a + 0"), 7),
        ("a procedural macro", |c| c.replace("macros/src/lib.rs", "{}usize", "{} as usize"), 7),
        ("a source of the program", |c| c.replace("tool/src/main.rs", "anyone", "everyone"), 2),
        ("a source of one test", |c| c.replace("model/tests/known.rs", "(&\"alpha\")", "(&\"al\\u{70}ha\")"), 1),
        ("the version that all inherit", |c| c.replace("Cargo.toml", "1.2.3", "1.2.3-a"), 15),
    ];
    let mut table = Vec::new();
    for (what, change, least) in files {
        let checkout = bench.checkout(&what.replace(' ', "-"));
        change(&checkout);
        let done = checkout.cargo(&[], build, &[]).expect_success();
        table.push((*what, done, *least));
    }
    let other: &[(&str, &[&str], Environment, u64)] = &[
        ("a variable that env! reads", &[], &[("FIXTURE_BUILT_FOR", "me")], 6),
        ("a feature", &["--features", "app/loud"], &[], 6),
        ("the profile", &["--release"], &[], 15),
        ("RUSTFLAGS", &[], &[("RUSTFLAGS", "-Cforce-frame-pointers=yes")], 15),
        ("the linker", &[], &[("RUSTFLAGS", "-Clinker=gcc")], 15),
    ];
    for (what, arguments, environment, least) in other {
        let checkout = bench.checkout(&what.replace([' ', '!'], "-"));
        let arguments = [build, *arguments].concat();
        table.push((*what, checkout.cargo(&[], &arguments, environment).expect_success(), *least));
    }
    let same = bench.checkout("same").cargo(&[], build, &[]).expect_success();
    let (bound, all) = (same.count("rustc", "misses"), same.count("rustc", "hits") + same.count("rustc", "misses"));
    say(format!("nothing changed: {bound} of {all} compilations ran"));
    for (what, done, least) in &table {
        let misses = done.count("rustc", "misses");
        let reasons = &done.stats["rustc"]["misses"];
        say(format!("{what}: {misses} of {} compilations ran, {reasons}", misses + done.count("rustc", "hits")));
        assert!(
            misses >= bound + least,
            "{what}: {misses} misses, at least {} expected\n{}",
            bound + least,
            done.stats
        );
    }
}

#[test]
fn what_cannot_matter_does_not() {
    let bench = Bench::new();
    bench.checkout("a").test().expect_success();
    let arguments: &[(&str, &[&str], Environment)] = &[
        ("jobs", &["-j1"], &[]),
        ("colour", &["--color", "always"], &[]),
        ("terminal", &[], &[("TERM", "dumb"), ("COLUMNS", "200"), ("SSH_TTY", "/dev/pts/9")]),
        ("user", &[], &[("USER", "somebody"), ("LOGNAME", "somebody")]),
    ];
    for (what, more, environment) in arguments {
        let checkout = bench.checkout(what);
        for file in ["model/src/lib.rs", "app/src/lib.rs"] {
            let file = std::fs::File::options().append(true).open(checkout.root.join(file)).expect("a source");
            file.set_modified(std::time::SystemTime::now()).expect("another time");
        }
        let done = checkout.cargo(&[], &[&["test", "--workspace"], *more].concat(), environment).expect_success();
        assert_eq!(done.count("rustc", "misses"), 1, "{what}: {}", done.stats);
        assert_eq!(done.count("tests", "misses"), 1, "{what}: {}", done.stats);
        assert_eq!(done.count("rustdoc", "misses"), 0, "{what}: {}", done.stats);
    }
}

#[test]
fn a_stand_in_becomes_the_executable_when_it_is_run() {
    let bench = Bench::new();
    bench.checkout("a").test().expect_success();
    let checkout = bench.checkout("b");
    checkout.test().expect_success();
    let path = checkout.executable("known-");
    assert!(std::fs::read(&path).expect("a file").starts_with(b"#!"), "{} is no stand-in", path.display());
    let ran = run(Command::new(&path).current_dir(checkout.root.join("model"))).expect_success();
    assert!(ran.output.contains("2 passed"), "{}", ran.output);
    assert!(std::fs::read(&path).expect("a file").starts_with(b"\x7fELF"));

    // One whose server is gone says what helps.
    let other = checkout.executable("native-");
    let script = std::fs::read_to_string(&other).expect("a stand-in").replace("unix:/", "unix:/nowhere/");
    std::fs::write(&other, script).expect("a write");
    let refused = run(&mut Command::new(&other));
    assert!(refused.code == 1 && refused.output.contains("--materialize all"), "{}", refused.output);

    let whole = bench.checkout("c");
    whole.cargo(&["--materialize", "all"], &["test", "--workspace"], &[]).expect_success();
    assert!(std::fs::read(whole.executable("known-")).expect("a file").starts_with(b"\x7fELF"));
}

#[test]
fn a_test_that_failed_runs_again_and_one_that_passed_until_what_it_reads_changes() {
    let bench = Bench::new();
    let checkout = bench.checkout("a");
    checkout.test().expect_success();
    // Only data that a test reads while it runs: nothing is compiled.
    checkout.write("tool/tests/data/expected.txt", "something else\n");
    for _ in 0..2 {
        let failed = checkout.cargo(&[], &["test", "-p", "tool"], &[]);
        assert_eq!(failed.run.code, 101, "{}", failed.run.output);
        assert_eq!(failed.count("rustc", "misses"), 0, "{}", failed.stats);
        assert!(failed.verdicts().values().any(|verdict| verdict == "FAILED"), "{}", failed.run.output);
    }
    checkout.write("tool/tests/data/expected.txt", "3 words, 2 rows, 3 tokens, sum 42, version 1.2.3\n");
    let passed = checkout.cargo(&[], &["test", "-p", "tool"], &[]).expect_success();
    assert_eq!((passed.count("tests", "hits"), passed.count("tests", "misses")), (2, 0), "{}", passed.stats);
    let never = checkout.cargo(&["--no-test-cache"], &["test", "-p", "tool"], &[]).expect_success();
    assert_eq!((never.count("tests", "hits"), never.count("tests", "not_cached")), (0, 3), "{}", never.stats);
}

#[test]
fn a_server_is_started_where_none_runs_and_ends_when_it_is_idle() {
    let bench = Bench::new();
    for (name, hits) in [("a", 0), ("b", 3)] {
        let mut checkout = bench.checkout(name);
        checkout.server = None;
        let done = checkout.cargo(&["--idle-exit", "5s"], &["test", "-p", "model"], &[]).expect_success();
        assert_eq!(done.count("rustc", "hits"), hits, "{}", done.stats);
    }
    let socket = bench.folder.path().join("cache/twofold/cargo/socket");
    let deadline = Instant::now() + Duration::from_secs(60);
    while socket.exists() {
        assert!(Instant::now() < deadline, "the server does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn without_a_server_cargo_goes_on() {
    let bench = Bench::new();
    let mut checkout = bench.checkout("a");
    checkout.server = Some("unix:/nowhere/socket".to_owned());
    let done = run(&mut checkout.command(&[], &["test", "-p", "model"], &[])).expect_success();
    assert!(done.output.contains("no cache, going on without one"), "{}", done.output);
    assert!(done.output.contains("test result: ok. 2 passed"), "{}", done.output);
}

#[test]
fn a_server_that_is_killed_in_the_middle_breaks_nothing() {
    let mut bench = Bench::new();
    let checkout = bench.checkout("a");
    let mut command = checkout.command(&[], &["test", "--workspace", "-j1"], &[]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("twofold");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    let first = lines.find(|line| line.contains("Compiling app"));
    assert!(first.is_some(), "cargo did not come to app");
    bench.server.kill();
    let rest: Vec<String> = lines.collect();
    assert!(child.wait().expect("its end").success(), "{rest:?}");
    let said = rest.iter().filter(|line| line.contains("going on without it")).count();
    assert_eq!(said, 1, "{rest:?}");
}

#[test]
fn a_test_that_changed_leaves_documentation_tests_alone_unless_the_crate_names_it() {
    let bench = Bench::new();
    let test = |name: &str, edit: &dyn Fn(&Checkout)| {
        let checkout = bench.checkout(name);
        edit(&checkout);
        checkout.cargo(&[], &["test", "-p", "model"], &[]).expect_success()
    };
    let change = |checkout: &Checkout| checkout.replace("model/tests/known.rs", "#[test]", "// Once more.\n#[test]");
    let naming = |checkout: &Checkout| {
        checkout.replace(
            "model/src/lib.rs",
            "```\n/// assert",
            "```\n/// include_str!(\"../tests/known.rs\");\n/// assert",
        );
    };
    assert_eq!(test("a", &|_| {}).count("rustdoc", "misses"), 1);
    let changed = test("b", &change);
    assert_eq!((changed.count("rustdoc", "hits"), changed.count("tests", "misses")), (1, 1), "{}", changed.stats);
    assert_eq!(test("c", &naming).count("rustdoc", "misses"), 1);
    assert_eq!(test("d", &naming).count("rustdoc", "hits"), 1);
    let read = test("e", &|checkout| {
        naming(checkout);
        change(checkout);
    });
    assert_eq!(read.count("rustdoc", "misses"), 1, "{}", read.stats);
}

#[test]
fn a_full_disk_breaks_no_build() {
    let owned = TempDir::new().expect("a temporary folder");
    let disk = Tmpfs::mount(&owned.path().join("disk"), "96m");
    let server = Server::start_in(&disk.0.join("data"), &["--durability", "process"]);
    let bench = Bench { server, folder: TempDir::new().expect("a folder") };
    let ballast = disk.0.join("ballast");
    fill_up(&ballast);
    let full = bench.checkout("a").test().expect_success();
    assert_eq!(full.run.output.matches("going on without it").count(), 1, "{}", full.run.output);
    // Nothing that is there by half is taken for a result, with room again or without.
    let without_room = bench.checkout("b").test().expect_success();
    std::fs::remove_file(ballast).expect("the ballast");
    let with_room = bench.checkout("c").test().expect_success();
    assert_eq!([without_room.verdicts(), with_room.verdicts()], [full.verdicts(), full.verdicts()]);
}

#[test]
fn two_checkouts_at_once_do_not_disturb_each_other() {
    let bench = Bench::new();
    let checkouts = [bench.checkout("a"), bench.checkout("b")];
    let threads = checkouts.map(|checkout| std::thread::spawn(move || checkout.test().expect_success().verdicts()));
    let verdicts = threads.map(|thread| thread.join().expect("a test run"));
    assert_eq!(verdicts[0], verdicts[1]);
    assert!(verdicts[0].len() >= 8, "{:?}", verdicts[0]);
    let third = bench.checkout("c").test().expect_success();
    assert_eq!(third.verdicts(), verdicts[0]);
    assert_eq!(third.count("rustc", "misses"), 1, "{}", third.stats);
}
