use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Stream;

/// Bytes that may wait for the end of a turn; more are sent at once.
const GATHER_BYTES: usize = 64 * 1024;
/// Slices of one write; what comes after them is left for the next.
const SLICES: usize = 16;

/// The socket of one connection. What is written gathers until [`Socket::send`], which the connection calls when it has
/// nothing more to do: the frames of many small answers leave in one system call.
pub(crate) struct Socket(Arc<Mutex<Inner>>);

struct Inner {
    stream: Box<dyn Stream>,
    gathered: BytesMut,
    received_bytes: u64,
    sent_bytes: u64,
    /// The peer did not take all that was offered to it last.
    is_blocked: bool,
}

impl Socket {
    /// A socket, in two hands: one reads and writes, the other sends what was gathered.
    pub(crate) fn new(stream: Box<dyn Stream>) -> (Self, Self) {
        let inner = Inner { stream, gathered: BytesMut::new(), received_bytes: 0, sent_bytes: 0, is_blocked: false };
        let inner = Arc::new(Mutex::new(inner));
        (Self(inner.clone()), Self(inner))
    }

    /// Sends what was gathered.
    pub(crate) fn send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().send(cx)
    }

    /// Bytes that came from the peer so far.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.0.lock().received_bytes
    }

    /// Bytes that the peer took so far, when it does not take more at present; `None` when nothing waits for it.
    pub(crate) fn blocked_at(&self) -> Option<u64> {
        let inner = self.0.lock();
        inner.is_blocked.then_some(inner.sent_bytes)
    }
}

impl Inner {
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let sent = ready!(self.write(cx, &[]))?;
            debug_assert_eq!(sent, 0, "nothing was offered beside what was gathered");
        }
        Poll::Ready(Ok(()))
    }

    /// Offers the peer what was gathered and then `more`; returns how much of `more` it took.
    fn write(&mut self, cx: &mut Context<'_>, more: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        slices[0] = IoSlice::new(&self.gathered);
        let count = more.len().min(SLICES - 1);
        slices[1..=count].copy_from_slice(&more[..count]);
        let offered = if self.gathered.is_empty() { &slices[1..=count] } else { &slices[..=count] };
        let taken = Pin::new(&mut self.stream).poll_write_vectored(cx, offered);
        self.is_blocked = taken.is_pending();
        let taken = ready!(taken)?;
        if taken == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.sent_bytes += taken as u64;
        let of_gathered = taken.min(self.gathered.len());
        self.gathered.advance(of_gathered);
        Poll::Ready(Ok(taken - of_gathered))
    }

    /// Gathers the slices, or sends them with what was gathered when they are too much for that.
    fn take(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        if offered == 0 {
            return Poll::Ready(Ok(0));
        }
        loop {
            if self.gathered.len() + offered <= GATHER_BYTES {
                slices.iter().for_each(|slice| self.gathered.extend_from_slice(slice));
                return Poll::Ready(Ok(offered));
            }
            match ready!(self.write(cx, slices))? {
                0 => {}
                taken => return Poll::Ready(Ok(taken)),
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.lock();
        let before = buf.filled().len();
        ready!(Pin::new(&mut inner.stream).poll_read(cx, buf))?;
        inner.received_bytes += (buf.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().take(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().take(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Leaves the sending to the end of the connection's turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.lock();
        ready!(inner.send(cx))?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}
