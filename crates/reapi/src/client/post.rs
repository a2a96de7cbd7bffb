use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http::{HeaderValue, Request, StatusCode, header};
use tonic::body::Body;
use tower::ServiceExt;

use super::RemoteStore;

/// The longest line, and the longest refusal, that is read.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Why a request beside the API was not answered with lines.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The connection failed.
    #[error("the connection failed")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It was refused, and why.
    #[error("{status}: {reason}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The server's words.
        reason: String,
    },
    /// A line without end.
    #[error("the server sends a line of more than {MAX_LINE_BYTES} bytes")]
    Line,
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> PostError {
    PostError::Connection(error.into())
}

impl RemoteStore {
    /// Sends JSON to a path of the server that is no call of the API, over the same connection and with the same credential;
    /// the lines of the answer, as they come. Dropping them ends the request.
    ///
    /// # Errors
    /// [`PostError`], also for each line.
    pub async fn post_json(
        &self,
        path: &str,
        body: String,
    ) -> Result<impl Stream<Item = Result<Bytes, PostError>> + use<>, PostError> {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Body::new(axum::body::Body::from(body)))
            .map_err(failed)?;
        let (head, body) = self.transport().oneshot(request).await.map_err(failed)?.into_parts();
        let mut pieces = axum::body::Body::new(body).into_data_stream();
        if head.status.is_success() {
            return Ok(lines(pieces.map_err(failed)));
        }
        let mut reason = Vec::new();
        while let Some(Ok(piece)) = pieces.next().await {
            reason.extend_from_slice(&piece[..piece.len().min(MAX_LINE_BYTES - reason.len())]);
        }
        let reason = String::from_utf8_lossy(&reason).trim().to_owned();
        Err(PostError::Refused { status: head.status, reason })
    }
}

/// Cuts pieces at line ends. What is behind the last one counts as a line.
fn lines<S>(pieces: S) -> impl Stream<Item = Result<Bytes, PostError>>
where
    S: Stream<Item = Result<Bytes, PostError>> + Unpin,
{
    stream::try_unfold((pieces, BytesMut::new(), false), |(mut pieces, mut held, mut ended)| async move {
        loop {
            if let Some(end) = held.iter().position(|byte| *byte == b'\n') {
                let line = held.split_to(end + 1).freeze().slice(..end);
                return Ok(Some((line, (pieces, held, ended))));
            }
            if ended {
                let rest = held.split().freeze();
                return Ok((!rest.is_empty()).then_some((rest, (pieces, held, ended))));
            }
            match pieces.next().await.transpose()? {
                Some(piece) if held.len() + piece.len() > MAX_LINE_BYTES => return Err(PostError::Line),
                Some(piece) => held.extend_from_slice(&piece),
                None => ended = true,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_wherever_the_pieces_end() {
        for pieces in [vec!["a\nbc\n\nd"], vec!["a", "\n", "b", "c\n\n", "d"], vec!["", "a\nb", "c\n", "\nd"]] {
            let pieces = stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece))));
            let lines: Vec<Bytes> = Box::pin(lines(pieces)).try_collect().await.expect("lines");
            assert_eq!(lines, ["a", "bc", "", "d"]);
        }
        let endless = stream::iter((0..).map(|_| Ok(Bytes::from(vec![b'x'; 1000]))));
        let refused = Box::pin(lines(endless)).try_next().await;
        assert!(matches!(refused, Err(PostError::Line)));
    }
}
