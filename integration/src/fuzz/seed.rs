//! Inputs to start from: small, valid, and of every kind, so that the fuzzer need not find the formats by itself.

use std::collections::BTreeMap;
use std::io::Write;

use rafs::blob::{BlobBuilder, BlobInfo, BlobOptions};
use rafs::build::{self, Options};
use rafs::chunk::encode;
use rafs::tree::{Attr, ChunkId, Content, Node};
use rafs::{BlobIndex, Compressor, Digester, FileType, Tree};
use sha2::{Digest as _, Sha256};

use super::blob::CONTROL_LEN;
use crate::image::layer::{Entry, Kind, LayerTar};

/// Chunk size of the images made here.
const CHUNK_SIZE: u32 = 4096;

pub(super) fn bootstrap() -> Vec<Vec<u8>> {
    let plain = tree(0);
    let blobs = vec![blob(Compressor::Zstd).0];
    let mut options = Options {
        chunk_size: CHUNK_SIZE,
        compressor: Compressor::Zstd,
        digester: Digester::Sha256,
        prefetch: vec![Tree::ROOT],
    };
    let written = |tree: &Tree, blobs: &[BlobInfo], options: &Options| {
        build::bootstrap(tree, blobs, options).expect("the sample can be written")
    };
    let small = written(&plain, &blobs, &options);
    let wide = written(&tree(300), &blobs, &options);
    options.digester = Digester::Blake3;
    let empty = written(&Tree::new(Attr::default()), &[], &options);
    vec![small, wide, empty]
}

/// A root with every kind of inode, and a directory of `count` names.
fn tree(count: u32) -> Tree {
    let mut tree = Tree::new(Attr::default());
    let chunk = |index| ChunkId {
        blob: BlobIndex(0),
        index,
    };
    let special = |file_type, rdev| Content::Special { file_type, rdev };
    let contents = [
        Content::Directory(BTreeMap::new()),
        Content::Regular {
            size: 4196,
            chunks: vec![chunk(0), chunk(1)],
        },
        Content::Regular {
            size: 0,
            chunks: Vec::new(),
        },
        Content::Symlink(b"../target".to_vec()),
        special(FileType::CharDevice, 0x103),
        special(FileType::Fifo, 0),
    ];
    let attr = Attr {
        permissions: 0o4755,
        uid: 1000,
        xattrs: BTreeMap::from([(b"user.color".to_vec(), b"blue".to_vec())]),
        ..Attr::default()
    };
    let mut directory = Tree::ROOT;
    for (name, content) in ["dir", "file", "hollow", "link", "null", "pipe"]
        .iter()
        .zip(contents)
    {
        let id = tree.add(Node {
            attr: attr.clone(),
            content,
        });
        if *name == "dir" {
            directory = id;
        }
        name_it(&mut tree, Tree::ROOT, name, id);
        if *name == "file" {
            name_it(&mut tree, directory, "again", id);
        }
    }
    for number in 0..count {
        let id = tree.add(Node {
            attr: Attr::default(),
            content: Content::Directory(BTreeMap::new()),
        });
        name_it(&mut tree, directory, &format!("name-{number:04}"), id);
    }
    tree
}

fn name_it(tree: &mut Tree, directory: rafs::tree::InodeId, name: &str, id: rafs::tree::InodeId) {
    let names = tree.names_mut(directory).expect("it is a directory");
    names.insert(name.as_bytes().to_vec(), id);
}

/// A blob of two chunks, and its file.
fn blob(compressor: Compressor) -> (BlobInfo, Vec<u8>) {
    let mut builder = BlobBuilder::new(BlobOptions {
        chunk_size: CHUNK_SIZE,
        compressor,
        digester: Digester::Sha256,
    });
    let mut file = Vec::new();
    for content in [b"slipway ".repeat(512), vec![7; 100]] {
        let chunk = encode(content, compressor, 3, Digester::Sha256);
        builder.push(&chunk).expect("two chunks fit");
        file.extend_from_slice(&chunk.data);
    }
    let finished = builder.finish(Sha256::new_with_prefix(&file));
    let finished = finished.expect("there are chunks");
    file.extend_from_slice(&finished.tail);
    (finished.info, file)
}

/// Control bytes as `blob::read` takes them.
struct Control {
    kind: u8,
    chunk_count: u16,
    context_offset: u32,
    context_count: u8,
}

impl Control {
    fn input(&self, infos: &[u8], data: &[u8]) -> Vec<u8> {
        let mut input = vec![self.kind, 0];
        input.extend_from_slice(&self.chunk_count.to_le_bytes());
        let len = u16::try_from(infos.len()).expect("seeds are small");
        input.extend_from_slice(&len.to_le_bytes());
        input.extend_from_slice(&[self.context_count, 0]);
        input.extend_from_slice(&self.context_offset.to_le_bytes());
        input.resize(CONTROL_LEN, 0);
        [&input, infos, data].concat()
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A chunk info of the second version: content length, flags, stored place, context and offset in it.
fn info(len: u64, flags: u64, stored: (u64, u64), context: (u64, u64)) -> Vec<u8> {
    words(&[
        (len - 1) << 32 | flags << 56,
        stored.0 | stored.1 << 40,
        context.0 << 32 | context.1,
    ])
}

pub(super) fn blob_meta() -> Vec<Vec<u8>> {
    let content = b"slipway ".repeat(16);
    let frame = zstd::bulk::compress(&content, 3).expect("memory is there");
    let frame_len = frame.len() as u64;
    let first = words(&[127 << 44, (frame_len - 1) << 44]);
    let batch = [
        info(64, 4, (0, 0), (0, 0)),
        info(64, 4, (0, 0), (0, 64)),
        words(&[frame_len | 128 << 32, 0, 0, 0, 0]),
    ];
    let single = Control {
        kind: 0,
        chunk_count: 1,
        context_offset: 0,
        context_count: 0,
    };
    let second = Control { kind: 2, ..single };
    let batched = Control {
        kind: 1,
        chunk_count: 2,
        context_offset: 48,
        context_count: 1,
    };
    vec![
        single.input(&first, &frame),
        second.input(&info(128, 1, (0, frame_len), (0, 0)), &frame),
        batched.input(&batch.concat(), &frame),
    ]
}

pub(super) fn zran() -> Vec<Vec<u8>> {
    let content = b"slipway ".repeat(64);
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    deflate.write_all(&content).expect("memory takes it");
    let stream = deflate.finish().expect("memory takes it");
    let window = b"what came before ";
    let context = |dict_len: u64| words(&[0, 0, 0, stream.len() as u64 | 512 << 32, dict_len]);
    let control = Control {
        kind: 0,
        chunk_count: 2,
        context_offset: 48,
        context_count: 1,
    };
    let infos = [info(256, 2, (0, 9), (0, 0)), info(256, 2, (0, 9), (0, 256))].concat();
    vec![
        control.input(&[infos.clone(), context(0)].concat(), &stream),
        control.input(
            &[infos, context(window.len() as u64), window.to_vec()].concat(),
            &stream,
        ),
    ]
}

pub(super) fn toc() -> Vec<Vec<u8>> {
    [Compressor::Zstd, Compressor::None]
        .map(|compressor| blob(compressor).1)
        .into()
}

pub(super) fn chunk() -> Vec<Vec<u8>> {
    let content = b"slipway ".repeat(32);
    let pairs = [
        (0, Compressor::None),
        (1, Compressor::Zstd),
        (2, Compressor::Lz4Block),
    ];
    let seed = |(choice, compressor)| {
        let chunk = encode(content.clone(), compressor, 3, Digester::Sha256);
        [&[choice][..], &chunk.len.to_le_bytes(), &chunk.data].concat()
    };
    pairs.map(seed).into()
}

pub(super) fn layer() -> Vec<Vec<u8>> {
    let kinds = [
        ("dir", Kind::Directory),
        ("dir/file", Kind::File(b"content")),
        ("dir/link", Kind::Symlink(b"../dir")),
        ("dir/link/in", Kind::File(b"through a link")),
        ("dir/again", Kind::HardLink(b"dir/file")),
        ("dev", Kind::CharDevice(1, 3)),
        ("pipe", Kind::Fifo),
        ("dir/.wh.gone", Kind::File(b"")),
        ("dir/.wh..wh..opq", Kind::File(b"")),
        ("../../climbs", Kind::File(b"x")),
    ];
    let mut each: Vec<_> = kinds.into_iter().map(|entry| archive(&[entry], &[])).collect();
    each.push(archive(&kinds, &[]));
    each.push(archive(&kinds[1..2], &[("user.note", b"a\nb\0c")]));
    let long = "long-name/".repeat(30);
    each.push(archive(&[(&long, Kind::Directory)], &[]));
    each
}

fn archive(entries: &[(&str, Kind<'_>)], xattrs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut layer = LayerTar::new(Vec::new());
    for (path, kind) in entries {
        let mut entry = Entry::new(*path, *kind);
        entry.xattrs = xattrs;
        entry.mtime = (-1, 5);
        layer.append(&entry).expect("the sample can be written");
    }
    layer.finish().expect("the sample can be written")
}

pub(super) fn bootstrap_layer() -> Vec<Vec<u8>> {
    let packed = proto::lazy::bootstrap_layer(b"a bootstrap", &[("hints.json", b"{}")]);
    let (gzip, _) = packed.expect("the sample can be packed");
    let mut plain = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(gzip.as_slice());
    std::io::Read::read_to_end(&mut decoder, &mut plain).expect("it was packed just now");
    vec![gzip, plain]
}

pub(super) fn hints() -> Vec<Vec<u8>> {
    [
        r#"{"version":"v1","files":[{"path":"/usr/bin/tool","ranges":[[0,4096],[8192,1]]},{"path":"etc"}]}"#,
        r#"{"version":"v1","files":[{"path":"/model.safetensors","class":"weights"},{"path":"/","class":"bulk"}]}"#,
        r#"{"version":"v2","files":[]}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub(super) fn manifest() -> Vec<Vec<u8>> {
    let digest = format!("sha256:{}", "5".repeat(64));
    let blob = format!(
        r#"{{"mediaType":"{}","digest":"{digest}","size":9,"annotations":{{"{}":"true"}}}}"#,
        proto::lazy::BLOB_MEDIA_TYPE,
        proto::lazy::BLOB_ANNOTATION
    );
    let bootstrap = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":9,"annotations":{{"{}":"true","{}":"6"}}}}"#,
        proto::lazy::BOOTSTRAP_ANNOTATION,
        proto::lazy::FS_VERSION_ANNOTATION
    );
    let config =
        format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}}"#);
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{blob},{bootstrap}]}}"#);
    let entry = format!(
        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":7,"artifactType":"{}","platform":{{"os":"linux","architecture":"amd64","os.features":["{}"]}}}}"#,
        proto::lazy::ARTIFACT_TYPE,
        proto::lazy::OS_FEATURE
    );
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#);
    let image = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["A=b"],"Labels":{{}}}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}},"history":[{{"empty_layer":true}}]}}"#
    );
    [manifest, index, image].map(String::into_bytes).into()
}

pub(super) fn reference() -> Vec<Vec<u8>> {
    texts(&[
        "python",
        "docker://host.example:5000/a/b:tag",
        "[::1]:5000/a@sha256:5555555555555555555555555555555555555555555555555555555555555555",
        "oci:dir:tag",
        "oci-archive:/a/b.tar",
        "docker-archive:x.tar:@1",
    ])
}

pub(super) fn http_header() -> Vec<Vec<u8>> {
    texts(&[
        r#"Bearer realm="https://auth.example/token",service=registry , scope="repository:a/b:pull,push", x="a\"b""#,
        r#"Negotiate abc==, Basic realm="x""#,
        "bytes 10-19/100",
        "bytes 0-0/*",
    ])
}

pub(super) fn filter() -> Vec<Vec<u8>> {
    texts(&[
        r#"name==a,kind!=active,labels."a/b.c"~=^v.*e$"#,
        r#"labels."x\u00e9\n\x41"=="y",parent"#,
        "labels.a~=/[a-z]+/,name~=|x|",
    ])
}

pub(super) fn labels() -> Vec<Vec<u8>> {
    let image =
        "containerd.io/snapshot/cri.image-ref=host/a:b\ncontainerd.io/snapshot/cri.layer-digest=sha256:1\n";
    let data = "containerd.io/snapshot.ref=sha256:2\ncontainerd.io/snapshot/nydus-blob=true\n";
    let bootstrap = "containerd.io/snapshot/nydus-bootstrap=true\n";
    let seed = |parents: &[u8], text: String| [parents, text.as_bytes()].concat();
    vec![
        seed(&[0], format!("{image}{data}")),
        seed(&[1, 2], format!("{image}{bootstrap}")),
        seed(&[3, 0, 0, 3], String::new()),
        seed(
            &[2, 0, 2],
            "containerd.io/snapshot/remote/stargz.reference=x".to_owned(),
        ),
    ]
}

pub(super) fn config() -> Vec<Vec<u8>> {
    vec![
        snapshotter::config::sample().into_bytes(),
        b"root = \"/a\"\n[fuse]\nthreads = 2\nread_deadline = \"1s 5ms\"\n[registry]\nplain_http = [\"h:1\"]\n".to_vec(),
    ]
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
