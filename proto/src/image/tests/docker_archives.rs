//! `docker-archive:`.

use super::*;

/// What a member of a made-up archive is.
enum Content {
    Bytes(Bytes),
    LinkTo(&'static str),
}

fn write_tar(path: &Path, members: &[(&str, Content)]) {
    let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        match content {
            Content::Bytes(bytes) => {
                header.set_size(bytes.len() as u64);
                tar.append_data(&mut header, name, bytes.as_ref()).unwrap();
            }
            Content::LinkTo(target) => {
                header.set_size(0);
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, name, target).unwrap();
            }
        }
    }
    tar.finish().unwrap();
}

fn config(layers: &[&Bytes]) -> Content {
    let diff_ids: Vec<_> = layers
        .iter()
        .map(|layer| digest::sha256_of(layer).to_string())
        .collect();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    Content::Bytes(serde_json::to_vec(&config).unwrap().into())
}

fn list(list: &serde_json::Value) -> Content {
    Content::Bytes(serde_json::to_vec(list).unwrap().into())
}

#[tokio::test]
async fn several_images_with_linked_layers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved.tar");
    let (base, top) = (tar_layer("base", 5000), tar_layer("top", 600_000));
    let members = [
        ("aaa/layer.tar", Content::Bytes(base.clone())),
        ("bbb/layer.tar", Content::LinkTo("../aaa/layer.tar")),
        ("ccc/layer.tar", Content::Bytes(top.clone())),
        ("one.json", config(&[&base])),
        ("two.json", config(&[&base, &top])),
        (
            "manifest.json",
            list(&serde_json::json!([
                {"Config": "one.json", "RepoTags": ["app:one"], "Layers": ["aaa/layer.tar"]},
                {"Config": "two.json", "RepoTags": null, "Layers": ["bbb/layer.tar", "ccc/layer.tar"]},
                {"Config": "two.json", "RepoTags": ["reg.example/app:two"], "Layers": ["bbb/layer.tar", "ccc/layer.tar"]},
            ])),
        ),
    ];
    write_tar(&file, &members);
    let place = format!("docker-archive:{}", file.display());

    let error = open(&place).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("app:one, reg.example/app:two"), "{error}");
    assert_eq!(
        layers_of(&open(&format!("{place}:app:one")).await.unwrap()).await,
        std::slice::from_ref(&base)
    );
    for name in ["reg.example/app:two", "@1"] {
        let source = open(&format!("{place}:{name}")).await.unwrap();
        assert_eq!(layers_of(&source).await, [base.clone(), top.clone()], "{name}");
        let root = source.root_manifest().await.unwrap();
        assert_eq!(source.manifest(&root.digest).await.unwrap().bytes, root.bytes);
    }
    for absent in ["app:none", "@3", "@x"] {
        assert!(
            matches!(
                open(&format!("{place}:{absent}")).await,
                Err(Error::NotFound { .. })
            ),
            "{absent}"
        );
    }
    let read_only = ImageTarget::create(&place.parse().unwrap(), &Options::default()).await;
    assert!(matches!(read_only, Err(Error::ReadOnly { .. })));
}

#[tokio::test]
async fn archives_that_contradict_themselves_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("saved.tar");
    let place = format!("docker-archive:{}", file.display());
    let base = tar_layer("base", 50);
    let entry = |layers: &[&str]| list(&serde_json::json!([{"Config": "c.json", "Layers": layers}]));
    let looped = ("a", Content::LinkTo("b"));
    let cases: [Vec<(&str, Content)>; 5] = [
        vec![("manifest.json", Content::Bytes(Bytes::from_static(b"[")))],
        vec![("manifest.json", entry(&[]))],
        vec![("manifest.json", entry(&["x"])), ("c.json", config(&[&base]))],
        vec![
            ("manifest.json", entry(&["x", "x"])),
            ("c.json", config(&[&base])),
            ("x", Content::Bytes(base.clone())),
        ],
        vec![
            ("manifest.json", entry(&["a"])),
            ("c.json", config(&[&base])),
            looped,
            ("b", Content::LinkTo("a")),
        ],
    ];
    for members in cases {
        write_tar(&file, &members);
        let error = open(&place).await.map(drop).unwrap_err();
        assert!(
            matches!(error, Error::Invalid { .. } | Error::NotFound { .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn what_skopeo_saves_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let ours = format!("oci:{}/ours:v1", folder.path().display());
    let layers = [tar_layer("one", 3000), tar_layer("two", 70_000)];
    write_image(&ours, &layers).await;
    let saved = format!(
        "docker-archive:{}/saved.tar:example.org/app:v1",
        folder.path().display()
    );
    if skopeo(&["copy", &ours, &saved]).is_none() {
        return;
    }
    assert_eq!(layers_of(&open(&saved).await.unwrap()).await, layers);
    let unnamed = format!("docker-archive:{}/saved.tar", folder.path().display());
    assert_eq!(layers_of(&open(&unnamed).await.unwrap()).await, layers);
}
