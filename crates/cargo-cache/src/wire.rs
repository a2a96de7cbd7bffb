//! What a wrapper process and the session say to each other over a Unix socket.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest message that is read, in bytes.
const MAX_MESSAGE_BYTES: u32 = 1 << 30;

/// What a wrapper asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// cargo calls a tool.
    Call(Call),
    /// The tool that the session asked for has run. The output follows in two frames, standard output first.
    Done(Done),
}

/// One call of a tool by cargo.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) tool: Tool,
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// The working directory.
    pub(crate) folder: String,
    pub(crate) environment: BTreeMap<String, String>,
}

/// What cargo thinks it calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Tool {
    /// rustc.
    Rustc,
    /// rustdoc.
    Rustdoc,
    /// A test executable.
    Runner,
}

/// What became of the tool.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) exit_code: Option<i32>,
    pub(crate) took: Duration,
}

/// What a wrapper is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// All is in place; print the output, which follows in two frames, and exit so.
    Replay { exit_code: i32, note: Option<String> },
    /// Run the command, with these arguments in place of its own if there are any, keep its output, and say how it ended.
    Run { arguments: Option<Vec<String>> },
    /// Run the command as it is, and say nothing.
    Pass,
    /// What was said to have run is on record.
    Kept,
}

/// Writes one frame: its length, then its bytes.
pub(crate) fn write_frame(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&len.to_le_bytes())?;
    out.write_all(bytes)
}

/// Reads one frame.
pub(crate) fn read_frame(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len);
    if len > MAX_MESSAGE_BYTES {
        return Err(io::Error::other("a message of the session is too long"));
    }
    let mut bytes = Vec::new();
    from.take(u64::from(len)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != u64::from(len) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// Writes a message as one frame.
pub(crate) fn write_message(out: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    write_frame(out, &serde_json::to_vec(message)?)
}

/// Reads a message of one frame.
pub(crate) fn read_message<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    Ok(serde_json::from_slice(&read_frame(from)?)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_read_back(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..5)) {
            let mut wire = Vec::new();
            for frame in &frames {
                write_frame(&mut wire, frame).expect("a vector");
            }
            let mut rest = wire.as_slice();
            for frame in &frames {
                prop_assert_eq!(&read_frame(&mut rest).expect("a frame"), frame);
            }
            prop_assert!(read_frame(&mut rest).is_err());
        }

        #[test]
        fn any_bytes_are_a_message_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _read = read_message::<Request>(&mut bytes.as_slice());
        }
    }
}
