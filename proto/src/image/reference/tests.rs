use proptest::prelude::*;

use super::*;

const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn parts(text: &str) -> (String, String, Option<String>, Option<String>) {
    let reference: Reference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let digest = reference.digest.map(|digest| digest.to_string());
    (reference.host, reference.repository, reference.tag, digest)
}

#[test]
fn dockers_defaults_are_filled_in() {
    let cases = [
        ("python", ("docker.io", "library/python", Some("latest"))),
        ("python:3.13", ("docker.io", "library/python", Some("3.13"))),
        (
            "docker.io/python",
            ("docker.io", "library/python", Some("latest")),
        ),
        (
            "index.docker.io/grafana/grafana",
            ("docker.io", "grafana/grafana", Some("latest")),
        ),
        ("grafana/grafana:11", ("docker.io", "grafana/grafana", Some("11"))),
        ("localhost/a", ("localhost", "a", Some("latest"))),
        ("localhost:5000/a/b:T", ("localhost:5000", "a/b", Some("T"))),
        (
            "registry.example:5000/a",
            ("registry.example:5000", "a", Some("latest")),
        ),
        ("Registry/a", ("Registry", "a", Some("latest"))),
        ("[::1]:5000/a:b", ("[::1]:5000", "a", Some("b"))),
        ("[fe80::1]/a", ("[fe80::1]", "a", Some("latest"))),
        (
            "10.0.0.1/a__b/c-d/e.f--g:1",
            ("10.0.0.1", "a__b/c-d/e.f--g", Some("1")),
        ),
    ];
    for (text, (host, repository, tag)) in cases {
        let expected = (
            host.to_owned(),
            repository.to_owned(),
            tag.map(str::to_owned),
            None,
        );
        assert_eq!(parts(text), expected, "{text}");
    }
}

#[test]
fn a_digest_stands_for_itself_and_beside_a_tag() {
    let digest = format!("sha256:{HEX}");
    let (_, _, tag, found) = parts(&format!("a.io/b@{digest}"));
    assert_eq!((tag, found), (None, Some(digest.clone())));
    let (_, _, tag, found) = parts(&format!("a.io/b:c@{digest}"));
    assert_eq!((tag.as_deref(), found), (Some("c"), Some(digest.clone())));
    let both: Reference = format!("a.io/b:c@{digest}").parse().unwrap();
    assert_eq!(both.tag_or_digest(), digest);
}

#[test]
fn what_is_no_reference_is_refused_with_a_reason() {
    let long = "a".repeat(256);
    let bad = [
        "",
        ":",
        "@",
        "/",
        "a:",
        "a:-b",
        "a/",
        "/a",
        "a//b",
        "A",
        "a/B",
        "a..b",
        "a___b",
        "-a",
        "a-",
        "a b",
        "a@sha256:12",
        "a@md5",
        "a.io:0/b",
        "a.io:65536/b",
        "a.io:+5/b",
        "a.io:/b",
        "[::1/b",
        "[::1]x/b",
        "[zz]/b",
        "a_b.c:5/d",
        "-a.b/c",
        "é",
        "host.io/é",
        HEX,
        &long,
    ];
    for text in bad {
        let error = text.parse::<Reference>().expect_err(text);
        assert!(
            matches!(&error, Error::InvalidName { name, .. } if name == text),
            "{error}"
        );
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC{0,64}") {
        let _ = text.parse::<Reference>();
    }

    #[test]
    fn near_misses_never_panic_and_what_parses_round_trips(text in "[a-zA-Z0-9./:@_\\[\\]-]{0,40}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn every_reference_round_trips(
        host in "([a-z0-9]{1,8}\\.[a-z]{2,3}|localhost|\\[::1\\])(:[1-9][0-9]{0,3})?",
        repository in "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}(/[a-z0-9]{1,6}){0,2}",
        tag in proptest::option::of("[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,20}"),
        with_digest: bool,
    ) {
        let digest = with_digest.then(|| format!("sha256:{HEX}").parse().unwrap());
        let tag = tag.or_else(|| digest.is_none().then(|| "t".to_owned()));
        let reference = Reference { host, repository, tag, digest };
        prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
    }
}
