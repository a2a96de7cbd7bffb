use super::MAGIC;

/// The zero bytes after a string of this length.
pub fn padding(len: u64) -> usize {
    // Less than 8.
    (len.wrapping_neg() % 8) as usize
}

fn text(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
    out.resize(out.len() + padding(bytes.len() as u64), 0);
}

fn texts(out: &mut Vec<u8>, all: &[&[u8]]) {
    for bytes in all {
        text(out, bytes);
    }
}

/// What every NAR begins with.
pub fn start_nar(out: &mut Vec<u8>) {
    text(out, MAGIC);
}

/// What comes before the bytes of a file of this size.
pub fn start_file(out: &mut Vec<u8>, is_executable: bool, size_bytes: u64) {
    texts(out, &[b"(", b"type", b"regular"]);
    if is_executable {
        texts(out, &[b"executable", b""]);
    }
    text(out, b"contents");
    out.extend_from_slice(&size_bytes.to_le_bytes());
}

/// What comes after the bytes of a file of this size.
pub fn end_file(out: &mut Vec<u8>, size_bytes: u64) {
    out.resize(out.len() + padding(size_bytes), 0);
    text(out, b")");
}

/// A whole symbolic link.
pub fn symlink(out: &mut Vec<u8>, target: &[u8]) {
    texts(out, &[b"(", b"type", b"symlink", b"target", target, b")"]);
}

/// What comes before the entries of a folder.
pub fn start_directory(out: &mut Vec<u8>) {
    texts(out, &[b"(", b"type", b"directory"]);
}

/// What comes before the node of an entry. Entries come in the order of the bytes of their names.
pub fn start_entry(out: &mut Vec<u8>, name: &[u8]) {
    texts(out, &[b"entry", b"(", b"name", name, b"node"]);
}

/// What comes after the node of an entry.
pub fn end_entry(out: &mut Vec<u8>) {
    text(out, b")");
}

/// What comes after the entries of a folder.
pub fn end_directory(out: &mut Vec<u8>) {
    text(out, b")");
}
