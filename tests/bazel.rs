//! Real Bazel builds the sample workspace, with the built server as its cache. Reads what Bazel itself reports.
mod harness;

use std::process::Command;

use harness::bazel::{Sample, assert_all_hit, assert_none_hit, processes};
use harness::{Server, say, tool};

#[test]
fn a_second_build_is_served_and_a_changed_source_misses_alone() {
    let server = Server::start(&[]);
    let sample = Sample::new();
    assert_none_hit("first build", &sample.build(&server.url(), &[]));

    sample.forget();
    assert_all_hit("second build", &sample.build(&server.url(), &[]));
    let greeting = tool::run(&mut Command::new(sample.workspace().join("bazel-bin/greeting/greet"))).expect_success();
    assert_eq!(greeting.output, "good day, world (3 words)\n");
    let pages = sample.workspace().join("bazel-bin/tree/pages/chapter11/page299.txt");
    assert_eq!(std::fs::read_to_string(pages).expect("a file of the tree"), "Pages, page 299\n");

    sample.forget();
    assert_all_hit("third build, --remote_download_minimal", &sample.build(&server.url(), &["--config=minimal"]));
    let outputs = sample.workspace().join("bazel-bin");
    assert!(!outputs.join("greeting/greet").exists(), "the program came down in a build without the bytes");
    assert!(!outputs.join("tree/pages/chapter11/page299.txt").exists(), "the tree came down likewise");

    let source = sample.workspace().join("greeting/count.cc");
    let text = std::fs::read_to_string(&source).expect("a source of the sample");
    let changed = text.replace("while (words >> word) count++;", "for (; words >> word; ++count) continue;");
    assert_ne!(text, changed);
    std::fs::write(&source, changed).expect("a source of the sample");
    // Without the bytes of the build before: those that the changed action needs must come down now.
    let run = sample.build(&server.url(), &["--config=minimal"]);
    say(format!("one source changed, output base kept: {}", processes(&run).line));
    assert_only_count_missed(&sample);

    // What the change made was uploaded; a change to the other library leaves it alone.
    sample.forget();
    assert_all_hit("the changed source, everything wiped", &sample.build(&server.url(), &[]));
    sample.forget();
    std::fs::write(&source, format!("{text}\nint Unused() {{ return 0; }}\n")).expect("a source of the sample");
    let run = sample.build(&server.url(), &[]);
    let counts = processes(&run);
    say(format!("one source changed, everything wiped: {}", counts.line));
    assert_only_count_missed(&sample);
    assert!(counts.remote_hits > 0, "{}", run.output);
}

/// The actions that ran are those downstream of `greeting/count.cc`, and the compiler is among them.
fn assert_only_count_missed(sample: &Sample) {
    let downstream = [
        "/greeting/_objs/count/count.",
        "/greeting/libcount.",
        "/greeting/count_test",
        "/greeting/greet",
        "/checks/greet_test/",
    ];
    let missed = sample.missed();
    for outputs in &missed {
        for output in outputs {
            let expected = downstream.iter().any(|part| match part.strip_prefix("/greeting/greet") {
                // The program itself, not the library beside it.
                Some(_) => output.ends_with(part),
                None => output.contains(part),
            });
            assert!(expected, "{output} does not depend on the changed source");
        }
    }
    let compiled = |part: &str| missed.iter().flatten().any(|output| output.contains(part));
    assert!(compiled("/greeting/_objs/count/count."), "the changed source was not compiled: {missed:?}");
}

#[test]
fn a_server_killed_between_builds_still_answers_and_instances_are_apart() {
    let mut server = Server::start(&[]);
    let sample = Sample::new();
    let one = ["--remote_instance_name=team/a"];
    assert_none_hit("first build of team/a", &sample.build(&server.url(), &one));

    server.kill();
    server.restart();
    sample.forget();
    assert_all_hit("team/a after SIGKILL and a new start", &sample.build(&server.url(), &one));

    sample.forget();
    assert_none_hit("first build of team/b", &sample.build(&server.url(), &["--remote_instance_name=team/b"]));
}

#[test]
fn http_serves_what_http_uploaded_and_grpc_sees_the_same_entries() {
    let server = Server::start(&[]);
    let sample = Sample::new();
    let http = format!("http://{}/team/a", server.address());
    assert_none_hit("first build over HTTP", &sample.build(&http, &[]));
    sample.forget();
    assert_all_hit("second build over HTTP", &sample.build(&http, &[]));
    sample.forget();
    let grpc = ["--remote_instance_name=team/a"];
    assert_all_hit("the same instance over gRPC", &sample.build(&server.url(), &grpc));

    sample.forget();
    let other = ["--remote_instance_name=team/b"];
    assert_none_hit("first build of team/b over gRPC", &sample.build(&server.url(), &other));
    sample.forget();
    let http = format!("http://{}/team/b/", server.address());
    assert_all_hit("team/b over HTTP", &sample.build(&http, &[]));
}

#[test]
fn a_build_goes_on_when_the_cache_is_down() {
    let mut server = Server::start(&[]);
    let url = server.url();
    server.kill();
    let sample = Sample::new();
    assert_none_hit("build without its cache", &sample.build(&url, &["--remote_retries=1"]));
}
