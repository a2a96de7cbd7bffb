//! Real compiler caches and task runners with the built server as their remote cache: cold, then warm in a new folder.
//! Reads the counts that each client itself reports. Bazel over HTTP is in `bazel.rs`, moon in `moon.rs`.
mod harness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::tool::{self, Run};
use harness::{Server, say};
use tempfile::TempDir;

/// The files that are compiled.
const SOURCES: u64 = 5;

/// A folder of C sources, always the same.
struct Sources(TempDir);

impl Sources {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        for number in 0..SOURCES {
            let text = format!(
                "#include <stdio.h>\nint f{number}(int x) {{ printf(\"%d\\n\", x); return x * {number} + 1; }}\n"
            );
            std::fs::write(folder.path().join(format!("f{number}.c")), text).expect("a source");
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Compiles every source by way of `wrapper`; the objects.
    fn compile(&self, wrapper: &Path, variables: &[(&str, String)]) -> Vec<Vec<u8>> {
        let compile = |number| {
            let object = self.path().join(format!("f{number}.o"));
            let args = ["gcc", "-O1", "-c", &format!("f{number}.c"), "-o", &format!("f{number}.o")].map(str::to_owned);
            self.run(wrapper, &args, variables).expect_success();
            std::fs::read(object).expect("an object")
        };
        (0..SOURCES).map(compile).collect()
    }

    fn run(&self, program: &Path, args: &[String], variables: &[(&str, String)]) -> Run {
        run(self.path(), program, args, variables)
    }
}

/// Runs a program in a folder, with the variables of these tests and of nobody else.
fn run(folder: &Path, program: &Path, args: &[String], variables: &[(&str, String)]) -> Run {
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    tool::run(&mut command)
}

fn from_python(name: &str) -> PathBuf {
    let mut places = vec![tool::checkout().join(".deps/python/bin").join(name)];
    places.extend(tool::on_path(name));
    tool::installed(name, &places)
}

/// One run of ccache on new sources and a new local folder: what it counted, and the objects.
fn ccache(url: &str) -> (BTreeMap<String, u64>, Vec<Vec<u8>>) {
    let sources = Sources::new();
    let ccache = from_python("ccache");
    let path = |name: &str| sources.path().join(name).display().to_string();
    let variables = [
        ("CCACHE_DIR", path("ccache")),
        ("CCACHE_CONFIGPATH", path("no.conf")),
        ("CCACHE_REMOTE_STORAGE", url.to_owned()),
        // Paths below the folder do not count.
        ("CCACHE_BASEDIR", sources.path().display().to_string()),
        ("CCACHE_NOHASHDIR", "true".to_owned()),
    ];
    let objects = sources.compile(&ccache, &variables);
    let stats = sources.run(&ccache, &["--print-stats".to_owned()], &variables).expect_success();
    let counts = stats.output.lines().filter_map(|line| {
        let (name, count) = line.split_once('\t')?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    (counts.collect(), objects)
}

#[test]
fn ccache_is_served_in_all_its_layouts() {
    let server = Server::start(&[]);
    for layout in ["bazel", "flat", "subdirs"] {
        let url = format!("http://{}/{layout}|layout={layout}", server.address());
        let (cold, made) = ccache(&url);
        let (warm, served) = ccache(&url);
        for (what, counts) in [("cold", &cold), ("warm", &warm)] {
            let count = |name: &str| counts.get(name).copied().unwrap_or_default();
            say(format!(
                "ccache, layout={layout}, {what}: remote_storage_hit {}, remote_storage_miss {}, remote_storage_write {}, \
                 remote_storage_error {}",
                count("remote_storage_hit"),
                count("remote_storage_miss"),
                count("remote_storage_write"),
                count("remote_storage_error")
            ));
            assert_eq!((count("remote_storage_error"), count("remote_storage_timeout")), (0, 0), "{counts:?}");
            let hits = if what == "warm" { SOURCES } else { 0 };
            assert_eq!(count("remote_storage_hit"), hits, "{counts:?}");
            assert_eq!(count("remote_storage_miss"), SOURCES - hits, "{counts:?}");
        }
        assert!(cold.get("remote_storage_write").is_some_and(|writes| *writes >= SOURCES));
        assert!(made == served, "the objects");
    }
}

/// One run of sccache with a server of its own: its statistics, and the objects.
fn sccache(url: &str) -> (serde_json::Value, Vec<Vec<u8>>) {
    let sources = Sources::new();
    let sccache = from_python("sccache");
    let path = |name: &str| sources.path().join(name).display().to_string();
    let variables = [
        ("SCCACHE_WEBDAV_ENDPOINT", url.to_owned()),
        ("SCCACHE_WEBDAV_KEY_PREFIX", "team".to_owned()),
        ("SCCACHE_SERVER_UDS", path("socket")),
        ("SCCACHE_CONF", path("no.conf")),
        ("SCCACHE_ERROR_LOG", path("log")),
    ];
    let objects = sources.compile(&sccache, &variables);
    let ask = ["--show-stats", "--stats-format=json"].map(str::to_owned);
    let stats = sources.run(&sccache, &ask, &variables).expect_success();
    let stats = serde_json::from_str(&stats.output).unwrap_or_else(|_| panic!("not JSON: {}", stats.output));
    sources.run(&sccache, &["--stop-server".to_owned()], &variables).expect_success();
    (stats, objects)
}

fn sum(counts: &serde_json::Value) -> u64 {
    let counts = counts["counts"].as_object().expect("counts by language");
    counts.values().filter_map(serde_json::Value::as_u64).sum()
}

#[test]
fn sccache_is_served_over_webdav() {
    let server = Server::start(&[]);
    let url = format!("http://{}/webdav", server.address());
    let (cold, made) = sccache(&url);
    let (warm, served) = sccache(&url);
    for (what, stats, hits) in [("cold", &cold, 0), ("warm", &warm, SOURCES)] {
        let place = stats["cache_location"].as_str().unwrap_or_default();
        assert!(place.to_lowercase().contains("webdav"), "{place}");
        let stats = &stats["stats"];
        let count = |name: &str| stats[name].as_u64().unwrap_or_else(|| panic!("no {name}: {stats}"));
        say(format!(
            "sccache, {what}: cache_hits {}, cache_misses {}, cache_writes {}, cache_write_errors {}, cache_read_errors {}",
            sum(&stats["cache_hits"]),
            sum(&stats["cache_misses"]),
            count("cache_writes"),
            count("cache_write_errors"),
            count("cache_read_errors"),
        ));
        assert_eq!((sum(&stats["cache_hits"]), sum(&stats["cache_misses"])), (hits, SOURCES - hits), "{stats}");
        assert_eq!((count("cache_write_errors"), count("cache_read_errors")), (0, 0), "{stats}");
        assert_eq!(count("cache_writes"), SOURCES - hits, "{stats}");
    }
    assert!(made == served, "the objects");
}

/// A workspace of two packages, always the same, for what runs the scripts of packages.
struct Packages(TempDir);

impl Packages {
    fn new() -> Self {
        let packages = Self(TempDir::new().expect("a temporary folder"));
        packages.write(
            "package.json",
            r#"{"name":"root","private":true,"packageManager":"npm@10.0.0","workspaces":["packages/*"]}"#,
        );
        packages.write("turbo.json", r#"{"tasks":{"build":{"outputs":["dist/**"]}}}"#);
        packages.write("nx.json", r#"{"neverConnectToCloud":true,"analytics":false}"#);
        packages.write(
            "package-lock.json",
            r#"{"name":"root","lockfileVersion":3,"packages":{"":{"name":"root","workspaces":["packages/*"]},
            "node_modules/a":{"resolved":"packages/a","link":true},"node_modules/b":{"resolved":"packages/b","link":true},
            "packages/a":{"version":"1.0.0"},"packages/b":{"version":"1.0.0"}}}"#,
        );
        for name in ["a", "b"] {
            let text = format!(
                r#"{{"name":"{name}","version":"1.0.0","scripts":{{"build":"mkdir -p dist && seq 1 20000 > dist/{name}.txt"}},
                "nx":{{"targets":{{"build":{{"cache":true,"outputs":["{{projectRoot}}/dist"]}}}}}}}}"#
            );
            packages.write(&format!("packages/{name}/package.json"), &text);
        }
        packages
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    /// What the scripts made.
    fn outputs(&self) -> [String; 2] {
        ["a", "b"].map(|name| {
            let path = self.path().join(format!("packages/{name}/dist/{name}.txt"));
            std::fs::read_to_string(path).expect("an output")
        })
    }
}

fn from_npm(name: &str) -> PathBuf {
    let place = tool::checkout().join(format!(".deps/{name}/node_modules/.bin/{name}"));
    tool::installed(name, &[place])
}

/// Turborepo's own line, and the outputs, of one run in a new folder.
fn turborepo(url: &str, team: &str) -> (String, [String; 2]) {
    let packages = Packages::new();
    let args = ["run", "build", "--cache=local:,remote:rw", "--no-daemon"].map(str::to_owned);
    let variables = [
        ("TURBO_API", url.to_owned()),
        ("TURBO_TEAM", team.to_owned()),
        ("TURBO_TOKEN", "any".to_owned()),
        ("TURBO_TELEMETRY_DISABLED", "1".to_owned()),
    ];
    let run = run(packages.path(), &from_npm("turbo"), &args, &variables).expect_success();
    (run.line_with("Cached:").trim().to_owned(), packages.outputs())
}

#[test]
fn turborepo_is_served_and_teams_are_apart() {
    let server = Server::start(&[]);
    let url = format!("http://{}", server.address());
    let (cold, made) = turborepo(&url, "one");
    let (warm, served) = turborepo(&url, "one");
    let (other, _) = turborepo(&url, "two");
    say(format!("turborepo, cold: {cold}; warm: {warm}; another team: {other}"));
    assert!(cold.ends_with("0 cached, 2 total") && warm.ends_with("2 cached, 2 total"), "{cold} {warm}");
    assert!(other.ends_with("0 cached, 2 total"), "{other}");
    assert!(made == served, "the outputs");
}

/// Nx's own line, and the outputs, of one run in a new folder.
fn nx(url: &str) -> (String, [String; 2]) {
    let packages = Packages::new();
    let nx = from_npm("nx");
    // Nx wants to be installed where it works.
    let modules = nx.ancestors().nth(2).expect("below node_modules");
    std::os::unix::fs::symlink(modules, packages.path().join("node_modules")).expect("a link");
    let args = ["run-many", "-t", "build"].map(str::to_owned);
    let variables = [
        ("NX_SELF_HOSTED_REMOTE_CACHE_SERVER", url.to_owned()),
        ("NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN", "any".to_owned()),
        ("NX_DAEMON", "false".to_owned()),
        ("NX_NO_CLOUD", "true".to_owned()),
        ("NX_TUI", "false".to_owned()),
        ("NO_COLOR", "1".to_owned()),
        ("CI", "true".to_owned()),
    ];
    let run = run(packages.path(), &packages.path().join("node_modules/.bin/nx"), &args, &variables).expect_success();
    (run.line_with("Cache:").trim().to_owned(), packages.outputs())
}

#[test]
fn nx_is_served() {
    let server = Server::start(&[]);
    let url = format!("http://{}", server.address());
    let (cold, made) = nx(&url);
    let (warm, served) = nx(&url);
    say(format!("nx, cold: {cold}; warm: {warm}"));
    assert!(cold.contains("0/2 hit") && warm.contains("2/2 hit"), "{cold} {warm}");
    assert!(made == served, "the outputs");
}

/// A build of two tasks whose outputs can be cached.
const GRADLE_BUILD: &str = r"
@CacheableTask
class Numbers extends DefaultTask {
    @Input int count
    @OutputFile File output
    @TaskAction void write() { output.text = (1..count).join('\n') }
}
['one': 1000, 'two': 200000].each { name, size ->
    task(name, type: Numbers) { count = size; output = new File(buildDir, name + '.txt') }
}
task all(dependsOn: ['one', 'two'])
";

/// Gradle's own line, and the outputs, of one run in a new folder with a new home.
fn gradle(url: &str) -> (String, [String; 2]) {
    let folder = TempDir::new().expect("a temporary folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("a file");
    write("build.gradle", GRADLE_BUILD);
    let settings = format!(
        "rootProject.name = 'cached'\nbuildCache {{\n  local {{ enabled = false }}\n  \
         remote(HttpBuildCache) {{ url = '{url}/gradle/'; push = true }}\n}}\n"
    );
    write("settings.gradle", &settings);
    let gradle = tool::installed("gradle", &tool::on_path("gradle"));
    let home = folder.path().join("home").display().to_string();
    let args = ["--no-daemon", "--build-cache", "--gradle-user-home", &home, "all"].map(str::to_owned);
    let run = run(folder.path(), &gradle, &args, &[]).expect_success();
    let outputs = ["one", "two"]
        .map(|name| std::fs::read_to_string(folder.path().join(format!("build/{name}.txt"))).expect("an output"));
    (run.line_with("actionable tasks").trim().to_owned(), outputs)
}

#[test]
fn gradle_is_served() {
    let server = Server::start(&[]);
    let url = format!("http://{}", server.address());
    let (cold, made) = gradle(&url);
    let (warm, served) = gradle(&url);
    say(format!("gradle, cold: {cold}; warm: {warm}"));
    assert_eq!((&*cold, &*warm), ("2 actionable tasks: 2 executed", "2 actionable tasks: 2 from cache"));
    assert!(made == served, "the outputs");
}
