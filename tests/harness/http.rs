//! HTTP/1.1 by hand: each request on a connection of its own, read to its end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::Listener;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// Names in lower case, as they came.
    pub headers: Vec<(String, String)>,
    /// The bytes after the headers, as they came.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header, empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

fn connect(listener: &Listener) -> Box<dyn Wire> {
    match listener {
        Listener::Tcp(address) => {
            let stream = TcpStream::connect(address).expect("a listening server");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            Box::new(stream)
        }
        Listener::Unix(path) => {
            let stream = UnixStream::connect(path).expect("a listening server");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            Box::new(stream)
        }
    }
}

/// Sends the bytes of a request as they are; what comes back until the server closes.
pub fn exchange(listener: &Listener, request: &[u8]) -> Answer {
    let mut stream = connect(listener);
    // A server that has answered already may close before all is sent.
    stream.write_all(request).ok();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    parse(&bytes)
}

/// Sends the bytes and goes away.
pub fn abandon(listener: &Listener, request: &[u8]) {
    connect(listener).write_all(request).expect("sent");
}

/// One request with a length, as clients send it.
pub fn ask(listener: &Listener, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let answer = exchange(listener, &request(line, headers, body));
    let is_head = line.starts_with("HEAD ");
    if !is_head && answer.code != 204 {
        assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "{line}");
    }
    answer
}

/// The bytes of a request with a length.
pub fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{line} HTTP/1.1\r\nHost: cache\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || line.starts_with("PUT ") {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    [request.as_bytes(), body].concat()
}

/// Reads an answer.
pub fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
    let head = std::str::from_utf8(&bytes[..end]).expect("headers are text");
    let mut lines = head.split("\r\n");
    let status = lines.next().expect("a status line");
    let code = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok());
    let headers = lines.filter_map(|line| line.split_once(": "));
    Answer {
        code: code.unwrap_or_else(|| panic!("not a status line of HTTP/1.1: {status}")),
        headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
        body: bytes[end + 4..].to_vec(),
    }
}
