//! GET over one connection that is kept, without more work than reading takes.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, ensure};

use crate::server::Cache;

const PIECE_BYTES: usize = 256 * 1024;
const MAX_HEAD_BYTES: usize = 16 * 1024;

pub struct Client {
    stream: TcpStream,
    prefix: &'static str,
    piece: Vec<u8>,
}

impl Client {
    pub fn connect(cache: &dyn Cache) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(cache.address()).context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, prefix: cache.prefix(), piece: vec![0; PIECE_BYTES] })
    }

    /// Has `on_piece` see the body of a path, which must be there; answers its length.
    pub fn get(&mut self, path: &str, mut on_piece: impl FnMut(&[u8])) -> anyhow::Result<u64> {
        let request = format!("GET {}{path} HTTP/1.1\r\nHost: cache\r\nAccept: */*\r\n\r\n", self.prefix);
        self.stream.write_all(request.as_bytes())?;
        let (mut filled, body_at) = self.head()?;
        let head = std::str::from_utf8(self.piece.get(..body_at).unwrap_or_default())?.to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 200"), "{path}: {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: u64 = length.with_context(|| format!("{path} has no length: {head}"))?.trim().parse()?;
        on_piece(self.piece.get(body_at..filled).unwrap_or_default());
        let mut taken = (filled - body_at) as u64;
        while taken < length {
            filled = self.stream.read(&mut self.piece)?;
            ensure!(filled > 0, "{path} ends after {taken} of {length} bytes");
            on_piece(self.piece.get(..filled).unwrap_or_default());
            taken += filled as u64;
        }
        ensure!(taken == length, "{path}: more bytes than its length says");
        Ok(length)
    }

    /// Reads the head of an answer; how much is in `piece`, and where the body begins.
    fn head(&mut self) -> anyhow::Result<(usize, usize)> {
        let mut filled = 0;
        loop {
            let room = self.piece.get_mut(filled..).unwrap_or_default();
            let count = self.stream.read(room)?;
            ensure!(count > 0 && filled < MAX_HEAD_BYTES, "the answer ended within its head");
            filled += count;
            let read = self.piece.get(..filled).unwrap_or_default();
            if let Some(at) = read.windows(4).position(|end| end == b"\r\n\r\n") {
                return Ok((filled, at + 4));
            }
        }
    }
}
