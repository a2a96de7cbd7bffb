use cache_types::DigestFunction;
use cache_types::directory::Directory;
use proptest::prelude::*;

use super::*;
use crate::nar;

fn bench(max_bytes: u64) -> Bench {
    Bench { room: Room::new(), folder: std::env::temp_dir().into(), limits: UploadLimits { max_bytes, ..limits() } }
}

fn limits() -> UploadLimits {
    let no_progress = std::time::Duration::from_secs(5);
    UploadLimits { max_bytes: 1 << 30, no_progress, zstd_window_log: 23, ratio: 1000 }
}

fn unpack(bytes: &[u8], compression: Compression) -> Result<UnpackedNar, UnpackError> {
    unpack_nar(bytes, compression, &bench(1 << 20))
}

/// A folder with files of these names, in the order given; the bytes of the NAR.
fn folder(names: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    nar::start_nar(&mut out);
    nar::start_directory(&mut out);
    for name in names {
        nar::start_entry(&mut out, name);
        nar::start_file(&mut out, false, name.len() as u64);
        out.extend_from_slice(name);
        nar::end_file(&mut out, name.len() as u64);
        nar::end_entry(&mut out);
    }
    nar::end_directory(&mut out);
    out
}

fn packed(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let mut packing = compression.pack().expect("memory").expect("one that packs");
    let mut out = packing.push(bytes).expect("memory");
    out.extend(packing.finish().expect("memory"));
    out
}

#[test]
fn files_become_blobs_and_folders_directories() {
    let bytes = folder(&[b"a", b"b", b"c"]);
    let unpacked = unpack(&bytes, Compression::None).expect("a NAR");
    let sha256 = |data: &[u8]| Digest::of(DigestFunction::Sha256, data);
    assert_eq!((unpacked.file, unpacked.nar), (sha256(&bytes), sha256(&bytes)));
    let Root::Directory { digest } = unpacked.root else { panic!("{:?}", unpacked.root) };
    assert_eq!(unpacked.parts.len(), 4);
    for (part, data) in unpacked.parts.iter().zip([b"a", b"b", b"c"]) {
        let Place::Nar(offset) = part.place else { panic!("{part:?}") };
        assert_eq!(part.digest, sha256(data));
        assert_eq!(unpacked.bytes.read(offset, 1).expect("within"), &data[..]);
    }
    let Place::Encoded(encoded) = &unpacked.parts[3].place else { panic!("no folder") };
    assert_eq!((digest, sha256(encoded)), (unpacked.parts[3].digest, digest));
    let directory = Directory::decode(encoded, DigestFunction::Sha256).expect("a folder");
    assert_eq!(directory.files.len(), 3);
}

#[test]
fn what_a_directory_cannot_hold_is_kept_whole() {
    let bytes = folder(&[b"a", b"\xff"]);
    let unpacked = unpack(&bytes, Compression::None).expect("a NAR");
    assert_eq!(unpacked.root, Root::Whole);
    assert_eq!(unpacked.parts.len(), 1);
    assert_eq!(unpacked.parts[0].digest, unpacked.nar);
}

#[test]
fn every_compression_gives_the_same_nar() {
    let bytes = folder(&[b"x", b"y"]);
    for compression in [Compression::None, Compression::Zstd, Compression::Xz, Compression::Bzip2, Compression::Gzip] {
        let file = packed(&bytes, compression);
        let unpacked = unpack(&file, compression).unwrap_or_else(|error| panic!("{compression}: {error}"));
        assert_eq!(unpacked.nar, Digest::of(DigestFunction::Sha256, &bytes));
        assert_eq!(unpacked.file, Digest::of(DigestFunction::Sha256, &file));
        let trailing = [&file[..], b"more"].concat();
        assert!(unpack(&trailing, compression).is_err(), "{} with bytes after it", compression.name());
        let torn = &file[..file.len() - 1];
        assert!(unpack(torn, compression).is_err(), "torn {}", compression.name());
    }
    let unmarked = unpack(&packed(&bytes, Compression::Gzip), Compression::None).expect("as old Nix names gzip");
    assert_eq!((unmarked.compression, unmarked.nar), (Compression::Gzip, Digest::of(DigestFunction::Sha256, &bytes)));
    assert!(matches!(unpack(&bytes, Compression::Xz), Err(UnpackError::Packed { name: "xz", .. })));
}

#[test]
fn little_that_unpacks_to_much_is_refused() {
    let mut bytes = Vec::new();
    nar::start_nar(&mut bytes);
    nar::start_file(&mut bytes, false, 4 << 20);
    bytes.resize(bytes.len() + (4 << 20), 0);
    nar::end_file(&mut bytes, 4 << 20);
    for compression in [Compression::Zstd, Compression::Xz, Compression::Bzip2, Compression::Gzip] {
        let file = packed(&bytes, compression);
        assert!(file.len() < 100_000);
        assert!(matches!(unpack(&file, compression), Err(UnpackError::TooLarge(_))), "{}", compression.name());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_nar_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), which in 0usize..6) {
        let names = ["none", "zstd", "xz", "bzip2", "gzip", "br"];
        let compression = Compression::from_name(names[which]).expect("a name");
        prop_assert!(unpack(&bytes, compression).is_err());
    }
}

#[test]
fn what_packs_too_well_and_what_needs_too_large_a_window_is_refused() {
    let mut nar = Vec::new();
    nar::start_nar(&mut nar);
    nar::start_file(&mut nar, false, 300 << 20);
    nar.resize(nar.len() + (300 << 20), 0);
    nar::end_file(&mut nar, 300 << 20);
    let with = |ratio, window_log| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("memory");
        encoder.window_log(window_log).expect("a window");
        io::Write::write_all(&mut encoder, &nar).expect("memory");
        let file = encoder.finish().expect("memory");
        let limits = UploadLimits { ratio, ..limits() };
        let bench = Bench { limits, ..bench(1 << 30) };
        unpack_nar(file.as_slice(), Compression::Zstd, &bench)
    };
    assert!(matches!(with(1000, 20), Err(UnpackError::TooDense(1000))));
    assert!(with(0, 20).is_ok());
    assert!(matches!(with(0, 24), Err(UnpackError::Packed { .. })), "a window over the limit");
}
