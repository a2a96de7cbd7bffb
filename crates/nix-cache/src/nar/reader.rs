use super::{MAGIC, padding};

/// Folders within folders, as far as Nix goes. Spec: N-30.
pub const MAX_DEPTH: usize = 64;
/// The longest name of an entry.
const MAX_NAME_LEN: u64 = 255;
/// The longest target of a link.
const MAX_TARGET_LEN: u64 = 4095;
/// The longest word of the format itself.
const MAX_WORD_LEN: u64 = 16;

/// What a NAR holds, in the order it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A folder begins; for each entry a name and a node follow.
    Directory,
    /// The name of the next node.
    Entry(&'a [u8]),
    /// The folder ends.
    DirectoryEnd,
    /// A file begins; its data follow, in pieces.
    File {
        /// Whether it may be executed.
        is_executable: bool,
        /// Its size.
        size_bytes: u64,
        /// Where in the NAR its data begin.
        offset: u64,
    },
    /// The next bytes of the file.
    Data(&'a [u8]),
    /// The file ends.
    FileEnd,
    /// A link with this target.
    Symlink(&'a [u8]),
}

/// Reads a NAR from pieces of any size. Refuses all but the one canonical form; holds a name, not a file. Spec: N-30 to
/// N-32.
#[derive(Debug)]
pub struct NarReader {
    state: State,
    /// The name before, in each folder that is open.
    open: Vec<Vec<u8>>,
    is_executable: bool,
    token: Token,
    /// Bytes taken by the pushes before.
    taken: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Magic,
    Open,
    TypeKey,
    Type,
    ExecutableOrContents,
    ExecutableValue,
    ContentsKey,
    /// The length of a file, then its bytes.
    Contents,
    Data {
        left: u64,
        size_bytes: u64,
    },
    Padding {
        left: usize,
    },
    TargetKey,
    Target,
    Close,
    EntryOrClose,
    EntryOpen,
    NameKey,
    Name,
    NodeKey,
    EntryClose,
    End,
}

/// A string on its way.
#[derive(Debug, Default)]
struct Token {
    head: [u8; 8],
    head_len: usize,
    bytes: Vec<u8>,
    /// Bytes and padding still to come; `None` until the length is known.
    left: Option<usize>,
    len: usize,
}

impl Default for NarReader {
    fn default() -> Self {
        Self { state: State::Magic, open: Vec::new(), is_executable: false, token: Token::default(), taken: 0 }
    }
}

impl NarReader {
    /// Takes the next bytes and hands on what they hold.
    ///
    /// # Errors
    /// [`NarError`], after which nothing more is taken, or what `on_event` returns.
    pub fn push<E: From<NarError>>(
        &mut self,
        mut bytes: &[u8],
        on_event: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let end = self.taken + bytes.len() as u64;
        while !bytes.is_empty() {
            match self.state {
                State::End => return Err(NarError::Trailing.into()),
                State::Data { left, size_bytes } => {
                    let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    let (data, rest) = bytes.split_at(count);
                    bytes = rest;
                    on_event(Event::Data(data))?;
                    self.state = State::Data { left: left - count as u64, size_bytes };
                    self.end_data(on_event)?;
                }
                State::Padding { left } => {
                    let count = left.min(bytes.len());
                    let (zeros, rest) = bytes.split_at(count);
                    bytes = rest;
                    if zeros.iter().any(|byte| *byte != 0) {
                        return Err(NarError::Padding.into());
                    }
                    self.state = if left == count { State::Close } else { State::Padding { left: left - count } };
                }
                State::Contents => {
                    if let Some(size_bytes) = self.token.length(&mut bytes) {
                        self.start_data(size_bytes, end - bytes.len() as u64, on_event)?;
                    }
                }
                _ => {
                    if self.token.fill(&mut bytes, self.state.limit())? {
                        let token = std::mem::take(&mut self.token);
                        self.state = self.next(&token.bytes, on_event)?;
                    }
                }
            }
        }
        self.taken = end;
        Ok(())
    }

    /// Says whether the NAR is whole.
    ///
    /// # Errors
    /// [`NarError::Torn`].
    pub fn finish(self) -> Result<(), NarError> {
        if self.state == State::End { Ok(()) } else { Err(NarError::Torn) }
    }

    fn start_data<E: From<NarError>>(
        &mut self,
        size_bytes: u64,
        offset: u64,
        on_event: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if size_bytes > i64::MAX as u64 {
            return Err(NarError::Length.into());
        }
        self.token = Token::default();
        on_event(Event::File { is_executable: self.is_executable, size_bytes, offset })?;
        self.is_executable = false;
        self.state = State::Data { left: size_bytes, size_bytes };
        self.end_data(on_event)
    }

    fn end_data<E>(&mut self, on_event: &mut impl FnMut(Event<'_>) -> Result<(), E>) -> Result<(), E> {
        if let State::Data { left: 0, size_bytes } = self.state {
            on_event(Event::FileEnd)?;
            let left = padding(size_bytes);
            self.state = if left == 0 { State::Close } else { State::Padding { left } };
        }
        Ok(())
    }

    /// The state after a whole string.
    fn next<E: From<NarError>>(
        &mut self,
        token: &[u8],
        on_event: &mut impl FnMut(Event<'_>) -> Result<(), E>,
    ) -> Result<State, E> {
        Ok(match (self.state, token) {
            (State::Magic, MAGIC) => State::Open,
            (State::Open, b"(") => State::TypeKey,
            (State::TypeKey, b"type") => State::Type,
            (State::Type, b"regular") => State::ExecutableOrContents,
            (State::Type, b"symlink") => State::TargetKey,
            (State::Type, b"directory") => {
                if self.open.len() == MAX_DEPTH {
                    return Err(NarError::Depth.into());
                }
                self.open.push(Vec::new());
                on_event(Event::Directory)?;
                State::EntryOrClose
            }
            (State::ExecutableOrContents, b"executable") => {
                self.is_executable = true;
                State::ExecutableValue
            }
            (State::ExecutableValue, b"") => State::ContentsKey,
            (State::ExecutableOrContents | State::ContentsKey, b"contents") => State::Contents,
            (State::TargetKey, b"target") => State::Target,
            (State::Target, target) => {
                if target.is_empty() || target.contains(&0) {
                    return Err(NarError::Target.into());
                }
                on_event(Event::Symlink(target))?;
                State::Close
            }
            (State::Close, b")") => self.after_node(),
            (State::EntryOrClose, b"entry") => State::EntryOpen,
            (State::EntryOrClose, b")") => {
                self.open.pop();
                on_event(Event::DirectoryEnd)?;
                self.after_node()
            }
            (State::EntryOpen, b"(") => State::NameKey,
            (State::NameKey, b"name") => State::Name,
            (State::Name, name) => {
                self.check_name(name)?;
                on_event(Event::Entry(name))?;
                State::NodeKey
            }
            (State::NodeKey, b"node") => State::Open,
            (State::EntryClose, b")") => State::EntryOrClose,
            _ => return Err(NarError::Word.into()),
        })
    }

    fn after_node(&self) -> State {
        if self.open.is_empty() { State::End } else { State::EntryClose }
    }

    fn check_name(&mut self, name: &[u8]) -> Result<(), NarError> {
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || name.contains(&0) {
            return Err(NarError::Name);
        }
        // Names only occur in a folder that is open.
        if let Some(before) = self.open.last_mut() {
            if name <= before.as_slice() {
                return Err(NarError::Order);
            }
            before.clear();
            before.extend_from_slice(name);
        }
        Ok(())
    }
}

impl State {
    /// The longest string that may come here.
    fn limit(self) -> u64 {
        match self {
            Self::Name => MAX_NAME_LEN,
            Self::Target => MAX_TARGET_LEN,
            _ => MAX_WORD_LEN,
        }
    }
}

impl Token {
    /// The length that strings begin with, once all of it is here.
    fn length(&mut self, bytes: &mut &[u8]) -> Option<u64> {
        while self.head_len < self.head.len() {
            let (byte, rest) = bytes.split_first()?;
            *bytes = rest;
            self.head[self.head_len] = *byte;
            self.head_len += 1;
        }
        Some(u64::from_le_bytes(self.head))
    }

    /// Takes what belongs to the string; whether it is whole.
    fn fill(&mut self, bytes: &mut &[u8], limit: u64) -> Result<bool, NarError> {
        let left = match self.left {
            Some(left) => left,
            None => {
                let Some(len) = self.length(bytes) else { return Ok(false) };
                if len > limit {
                    return Err(NarError::Length);
                }
                // At most the limit, which is small.
                self.len = len as usize;
                self.len + padding(len)
            }
        };
        let (taken, rest) = bytes.split_at(left.min(bytes.len()));
        *bytes = rest;
        self.bytes.extend_from_slice(taken);
        self.left = Some(left - taken.len());
        if self.left != Some(0) {
            return Ok(false);
        }
        if self.bytes.drain(self.len..).any(|byte| byte != 0) {
            return Err(NarError::Padding);
        }
        Ok(true)
    }
}

/// Why bytes are no NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NarError {
    /// A word that the format does not have here.
    #[error("not a NAR: a word is not the one that the format has there")]
    Word,
    /// A string that is too long.
    #[error("not a NAR: a string is longer than the format allows")]
    Length,
    /// Bytes after a string that are not zero.
    #[error("not a NAR: padding is not zero")]
    Padding,
    /// A name that no file has.
    #[error("not a NAR: a name is empty, . or .., or holds a slash or a zero byte")]
    Name,
    /// Names that do not rise.
    #[error("not a NAR: the names of a folder are not sorted, or one is there twice")]
    Order,
    /// An empty target, or one with a zero byte.
    #[error("not a NAR: the target of a link is empty or holds a zero byte")]
    Target,
    /// Too deep.
    #[error("folders lie more than {MAX_DEPTH} deep in one another")]
    Depth,
    /// Bytes after the end.
    #[error("not a NAR: bytes follow its end")]
    Trailing,
    /// It ends too early.
    #[error("the NAR is torn: it ends too early")]
    Torn,
}

#[cfg(test)]
mod tests;
