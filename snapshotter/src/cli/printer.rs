//! What goes to stdout (data) and stderr (everything else). A closed pipe is no error.

use std::io::{self, Write};

use clap::Args;

/// Shape of a command's answer.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(super) struct Format {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Prints data.
pub(super) fn data(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints JSON data.
pub(super) fn json(value: &serde_json::Value) -> anyhow::Result<()> {
    data(&format!("{value:#}\n"))
}

/// Prints a line for the person at the terminal.
pub(super) fn note(line: &str) {
    // There is nobody left to tell when stderr is gone.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints an error with its causes, and what to do next on lines of their own.
pub(super) fn error(error: &anyhow::Error) {
    note(&explain(error));
}

fn explain(error: &anyhow::Error) -> String {
    let mut message = String::new();
    let mut hints: Vec<String> = Vec::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let mut parts = cause.split("; hint: ");
        let text = parts.next().unwrap_or_default();
        // Messages often repeat their source; once is enough.
        if !message.contains(text) {
            let separator = if message.is_empty() { "" } else { ": " };
            message.extend([separator, text]);
        }
        for hint in parts.map(str::to_owned) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
    }
    let hints = hints.iter().map(|hint| format!("\nhint: {hint}"));
    std::iter::once(format!("error: {message}"))
        .chain(hints)
        .collect()
}

/// A table with aligned columns; numbers need no other alignment to be compared here.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_come_last_and_nothing_comes_twice() {
        let error = anyhow::anyhow!("c")
            .context("b: c; hint: do this")
            .context("a; hint: do that");
        assert_eq!(explain(&error), "error: a: b: c\nhint: do that\nhint: do this");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["ID".into(), "IMAGE".into()], vec!["100".into(), "a".into()]];
        assert_eq!(table(&rows), "ID   IMAGE\n100  a\n");
        assert_eq!(table(&[]), "");
    }
}
