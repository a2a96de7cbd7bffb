use tonic::Code;

use super::alone;
use super::bystander::beside;

const MIB: usize = 1 << 20;

const CAS: &str = "/build.bazel.remote.execution.v2.ContentAddressableStorage";
const AC: &str = "/build.bazel.remote.execution.v2.ActionCache";

/// Groups of a field nobody knows, one in the other.
fn nested(depth: usize) -> Vec<u8> {
    // Field 100, start and end of a group.
    [[0xa3, 0x06].repeat(depth), [0xa4, 0x06].repeat(depth)].concat()
}

/// A message in field 2 of a message in field 2 of …: an entry of most messages, and no text.
fn boxed(depth: usize) -> Vec<u8> {
    (0..depth).fold(Vec::new(), |inner, _| {
        let mut outer = vec![0x12];
        prost::encoding::encode_varint(inner.len() as u64, &mut outer);
        outer.extend_from_slice(&inner);
        outer
    })
}

/// Messages that break what protobuf allows, or stretch it.
fn hostile_messages() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("deep groups", nested(200_000)),
        ("deep messages", boxed(20_000)),
        ("a varint of eleven bytes", [&[0x08][..], &[0xff; 10], &[1]].concat()),
        ("a length past the end", vec![0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("a length of 2^64 - 1", [&[0x12][..], &[0xff; 9], &[1]].concat()),
        ("field 0", vec![0, 0]),
        ("a wire type that is none", vec![0x0f]),
        ("text that is none", vec![0x0a, 2, 0xff, 0xfe]),
        ("bytes at random", super::harness::Random::new(50).bytes(10_000)),
    ]
}

async fn call(client: &super::harness::Client, path: &str, bytes: Vec<u8>) -> tonic::Status {
    let mut grpc = tonic::client::Grpc::new(client.channel());
    grpc.ready().await.expect("a connection");
    let path = path.parse().expect("a path");
    match grpc.unary(tonic::Request::new(bytes), path, Plain).await {
        Ok(_) => tonic::Status::ok(""),
        Err(status) => status,
    }
}

/// Sends bytes as they are and passes over the answer.
#[derive(Clone, Default)]
struct Plain;

impl tonic::codec::Codec for Plain {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for Plain {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), tonic::Status> {
        bytes::BufMut::put_slice(to, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Plain {
    type Item = ();
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, tonic::Status> {
        let len = bytes::Buf::remaining(from);
        bytes::Buf::advance(from, len);
        Ok(Some(()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_protobuf_is_refused_by_every_method() {
    let server = alone();
    let client = server.client();
    let methods = [
        format!("{CAS}/FindMissingBlobs"),
        format!("{CAS}/BatchUpdateBlobs"),
        format!("{CAS}/BatchReadBlobs"),
        format!("{CAS}/SpliceBlob"),
        format!("{AC}/GetActionResult"),
        format!("{AC}/UpdateActionResult"),
        "/build.bazel.remote.execution.v2.Capabilities/GetCapabilities".to_owned(),
        "/google.bytestream.ByteStream/QueryWriteStatus".to_owned(),
    ];
    for (what, bytes) in hostile_messages() {
        for method in &methods {
            let status = call(&client, method, bytes.clone()).await;
            // Where the first level is a field of bytes, what is in it is nobody's to read.
            let is_bytes = what == "deep messages" && status.code() == Code::Ok;
            let is_refused = is_bytes || matches!(status.code(), Code::Internal | Code::InvalidArgument);
            assert!(is_refused, "{method}, {what}: {:?} {}", status.code(), status.message());
        }
        // An action result as stored bytes: the outer message is in order, the inner one is not. It has no text of its own,
        // but its output files have.
        let bytes = match what {
            "text that is none" => [&[0x12, u8::try_from(bytes.len()).expect("short")][..], &bytes].concat(),
            _ => bytes,
        };
        let mut inner = vec![0x1a];
        prost::encoding::encode_varint(bytes.len() as u64, &mut inner);
        inner.extend_from_slice(&bytes);
        let action = super::harness::sha256(b"action");
        let digest = prost::Message::encode_to_vec(&action);
        let request = [&[0x12, u8::try_from(digest.len()).expect("short")][..], &digest, &inner].concat();
        let status = call(&client, &format!("{AC}/UpdateActionResult"), request).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {}", status.message());
        assert_eq!(client.action_result(&action).await.expect_err("nothing stored").code(), Code::NotFound);
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_nothing_do_not_grow_in_memory() {
    let server = alone();
    let client = server.client();
    // As many empty entries as a message of 15 MiB holds; each is some tens of bytes once it is read.
    for (method, tag) in [("FindMissingBlobs", 0x12), ("BatchReadBlobs", 0x12), ("BatchUpdateBlobs", 0x12)] {
        let entries = [tag, 0].repeat(15 * MIB / 2);
        let path = format!("{CAS}/{method}");
        let (sent, called, caller) = (entries.clone(), path.clone(), client.clone());
        let runtime = tokio::runtime::Handle::current();
        beside(&server, &format!("8 x {method} of 7,864,320 empty entries"), 768, move || {
            let calls = (0..8).map(|_| call(&caller, &called, sent.clone()));
            runtime.block_on(futures::future::join_all(calls));
            Box::new(())
        })
        .await;
        let status = call(&client, &path, entries).await;
        let is_refused = matches!(status.code(), Code::InvalidArgument | Code::ResourceExhausted);
        assert!(is_refused, "{method}: {:?} {}", status.code(), status.message());
    }
}
