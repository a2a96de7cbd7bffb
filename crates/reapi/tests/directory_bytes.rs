//! The folders that are written without protobuf are those that protobuf writes.

use cache_types::directory::{Directory, DirectoryNode, FileNode, SymlinkNode};
use cache_types::{Digest, DigestFunction};
use proptest::prelude::*;
use prost::Message;
use reapi::proto::re;

fn wire(digest: &Digest) -> Option<re::Digest> {
    Some(re::Digest { hash: digest.hash().to_string(), size_bytes: digest.size_i64() })
}

fn by_prost(directory: &Directory) -> Vec<u8> {
    let files = directory.files.iter().map(|node| re::FileNode {
        name: node.name.clone(),
        digest: wire(&node.digest),
        is_executable: node.is_executable,
        ..Default::default()
    });
    let directories = directory
        .directories
        .iter()
        .map(|node| re::DirectoryNode { name: node.name.clone(), digest: wire(&node.digest) });
    let symlinks = directory.symlinks.iter().map(|node| re::SymlinkNode {
        name: node.name.clone(),
        target: node.target.clone(),
        ..Default::default()
    });
    let message = re::Directory {
        files: files.collect(),
        directories: directories.collect(),
        symlinks: symlinks.collect(),
        ..Default::default()
    };
    message.encode_to_vec()
}

proptest! {
    #[test]
    fn both_write_the_same_bytes(
        files in proptest::collection::btree_map(".{1,300}", (proptest::collection::vec(any::<u8>(), 0..300), any::<bool>()), 0..5),
        folders in proptest::collection::btree_map(".{1,20}", any::<u32>(), 0..5),
        links in proptest::collection::btree_map(".{1,20}", ".{1,200}", 0..5),
    ) {
        let digest = |data: &[u8]| Digest::of(DigestFunction::Sha256, data);
        let directory = Directory {
            files: files
                .into_iter()
                .map(|(name, (data, is_executable))| FileNode { name, digest: digest(&data), is_executable })
                .collect(),
            directories: folders
                .into_iter()
                .map(|(name, seed)| DirectoryNode { name, digest: digest(&seed.to_le_bytes()) })
                .collect(),
            symlinks: links.into_iter().map(|(name, target)| SymlinkNode { name, target }).collect(),
        };
        prop_assert_eq!(directory.encode(), by_prost(&directory));
        prop_assert_eq!(Directory::decode(&by_prost(&directory), DigestFunction::Sha256), Ok(directory));
    }
}
