//! The calls that clients make most, answered below tonic: GetActionResult, UpdateActionResult, FindMissingBlobs,
//! BatchReadBlobs, BatchUpdateBlobs and ByteStream.Read.
//!
//! They are the calls of the ordinary services, and answer through the same code. What is spared is around them: the
//! router, boxed bodies, and the copy of each blob into an encoder's buffer. Whatever is not the plain form of such a call
//! (compressed, in another content type, malformed, over the usual size) is handed on untouched.
//!
//! | module | owns |
//! |---|---|
//! | `receive` | the one message of a request, and its way on to the ordinary services |
//! | `frames` | answers as they travel: the prefix of gRPC, the fields around blobs, the blobs themselves |
//! | `answer` | the body of an answer, and its status |

mod answer;
mod frames;
mod receive;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use cache_types::Role;
use futures::FutureExt;
use futures::future::{BoxFuture, Either};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, header};
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use self::answer::Answer;
use self::receive::{Received, Replayed};
use crate::core::Core;
use crate::digest_list::DigestList;
use crate::observer::{Code, Endpoint, Rpc};
use crate::proto::bytestream::ReadRequest;
use crate::proto::re;
use crate::request_metadata::Requester;
use crate::wire::UpdateActionResultRequest;
use crate::{access, action_cache, bytestream, cas, status, wire, writer};

/// What the ordinary services make of a request.
type Ordinary = <Routes as Service<Request<Body>>>::Future;

/// All services; the hot calls take the short way.
#[derive(Clone)]
pub struct Direct {
    core: Arc<Core>,
    rest: Routes,
}

impl Direct {
    pub(crate) fn new(core: Arc<Core>, rest: Routes) -> Self {
        Self { core, rest }
    }
}

impl<B> Service<Request<B>> for Direct
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<tower::BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ordinary, BoxFuture<'static, Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        <Routes as Service<Request<B>>>::poll_ready(&mut self.rest, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match hot(&request) {
            Some(rpc) => Either::Right(self.clone().answer(rpc, request).boxed()),
            None => Either::Left(self.rest.call(request)),
        }
    }
}

/// The hot call that a request is, when it is one in its plain form.
fn hot<B>(request: &Request<B>) -> Option<Rpc> {
    let rpc = match request.uri().path() {
        "/build.bazel.remote.execution.v2.ActionCache/GetActionResult" => Rpc::GetActionResult,
        "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult" => Rpc::UpdateActionResult,
        "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs" => Rpc::FindMissingBlobs,
        "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs" => Rpc::BatchReadBlobs,
        "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs" => Rpc::BatchUpdateBlobs,
        "/google.bytestream.ByteStream/Read" => Rpc::Read,
        _ => return None,
    };
    let is_plain = request.method() == Method::POST && is_plain(request.headers());
    // Who may do nothing is refused where everyone is, before the body is read.
    let may_call = access::caller(request.extensions()).is_ok_and(|caller| !caller.may_nothing());
    // The spans of the ordinary services are for whoever looks into calls.
    (is_plain && may_call && !tracing::enabled!(tracing::Level::DEBUG)).then_some(rpc)
}

fn is_plain(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    let encoding = headers.get("grpc-encoding").map(|value| value.as_bytes());
    matches!(content_type, Some(b"application/grpc" | b"application/grpc+proto"))
        && matches!(encoding, None | Some(b"identity"))
}

/// A hot call that was understood.
enum Hot<'a> {
    GetActionResult(re::GetActionResultRequest),
    UpdateActionResult(UpdateActionResultRequest),
    FindMissingBlobs(DigestList<'a>),
    BatchReadBlobs(re::BatchReadBlobsRequest),
    BatchUpdateBlobs(re::BatchUpdateBlobsRequest),
    Read(ReadRequest),
}

impl<'a> Hot<'a> {
    /// `None` for what the ordinary services have to refuse, or to make sense of.
    fn parse(rpc: Rpc, whole: &'a Bytes) -> Option<Self> {
        let message = receive::payload(whole);
        // What is written is parts of the bytes that came, not copies of them.
        let shared = || wire::check_entries(message).ok().map(|()| whole.slice_ref(message));
        match rpc {
            Rpc::UpdateActionResult => Message::decode(shared()?).ok().map(Self::UpdateActionResult),
            Rpc::BatchUpdateBlobs => Message::decode(shared()?).ok().map(Self::BatchUpdateBlobs),
            Rpc::GetActionResult => Message::decode(message).ok().map(Self::GetActionResult),
            Rpc::FindMissingBlobs => DigestList::parse(message).map(Self::FindMissingBlobs),
            Rpc::BatchReadBlobs => Message::decode(message).ok().map(Self::BatchReadBlobs),
            Rpc::Read => Message::decode(message).ok().map(Self::Read),
            _ => None,
        }
    }

    async fn run(self, core: &Core, head: &Parts) -> Result<Answer, Status> {
        let may = |role, instance_name: &str| access::check_named(&head.extensions, role, instance_name);
        let may_read = |instance_name: &str| may(Role::Read, instance_name);
        match self {
            Self::GetActionResult(request) => {
                may_read(&request.instance_name)?;
                let requester = Requester::of(&head.headers);
                action_cache::get(core, &requester, request).await.map(|result| Answer::of(frames::message(result)))
            }
            Self::UpdateActionResult(request) => {
                may(Role::AcWrite, &request.instance_name)?;
                let stored = action_cache::update(core, request, writer::of(&head.extensions)).await;
                stored.map(|result| Answer::of(frames::message(result)))
            }
            Self::BatchUpdateBlobs(request) => {
                may(Role::CasWrite, &request.instance_name)?;
                let response = cas::batch_update(core, request).await;
                response.map(|response| Answer::of(frames::message(response.encode_to_vec().into())))
            }
            Self::FindMissingBlobs(list) => {
                may_read(list.instance_name)?;
                cas::missing_of(core, &list).await.map(|missing| Answer::of(frames::missing(&missing)))
            }
            Self::BatchReadBlobs(request) => {
                may_read(&request.instance_name)?;
                cas::batch_read(core, request).await.map(|response| Answer::of(frames::blobs(response)))
            }
            Self::Read(request) => {
                let caller = access::caller(&head.extensions).map_err(status::denied)?;
                bytestream::data(core, caller, &request).await.map(Answer::stream)
            }
        }
    }
}

impl Direct {
    async fn answer<B>(mut self, rpc: Rpc, request: Request<B>) -> Result<Response<Body>, Infallible>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<tower::BoxError>,
    {
        let (head, mut body) = request.into_parts();
        let gathered = match receive::message(&mut body, &self.core.messages).await {
            Received::Message(whole, _share) => {
                if let Some(hot) = Hot::parse(rpc, &whole) {
                    return Ok(self.run(rpc, hot, &head, whole.len()).await);
                }
                whole
            }
            Received::Unusual(gathered) => gathered,
            Received::Busy(error) => return Ok(status::busy(&error).into_http()),
            Received::Broken(error) => return Ok(Status::from_error(error).into_http()),
        };
        self.rest.call(Request::from_parts(head, Replayed::new(gathered, body))).await
    }

    async fn run(&self, rpc: Rpc, hot: Hot<'_>, head: &Parts, received_bytes: usize) -> Response<Body> {
        let mut call = self.core.observer.call(Endpoint::Rpc(rpc));
        call.received(received_bytes as u64);
        match hot.run(&self.core, head).await {
            Ok(answer) => answer.response(call),
            Err(status) => {
                call.set_code(Code::rpc(status.code()));
                status.into_http()
            }
        }
    }
}

#[cfg(test)]
mod tests;
