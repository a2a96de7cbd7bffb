//! Real compiler caches compile C with the built server as their remote cache: cold, then warm in a new folder. Reads the
//! counts that each client itself reports. Bazel over HTTP is in `bazel.rs`.
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

    /// Runs a program in the folder, with the variables of these tests and of nobody else.
    fn run(&self, program: &Path, args: &[String], variables: &[(&str, String)]) -> Run {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.path());
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        tool::run(&mut command)
    }
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
