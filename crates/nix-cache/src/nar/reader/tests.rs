use std::collections::BTreeMap;

use cache_types::DigestFunction;
use cache_types::nix::base32_encode;
use proptest::prelude::*;

use super::*;
use crate::nar::writer;

type Entries = BTreeMap<Vec<u8>, Node>;

/// A tree in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    File(bool, Vec<u8>),
    Link(Vec<u8>),
    Folder(Entries),
}

fn write(node: &Node, out: &mut Vec<u8>) {
    match node {
        Node::File(is_executable, data) => {
            writer::start_file(out, *is_executable, data.len() as u64);
            out.extend_from_slice(data);
            writer::end_file(out, data.len() as u64);
        }
        Node::Link(target) => writer::symlink(out, target),
        Node::Folder(entries) => {
            writer::start_directory(out);
            for (name, node) in entries {
                writer::start_entry(out, name);
                write(node, out);
                writer::end_entry(out);
            }
            writer::end_directory(out);
        }
    }
}

fn nar(node: &Node) -> Vec<u8> {
    let mut out = Vec::new();
    writer::start_nar(&mut out);
    write(node, &mut out);
    out
}

/// Puts a tree together from what a reader says.
#[derive(Default)]
struct Builder {
    open: Vec<(Entries, Vec<u8>)>,
    file: (bool, Vec<u8>),
    name: Vec<u8>,
    root: Option<Node>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Directory => self.open.push((BTreeMap::new(), std::mem::take(&mut self.name))),
            Event::Entry(name) => self.name = name.to_vec(),
            Event::DirectoryEnd => {
                let (entries, name) = self.open.pop().expect("an open folder");
                self.name = name;
                self.put(Node::Folder(entries));
            }
            Event::File { is_executable, .. } => self.file = (is_executable, Vec::new()),
            Event::Data(data) => self.file.1.extend_from_slice(data),
            Event::FileEnd => {
                let (is_executable, data) = std::mem::take(&mut self.file);
                self.put(Node::File(is_executable, data));
            }
            Event::Symlink(target) => self.put(Node::Link(target.to_vec())),
        }
    }

    fn put(&mut self, node: Node) {
        match self.open.last_mut() {
            Some((entries, _)) => {
                entries.insert(std::mem::take(&mut self.name), node);
            }
            None => self.root = Some(node),
        }
    }
}

fn read(bytes: &[u8], piece_len: usize) -> Result<Node, NarError> {
    let mut reader = NarReader::default();
    let mut builder = Builder::default();
    for piece in bytes.chunks(piece_len) {
        reader.push(piece, &mut |event| {
            builder.take(event);
            Ok::<(), NarError>(())
        })?;
    }
    reader.finish()?;
    Ok(builder.root.expect("a whole NAR has a root"))
}

fn tree() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(x, data)| Node::File(x, data)),
        proptest::collection::vec(1u8.., 1..20).prop_map(Node::Link),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        // Names whose order is easily got wrong are among them.
        let name = prop_oneof![
            prop::sample::select(vec!["a", "a-b", "a.b", "ab", "A", "é"]).prop_map(|name| name.as_bytes().to_vec()),
            proptest::collection::vec(prop_oneof![1u8..=45, 48u8..], 1..4),
        ];
        proptest::collection::btree_map(name, inner, 0..5).prop_map(Node::Folder)
    })
}

fn strings(all: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for bytes in all {
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}

fn file(name: &'static [u8]) -> Vec<&'static [u8]> {
    vec![b"entry", b"(", b"name", name, b"node", b"(", b"type", b"regular", b"contents", b"x", b")", b")"]
}

fn folder_of(names: &[&'static [u8]]) -> Vec<u8> {
    let mut all: Vec<&[u8]> = vec![MAGIC, b"(", b"type", b"directory"];
    all.extend(names.iter().flat_map(|name| file(name)));
    all.push(b")");
    strings(&all)
}

#[test]
fn the_demo_tree_is_that_of_real_nix() {
    let file = |x, data: &str| Node::File(x, data.as_bytes().to_vec());
    let sub = Node::Folder(BTreeMap::from([(b"b".to_vec(), file(false, "x\n"))]));
    let demo = Node::Folder(BTreeMap::from([
        (b"a.txt".to_vec(), file(false, "hello\n")),
        (b"link".to_vec(), Node::Link(b"a.txt".to_vec())),
        (b"run.sh".to_vec(), file(true, "#!/bin/sh\necho hi\n")),
        (b"sub".to_vec(), sub),
    ]));
    let bytes = nar(&demo);
    assert_eq!(bytes.len(), 1080);
    let hash = |bytes: &[u8]| base32_encode(DigestFunction::Sha256.hash(bytes).as_bytes());
    assert_eq!(hash(&bytes), "07nfrah36r0l2scpm9cf0jgfd9raf2smhni4cgm5hjk3jpq82vx0");
    let plain = nar(&file(false, "hello\n"));
    assert_eq!(plain.len(), 120);
    assert_eq!(hash(&plain), "04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw");
}

#[test]
fn names_that_do_not_rise_or_lead_elsewhere_are_refused() {
    assert!(read(&folder_of(&[b"a", b"b"]), 7).is_ok());
    let long: &'static [u8] = Box::leak(vec![b'n'; 256].into_boxed_slice());
    for (names, error) in [
        (vec![&b"b"[..], b"a"], NarError::Order),
        (vec![b"a", b"a"], NarError::Order),
        (vec![b".."], NarError::Name),
        (vec![b"."], NarError::Name),
        (vec![b""], NarError::Name),
        (vec![b"a/b"], NarError::Name),
        (vec![b"a\0"], NarError::Name),
        (vec![long], NarError::Length),
    ] {
        assert_eq!(read(&folder_of(&names), 64), Err(error), "{names:?}");
    }
    assert!(read(&folder_of(&[&long[1..]]), 64).is_ok());
}

#[test]
fn padding_lengths_values_and_ends_are_checked() {
    let plain: &[&[u8]] = &[MAGIC, b"(", b"type", b"regular", b"contents", b"x", b")"];
    let good = strings(plain);
    assert!(read(&good, 5).is_ok());
    let mut padded = good.clone();
    let at = padded.len() - 17;
    padded[at] = 1;
    assert_eq!(read(&padded, 5), Err(NarError::Padding));
    let mut word_padded = good.clone();
    word_padded[8 + MAGIC.len()] = 1;
    assert_eq!(read(&word_padded, 5), Err(NarError::Padding));
    assert_eq!(read(&[&good[..], b"\0"].concat(), 5), Err(NarError::Trailing));
    assert_eq!(read(&good[..good.len() - 1], 5), Err(NarError::Torn));
    let valued: &[&[u8]] = &[MAGIC, b"(", b"type", b"regular", b"executable", b"1", b"contents", b"x", b")"];
    assert_eq!(read(&strings(valued), 5), Err(NarError::Word));
    let without: &[&[u8]] = &[MAGIC, b"(", b"type", b"regular", b")"];
    assert_eq!(read(&strings(without), 5), Err(NarError::Word));
    let empty: &[&[u8]] = &[MAGIC, b"(", b"type", b"symlink", b"target", b"", b")"];
    assert_eq!(read(&strings(empty), 5), Err(NarError::Target));
    let mut huge = strings(&plain[..5]);
    huge.extend_from_slice(&(1u64 << 63).to_le_bytes());
    assert_eq!(read(&huge, 5), Err(NarError::Length));
    assert_eq!(read(&(1u64 << 63).to_le_bytes(), 8), Err(NarError::Length));
}

#[test]
fn folders_are_at_most_64_deep() {
    let nested = |depth| {
        (0..depth).fold(Node::Link(b"x".to_vec()), |node, _| Node::Folder(BTreeMap::from([(b"d".to_vec(), node)])))
    };
    assert!(read(&nar(&nested(MAX_DEPTH)), 1000).is_ok());
    assert_eq!(read(&nar(&nested(MAX_DEPTH + 1)), 1000), Err(NarError::Depth));
    assert_eq!(read(&nar(&nested(100)), 1000), Err(NarError::Depth));
}

proptest! {
    #[test]
    fn trees_read_back_from_pieces_of_any_size(tree in tree(), piece_len in 1usize..200) {
        let bytes = nar(&tree);
        prop_assert_eq!(read(&bytes, piece_len), Ok(tree.clone()));
        prop_assert_eq!(nar(&tree), bytes);
    }

    #[test]
    fn a_changed_byte_gives_another_tree_or_none(tree in tree(), at: prop::sample::Index, byte: u8) {
        let mut bytes = nar(&tree);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        match read(&bytes, 64) {
            // One form for each tree: what is read is what would be written.
            Ok(other) => prop_assert_eq!(nar(&other), bytes),
            Err(error) => prop_assert!(bytes != nar(&tree), "{error}"),
        }
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece_len in 1usize..50) {
        if let Ok(tree) = read(&bytes, piece_len) {
            prop_assert_eq!(nar(&tree), bytes);
        }
    }
}
