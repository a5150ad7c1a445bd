//! Blobs in every form that can be written, read by both readers and by the tools of EROFS.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use rafs::blob::{TOC_TAIL_MAX, Toc};
use rafs::{Compressor, Digester, Image};

use crate::fixture::{NAMES, load_fixture};
use crate::form::{FORM, Form, contents};
use crate::second::{self, file};

/// Every combination that makes sense.
fn forms() -> Vec<Form> {
    let mut forms = Vec::new();
    for compressor in [Compressor::Zstd, Compressor::Lz4Block, Compressor::None] {
        for digester in [Digester::Sha256, Digester::Blake3] {
            for chunk_size in [4096, 1 << 16, 16 << 20] {
                let form = Form {
                    compressor,
                    digester,
                    chunk_size,
                    ..FORM
                };
                let is_plain = compressor == Compressor::None;
                forms.push(Form {
                    is_layer: true,
                    ..form
                });
                forms.push(Form {
                    is_flat: is_plain,
                    batch_size: if is_plain { 0 } else { 32 << 10 },
                    ..form
                });
            }
        }
    }
    forms
}

#[test]
fn both_readers_read_every_form() {
    let contents = contents();
    for form in forms() {
        let written = form.write(&contents);
        assert_eq!(written.contents(), contents, "{form:?}");
        assert_eq!(written.seconded(&written.bootstrap), contents, "{form:?}");
        let again = form.write(&contents);
        assert_eq!(
            (again.bootstrap, again.file),
            (written.bootstrap, written.file),
            "{form:?}"
        );
    }
}

#[test]
fn batches_make_small_files_smaller() {
    let contents = contents();
    let len = |batch_size| Form { batch_size, ..FORM }.write(&contents).file.len();
    assert!(len(1 << 16) < len(0));
}

#[test]
fn the_bootstrap_in_a_layer_describes_the_layer() {
    let contents = contents();
    for form in forms().into_iter().filter(|form| form.is_layer) {
        let written = form.write(&contents);
        let toc = Toc::read(
            &written.file[written.file.len() - TOC_TAIL_MAX as usize..],
            written.file.len() as u64,
        );
        let toc = toc.unwrap();
        let boot = toc.section("image.boot").unwrap();
        let stored = &written.file[boot.range.start as usize..boot.range.end as usize];
        let mut bootstrap = boot.expand(stored).unwrap();
        let id = hex::encode(written.info.id);
        let mut patched = 0;
        for at in 0..bootstrap.len() - 64 {
            if bootstrap[at..at + 64].iter().all(|&byte| byte == b'x') {
                bootstrap[at..at + 64].copy_from_slice(id.as_bytes());
                patched += 1;
            }
        }
        assert_eq!(patched, 2, "device slot and blob table");
        assert_eq!(written.seconded(&bootstrap), contents, "{form:?}");
        let (blobs, _) = second::read(&bootstrap, |_| written.file.clone());
        let sections = file::sections(&written.file, &blobs[0]);
        let names: Vec<_> = sections.iter().map(|section| section.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "image.blob",
                "blob.meta",
                "blob.meta.header",
                "blob.digest",
                "image.boot"
            ]
        );
        // Merged, the blob no longer counts as one with a bootstrap.
        let merged = Image::open(written.bootstrap.clone()).unwrap();
        assert_eq!(blobs[0].features, merged.blobs()[0].features | 2);
    }
}

#[test]
fn a_flat_file_is_its_device() {
    let form = Form {
        compressor: Compressor::None,
        is_flat: true,
        ..FORM
    };
    let written = form.write(&contents());
    assert!(written.file.starts_with(&written.device()));
}

#[test]
fn the_second_reader_reads_what_the_reference_builder_wrote() {
    let expected = String::from_utf8(load_fixture("", "expected.jsonl")).unwrap();
    let expected: BTreeMap<String, serde_json::Value> = (expected.lines())
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| (line["path"].as_str().unwrap().to_owned(), line))
        .collect();
    for name in NAMES {
        let bootstrap = load_fixture(name, "bootstrap");
        let (_, entries) = second::read(&bootstrap, |id| load_fixture(name, id));
        let seen = second::lines(&entries);
        assert_eq!(seen.len(), expected.len());
        for (path, line) in &expected {
            assert_eq!(seen.get(path), Some(line), "{name}: {path}");
        }
    }
}

/// Runs a tool of erofs-utils; `None` where it is not installed.
fn erofs_tool(name: &str, arguments: &[&str], devices: &[&Path], image: &Path) -> Option<String> {
    let devices = devices
        .iter()
        .map(|device| format!("--device={}", device.display()));
    let output = match Command::new(name)
        .args(arguments)
        .args(devices)
        .arg(image)
        .output()
    {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{name}: {error}"),
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{name}: {text}");
    Some(text)
}

#[test]
fn the_tools_of_erofs_accept_our_images() {
    let contents = contents();
    let flat = Form {
        compressor: Compressor::None,
        is_flat: true,
        ..FORM
    };
    let batched = Form {
        batch_size: 32 << 10,
        digester: Digester::Blake3,
        ..FORM
    };
    for form in [FORM, flat, batched] {
        let written = form.write(&contents);
        let dir = tempfile::tempdir().unwrap();
        let [image, device, out] = ["image", "device", "out"].map(|name| dir.path().join(name));
        std::fs::write(&image, &written.bootstrap).unwrap();
        std::fs::write(
            &device,
            if form.is_flat {
                written.file.clone()
            } else {
                written.device()
            },
        )
        .unwrap();
        let extract = format!("--extract={}", out.display());
        if erofs_tool("fsck.erofs", &[&extract], &[&device], &image).is_some() {
            for (name, content) in &contents {
                assert_eq!(
                    &std::fs::read(out.join(name)).unwrap(),
                    content,
                    "{form:?} {name}"
                );
            }
        }
        if let Some(text) = erofs_tool("dump.erofs", &["-s"], &[&device], &image) {
            assert!(text.contains("chunked_file device_table"), "{text}");
        }
        if let Some(text) = erofs_tool("dump.erofs", &["--path=/text-13", "-e"], &[&device], &image) {
            assert!(
                text.contains("Size: 200000") && text.contains("# device 1"),
                "{text}"
            );
        }
    }
}
