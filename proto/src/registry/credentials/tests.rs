//! What every place has to do, and what is special about each.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

fn password(user: &str, password: &str) -> Credentials {
    Credentials::Password {
        user: user.into(),
        password: password.into(),
    }
}

/// A place that can be told what to know: `host` as `user` with the password `user`.
trait Contract {
    fn place(dir: &TempDir) -> Box<dyn CredentialSource>;
    fn know(dir: &TempDir, place: &dyn CredentialSource, host: &str, user: &str);
    /// Makes it unreadable, in every way there is.
    fn damages(dir: &TempDir) -> Vec<Box<dyn Fn()>>;
}

fn login(host: &str, user: &str) -> String {
    format!(r#"{{"auths": {{"{host}": {{"username": "{user}", "password": "{user}"}}}}}}"#)
}

struct SecretsContract;

impl Contract for SecretsContract {
    fn place(dir: &TempDir) -> Box<dyn CredentialSource> {
        Box::new(Secrets::new(dir.path().to_owned()))
    }

    fn know(dir: &TempDir, _place: &dyn CredentialSource, host: &str, user: &str) {
        fs::write(dir.path().join(".dockerconfigjson"), login(host, user)).unwrap();
    }

    fn damages(dir: &TempDir) -> Vec<Box<dyn Fn()>> {
        let (file, folder) = (dir.path().join(".dockerconfigjson"), dir.path().to_owned());
        let cut = file.clone();
        vec![
            Box::new(move || fs::write(&cut, "{\"auths\"").unwrap()),
            Box::new(move || fs::write(&file, [0xff; 9]).unwrap()),
            Box::new(move || fs::remove_dir_all(&folder).unwrap()),
        ]
    }
}

struct KubeletContract;

fn program(dir: &TempDir, script: &str) {
    let path = dir.path().join("provider");
    // A script that is being written cannot be run; a new one can.
    let _ = fs::remove_file(&path);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
}

fn provider_config(dir: &TempDir, pattern: &str) {
    let text = format!(
        "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: provider\n  \
         apiVersion: credentialprovider.kubelet.k8s.io/v1\n  matchImages: [\"{pattern}\"]\n  \
         defaultCacheDuration: 12h\n  args: [get]\n  env:\n  - name: WHO\n    value: me\n"
    );
    fs::write(dir.path().join("config.yaml"), text).unwrap();
}

impl Contract for KubeletContract {
    fn place(dir: &TempDir) -> Box<dyn CredentialSource> {
        provider_config(dir, "*.io");
        program(dir, "echo '{}'");
        Box::new(Kubelet::new(
            dir.path().join("config.yaml"),
            dir.path().to_owned(),
        ))
    }

    fn know(dir: &TempDir, _place: &dyn CredentialSource, host: &str, user: &str) {
        program(
            dir,
            &format!(r#"echo '{{"auth": {{"{host}": {{"username": "{user}", "password": "{user}"}}}}}}'"#),
        );
    }

    fn damages(dir: &TempDir) -> Vec<Box<dyn Fn()>> {
        let path = dir.path().to_owned();
        let script = |text: &'static str| {
            let path = path.clone();
            Box::new(move || fs::write(path.join("provider"), format!("#!/bin/sh\n{text}\n")).unwrap())
        };
        let (config, gone) = (path.join("config.yaml"), path.join("provider"));
        vec![
            script("echo hunter2"),
            script("exit 3"),
            Box::new(move || fs::remove_file(&gone).unwrap()),
            Box::new(move || fs::write(&config, "providers: 5").unwrap()),
        ]
    }
}

fn keeps_contract<C: Contract>() {
    let dir = tempfile::tempdir().unwrap();
    let place = C::place(&dir);
    assert_eq!(place.find("a.io", "x"), None, "nothing is known yet");
    C::know(&dir, &*place, "a.io", "one");
    assert_eq!(place.find("a.io", "team/x"), Some(password("one", "one")));
    assert_eq!(place.find("b.io", "team/x"), None, "nothing of another host");
    C::know(&dir, &*place, "a.io", "two");
    assert_eq!(
        place.find("a.io", "team/x"),
        Some(password("two", "two")),
        "renewed"
    );
    for damage in C::damages(&dir) {
        damage();
        assert_eq!(place.find("a.io", "team/x"), None);
    }
}

#[test]
fn pull_secrets_keep_the_contract() {
    keeps_contract::<SecretsContract>();
}

#[test]
fn kubelet_providers_keep_the_contract() {
    keeps_contract::<KubeletContract>();
}

#[test]
fn pull_secrets_lie_in_folders_and_start_no_programs() {
    let dir = tempfile::tempdir().unwrap();
    let place = SecretsContract::place(&dir);
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("team/.dockerconfigjson", &login("a.io", "team"));
    write("..data/.dockerconfigjson", &login("b.io", "hidden"));
    write("c.json", &login("c.io", "file"));
    write("notes.txt", &login("d.io", "notes"));
    write(
        "helper.json",
        r#"{"credHelpers": {"e.io": "slipway-test"}, "credsStore": "slipway-test"}"#,
    );
    assert_eq!(place.find("a.io", "x"), Some(password("team", "team")));
    assert_eq!(place.find("c.io", "x"), Some(password("file", "file")));
    for host in ["b.io", "d.io", "e.io"] {
        assert_eq!(place.find(host, "x"), None, "{host}");
    }
}

#[test]
fn kubelet_providers_are_asked_as_the_kubelet_asks_them() {
    let dir = tempfile::tempdir().unwrap();
    let place = KubeletContract::place(&dir);
    let request = dir.path().join("request");
    let answer = r#"{"auth": {"a.io": {"username": "wide", "password": "p"},
        "a.io/team": {"username": "'"$WHO-$1"'", "password": "p"}, "*.com": {"username": "x", "password": "x"}}}"#;
    program(&dir, &format!("cat > {}\necho '{answer}'", request.display()));
    assert_eq!(place.find("a.io", "team/x"), Some(password("me-get", "p")));
    let asked: serde_json::Value = serde_json::from_slice(&fs::read(&request).unwrap()).unwrap();
    let expected = serde_json::json!({"kind": "CredentialProviderRequest", "image": "a.io/team/x",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1"});
    assert_eq!(asked, expected);
    assert_eq!(place.find("a.io", "other"), Some(password("wide", "p")));
    fs::remove_file(&request).unwrap();
    assert_eq!(place.find("a.com", "x"), None);
    assert!(!request.exists(), "the program is not for that host");
}

#[test]
fn what_was_refused_gives_way_to_another_place() {
    let (secrets, programs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let place = KubeletContract::place(&programs);
    KubeletContract::know(&programs, &*place, "a.io", "provider");
    SecretsContract::know(&secrets, &*place, "a.io", "secret");
    let keyring = Keyring::new(&CredentialPlaces {
        secrets_dir: Some(secrets.path().to_owned()),
        kubelet: Some((programs.path().join("config.yaml"), programs.path().to_owned())),
    });
    let (secret, provider) = (password("secret", "secret"), password("provider", "provider"));
    assert_eq!(keyring.find("a.io", "x", None), secret);
    assert_eq!(keyring.find("a.io", "x", Some(&secret)), provider);
}

#[test]
fn secrets_are_never_printed() {
    let shown = format!(
        "{:?} {:?}",
        password("me", "hunter2"),
        Credentials::IdentityToken("tok".into())
    );
    assert!(!shown.contains("hunter2") && !shown.contains("tok)"), "{shown}");
}
