//! What filters match, and that no input makes the parser fall over.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rstest::rstest;

use super::{Filters, Subject};
use crate::store::Kind;

fn matches(filters: &[&str], subject: &Subject<'_>) -> bool {
    Filters::parse(filters)
        .expect("the filter is valid")
        .matches(subject)
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[rstest]
#[case(&[], true)]
#[case(&[""], true)]
#[case(&["name"], true)]
#[case(&["parent"], true)]
#[case(&["parent==\"\""], true)]
#[case(&["parent!=\"\""], false)]
#[case(&["kind==committed"], true)]
#[case(&["kind==active"], false)]
#[case(&["kind!=active"], true)]
#[case(&["kind~=\"^comm\""], true)]
#[case(&["name==sha256:abc"], true)]
#[case(&["name==other"], false)]
#[case(&["name==other", "name==sha256:abc"], true)]
#[case(&["name==sha256:abc,kind==active"], false)]
#[case(&["name == sha256:abc, kind==committed"], true)]
#[case(&["labels.tag"], true)]
#[case(&["labels.none"], false)]
#[case(&["labels.none!=x"], true)]
#[case(&["labels.none==\"\""], false)]
#[case(&["labels.none~=\"^$\""], true)]
#[case(&["labels.dotted.key==v"], true)]
#[case(&[r#"labels."dotted.key"==v"#], true)]
#[case(&[r#"labels."containerd.io/snapshot.ref"==sha256:abc,parent=="""#], true)]
#[case(&[r#"labels."containerd.io/snapshot.ref"==sha256:abd,parent=="""#], false)]
#[case(&[r#"labels.tag=="a\tb""#], true)]
#[case(&[r#"labels.tag=="\x61\011\u0062""#], true)]
#[case(&[r#"labels.tag~=/^a.b$/"#], true)]
#[case(&[r#"labels.tag~=|^a.b$|"#], true)]
#[case(&["unknown"], false)]
#[case(&["unknown!=x"], true)]
fn committed_base_layer(#[case] filters: &[&str], #[case] wanted: bool) {
    let labels = labels(&[
        ("tag", "a\tb"),
        ("dotted.key", "v"),
        ("containerd.io/snapshot.ref", "sha256:abc"),
    ]);
    let subject = Subject {
        name: "sha256:abc",
        parent: "",
        kind: Kind::Committed,
        labels: &labels,
    };
    assert_eq!(matches(filters, &subject), wanted);
}

#[rstest]
#[case("name==", 6)]
#[case("name=x", 4)]
#[case("name===x", 4)]
#[case("==x", 0)]
#[case("name==a b", 7)]
#[case("name==a ", 7)]
#[case("name,", 5)]
#[case(",name", 0)]
#[case("labels.", 7)]
#[case("name==\"open", 6)]
#[case("name==\"\\q\"", 6)]
#[case("name==/x/", 6)]
#[case("name~=\"(\"", 6)]
#[case("näme", 1)]
fn refuses(#[case] filter: &str, #[case] position: usize) {
    let error = Filters::parse(&[filter]).expect_err("the filter is invalid");
    assert_eq!(
        (error.input.as_str(), error.position),
        (filter, position),
        "{error}"
    );
}

fn go_quote(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c.is_control() => format!("\\U{:08x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".*") {
        let labels = BTreeMap::new();
        let subject = Subject { name: "n", parent: "", kind: Kind::Active, labels: &labels };
        match Filters::parse(&[&text]) {
            Ok(filters) => { filters.matches(&subject); }
            Err(error) => prop_assert!(error.position <= text.len()),
        }
    }

    #[test]
    fn filter_like_text_is_read_or_refused(text in r#"[a-z.,=!~"/|\\ 0x]{0,40}"#) {
        if let Err(error) = Filters::parse(&[&text]) {
            prop_assert!(error.position <= text.len());
        }
    }

    #[test]
    fn quoting_brings_any_label_through(key in "\\PC{1,20}", value in any::<String>(), other in "[a-z]{1,8}") {
        let labels = labels(&[(&key, &value)]);
        let subject = Subject { name: "n", parent: "p", kind: Kind::View, labels: &labels };
        let field = format!("labels.{}", go_quote(&key));
        let equal = format!("{field}=={}", go_quote(&value));
        let both = format!("{equal},kind==view");
        let is_other = format!("{field}=={other}");
        let is_not_other = format!("{field}!={other}");
        prop_assert!(matches(&[&field], &subject));
        prop_assert!(matches(&[&equal], &subject));
        prop_assert!(matches(&[&both], &subject));
        prop_assert_eq!(matches(&[&is_other], &subject), value == other);
        prop_assert_eq!(matches(&[&is_not_other], &subject), value != other);
    }
}
