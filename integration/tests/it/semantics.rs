//! `doc/SEMANTICS.md`, executed: every row of its tables names a case, which is played, and what is observed must be
//! what the row says.
//!
//! | room | holds |
//! |---|---|
//! | [`table`] | the rows of the document |
//! | [`outcome`] | what is observed of a case, in the words of the document |
//! | [`stage`] | an image that is served, and where it comes from |
//! | [`registry`], [`disk`], [`leftover`], [`death`] | the cases, by section |

mod death;
mod disk;
mod leftover;
mod outcome;
mod registry;
mod stage;
mod table;

use std::collections::BTreeSet;
use std::sync::Mutex;

use self::outcome::Outcome;
use self::table::Row;

/// A case: its name in the document, and how it is played.
type Case = (&'static str, fn() -> Outcome);

/// The sections of the document, by their headings.
const SECTIONS: [(&str, &[Case]); 4] = [
    ("Registries, mirrors and stores", registry::CASES),
    ("The disk under the cache", disk::CASES),
    ("What an earlier process left", leftover::CASES),
    ("Daemons that are killed", death::CASES),
];

/// Cases that are played at once. Most of them only wait.
const PLAYED_AT_ONCE: usize = 8;

#[test]
fn every_row_has_a_case_and_every_case_a_row() {
    let rows: BTreeSet<_> = table::rows()
        .into_iter()
        .map(|row| (row.section, row.case))
        .collect();
    let cases = SECTIONS.iter().flat_map(|(section, cases)| {
        cases
            .iter()
            .map(move |(name, _)| (section.to_string(), name.to_string()))
    });
    let cases: BTreeSet<_> = cases.collect();
    let differences: Vec<_> = rows.symmetric_difference(&cases).collect();
    assert!(
        differences.is_empty(),
        "without a case, or without a row: {differences:?}"
    );
    assert_eq!(rows.len(), table::rows().len(), "a case has two rows");
}

#[test]
fn registries_fail_as_the_document_says() {
    play(SECTIONS[0].0);
}

#[test]
fn disks_fail_as_the_document_says() {
    play(SECTIONS[1].0);
}

#[test]
fn what_is_left_is_used_as_the_document_says() {
    play(SECTIONS[2].0);
}

#[test]
fn daemons_die_as_the_document_says() {
    play(SECTIONS[3].0);
}

/// Plays the cases of a section and compares what is observed with the rows.
fn play(section: &str) {
    let (_, cases) = SECTIONS.iter().find(|(heading, _)| *heading == section).unwrap();
    let mut rows = table::rows();
    rows.retain(|row| row.section == section);
    assert!(!rows.is_empty(), "the document has no section {section:?}");
    let (waiting, wrong) = (Mutex::new(rows), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..PLAYED_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().pop();
                    let Some(row) = next else { return };
                    if let Err(text) = compare(&row, cases) {
                        wrong.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn compare(row: &Row, cases: &[Case]) -> Result<(), String> {
    let (_, case) = cases
        .iter()
        .find(|(name, _)| *name == row.case)
        .ok_or_else(|| format!("{}: a row without a case", row.case))?;
    let observed = std::panic::catch_unwind(case).map_err(|_| format!("{}: it broke off", row.case))?;
    match observed == row.outcome {
        true => Ok(()),
        false => Err(format!(
            "{}:\n  the document says {}\n  observed was      {observed}",
            row.case, row.outcome
        )),
    }
}
