//! The reference implementation of the protocol.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use oci_spec::image::{Descriptor, Digest, MediaType};
use tempfile::TempDir;

use super::{descriptor_of, noise, read};
use crate::image::{Error, ImageSource, ImageTarget, Location, Options};

const PROGRAM: &str = "/usr/bin/docker-registry";

/// A registry on a free loopback port. Dropped, it is gone with all it holds.
struct Registry {
    process: Child,
    host: String,
    _storage: TempDir,
}

impl Registry {
    /// `None` where the program is not installed.
    fn start() -> Option<Self> {
        if !std::path::Path::new(PROGRAM).exists() {
            return None;
        }
        let storage = tempfile::tempdir().unwrap();
        let config = storage.path().join("config.yml");
        let root = storage.path().join("data");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            root.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(PROGRAM);
        command
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none");
        let mut process = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let mut lines = log.lines().map_while(Result::ok);
        let address = lines.find_map(|line| {
            let rest = line.split_once("listening on ")?.1.to_owned();
            Some(rest.split([' ', '"', ',']).next()?.to_owned())
        });
        // Its log must be read on, or it stops when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        let host = address.expect("the registry tells where it listens");
        Some(Self {
            process,
            host,
            _storage: storage,
        })
    }

    fn location(&self, name: &str) -> Location {
        format!("docker://{}/{name}", self.host).parse().unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn manifest_json(config: &Descriptor, layers: &[Descriptor]) -> Vec<u8> {
    let media_type = MediaType::ImageManifest.to_string();
    let document =
        serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers});
    serde_json::to_vec(&document).unwrap()
}

#[tokio::test]
async fn an_image_goes_there_and_comes_back() {
    let Some(registry) = Registry::start() else { return };
    let location = registry.location("team/app:v1");
    // Loopback: plain HTTP is found out, not asked for.
    let target = ImageTarget::create(&location, &Options::default()).await.unwrap();

    let config = bytes::Bytes::from_static(b"{}");
    let config = Descriptor::new(MediaType::ImageConfig, 2, target.put_blob(config).await.unwrap());
    let small = noise(100_000);
    // More than two chunks, and not a whole number of them.
    let large = noise((33 << 20) + 7);
    let mut layers = Vec::new();
    for blob in [&small, &large] {
        let layer = descriptor_of(blob);
        assert!(!target.has_blob(layer.digest()).await.unwrap());
        let mut upload = target.start_blob().await.unwrap();
        for piece in blob.chunks(1_000_003) {
            upload.write(blob.slice_ref(piece)).await.unwrap();
        }
        upload.finish(layer.digest()).await.unwrap();
        assert!(target.has_blob(layer.digest()).await.unwrap());
        layers.push(layer);
    }
    let document = manifest_json(&config, &layers);
    let digest = target
        .put_manifest(document.clone().into(), &MediaType::ImageManifest, true)
        .await
        .unwrap();
    target.finish().await.unwrap();

    let source = ImageSource::open(&location, &Options::default()).await.unwrap();
    let root = source.root_manifest().await.unwrap();
    assert_eq!(
        (root.bytes.as_ref(), &root.digest),
        (document.as_slice(), &digest)
    );
    assert_eq!(root.media_type, MediaType::ImageManifest);
    assert_eq!(source.manifest(&digest).await.unwrap().bytes, root.bytes);
    assert_eq!(source.small_blob(&config, 10).await.unwrap().as_ref(), b"{}");
    assert_eq!(read(source.blob(&layers[1]).await).await.unwrap(), large);
    assert_eq!(
        source.blob_len(layers[1].digest()).await.unwrap(),
        large.len() as u64
    );
    let part = read(source.range(layers[1].digest(), 20_000_000..20_000_100).await)
        .await
        .unwrap();
    assert_eq!(part, large[20_000_000..20_000_100]);
    assert!(
        read(source.range(layers[0].digest(), 5..5).await)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let Some(registry) = Registry::start() else { return };
    let absent = descriptor_of(b"absent");
    let source = ImageSource::open(&registry.location("no/thing:v1"), &Options::default())
        .await
        .unwrap();
    assert!(matches!(
        source.root_manifest().await,
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        source.manifest(absent.digest()).await,
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(source.blob(&absent).await, Err(Error::NotFound { .. })));
    assert!(matches!(
        source.range(absent.digest(), 0..1).await,
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        source.blob_len(absent.digest()).await,
        Err(Error::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_blob_that_is_not_what_it_should_be_does_not_appear() {
    let Some(registry) = Registry::start() else { return };
    let location = registry.location("team/app:v1");
    let target = ImageTarget::create(&location, &Options::default()).await.unwrap();
    let promised: Digest = descriptor_of(b"promised").digest().clone();
    for len in [10, 17 << 20] {
        let mut upload = target.start_blob().await.unwrap();
        upload.write(noise(len)).await.unwrap();
        assert!(matches!(
            upload.finish(&promised).await,
            Err(Error::DigestMismatch { .. })
        ));
    }
    assert!(!target.has_blob(&promised).await.unwrap());
    let mut abandoned = target.start_blob().await.unwrap();
    abandoned.write(noise(17 << 20)).await.unwrap();
    abandoned.abort().await;
}

#[tokio::test]
async fn a_manifest_without_its_blobs_is_refused() {
    let Some(registry) = Registry::start() else { return };
    let target = ImageTarget::create(&registry.location("a/b:c"), &Options::default())
        .await
        .unwrap();
    let document = manifest_json(&descriptor_of(b"config"), &[]);
    let error = target
        .put_manifest(document.into(), &MediaType::ImageManifest, true)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Refused { .. } | Error::NotFound { .. }),
        "{error}"
    );
}
