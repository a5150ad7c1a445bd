//! What files and folders say.

use std::fs;
use std::path::Path;

use super::*;

fn parsed(text: &str) -> Hosts {
    file::parse(text, Path::new("/certs.d/a.io/hosts.toml")).unwrap()
}

fn refused(text: &str) -> String {
    file::parse(text, Path::new("/certs.d/a.io/hosts.toml"))
        .unwrap_err()
        .to_string()
}

fn bases(hosts: &Hosts) -> Vec<String> {
    let hosts = hosts.mirrors.iter().chain([&hosts.server]);
    hosts
        .map(|host| host.base.as_ref().map_or_else(String::new, Url::to_string))
        .collect()
}

#[test]
fn mirrors_keep_their_order_and_the_server_is_last() {
    let hosts = parsed(
        r#"server = "https://up.io"
        [host."https://z.io"]
        [host."http://a.io:5000/cache"]
        [host."https://m.io/v2/proxy"]
        override_path = true
        [host."b.io"]
        [host."127.0.0.1:80"]
        "#,
    );
    assert_eq!(
        bases(&hosts),
        [
            "https://z.io/v2/",
            "http://a.io:5000/cache/v2/",
            "https://m.io/v2/proxy/",
            "https://b.io/v2/",
            "http://127.0.0.1/v2/",
            "https://up.io/v2/",
        ]
    );
}

#[test]
fn every_key_is_read() {
    let hosts = parsed(
        r#"
        ca = "own.crt"
        [host."https://m.io"]
        capabilities = ["pull"]
        ca = ["one.pem", "/abs/two.pem"]
        client = [["c.crt", "c.key"], ["both.pem", ""], "one.pem"]
        skip_verify = true
        dial_timeout = "1m30s"
        [host."https://m.io".header]
        x-one = "1"
        x-many = ["2", "3"]
        "#,
    );
    assert_eq!(hosts.server.base, None);
    assert_eq!(hosts.server.tls.authorities, [Path::new("/certs.d/a.io/own.crt")]);
    assert_eq!(hosts.server.capabilities, Capabilities::ALL);
    let mirror = &hosts.mirrors[0];
    assert_eq!(
        mirror.capabilities,
        Capabilities {
            pull: true,
            resolve: false
        }
    );
    let certificate = |certificate: &str, key: Option<&str>| ClientCertificate {
        certificate: Path::new("/certs.d/a.io").join(certificate),
        key: key.map(|key| Path::new("/certs.d/a.io").join(key)),
    };
    let tls = Tls {
        authorities: vec!["/certs.d/a.io/one.pem".into(), "/abs/two.pem".into()],
        client: vec![
            certificate("c.crt", Some("c.key")),
            certificate("both.pem", None),
            certificate("one.pem", None),
        ],
        skip_verify: true,
    };
    assert_eq!(mirror.tls, tls);
    assert_eq!(mirror.dial_timeout, Some(Duration::from_secs(90)));
    assert_eq!(mirror.headers["x-one"], "1");
    let many: Vec<_> = mirror.headers.get_all("x-many").iter().collect();
    assert_eq!(many, ["2", "3"]);
}

#[test]
fn what_cannot_be_meant_is_refused_with_a_reason() {
    for (text, word) in [
        ("server = 1", "server"),
        ("host = 1", "host"),
        ("[host.\"ftp://a\"]", "https://"),
        ("[host.\"https://me:pw@a.io\"]", "password"),
        ("[host.\"https://a.io\"]\ndial_timeout = \"soon\"", "dial_timeout"),
        (
            "[host.\"https://a.io\"]\nclient = [[\"a\", \"b\", \"c\"]]",
            "client",
        ),
        ("[host.\"https://a.io\".header]\n\"a b\" = \"1\"", "a b"),
        ("[host.\"https://a.io\".header]\nx = \"secret\\u0001\"", "x"),
        ("server = ", "hosts.toml"),
    ] {
        let error = refused(text);
        assert!(
            error.contains(word) && error.contains("hint: "),
            "{text}: {error}"
        );
        assert!(!error.contains("secret") && !error.contains("pw"), "{error}");
    }
}

#[test]
fn the_most_specific_folder_speaks() {
    let certs = tempfile::tempdir().unwrap();
    let write = |folder: &str, address: &str| {
        fs::create_dir(certs.path().join(folder)).unwrap();
        let text = format!("[host.\"{address}\"]");
        fs::write(certs.path().join(folder).join("hosts.toml"), text).unwrap();
    };
    let mirror = |namespace: &str| bases(&find(Some(certs.path()), namespace).unwrap())[0].clone();
    assert_eq!(mirror("a.io:5000"), "");
    write("_default", "https://d");
    assert_eq!(mirror("a.io:5000"), "https://d/v2/");
    write("a.io:5000", "https://colon");
    assert_eq!(mirror("a.io:5000"), "https://colon/v2/");
    write("a.io_5000_", "https://under");
    assert_eq!(mirror("a.io:5000"), "https://under/v2/");
    assert_eq!(mirror("a.io"), "https://d/v2/");
    assert_eq!(bases(&find(None, "a.io").unwrap()), [""]);
    // A name that would leave the folder.
    assert_eq!(mirror(".."), "https://d/v2/");
}

#[test]
fn a_folder_of_certificates_is_docker_s() {
    let certs = tempfile::tempdir().unwrap();
    let folder = certs.path().join("a.io");
    fs::create_dir(&folder).unwrap();
    for name in ["ca.crt", "me.cert", "me.key", "notes.txt"] {
        fs::write(folder.join(name), "").unwrap();
    }
    let hosts = find(Some(certs.path()), "a.io").unwrap();
    let tls = Tls {
        authorities: vec![folder.join("ca.crt")],
        client: vec![ClientCertificate {
            certificate: folder.join("me.cert"),
            key: Some(folder.join("me.key")),
        }],
        skip_verify: false,
    };
    assert_eq!(hosts.server.tls, tls);
    assert!(hosts.mirrors.is_empty());
}
