//! The client over TLS: whom it trusts, and what it shows.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use cache_types::{ByteRange, Digest, DigestFunction};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reapi::client::{Address, ConnectError, RemoteStore, Settings, Tls};
use store::{BlobStore, MemoryStore};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

/// An authority that signs certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate and its key, as PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key.serialize_pem())
    }
}

/// Serves a memory store with a certificate for `localhost`; `clients` signs the clients that are let in.
async fn serve(authority: &Authority, clients: Option<&Authority>) -> Address {
    let (certificate, key) = authority.sign("localhost");
    let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
    if let Some(clients) = clients {
        tls = tls.client_ca_root(Certificate::from_pem(&clients.pem));
    }
    let memory = Arc::new(MemoryStore::default());
    let service = reapi::Service::new(memory.clone(), memory, reapi::Settings::default());
    let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let port = incoming.local_addr().expect("a bound socket").port();
    let routes = common::open_to_all(&service);
    let server = Server::builder().tls_config(tls).expect("a certificate and its key");
    tokio::spawn(server.serve_with_incoming(routes, incoming));
    format!("grpcs://localhost:{port}").parse().expect("an address")
}

async fn connect(address: &Address, tls: Tls) -> Result<RemoteStore, ConnectError> {
    // More than one connection: the others are made over TLS too.
    RemoteStore::connect(address, Settings { tls, connections: 3, ..Settings::default() }).await
}

fn trusting(authority: &Authority) -> Tls {
    Tls { ca: Some(authority.pem.clone().into_bytes()), identity: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_travel_over_tls_to_a_server_that_a_trusted_authority_vouches_for() {
    let (authority, other) = (Authority::new(), Authority::new());
    let address = serve(&authority, None).await;
    let remote = connect(&address, trusting(&authority)).await.expect("a trusted server");
    let data = Bytes::from(vec![7; 3_000_000]);
    let digest = Digest::of(DigestFunction::Sha256, &data);
    remote.write(digest, data.clone().into()).await.expect("a write");
    for _ in 0..3 {
        let body = remote.read(&digest, ByteRange::ALL).await.expect("a read").expect("it is there");
        assert_eq!(body.collect(usize::MAX).await.expect("whole"), Some(data.clone()));
    }
    for stranger in [trusting(&other), Tls::default()] {
        let refused = connect(&address, stranger).await.err();
        assert!(matches!(refused, Some(ConnectError::Unreachable { .. })), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_shows_its_certificate_where_one_is_asked_for() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let address = serve(&authority, Some(&clients)).await;
    let with = |(certificate, key): (String, String)| Tls {
        identity: Some((certificate.into_bytes(), key.into_bytes())),
        ..trusting(&authority)
    };
    connect(&address, with(clients.sign("ci"))).await.expect("a client that is let in");
    assert!(connect(&address, trusting(&authority)).await.is_err(), "none is shown");
    assert!(connect(&address, with(authority.sign("ci"))).await.is_err(), "one of another authority");
}

#[tokio::test]
async fn what_is_no_certificate_is_told_before_anything_is_sent() {
    let tls = Tls { ca: None, identity: Some((b"no certificate".to_vec(), b"no key".to_vec())) };
    let refused = connect(&"grpcs://localhost:1".parse().expect("an address"), tls).await.err();
    assert!(matches!(refused, Some(ConnectError::Tls(_))), "{refused:?}");
}
