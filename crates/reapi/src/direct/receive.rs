use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::future::poll_fn;
use http_body::{Body, Frame, SizeHint};
use store::StoreError;

use crate::budget::{Budget, Share};

/// What stands before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// The largest message that is gathered here.
const MAX_MESSAGE_BYTES: usize = 128 * 1024;

/// What came of a request's body.
pub(super) enum Received {
    /// One message, not compressed, with its prefix, and nothing after it. The share is for as long as it is held.
    Message(Bytes, Option<Share>),
    /// Anything else, as far as it was read.
    Unusual(Bytes),
    /// The body broke off.
    Broken(tower::BoxError),
    /// It does not come at once, and there is no memory to wait for it.
    Busy(StoreError),
}

/// The message behind the prefix of one that was received.
pub(super) fn payload(message: &[u8]) -> &[u8] {
    message.get(PREFIX_BYTES..).unwrap_or_default()
}

/// Gathers the one message of a request. One that came in a single frame is not copied. One that is not here whole when it
/// is asked for takes its share of the memory for messages.
pub(super) async fn message<B>(body: &mut B, budget: &Budget) -> Received
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<tower::BoxError>,
{
    let mut gathered = Gathered::default();
    let mut share = None;
    while !body.is_end_stream() {
        let mut next = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx).map_err(Into::into));
        let next = match futures::poll!(&mut next) {
            Poll::Ready(next) => next,
            Poll::Pending => {
                let announced = len(gathered.bytes()).filter(|_| share.is_none());
                if let Some(len) = announced {
                    match budget.take(len as u64).await {
                        Ok(taken) => share = Some(taken),
                        Err(error) => return Received::Busy(error),
                    }
                }
                next.await
            }
        };
        match next {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => gathered.push(data),
                Err(_trailers) => return Received::Unusual(gathered.finish()),
            },
            Some(Err(error)) => return Received::Broken(error),
            None => break,
        }
        if !gathered.may_be_one_message() {
            return Received::Unusual(gathered.finish());
        }
    }
    match gathered.is_one_message() {
        true => Received::Message(gathered.finish(), share),
        false => Received::Unusual(gathered.finish()),
    }
}

#[derive(Default)]
struct Gathered {
    first: Bytes,
    all: BytesMut,
}

impl Gathered {
    fn push(&mut self, data: Bytes) {
        if self.first.is_empty() && self.all.is_empty() {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            let whole = len(&self.first).unwrap_or(0).min(MAX_MESSAGE_BYTES) + PREFIX_BYTES;
            self.all.reserve(whole.max(self.first.len() + data.len()));
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&data);
    }

    fn bytes(&self) -> &[u8] {
        if self.all.is_empty() { &self.first } else { &self.all }
    }

    fn may_be_one_message(&self) -> bool {
        let bytes = self.bytes();
        match len(bytes) {
            None => true,
            Some(len) => bytes.first() == Some(&0) && len <= MAX_MESSAGE_BYTES && bytes.len() <= PREFIX_BYTES + len,
        }
    }

    fn is_one_message(&self) -> bool {
        self.may_be_one_message() && len(self.bytes()).is_some_and(|len| self.bytes().len() == PREFIX_BYTES + len)
    }

    fn finish(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

/// The length that the prefix tells, once it is there.
fn len(bytes: &[u8]) -> Option<usize> {
    let [_, a, b, c, d] = *bytes.first_chunk::<PREFIX_BYTES>()?;
    usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()
}

/// A body that was read in part, from its beginning.
pub(super) struct Replayed<B> {
    read: Option<Bytes>,
    rest: B,
}

impl<B> Replayed<B> {
    pub(super) fn new(read: Bytes, rest: B) -> Self {
        Self { read: Some(read).filter(|read| !read.is_empty()), rest }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Replayed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(read) = self.read.take() {
            return Poll::Ready(Some(Ok(Frame::data(read))));
        }
        Pin::new(&mut self.rest).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt, stream};
    use proptest::prelude::*;

    use super::*;
    use crate::LiveLimits;

    fn body(pieces: Vec<Vec<u8>>) -> axum::body::Body {
        axum::body::Body::from_stream(stream::iter(pieces).map(|piece| Ok::<_, Infallible>(Bytes::from(piece))))
    }

    fn memory() -> Budget {
        Budget::memory("memory", &LiveLimits::default(), |_| 1 << 20)
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_is_waited_for_takes_its_share() {
        let budget = memory();
        let sent = [&[0][..], &1000_u32.to_be_bytes(), &[7; 1000]].concat();
        let begun = |end: usize| {
            let first = stream::iter([Ok::<_, Infallible>(Bytes::from(sent[..end].to_vec()))]);
            axum::body::Body::from_stream(first.chain(stream::pending()))
        };
        let mut half = begun(500);
        let mut waiting = Box::pin(message(&mut half, &budget));
        assert!(futures::poll!(&mut waiting).is_pending());
        assert!(budget.take(1 << 20).await.is_err());
        drop(waiting);
        let all = budget.take(1 << 20).await.expect("it was given back");
        let mut half = begun(500);
        assert!(matches!(message(&mut half, &budget).await, Received::Busy(_)));
        drop(all);
        let mut whole = body(vec![sent.clone()]);
        assert!(matches!(message(&mut whole, &budget).await, Received::Message(_, None)));
    }

    fn cut(bytes: &[u8], at: &[usize]) -> Vec<Vec<u8>> {
        let mut cuts: Vec<usize> = at.iter().map(|at| at % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
    }

    async fn replay(read: Bytes, rest: axum::body::Body) -> Bytes {
        let body = axum::body::Body::new(Replayed::new(read, rest));
        axum::body::to_bytes(body, usize::MAX).await.expect("a body")
    }

    proptest! {
        #[test]
        fn one_message_is_one_however_it_is_cut_and_all_else_passes_on_unchanged(
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            extra in proptest::collection::vec(any::<u8>(), 0..3),
            flag in 0u8..3,
            off_by in -1i64..2,
            cuts in proptest::collection::vec(any::<usize>(), 0..5),
        ) {
            let said = u32::try_from(i64::try_from(payload.len()).expect("short") + off_by).unwrap_or(0);
            let sent = [&[flag][..], &said.to_be_bytes(), &payload, &extra].concat();
            let is_one = flag == 0 && u64::from(said) == (payload.len() + extra.len()) as u64;
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                let mut body = body(cut(&sent, &cuts));
                match message(&mut body, &memory()).await {
                    Received::Message(whole, _) => {
                        prop_assert!(is_one);
                        prop_assert_eq!(super::payload(&whole), &sent[5..]);
                    }
                    Received::Unusual(gathered) => {
                        prop_assert!(!is_one);
                        prop_assert_eq!(replay(gathered, body).await, sent);
                    }
                    Received::Broken(error) => panic!("{error}"),
                    Received::Busy(error) => panic!("{error}"),
                }
                Ok::<(), TestCaseError>(())
            })?;
        }
    }

    #[tokio::test]
    async fn a_large_message_is_passed_on_before_it_is_gathered() {
        let sent = [&[0][..], &u32::MAX.to_be_bytes(), &[7; 100]].concat();
        let mut body = body(vec![sent[..50].to_vec(), sent[50..].to_vec()]);
        let Received::Unusual(gathered) = message(&mut body, &memory()).await else { panic!("too large") };
        assert_eq!(gathered.len(), 50);
        assert_eq!(replay(gathered, body).await, sent);
    }
}
