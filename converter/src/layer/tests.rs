//! What of an archive becomes a change, and what is refused.

use super::*;
use crate::tarball::pax::write_record;

mod bomb;

/// Builds an archive with the `tar` crate.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn add(mut self, name: &[u8], entry_type: tar::EntryType, adapt: impl FnOnce(&mut tar::Header)) -> Self {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(entry_type);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        adapt(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    fn data(mut self, content: &[u8]) -> Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        records
            .iter()
            .for_each(|(key, value)| write_record(&mut data, key.as_bytes(), value));
        self.add(b"pax", tar::EntryType::XHeader, |header| {
            header.set_size(data.len() as u64)
        })
        .data(&data)
    }

    fn file(self, name: &[u8], content: &[u8]) -> Self {
        self.add(name, tar::EntryType::Regular, |header| {
            header.set_size(content.len() as u64)
        })
        .data(content)
    }

    fn read(&self) -> Result<(Vec<Change>, Vec<Vec<u8>>), LayerError> {
        let mut chunks = Vec::new();
        let changes = read(&mut Reader::new(&self.0[..]), 4096, &Budget::default(), |cut| {
            chunks.push(cut.content);
            Ok(())
        })?;
        Ok((changes, chunks))
    }

    fn one(&self) -> Change {
        let (mut changes, _) = self.read().unwrap();
        assert_eq!(changes.len(), 1);
        changes.remove(0)
    }

    fn problem(&self) -> Problem {
        match self.read() {
            Err(LayerError::Entry { problem, .. }) => problem,
            other => panic!("no problem with an entry: {other:?}"),
        }
    }
}

fn content(change: &Change) -> &Content {
    match &change.action {
        Action::Put { content, .. } => content,
        other => panic!("{other:?}"),
    }
}

fn xattrs(change: &Change) -> &BTreeMap<Vec<u8>, Vec<u8>> {
    match &change.action {
        Action::Put { attr, .. } => &attr.xattrs,
        other => panic!("{other:?}"),
    }
}

#[test]
fn contents_are_cut_in_order() {
    let archive = Archive::default()
        .file(b"a", &[1; 5000])
        .file(b"empty", b"")
        .file(b"b", &[2; 4096])
        .file(b"c", b"x");
    let (changes, chunks) = archive.read().unwrap();
    let slots: Vec<_> = changes
        .iter()
        .map(|change| match content(change) {
            Content::Regular { size, slots } => (*size, slots.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(slots, [(5000, 0..2), (0, 2..2), (4096, 2..3), (1, 3..4)]);
    assert_eq!(
        chunks.iter().map(Vec::len).collect::<Vec<_>>(),
        [4096, 904, 4096, 1]
    );
}

#[test]
fn non_utf8_names_and_targets_survive() {
    let archive = Archive::default().add(b"\xff\xfe", tar::EntryType::Symlink, |header| {
        header.as_old_mut().linkname[..2].copy_from_slice(b"\x80/");
    });
    let change = archive.one();
    assert_eq!(change.path.as_bytes(), b"\xff\xfe");
    assert_eq!(*content(&change), Content::Symlink(b"\x80/".to_vec()));
}

#[test]
fn symlinks_show_all_permissions() {
    let archive = Archive::default().add(b"l", tar::EntryType::Symlink, |header| {
        header.set_link_name("x").unwrap();
    });
    assert!(matches!(
        archive.one().action,
        Action::Put {
            attr: Attr {
                permissions: 0o777,
                ..
            },
            ..
        }
    ));
}

#[test]
fn device_numbers_are_encoded_as_linux_does() {
    let device = |major, minor| {
        let archive = Archive::default().add(b"d", tar::EntryType::Block, |header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        });
        content(&archive.one()).clone()
    };
    let rdev = |major, minor| u32::try_from(rustix::fs::makedev(major, minor)).unwrap();
    for (major, minor) in [(0, 0), (8, 1), (259, 300), (0xfff, 0xf_ffff)] {
        let expected = Content::Special {
            file_type: FileType::BlockDevice,
            rdev: rdev(major, minor),
        };
        assert_eq!(device(major, minor), expected);
    }
}

#[test]
fn attributes_linux_would_not_store_or_overlayfs_not_show_are_dropped() {
    let archive = Archive::default()
        .pax(&[
            ("SCHILY.xattr.user.note", b""),
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\n\n"),
            ("SCHILY.xattr.trusted.own", b"t"),
            ("SCHILY.xattr.system.posix_acl_access", b"acl"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.com.apple.provenance", b"mac"),
            ("SCHILY.xattr.user.", b"no name"),
        ])
        .file(b"f", b"");
    let change = archive.one();
    let names: Vec<_> = xattrs(&change)
        .keys()
        .map(|name| String::from_utf8_lossy(name))
        .collect();
    assert_eq!(
        names,
        [
            "security.capability",
            "system.posix_acl_access",
            "trusted.own",
            "user.note"
        ]
    );
    assert_eq!(xattrs(&change)[&b"user.note"[..]], b"");
    assert_eq!(xattrs(&change)[&b"security.capability"[..]], b"\x01\0\0\x02\n\n");
}

#[test]
fn aufs_bookkeeping_is_skipped() {
    let archive = Archive::default()
        .file(b".wh..wh.plnk/1", b"x")
        .file(b".wh..wh.aufs", b"")
        .file(b"f", b"");
    assert_eq!(archive.one().path, CleanPath::clean(b"f"));
}

#[test]
fn what_cannot_be_a_file_is_refused_with_its_name() {
    let root = Archive::default().file(b"./", b"");
    assert_eq!(root.problem(), Problem::RootNotDirectory);
    let uid = Archive::default().pax(&[("uid", b"4294967296")]).file(b"f", b"");
    assert!(matches!(
        uid.problem(),
        Problem::TooLarge {
            what: "uid",
            value: 4_294_967_296,
            ..
        }
    ));
    let nul = Archive::default().pax(&[("path", b"a\0b")]).file(b"f", b"");
    assert_eq!(nul.problem(), Problem::NulInName);
    let hidden = Archive::default().file(b"d/.wh...", b"");
    assert_eq!(hidden.problem(), Problem::EmptyWhiteout);
    let target =
        Archive::default()
            .pax(&[("linkpath", &[b'x'; 4096])])
            .add(b"l", tar::EntryType::Symlink, |_| {});
    assert!(matches!(target.problem(), Problem::TooLong { limit: 4095, .. }));
    let name = Archive::default().pax(&[("path", &[b'x'; 256])]).file(b"f", b"");
    assert!(matches!(name.problem(), Problem::TooLong { limit: 255, .. }));
    let sparse = Archive::default()
        .pax(&[
            ("GNU.sparse.size", b"9223372036854775807"),
            ("GNU.sparse.map", b"0,0"),
        ])
        .file(b"bomb", b"");
    assert!(matches!(sparse.problem(), Problem::TooLarge { what: "size", .. }));
    let error = uid.read().unwrap_err().to_string();
    assert_eq!(
        error,
        "entry \"f\" at byte 1024: uid 4294967296 is larger than 4294967295"
    );
}

#[test]
fn what_members_take_in_memory_is_bounded() {
    let note = [b'n'; 1000];
    let archive = (0..10).fold(Archive::default(), |archive, number| {
        archive
            .pax(&[("SCHILY.xattr.user.note", &note)])
            .file(format!("file{number}").as_bytes(), b"")
    });
    let read = |budget: &Budget| read(&mut Reader::new(&archive.0[..]), 4096, budget, |_| Ok(()));
    assert_eq!(read(&Budget::new(40_000)).unwrap().len(), 10);
    let limit = 9_000;
    assert!(matches!(
        read(&Budget::new(limit)),
        Err(LayerError::TooManyMembers { limit: 9_000 })
    ));
    // Each layer alone would do; all together they do not.
    let budget = Budget::new(100_000);
    let count = (0..10).take_while(|_| read(&budget).is_ok()).count();
    assert!((2..=5).contains(&count), "{count}");
    assert!(matches!(read(&budget), Err(LayerError::TooManyMembers { .. })));
}

#[test]
fn memory_is_counted_as_it_is() {
    for (archive, least) in [
        // A path, and what is fixed.
        (Archive::default().file(&[b'p'; 90], b""), 90),
        // A node of a tree for one attribute, with names and values beside it.
        (
            Archive::default()
                .pax(&[("SCHILY.xattr.user.note", b"n")])
                .file(b"f", b""),
            11 * 48 + 2 * 32,
        ),
        // Three chunks.
        (
            Archive::default().file(b"f", &[1; 4096 * 3]),
            3 * size_of::<rafs::ChunkRef>(),
        ),
    ] {
        let least = least + 64 * size_of::<Change>();
        let read = |limit| {
            read(
                &mut Reader::new(&archive.0[..]),
                4096,
                &Budget::new(limit),
                |_| Ok(()),
            )
        };
        assert!(read(least).is_err(), "{least}");
        assert!(read(least + 300).is_ok(), "{least}");
    }
}

/// A sparse file with nothing but a hole.
fn hole(archive: Archive, name: &[u8], len: u64) -> Archive {
    archive
        .pax(&[
            ("GNU.sparse.size", len.to_string().as_bytes()),
            ("GNU.sparse.map", b"0,0"),
        ])
        .file(name, b"")
}

#[test]
fn holes_of_a_layer_are_bounded_before_any_is_read() {
    let count = |archive: &Archive| {
        let mut count = 0;
        let stop = |_| {
            count += 1;
            Err(LayerError::Interrupted)
        };
        let error = read(
            &mut Reader::new(&archive.0[..]),
            1 << 20,
            &Budget::default(),
            stop,
        )
        .unwrap_err();
        (count, error)
    };
    let (read_count, error) = count(&hole(Archive::default(), b"hole", 1 << 44));
    assert_eq!(read_count, 0);
    assert_eq!(
        error.to_string(),
        "entry \"hole\" at byte 1024: the layer's sparse files have holes of more than 68719476736 bytes together"
    );
    let (read_count, error) = count(&hole(Archive::default(), b"hole", 64 << 30));
    assert!(
        read_count == 1 && matches!(error, LayerError::Interrupted),
        "{error}"
    );
    // Small ones add up.
    let two = hole(hole(Archive::default(), b"small", 1 << 20), b"large", 64 << 30);
    let budget = Budget::default();
    let error = read(&mut Reader::new(&two.0[..]), 1 << 20, &budget, |_| Ok(()));
    let Err(LayerError::Entry { problem, path, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (problem, path.as_str()),
        (Problem::TooManyHoles { limit: 64 << 30 }, "large")
    );
}

#[test]
fn chunks_are_counted_before_they_are_read() {
    assert_eq!(slots_end(0, 0, 4096).unwrap(), 0);
    assert_eq!(slots_end(5, 4097, 4096).unwrap(), 7);
    assert_eq!(
        slots_end(0, u64::from(SLOTS_MAX) * 4096, 4096).unwrap(),
        SLOTS_MAX
    );
    for (first, size) in [(1, u64::from(SLOTS_MAX) * 4096), (0, u64::MAX), (SLOTS_MAX, 1)] {
        assert!(matches!(
            slots_end(first, size, 4096),
            Err(LayerError::TooManyChunks { limit: 0xff_ffff })
        ));
    }
}

#[test]
fn content_is_handed_on_piece_by_piece_whatever_its_size() {
    let archive = Archive::default().add(b"huge", tar::EntryType::Regular, |header| {
        header.set_size(0o77_777_777_777);
    });
    let mut reader = Reader::new(archive.0.chain(std::io::repeat(7)));
    let mut count = 0;
    let error = read(&mut reader, 4096, &Budget::default(), |cut| {
        assert_eq!(cut.content, [7; 4096]);
        count += 1;
        match count < 100 {
            true => Ok(()),
            false => Err(LayerError::Interrupted),
        }
    });
    assert!(matches!(error, Err(LayerError::Interrupted)));
    assert_eq!(reader.offset(), 512 + 100 * 4096);
}
