//! Tests of what goes into manifests.

use super::*;

fn layer(blob: Option<&str>) -> DataLayer {
    DataLayer {
        blob: blob.map(|digest| (digest.to_owned(), 1)),
    }
}

#[test]
fn the_config_keeps_what_it_had_and_gets_the_new_layers() {
    let source = json!({
        "architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"], "Healthcheck": {"Test": ["x"]}},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:a", "sha256:b"]},
        "history": [{"created_by": "one"}, {"created_by": "env", "empty_layer": true}, {"created_by": "two"}],
    });
    let config = config(&source, &[layer(Some("sha256:blob")), layer(None)], "sha256:boot");
    assert_eq!(config["config"], source["config"]);
    assert_eq!(
        config["rootfs"]["diff_ids"],
        json!(["sha256:blob", "sha256:boot"])
    );
    let empty: Vec<_> = config["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["empty_layer"].as_bool())
        .collect();
    assert_eq!(empty, [None, Some(true), Some(true), None]);
}

#[test]
fn a_step_that_is_no_object_is_no_layer() {
    let source = json!({"history": ["a step"]});
    let config = config(&source, &[layer(None)], "sha256:boot");
    assert_eq!(config["history"][0], "a step");
}

#[test]
fn a_history_that_does_not_fit_is_left_alone() {
    let source = json!({"history": [{"created_by": "squashed"}]});
    let config = config(&source, &[layer(None), layer(Some("sha256:blob"))], "sha256:boot");
    assert_eq!(config["history"][0], json!({"created_by": "squashed"}));
    assert_eq!(config["history"].as_array().unwrap().len(), 2);
}

#[test]
fn manifests_are_the_same_bytes_every_time() {
    let annotations: HashMap<String, String> = (0..20)
        .map(|number| (format!("key{number}"), number.to_string()))
        .collect();
    let write = || {
        let layers = vec![Part::blob("sha256:x", 1), Part::bootstrap("sha256:y", 2)];
        manifest(Part::config("sha256:c", 3), layers, Some(&annotations.clone())).unwrap()
    };
    assert_eq!(write(), write());
    let text = String::from_utf8(write()).unwrap();
    assert!(
        text.contains(r#""annotations":{"containerd.io/snapshot/nydus-blob":"true"}"#),
        "{text}"
    );
    assert!(text.find("key10").unwrap() < text.find("key2").unwrap());
}
