//! `/metrics`, `/readyz` and the dashboard: the numbers are those of the calls that were made.

mod harness;

use std::collections::BTreeSet;

use harness::metrics::Metrics;
use harness::{Blob, Client, Random, Server, digest_of, http, re, sha256};
use prost::Message;
use serde_json::Value;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

const MIB: usize = 1 << 20;

/// GetActionResult as a build tool asks, with its metadata.
async fn ask(client: &Client, (instance, tool, mnemonic): (&str, &str, &str), action: &re::Digest) -> Result<(), Code> {
    let metadata = re::RequestMetadata {
        tool_details: Some(re::ToolDetails { tool_name: tool.to_owned(), tool_version: "9.1".to_owned() }),
        action_id: action.hash.clone(),
        action_mnemonic: mnemonic.to_owned(),
        ..Default::default()
    };
    let mut request = Request::new(re::GetActionResultRequest {
        instance_name: instance.to_owned(),
        action_digest: Some(action.clone()),
        ..Default::default()
    });
    let key = "build.bazel.remote.execution.v2.requestmetadata-bin";
    request.metadata_mut().insert_bin(key, MetadataValue::from_bytes(&metadata.encode_to_vec()));
    client.action_cache().get_action_result(request).await.map(|_| ()).map_err(|status| status.code())
}

fn result_of(blobs: &[&re::Digest]) -> re::ActionResult {
    let file = |digest: &&re::Digest| re::OutputFile {
        path: digest.hash.clone(),
        digest: Some((*digest).clone()),
        ..Default::default()
    };
    re::ActionResult { output_files: blobs.iter().map(file).collect(), ..Default::default() }
}

fn misses(instance: &str, tool: &str, mnemonic: &str, reason: &str) -> String {
    let labels = format!("instance_name=\"{instance}\",tool=\"{tool}\",mnemonic=\"{mnemonic}\"");
    format!("twofold_action_cache_misses_total{{{labels},reason=\"{reason}\"}}")
}

fn hits(instance: &str, tool: &str, mnemonic: &str) -> String {
    format!("twofold_action_cache_hits_total{{instance_name=\"{instance}\",tool=\"{tool}\",mnemonic=\"{mnemonic}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_and_misses_are_counted_by_who_asked_and_why() {
    let server = Server::start(&[]);
    let client = server.client().instance("team/a");
    let (here, gone) = (Blob::new(b"here".as_slice()), sha256(b"gone"));
    client.write(&here).await.expect("written");
    let [whole, partial, broken, absent] = [b"1", b"2", b"3", b"4"].map(|action| sha256(action));
    client.update_action_result(&whole, result_of(&[&here.digest])).await.expect("stored");
    client.update_action_result(&partial, result_of(&[&here.digest, &gone])).await.expect("stored");
    let no_tree = re::OutputDirectory { tree_digest: Some(here.digest.clone()), ..Default::default() };
    let result = re::ActionResult { output_directories: vec![no_tree], ..Default::default() };
    client.update_action_result(&broken, result).await.expect("stored");

    let cpp = ("team/a", "bazel", "CppCompile");
    for _ in 0..3 {
        assert_eq!(ask(&client, cpp, &whole).await, Ok(()));
    }
    let missed = Err(Code::NotFound);
    assert_eq!(ask(&client, cpp, &partial).await, missed);
    assert_eq!(ask(&client, cpp, &broken).await, missed, "malformed");
    assert_eq!(ask(&client, cpp, &broken).await, missed, "dropped by now");
    assert_eq!(ask(&client, ("", "bazel", "CppCompile"), &absent).await, missed);
    let other_size = digest_of(&whole.hash, 7);
    assert_eq!(ask(&client, ("team/a", "", ""), &other_size).await, missed);
    // What is refused is neither.
    assert_eq!(ask(&client, ("blobs", "bazel", "CppCompile"), &whole).await, Err(Code::InvalidArgument));

    let ended = |metrics: &Metrics| metrics.sum("twofold_rpc_requests_total{rpc=\"GetActionResult\"") >= 9.0;
    let metrics = Metrics::until(&server, "nine calls", ended);
    let expected = [
        (hits("team/a", "bazel", "CppCompile"), 3.0),
        (misses("team/a", "bazel", "CppCompile", "incomplete"), 1.0),
        (misses("team/a", "bazel", "CppCompile", "malformed"), 1.0),
        (misses("team/a", "bazel", "CppCompile", "absent"), 1.0),
        (misses("(default)", "bazel", "CppCompile", "absent"), 1.0),
    ];
    for (series, count) in expected {
        assert_eq!(metrics.value(&series), count, "{series}");
    }
    assert_eq!(metrics.sum("twofold_action_cache_hits_total"), 3.0);
    assert_eq!(metrics.sum("twofold_action_cache_misses_total"), 5.0);
    // The client without a tool name says what its transport says.
    let other_size: Vec<_> = metrics.starting("twofold_action_cache_misses_total").collect();
    assert_eq!(other_size.iter().filter(|(series, _)| series.contains("reason=\"other_size\"")).count(), 1);
    for (code, count) in [("OK", 3.0), ("NOT_FOUND", 5.0), ("INVALID_ARGUMENT", 1.0)] {
        let series = format!("twofold_rpc_requests_total{{rpc=\"GetActionResult\",code=\"{code}\"}}");
        assert_eq!(metrics.value(&series), count, "{series}");
    }
    assert_eq!(metrics.value("twofold_rpc_duration_seconds_count{rpc=\"GetActionResult\"}"), 9.0);
    assert_eq!(metrics.value("twofold_rpc_duration_seconds_bucket{rpc=\"GetActionResult\",le=\"+Inf\"}"), 9.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_of_what_was_evicted_says_so() {
    let server = Server::start(&["--max-size", "64MiB", "--lease", "1s"]);
    let client = server.client();
    let action = sha256(b"an action");
    client
        .update_action_result(&action, re::ActionResult { exit_code: 1, ..Default::default() })
        .await
        .expect("stored");
    let mut random = Random::new(3);
    for n in 0.. {
        let blob = Blob::random(&mut random, MIB);
        match client.write(&blob).await {
            Ok(_) => {}
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
        }
        if Metrics::of(&server).value("twofold_store_evicted_records_total") > 0.0 {
            break;
        }
        assert!(n < 1000, "a gigabyte evicted nothing");
    }
    assert_eq!(client.action_result(&action).await.map_err(|status| status.code()), Err(Code::NotFound));
    let metrics = Metrics::until(&server, "a miss", |metrics| metrics.sum("twofold_action_cache_misses_total") > 0.0);
    let all: Vec<_> = metrics.starting("twofold_action_cache_misses_total").collect();
    assert!(all.len() == 1 && all[0].0.contains("reason=\"evicted\""), "{all:?}");
    assert_eq!(metrics.value("twofold_store_evicted_records_total"), 1.0);
    assert!(metrics.value("twofold_store_evicted_bytes_total") > 0.0);
    assert_eq!(metrics.value("twofold_store_max_bytes"), 64.0 * MIB as f64);
    assert!(metrics.value("twofold_store_used_bytes") <= 64.0 * MIB as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_beyond_the_bound_count_as_other() {
    let server = Server::start(&[]);
    let client = server.client();
    let action = sha256(b"nowhere");
    let calls = (0..3000).map(|n| {
        let (client, action) = (client.clone(), action.clone());
        let names = (format!("instance{n}"), format!("tool{}", n % 40), format!("Mnemonic{}", n % 170));
        async move { ask(&client, (&names.0, &names.1, &names.2), &action).await }
    });
    for call in calls {
        assert_eq!(call.await, Err(Code::NotFound));
    }
    let all = |metrics: &Metrics| metrics.sum("twofold_action_cache_misses_total") >= 3000.0;
    let metrics = Metrics::until(&server, "3000 misses", all);
    let series: Vec<_> = metrics.starting("twofold_action_cache_misses_total").collect();
    assert_eq!(series.iter().map(|(_, value)| value).sum::<f64>(), 3000.0, "none is lost");
    assert!(series.len() <= 1001, "{} series", series.len());
    for (label, most) in [("instance_name", 51), ("tool", 21), ("mnemonic", 101)] {
        let label = format!("{label}=\"");
        let values: BTreeSet<&str> = series
            .iter()
            .map(|(series, _)| series.split_once(&label).and_then(|(_, rest)| rest.split('"').next()).expect("a label"))
            .collect();
        assert!(values.len() <= most && values.contains("other"), "{label} {}", values.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_leases_and_connections_are_those_of_the_calls() {
    let server = Server::start(&[]);
    let client = server.client();
    let blob = Blob::random(&mut Random::new(5), 3 * MIB);
    client.write(&blob).await.expect("written");
    assert_eq!(client.read(&blob.digest).await.expect("read"), blob.data);
    let small = Blob::new(b"a small blob".as_slice());
    client.batch_update(std::slice::from_ref(&small)).await.expect("written");
    assert!(client.has(&small.digest).await);
    let path = format!("/cas/{}", blob.digest.hash);
    assert_eq!(http::ask(server.listener(), &format!("GET {path}"), &[], b"").body, blob.data);
    assert_eq!(http::ask(server.listener(), &format!("GET {path}"), &[("Range", "bytes=0-99")], b"").code, 206);
    assert_eq!(http::ask(server.listener(), "GET /cas/zz", &[], b"").code, 400);

    // Reads promise too.
    let metrics = Metrics::until(&server, "two leases", |metrics| metrics.value("twofold_store_leases") >= 2.0);
    assert_eq!(metrics.value("twofold_store_leases"), 2.0);
    assert_eq!(metrics.value("twofold_store_blobs"), 2.0);
    let size = blob.data.len() as f64;
    let framed = |series: &str| {
        let bytes = metrics.value(series);
        assert!(bytes > size && bytes < size * 1.02, "{series} {bytes}");
    };
    framed("twofold_rpc_received_bytes_total{rpc=\"Write\"}");
    framed("twofold_rpc_sent_bytes_total{rpc=\"Read\"}");
    assert_eq!(
        metrics.value("twofold_http_sent_bytes_total{route=\"cas\",method=\"GET\"}") - size,
        100.0 + refusal_bytes(&server)
    );
    for (code, count) in [("200", 1.0), ("206", 1.0)] {
        let series = format!("twofold_http_requests_total{{route=\"cas\",method=\"GET\",code=\"{code}\"}}");
        assert_eq!(metrics.value(&series), count, "{series}");
    }
    assert_eq!(metrics.value("twofold_uploads_in_progress"), 0.0);
    // The gRPC client's own and the one that asks.
    assert_eq!(metrics.value("twofold_connections"), 2.0);
    assert!(metrics.value("twofold_store_read_bytes_total") >= 2.0 * size);
    assert!(metrics.value("twofold_store_written_bytes_total") >= size);
    assert!(metrics.value("process_resident_memory_bytes") > MIB as f64);
    assert!(metrics.value("process_cpu_seconds_total") > 0.0);
}

/// The length of the text that refuses a malformed hash.
fn refusal_bytes(server: &Server) -> f64 {
    http::ask(server.listener(), "GET /cas/zz", &[], b"").body.len() as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn the_http_action_cache_counts_with_the_product_of_the_user_agent() {
    let server = Server::start(&[]);
    let path = format!("/team/ac/{}", sha256(b"action").hash);
    let agent = [("User-Agent", "bazel/9.1.1")];
    let answer = |line: String, body: &[u8]| http::ask(server.listener(), &line, &agent, body).code;
    assert_eq!(answer(format!("GET {path}"), b""), 404);
    assert_eq!(answer(format!("PUT {path}"), b"a format of its own"), 200);
    assert_eq!(answer(format!("GET {path}"), b""), 200);
    assert_eq!(answer(format!("HEAD {path}"), b""), 200);
    let metrics = Metrics::of(&server);
    assert_eq!(metrics.value(&hits("team", "bazel", "unknown")), 1.0, "HEAD only looks");
    assert_eq!(metrics.value(&misses("team", "bazel", "unknown", "absent")), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_alive_and_ready_and_each_page_answers_only_reads() {
    let server = Server::start(&[]);
    for (path, text) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = http::ask(server.listener(), &format!("GET {path}"), &[], b"");
        assert_eq!((answer.code, String::from_utf8_lossy(&answer.body).as_ref()), (200, text));
        assert_eq!(http::ask(server.listener(), &format!("HEAD {path}"), &[], b"").code, 200);
    }
    for path in ["/", "/metrics", "/status.json", "/readyz", "/healthz"] {
        assert_eq!(http::ask(server.listener(), &format!("PUT {path}"), &[], b"x").code, 405, "{path}");
    }
}

/// The names that the queries of a dashboard use.
fn queried(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match field {
                    Value::String(query) if key == "expr" || key == "query" || key == "definition" => {
                        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                        let ours = words.filter(|word| word.starts_with("twofold_") || word.starts_with("process_"));
                        names.extend(ours.map(str::to_owned));
                    }
                    _ => queried(field, names),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queried(item, names)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboard_names_a_metric_that_is_exported() {
    let server = Server::start(&[]);
    let client = server.client();
    // A family of calls appears with the first of them.
    ask(&client, ("", "bazel", "Javac"), &sha256(b"nowhere")).await.expect_err("nothing is here");
    let path = harness::tool::checkout().join("dashboards/twofold.json");
    let dashboard = std::fs::read_to_string(path).expect("dashboards/twofold.json");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.iter().all(|panel| panel["title"].as_str().is_some_and(|title| !title.is_empty())));
    let mut names = BTreeSet::new();
    queried(&dashboard, &mut names);
    assert!(names.len() > 15, "{names:?}");
    let metrics = Metrics::until(&server, "a call", |metrics| {
        metrics.value("twofold_rpc_duration_seconds_count{rpc=\"GetActionResult\"}") > 0.0
    });
    for name in &names {
        let family = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let kind =
            metrics.families.get(name).or_else(|| metrics.families.get(family).filter(|kind| *kind == "histogram"));
        assert!(kind.is_some(), "{name} is in the dashboard and not in /metrics");
    }
}
