//! The rows of the document.

use super::outcome::Outcome;

const DOCUMENT: &str = include_str!("../../../../doc/SEMANTICS.md");

/// First cell of the tables whose rows are cases.
const FIRST_CELL: &str = "case";

/// A case as the document has it.
pub(super) struct Row {
    /// The heading above it.
    pub(super) section: String,
    pub(super) case: String,
    pub(super) outcome: Outcome,
}

/// All cases: case, what goes wrong (for people), and then an outcome.
pub(super) fn rows() -> Vec<Row> {
    let (mut section, mut is_case, mut rows) = ("", false, Vec::new());
    for line in DOCUMENT.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading;
        }
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else {
            // The line under the head of a table belongs to it.
            is_case &= line.starts_with("|---");
            continue;
        };
        let cells: Vec<_> = cells.split(" | ").map(str::trim).collect();
        if !is_case {
            is_case = cells[0] == FIRST_CELL;
            continue;
        }
        let [case, _, sees, when, again, counted, remembered] = cells[..] else {
            panic!("a row of another shape: {line}");
        };
        rows.push(Row {
            section: section.to_owned(),
            case: case.trim_matches('`').to_owned(),
            outcome: Outcome {
                sees: sees.to_owned(),
                when: when.to_owned(),
                again: again.to_owned(),
                counted: counted.to_owned(),
                remembered: remembered.to_owned(),
            },
        });
    }
    rows
}
