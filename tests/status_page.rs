//! The status page in a real browser: what it draws, that it asks nobody else, and that it can be read.

mod harness;

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::metrics::Metrics;
use harness::tool::{installed, on_path, run};
use harness::{Blob, Server, http, re, sha256};
use serde_json::Value;

/// Chromium without a screen, on a profile of its own.
struct Browser {
    program: PathBuf,
    profile: tempfile::TempDir,
}

/// What a visit gave.
struct Visit {
    /// The document after the script has drawn.
    dom: String,
    /// What the browser logged: errors of the console among it.
    log: String,
}

impl Browser {
    fn new() -> Self {
        let program = installed("chromium", &on_path("chromium"));
        Self { program, profile: tempfile::tempdir().expect("a temporary folder") }
    }

    fn command(&self, size: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--hide-scrollbars", "--enable-logging=stderr", "--virtual-time-budget=5000"])
            // Any other host would fail loudly.
            .args(["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"])
            .arg(format!("--window-size={size}"))
            .arg(format!("--user-data-dir={}", self.profile.path().display()));
        command
    }

    fn visit(&self, url: &str) -> Visit {
        let output = self.command("1280,1400").arg("--dump-dom").arg(url).output().expect("chromium");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Visit { dom: text(&output.stdout), log: text(&output.stderr) }
    }

    /// A picture of the page, its path printed by the test. `TWOFOLD_SCREENSHOTS` keeps it in a folder.
    fn picture(&self, url: &str, size: &str, name: &str, more: &[&str]) -> Vec<u8> {
        let folder = std::env::var_os("TWOFOLD_SCREENSHOTS").map_or(self.profile.path().to_owned(), PathBuf::from);
        let file = folder.join(name);
        run(self.command(size).args(more).arg(format!("--screenshot={}", file.display())).arg(url)).expect_success();
        std::fs::read(&file).expect("a picture")
    }
}

/// The text between two marks of the document.
fn part<'a>(dom: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = dom.split_once(from).unwrap_or_else(|| panic!("no {from} in\n{dom}"));
    rest.split_once(to).map_or(rest, |(part, _)| part)
}

async fn use_the_cache(server: &Server) {
    let client = server.client().instance("team/a");
    let blob = Blob::new(vec![7; 200_000]);
    client.write(&blob).await.expect("written");
    let action = sha256(b"action");
    let file = re::OutputFile { path: "out".to_owned(), digest: Some(blob.digest.clone()), ..Default::default() };
    let result = re::ActionResult { output_files: vec![file], ..Default::default() };
    client.update_action_result(&action, result).await.expect("stored");
    for _ in 0..3 {
        client.action_result(&action).await.expect("a hit");
    }
    client.action_result(&sha256(b"other")).await.expect_err("a miss");
    let other = server.client().instance("<b>team/b</b>");
    other.action_result(&action).await.expect_err("a miss");
    Metrics::until(server, "five answers", |metrics| {
        metrics.sum("twofold_action_cache_hits_total") + metrics.sum("twofold_action_cache_misses_total") >= 5.0
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_draws_what_happened_and_asks_nobody_else() {
    let server = Server::start(&[]);
    use_the_cache(&server).await;
    let browser = Browser::new();
    let url = format!("http://{}/", server.address());
    let Visit { dom, log } = browser.visit(&url);
    assert!(dom.contains("data-drawn=\"yes\""), "{dom}\n{log}");

    let tiles = part(&dom, "id=\"tiles\"", "</dl>");
    assert!(tiles.contains("60.0 %") && tiles.contains("3 hits · 2 misses"), "{tiles}");
    assert!(tiles.contains("none yet") && tiles.contains("lease 3 h<"), "{tiles}");
    assert!(part(&dom, "id=\"state\"", "</span>").contains("ready"));
    for id in ["hit-rate", "requests", "latency", "size"] {
        let chart = part(&dom, &format!("id=\"chart-{id}\""), "</svg>");
        assert!(
            chart.contains("role=\"img\"") && chart.contains("aria-label=\"") && chart.contains("<title>"),
            "{chart}"
        );
        let line = part(chart, "class=\"line one\" d=\"", "\"");
        assert!(line.starts_with('M') && line.contains('L') && !line.contains("NaN"), "{id}: {line}");
    }
    let tables = part(&dom, "id=\"tables\"", "</section>");
    let first = part(tables, "<caption>Top instances</caption>", "</tbody>");
    assert!(part(first, "<tbody>", "</tr>").contains("team/a"), "the one with most answers is first: {first}");
    assert!(first.contains("&lt;b&gt;team/b&lt;/b&gt;") && !first.contains("<b>team/b"), "names are text: {first}");
    assert!(tables.contains("never written here"));

    let complaints: Vec<&str> =
        log.lines().filter(|line| line.contains("CONSOLE") || line.contains("Refused")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    let metrics = Metrics::of(&server);
    let asked: f64 = metrics.sum("twofold_http_requests_total{route=\"other\"");
    assert_eq!(asked, 0.0, "the browser asked for nothing but the page and its numbers");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_drawn_in_light_and_dark_and_on_a_phone() {
    let server = Server::start(&[]);
    use_the_cache(&server).await;
    let browser = Browser::new();
    let url = format!("http://{}/", server.address());
    let light = browser.picture(&url, "1280,1300", "status.png", &[]);
    let dark = browser.picture(&url, "1280,1300", "status-dark.png", &["--blink-settings=preferredColorScheme=0"]);
    let phone = browser.picture(&url, "500,1800", "status-phone.png", &[]);
    for picture in [&light, &dark, &phone] {
        assert!(picture.starts_with(b"\x89PNG") && picture.len() > 20_000, "{} bytes", picture.len());
    }
    assert_ne!(light, dark);
}

#[test]
fn the_page_may_run_its_own_script_and_nothing_else() {
    let server = Server::start(&[]);
    let page = http::ask(server.listener(), "GET /", &[], b"");
    assert_eq!((page.code, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    for rule in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    for hole in ["unsafe", "http:", "https:", " *"] {
        assert!(!policy.contains(hole), "{policy}");
    }
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let html = String::from_utf8(page.body).expect("text");
    assert!(html.contains("<html lang=\"en\">") && html.contains("<title>") && html.contains("name=\"viewport\""));
}

#[test]
fn the_numbers_behind_the_page_are_json() {
    let server = Server::start(&["--max-size", "64MiB"]);
    let answer = http::ask(server.listener(), "GET /status.json", &[], b"");
    assert_eq!((answer.code, answer.header("content-type")), (200, "application/json"));
    let report: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(report["ready"], "ready");
    assert_eq!(report["store"]["max_bytes"], 64 << 20);
    assert_eq!(report["store"]["lease_seconds"], 3 * 3600);
    assert_eq!(report["store"]["youngest_evicted_seconds"], Value::Null);
    for scale in ["hour", "day"] {
        assert_eq!(report[scale].as_array().map(Vec::len), Some(1), "the point that has begun");
    }
    assert!(Path::new("/proc/self/stat").exists() == report["resident_bytes"].is_u64());
}
