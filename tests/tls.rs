//! TLS of the built server: both protocols, client certificates, and files that change while clients are connected.
mod harness;

use std::process::Command;

use harness::identity::{Authority, channel, exchange_tls, replace, tls_stream, token};
use harness::re::capabilities_client::CapabilitiesClient;
use harness::tool::{self, on_path};
use harness::{Server, http, re};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Request};

const REREAD: &str = "were read again";

async fn ask(channel: &Channel, header: Option<&str>) -> Code {
    let mut request = Request::new(re::GetCapabilitiesRequest::default());
    if let Some(header) = header {
        request.metadata_mut().insert("authorization", header.parse().expect("a header"));
    }
    let answer = CapabilitiesClient::new(channel.clone()).get_capabilities(request).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_str().expect("a path of UTF-8").to_owned()
}

/// A server with a certificate of this authority and these further arguments.
fn serve(folder: &TempDir, authority: &Authority, args: &[&str]) -> Server {
    authority.issue("server", &["localhost"]).write(folder.path());
    std::fs::write(folder.path().join("ca.pem"), &authority.pem).expect("written");
    let (cert, key) = (path(folder, "cert.pem"), path(folder, "key.pem"));
    Server::start(&[&["--tls-cert", cert.as_str(), "--tls-key", key.as_str()][..], args].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_http1_and_http2_are_spoken_over_tls_and_plain_text_is_not() {
    let (folder, authority) = (TempDir::new().expect("a temporary folder"), Authority::new());
    let server = serve(&folder, &authority, &[]);
    assert_eq!(ask(&channel(server.address(), &authority.pem, None), None).await, Code::Ok);
    let stranger = Authority::new();
    assert_ne!(ask(&channel(server.address(), &stranger.pem, None), None).await, Code::Ok);
    let curl = tool::installed("curl", &on_path("curl"));
    let port = server.address().rsplit(':').next().expect("a port");
    for version in ["--http1.1", "--http2"] {
        let url = format!("https://localhost:{port}/status");
        let ca = path(&folder, "ca.pem");
        let run =
            tool::run(Command::new(&curl).args(["--silent", "--show-error", "--fail", version, "--cacert", &ca, &url]));
        assert!(run.expect_success().output.contains("serving"), "{version}");
    }
    let plain = tool::run(Command::new(&curl).args(["--silent", &format!("http://localhost:{port}/status")]));
    assert!(plain.code != 0 && !plain.output.contains("serving"), "{}", plain.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_while_clients_are_connected() {
    let folder = TempDir::new().expect("a temporary folder");
    let (old, new) = (Authority::new(), Authority::new());
    let server = serve(&folder, &old, &[]);
    let connected = channel(server.address(), &old.pem, None);
    assert_eq!(ask(&connected, None).await, Code::Ok);
    new.issue("server", &["localhost"]).write(folder.path());
    // The change is noticed without a signal. The pair of old and new in between is refused and the old one stays.
    server.wait_for_log(REREAD, 1);
    assert_eq!(ask(&connected, None).await, Code::Ok, "the connection from before");
    assert_eq!(ask(&channel(server.address(), &new.pem, None), None).await, Code::Ok, "the new certificate");
    assert_ne!(ask(&channel(server.address(), &old.pem, None), None).await, Code::Ok, "the old one is gone");
    replace(&folder.path().join("cert.pem"), "no certificate");
    server.wait_for_log("the old settings stay", 1);
    assert_eq!(ask(&channel(server.address(), &new.pem, None), None).await, Code::Ok, "a faulty file changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_passwords_are_replaced_while_clients_are_connected() {
    let (folder, authority) = (TempDir::new().expect("a temporary folder"), Authority::new());
    let (first, first_line) = token("first", &["read"]);
    let (second, second_line) = token("second", &["read"]);
    let (tokens, users) = (folder.path().join("tokens"), folder.path().join("htpasswd"));
    std::fs::write(&tokens, first_line).expect("written");
    // `htpasswd -nbs`: the SHA-1 of `secret` and of `other`.
    std::fs::write(&users, "alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n").expect("written");
    let server = serve(
        &folder,
        &authority,
        &["--tokens-file", &path(&folder, "tokens"), "--htpasswd", &path(&folder, "htpasswd")],
    );
    let connected = channel(server.address(), &authority.pem, None);
    let bearer = |token: &str| format!("Bearer {token}");
    let basic =
        |password: &str| format!("Basic {}", data_encoding::BASE64.encode(format!("alice:{password}").as_bytes()));
    assert_eq!(ask(&connected, Some(&bearer(&first))).await, Code::Ok);
    assert_eq!(ask(&connected, Some(&bearer(&second))).await, Code::Unauthenticated);
    assert_eq!(ask(&connected, Some(&basic("secret"))).await, Code::Ok);
    replace(&tokens, &second_line);
    server.wait_for_log(REREAD, 1);
    assert_eq!(ask(&connected, Some(&bearer(&first))).await, Code::Unauthenticated, "taken back");
    assert_eq!(ask(&connected, Some(&bearer(&second))).await, Code::Ok);
    replace(&users, &format!("alice:{{SHA}}{}\n", sha1("other")));
    server.wait_for_log(REREAD, 2);
    assert_eq!(ask(&connected, Some(&basic("secret"))).await, Code::Unauthenticated, "the old password");
    assert_eq!(ask(&connected, Some(&basic("other"))).await, Code::Ok);
    replace(&tokens, "not a line");
    server.wait_for_log("the old settings stay", 1);
    assert_eq!(ask(&connected, Some(&bearer(&second))).await, Code::Ok, "a faulty file changes nothing");
}

fn sha1(text: &str) -> String {
    use sha1::Digest;
    data_encoding::BASE64.encode(&sha1::Sha1::digest(text.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_ends_the_handshake_and_none_is_needed_for_another_credential() {
    let (folder, authority, stranger) =
        (TempDir::new().expect("a temporary folder"), Authority::new(), Authority::new());
    let (token, line) = token("ci", &["read"]);
    let ca = path(&folder, "ca.pem");
    let config = format!(
        "[tls]\nclient_ca = {ca:?}\n[auth]\ntokens = [{line:?}]\n[auth.certificates.builder]\nroles = [\"cas-write\"]\n"
    );
    std::fs::write(folder.path().join("twofold.toml"), config).expect("written");
    let server = serve(&folder, &authority, &["--config", &path(&folder, "twofold.toml")]);
    let builder = authority.issue("builder", &[]);
    let (another, forged) = (authority.issue("another", &[]), stranger.issue("builder", &[]));
    let put = |pair| {
        let hash = harness::Blob::new(b"x".to_vec()).digest.hash;
        let stream = tls_stream(server.address(), &authority.pem, pair);
        let bytes = exchange_tls(stream, &http::request(&format!("PUT /cas/{hash}"), &[], b"x"));
        if bytes.is_empty() { 0 } else { http::parse(&bytes).code }
    };
    assert_eq!(put(Some(&builder)), 200);
    assert_eq!(put(None), 401);
    assert_eq!(put(Some(&another)), 403);
    assert_eq!(put(Some(&forged)), 0, "no answer at all");
    assert_eq!(ask(&channel(server.address(), &authority.pem, None), Some(&format!("Bearer {token}"))).await, Code::Ok);
}
