//! Sample, documentation and defaults tell the same story; bad files are refused with a reason.

use std::collections::BTreeSet;

use rstest::rstest;

use super::*;

/// The documentation, where the table stands between two marks.
const DOCUMENT: &str = include_str!("../../../doc/CONFIGURATION.md");

fn leaves(prefix: &str, table: &toml::Table, names: &mut BTreeSet<String>) {
    for (key, value) in table {
        let name = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value.as_table() {
            Some(table) => leaves(&name, table, names),
            None => drop(names.insert(name)),
        }
    }
}

#[test]
fn every_key_is_documented_and_no_other() {
    let full = Config {
        address: Some("/a".into()),
        ..Config::default()
    };
    let mut names = BTreeSet::new();
    leaves("", &toml::Table::try_from(full).unwrap(), &mut names);
    let documented: BTreeSet<_> = key::names().into_iter().map(str::to_owned).collect();
    assert_eq!(names, documented);
}

#[test]
fn sample_reads_as_the_defaults() {
    assert_eq!(Config::parse(&sample()).unwrap(), Config::default());
    assert_eq!(Config::parse("").unwrap(), Config::default());
    Config::default().check().unwrap();
}

#[test]
fn sample_stays_as_it_is_with_every_comment_taken_for_a_key() {
    let uncommented: String = sample()
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| rest.starts_with("address ="))
                .unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let config = Config::parse(&uncommented).unwrap();
    assert_eq!(
        config.address.as_deref(),
        Some(Path::new("/run/slipway/slipwayd.sock"))
    );
}

#[test]
fn documentation_holds_table_and_sample() {
    assert!(
        DOCUMENT.contains(&reference_table()),
        "doc/CONFIGURATION.md lacks this:\n{}",
        reference_table()
    );
    assert!(
        DOCUMENT.contains(&sample()),
        "doc/CONFIGURATION.md lacks this:\n{}",
        sample()
    );
}

#[rstest]
#[case("rooot = \"/x\"", "rooot")]
#[case("[fuse]\nread_deadline = 30", "read_deadline")]
#[case("[fuse]\nspeed = 1", "speed")]
#[case("[log]\nlevel = \"loud\"", "loud")]
#[case("[cache]\nsize_max = \"120%\"", "120%")]
fn unreadable_files(#[case] text: &str, #[case] named: &str) {
    let error = Config::parse(text).unwrap_err();
    assert!(error.to_string().contains(named), "{error}");
}

#[rstest]
#[case("root = \"relative\"", "root")]
#[case("root = \"/with:colon\"", "root")]
#[case("run_dir = \"/with,comma\"", "run_dir")]
#[case("[fuse]\nthreads = 0", "fuse.threads")]
#[case("[fuse]\nread_deadline = \"0s\"", "fuse.read_deadline")]
#[case("[fetch]\nstores = [\"/mnt\"]", "fetch.stores")]
#[case("[registry]\nhosts_dir = \"certs.d\"", "registry.hosts_dir")]
#[case("[registry]\nplain_http = [\"http://host\"]", "registry.plain_http")]
#[case("[registry]\npull_secrets_dir = \"secrets\"", "registry.pull_secrets_dir")]
#[case(
    "[registry]\ncredential_providers = \"/a.yaml\"",
    "registry.credential_providers"
)]
fn senseless_values(#[case] text: &str, #[case] named: &str) {
    let error = Config::parse(text).unwrap().check().unwrap_err();
    assert!(
        matches!(error, Error::Value { key, .. } if key == named),
        "{error}"
    );
}

#[test]
fn a_named_file_must_exist() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.toml");
    assert!(matches!(Config::load(Some(&path)), Err(Error::Read { .. })));
    std::fs::write(&path, "[fuse]\nread_deadline = \"2m\"\n").unwrap();
    assert_eq!(
        Config::load(Some(&path)).unwrap().fuse.read_deadline,
        Duration::from_secs(120)
    );
}
