//! HTTP/2 by hand, frame by frame, for what no client library would send.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub const DATA: u8 = 0;
/// See [`DATA`].
pub const HEADERS: u8 = 1;
/// See [`DATA`].
pub const RST_STREAM: u8 = 3;
/// See [`DATA`].
pub const SETTINGS: u8 = 4;
/// See [`DATA`].
pub const GOAWAY: u8 = 7;
/// See [`DATA`].
pub const CONTINUATION: u8 = 9;

/// See [`DATA`].
pub const WINDOW_UPDATE: u8 = 8;

/// What may be sent before the server says more.
const FIRST_WINDOW: i64 = 65_535;

/// How long a server may grant nothing before it is taken to grant no more.
const GRANT_PATIENCE: Duration = Duration::from_millis(200);

/// The flag of settings that are taken notice of.
const ACK: u8 = 1;

/// The flag of the last frame of headers.
pub const END_HEADERS: u8 = 4;
/// The flag of the last frame of a stream.
pub const END_STREAM: u8 = 1;

/// One connection whose frames are written by hand.
pub struct Frames {
    socket: TcpStream,
    next_stream: u32,
    /// What the server lets be sent: on each new stream, on the connection (stream 0) and on the streams that are open.
    first_credit: i64,
    credit: HashMap<u32, i64>,
}

impl Frames {
    /// Connects and says HTTP/2. `window` is what the server may send on a stream without being told to go on.
    pub fn connect(address: &str, window: u32) -> Self {
        let socket = TcpStream::connect(address).expect("a listening server");
        socket.set_nodelay(true).expect("a socket option");
        socket.set_write_timeout(Some(Duration::from_secs(60))).expect("a socket option");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket option");
        let credit = HashMap::from([(0, FIRST_WINDOW)]);
        let mut frames = Self { socket, next_stream: 1, first_credit: FIRST_WINDOW, credit };
        let window = window.to_be_bytes();
        frames.send(PREFACE);
        frames.frame(SETTINGS, 0, 0, &[&[0, 4][..], &window].concat());
        frames
    }

    /// Whether the server still takes what is sent.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// Sends one frame; whether the server still takes it.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.send(&frame(kind, flags, stream, payload))
    }

    /// Opens a stream with the headers of a gRPC call; its number.
    pub fn call(&mut self, path: &str) -> u32 {
        let stream = self.take_stream();
        self.frame(HEADERS, END_HEADERS, stream, &call_headers(path));
        stream
    }

    /// The number of the next stream.
    pub fn take_stream(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        stream
    }

    /// Sends as much of a stream's data as the server lets pass; stops when it grants nothing for a while. The bytes that
    /// were sent.
    pub fn pour(&mut self, stream: u32, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            let on_stream = *self.credit.entry(stream).or_insert(self.first_credit);
            let room = usize::try_from(on_stream.min(self.credit[&0])).unwrap_or(0);
            let piece = &bytes[sent..bytes.len().min(sent + room.min(16_384))];
            if piece.is_empty() {
                if !self.take_credit() {
                    break;
                }
                continue;
            }
            if !self.frame(DATA, 0, stream, piece) {
                break;
            }
            sent += piece.len();
            let len = i64::try_from(piece.len()).expect("small");
            [0, stream].iter().for_each(|id| *self.credit.get_mut(id).expect("known above") -= len);
        }
        sent
    }

    /// Reads the next frame for what it grants; whether there was one.
    fn take_credit(&mut self) -> bool {
        self.socket.set_read_timeout(Some(GRANT_PATIENCE)).expect("a socket option");
        let mut head = [0; 9];
        if self.socket.read_exact(&mut head).is_err() {
            return false;
        }
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(len).expect("24 bits")];
        if self.socket.read_exact(&mut payload).is_err() {
            return false;
        }
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let word = |bytes: &[u8]| i64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        match head[3] {
            WINDOW_UPDATE => *self.credit.entry(stream).or_insert(self.first_credit) += word(&payload),
            SETTINGS if head[4] & ACK == 0 => {
                // What the server allows holds from here on.
                self.frame(SETTINGS, ACK, 0, &[]);
                let window =
                    payload.chunks(6).find(|setting| setting[..2] == [0, 4]).map(|setting| word(&setting[2..]));
                let change = window.map_or(0, |window| window - self.first_credit);
                self.first_credit += change;
                self.credit.iter_mut().filter(|(id, _)| **id != 0).for_each(|(_, credit)| *credit += change);
            }
            _ => {}
        }
        true
    }

    /// Reads frames until one of the kind comes; `None` when the connection ends first.
    pub fn wait_for(&mut self, kind: u8) -> Option<Vec<u8>> {
        loop {
            let mut head = [0; 9];
            self.socket.read_exact(&mut head).ok()?;
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(len).expect("24 bits")];
            self.socket.read_exact(&mut payload).ok()?;
            if head[3] == kind {
                return Some(payload);
            }
        }
    }

    /// Reads until the server closes.
    pub fn read_to_end(&mut self) {
        // A reset is an end too.
        self.socket.read_to_end(&mut Vec::new()).ok();
    }
}

/// The bytes of one frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The headers of a gRPC call.
pub fn call_headers(path: &str) -> Vec<u8> {
    let pairs = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "cache"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    pairs.iter().flat_map(|(name, value)| header(name, value)).collect()
}

/// One header as HPACK has it, without table and without Huffman.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        number(&mut bytes, text.len());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

fn number(bytes: &mut Vec<u8>, mut number: usize) {
    let byte = |number: usize| u8::try_from(number).expect("below 256");
    if number < 127 {
        bytes.push(byte(number));
        return;
    }
    bytes.push(127);
    number -= 127;
    while number >= 128 {
        bytes.push(byte(number % 128 + 128));
        number /= 128;
    }
    bytes.push(byte(number));
}

/// A message as gRPC frames it.
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).expect("a message").to_be_bytes();
    [&[0], &len[..], bytes].concat()
}
