use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use store::{BlobBody, StoreError};

/// The pieces that are sent, but for the last, are at least this long. Spec: R-090.
const MIN_PIECE_BYTES: usize = 64 * 1024;

/// And at most this long.
const MAX_PIECE_BYTES: usize = 1024 * 1024;

/// Cuts and joins the pieces of a body so that each makes a good message. Only small ones are copied.
pub(super) fn pieces(body: BlobBody) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
    let state = Pieces { body, ready: Bytes::new(), small: BytesMut::new() };
    stream::try_unfold(state, |mut state| async move { Ok(state.next().await?.map(|piece| (piece, state))) })
}

struct Pieces {
    body: BlobBody,
    /// Bytes that need no joining.
    ready: Bytes,
    /// Bytes that wait to become a piece; before `ready` in the blob.
    small: BytesMut,
}

impl Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            if self.small.len() >= MIN_PIECE_BYTES || !(self.small.is_empty() || self.ready.is_empty()) {
                return Ok(Some(self.small.split().freeze()));
            }
            if !self.ready.is_empty() {
                let len = self.ready.len().min(MAX_PIECE_BYTES);
                return Ok(Some(self.ready.split_to(len)));
            }
            match self.body.next().await.transpose()? {
                Some(piece) if piece.len() >= MIN_PIECE_BYTES => self.ready = piece,
                Some(piece) => self.small.extend_from_slice(&piece),
                None if self.small.is_empty() => return Ok(None),
                None => return Ok(Some(self.small.split().freeze())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn pieces_are_the_body_and_none_is_over_the_limit(
            lens in proptest::collection::vec(prop_oneof![0usize..100, 60_000usize..70_000, 0usize..3_000_000], 0..12),
        ) {
            let data: Vec<Bytes> = lens.iter().map(|len| Bytes::from(vec![u8::try_from(len % 251).expect("small"); *len])).collect();
            let body = BlobBody::from_stream(stream::iter(data.clone().into_iter().map(Ok)));
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let sent: Vec<Bytes> = runtime.block_on(pieces(body).try_collect()).expect("no error");
            prop_assert!(sent.iter().all(|piece| !piece.is_empty() && piece.len() <= MAX_PIECE_BYTES));
            prop_assert_eq!(sent.concat(), data.concat());
        }
    }
}
