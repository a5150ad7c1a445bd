//! Archives built by hand, and GNU tar's own.

use std::process::Command;

use super::header::parse_number;
use super::pax::write_record;
use super::*;

mod bounds;

/// A header whose fields can be spoilt before the checksum is made.
struct Block([u8; 512]);

impl Block {
    fn new(name: &str, type_flag: u8) -> Self {
        let mut block = [0; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[156] = type_flag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        Block(block).field(100, b"0000644\0").field(124, b"00000000000\0")
    }

    fn field(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn size(self, size: usize) -> Self {
        self.field(124, format!("{size:011o}\0").as_bytes())
    }

    fn bytes(mut self) -> Vec<u8> {
        self.0[148..156].fill(b' ');
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.to_vec()
    }

    fn with(self, content: &[u8]) -> Vec<u8> {
        let mut out = self.size(content.len()).bytes();
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }
}

fn pax(type_flag: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    records
        .iter()
        .for_each(|(key, value)| write_record(&mut data, key.as_bytes(), value));
    Block::new("pax", type_flag).with(&data)
}

fn file(name: &str) -> Vec<u8> {
    Block::new(name, b'0').bytes()
}

fn entries(parts: &[Vec<u8>]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let stream = parts.concat();
    let mut reader = Reader::new(&stream[..]);
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = vec![0; usize::try_from(entry.size).unwrap()];
        assert_eq!(reader.read(&mut content)?, content.len());
        all.push((entry, content));
    }
    Ok(all)
}

fn one(parts: &[Vec<u8>]) -> Entry {
    let mut all = entries(parts).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0).0
}

fn time(secs: i64, nanos: u32) -> Timestamp {
    Timestamp { secs, nanos }
}

#[test]
fn numbers_are_octal_or_signed_base_256() {
    assert_eq!(parse_number(b"0000644\0"), Some(0o644));
    assert_eq!(parse_number(b"   644 \0"), Some(0o644));
    assert_eq!(parse_number(b"\0\0\0\0\0\0\0\0"), Some(0));
    assert_eq!(parse_number(b"        "), Some(0));
    assert_eq!(parse_number(b"00009\0"), None);
    assert_eq!(parse_number(b"-1\0"), None);
    assert_eq!(parse_number(&[0x80, 0, 0, 0, 0, 0x40, 0, 0]), Some(0x40_0000));
    assert_eq!(parse_number(&[0xff; 12]), Some(-1));
    assert_eq!(
        parse_number(&[
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0
        ]),
        Some(-256)
    );
    let too_large = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(parse_number(&too_large), None);
}

#[test]
fn mtimes_of_all_kinds_are_exact() {
    let mtime = |records: &[(&str, &[u8])]| one(&[pax(b'x', records), file("f")]).mtime;
    assert_eq!(
        mtime(&[("mtime", b"1700000000.123456789")]),
        time(1_700_000_000, 123_456_789)
    );
    assert_eq!(mtime(&[("mtime", b"1.5")]), time(1, 500_000_000));
    assert_eq!(mtime(&[("mtime", b"1.0000000019")]), time(1, 1));
    assert_eq!(mtime(&[("mtime", b"0")]), time(0, 0));
    assert_eq!(mtime(&[("mtime", b"-1")]), time(-1, 0));
    assert_eq!(mtime(&[("mtime", b"-1.25")]), time(-2, 750_000_000));
    assert_eq!(mtime(&[("mtime", b"-0.5")]), time(-1, 500_000_000));
    let base_256 = Block::new("f", b'0').field(136, &[0xff; 12]).bytes();
    assert_eq!(one(&[base_256]).mtime, time(-1, 0));
    assert!(entries(&[pax(b'x', &[("mtime", b"soon")]), file("f")]).is_err());
}

#[test]
fn large_ids_come_from_pax_and_base_256() {
    let entry = one(&[
        pax(b'x', &[("uid", b"4294967294"), ("gid", b"3000000")]),
        file("f"),
    ]);
    assert_eq!((entry.uid, entry.gid), (4_294_967_294, 3_000_000));
    let entry = one(&[Block::new("f", b'0')
        .field(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe])
        .bytes()]);
    assert_eq!(entry.uid, 4_294_967_294);
}

#[test]
fn binary_attribute_values_survive() {
    let value = b"\x01\n\n20 path=/elsewhere\n\0=\xff";
    let entry = one(&[
        pax(
            b'x',
            &[
                ("SCHILY.xattr.user.binary", value),
                ("SCHILY.xattr.user.empty", b""),
                ("path", b"real"),
            ],
        ),
        file("f"),
    ]);
    assert_eq!(entry.path, b"real");
    assert_eq!(entry.xattrs[&b"user.binary"[..]], value);
    assert_eq!(entry.xattrs[&b"user.empty"[..]], b"");
}

#[test]
fn global_records_hold_until_overridden() {
    let all = entries(&[
        pax(
            b'g',
            &[
                ("mtime", b"5.5"),
                ("uid", b"7"),
                ("path", b"ignored"),
                ("comment", b"by git"),
            ],
        ),
        file("a"),
        pax(b'x', &[("uid", b"8")]),
        file("b"),
        file("c"),
        pax(b'g', &[("mtime", b"6")]),
        file("d"),
    ])
    .unwrap();
    let seen: Vec<_> = all
        .iter()
        .map(|(entry, _)| (&entry.path[..], entry.uid, entry.mtime))
        .collect();
    assert_eq!(
        seen,
        [
            (&b"a"[..], 7, time(5, 500_000_000)),
            (b"b", 8, time(5, 500_000_000)),
            (b"c", 7, time(5, 500_000_000)),
            (b"d", 7, time(6, 0)),
        ]
    );
}

#[test]
fn blank_device_fields_are_zero() {
    let fifo = Block::new("p", b'6').field(329, &[0; 16]).bytes();
    let fifo = one(&[fifo]);
    assert_eq!((fifo.kind, fifo.device), (Kind::Fifo, (0, 0)));
    let device = Block::new("d", b'3')
        .field(329, b"0000005\0")
        .field(337, b"0000001\0")
        .bytes();
    assert_eq!(one(&[device]).device, (5, 1));
}

#[test]
fn long_names_come_from_every_dialect() {
    let long = "d/".repeat(100) + "file";
    let by_gnu = [
        Block::new("././@LongLink", b'L').with(format!("{long}\0").as_bytes()),
        file("short"),
    ];
    assert_eq!(one(&by_gnu).path, long.as_bytes());
    let link = [
        Block::new("././@LongLink", b'K').with(format!("{long}\0").as_bytes()),
        Block::new("l", b'2').field(157, b"short").bytes(),
    ];
    assert_eq!(one(&link).link, long.as_bytes());
    assert_eq!(
        one(&[Block::new("name", b'0').field(345, b"some/prefix").bytes()]).path,
        b"some/prefix/name"
    );
    let by_old_gnu = Block::new("name", b'0')
        .field(257, b"ustar  \0")
        .field(345, b"12345670")
        .bytes();
    assert_eq!(one(&[by_old_gnu]).path, b"name");
}

#[test]
fn pax_size_frames_the_stream_whatever_stands_before_it() {
    let content = b"twelve bytes";
    let mut stored = Block::new("f", b'0').bytes();
    stored.extend_from_slice(content);
    stored.resize(1024, 0);
    let header = pax(
        b'x',
        &[("SCHILY.xattr.user.x", b"\nnot a record\n"), ("size", b"12")],
    );
    let all = entries(&[header, stored, file("next")]).unwrap();
    assert_eq!(all[0].1, content);
    assert_eq!(all[1].0.path, b"next");
}

#[test]
fn links_and_devices_have_no_content_whatever_their_size_says() {
    for type_flag in *b"123456" {
        let all = entries(&[Block::new("l", type_flag).size(1000).bytes(), file("next")]).unwrap();
        assert_eq!(all.len(), 2, "type {}", char::from(type_flag));
    }
}

#[test]
fn old_directories_sockets_labels_and_dumps() {
    assert_eq!(
        one(&[Block::new("dir/", 0).field(257, &[0; 8]).bytes()]).kind,
        Kind::Directory
    );
    assert_eq!(
        one(&[Block::new("s", b'0').field(100, b"140755\0\0").bytes()]).kind,
        Kind::Socket
    );
    let all = entries(&[
        Block::new("label", b'V').with(b""),
        Block::new("d", b'D').with(b"Yfile\0"),
        file("f"),
    ]);
    let kinds: Vec<Kind> = all.unwrap().iter().map(|(entry, _)| entry.kind).collect();
    assert_eq!(kinds, [Kind::Directory, Kind::Regular]);
}

#[test]
fn unknown_types_are_named() {
    let error = entries(&[file("a"), Block::new("odd", b'M').bytes()]).unwrap_err();
    assert!(
        matches!(&error, TarError::UnsupportedType { path, type_flag: 'M', offset: 512 } if path == "odd"),
        "{error}"
    );
}

#[test]
fn truncation_is_found_everywhere() {
    let whole = [pax(b'x', &[("uid", b"1")]), Block::new("f", b'0').with(&[7; 700])].concat();
    for len in 1..whole.len() {
        let result = entries(&[whole[..len].to_vec()]);
        assert!(
            matches!(result, Err(TarError::Truncated { .. })),
            "{len} bytes: {result:?}"
        );
    }
    assert_eq!(entries(&[whole]).unwrap().len(), 1);
}

#[test]
fn damage_is_located() {
    let mut spoilt = file("b");
    spoilt[0] ^= 1;
    let error = entries(&[file("a"), spoilt]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "damaged archive: header checksum does not match at byte 512"
    );
}

#[test]
fn gnu_tar_sparse_files_of_all_formats_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut content = vec![0u8; 700_000];
    // More runs than an old GNU header holds itself, so that continuation blocks are read too.
    for run in 0..30 {
        content[run * 20_480..][..4096].fill(u8::try_from(run).unwrap() + 1);
    }
    {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::create(dir.path().join("sparse")).unwrap();
        file.set_len(700_000).unwrap();
        for run in 0..30u64 {
            let start = usize::try_from(run).unwrap() * 20_480;
            file.write_all_at(&content[start..start + 4096], run * 20_480)
                .unwrap();
        }
    }
    std::fs::write(dir.path().join("next"), "after").unwrap();
    for format in [
        "gnu",
        "posix --sparse-version=0.0",
        "posix --sparse-version=0.1",
        "posix --sparse-version=1.0",
    ] {
        let archive = Command::new("tar")
            .args(format!("--format={format} --hole-detection=raw -S -c -f - sparse next").split(' '))
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(
            archive.status.success(),
            "{format}: {}",
            String::from_utf8_lossy(&archive.stderr)
        );
        assert!(archive.stdout.len() < 400_000, "{format} is not sparse");
        let all = entries(&[archive.stdout]).unwrap();
        assert_eq!(all[0].0.path, b"sparse", "{format}");
        assert!(all[0].1 == content, "{format}");
        assert_eq!(
            (&all[1].0.path[..], &all[1].1[..]),
            (&b"next"[..], &b"after"[..]),
            "{format}"
        );
    }
}

#[test]
fn hostile_sparse_maps_are_refused() {
    for records in [
        &[("GNU.sparse.size", &b"10"[..]), ("GNU.sparse.map", b"0,20")][..],
        &[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"4,2,0,2")],
        &[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"0")],
        &[
            ("GNU.sparse.size", b"10"),
            ("GNU.sparse.map", b"18446744073709551615,2"),
        ],
    ] {
        let result = entries(&[pax(b'x', records), Block::new("f", b'0').with(b"data")]);
        assert!(matches!(result, Err(TarError::Corrupt { .. })), "{records:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_end_without_panic(mut blocks in proptest::collection::vec(proptest::array::uniform32(0u8..), 0..64)) {
        // Valid checksums let the bytes past the first gate.
        let mut stream = Vec::new();
        for block in &mut blocks {
            let mut header = Block([0; 512]).field(0, b"f").field(257, b"ustar\x0000");
            for (index, offset) in [124, 125, 135, 136, 156, 156, 100, 108, 329, 386, 398, 482].into_iter().enumerate() {
                header.0[offset] = block[index];
            }
            header.0[156] = b"0gxLKS5"[usize::from(block[31]) % 7];
            stream.push(header.bytes());
            stream.push(block.to_vec());
        }
        let stream = stream.concat();
        let mut reader = Reader::new(&stream[..]);
        let mut buf = [0; 100];
        while let Ok(Some(_)) = reader.next_entry() {
            let _ = reader.read(&mut buf);
        }
    }

    #[test]
    fn records_read_back(records in proptest::collection::btree_map("[a-z.]{1,12}", proptest::collection::vec(0u8.., 0..300), 0..6)) {
        let mut data = Vec::new();
        for (key, value) in &records {
            write_record(&mut data, format!("SCHILY.xattr.{key}").as_bytes(), value);
        }
        let parsed = Records::parse(&data, 0).unwrap().xattrs();
        let expected = records.into_iter().map(|(key, value)| (key.into_bytes(), value)).collect();
        proptest::prop_assert_eq!(parsed, expected);
    }
}
