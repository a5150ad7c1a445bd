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
    let mut message = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Messages often repeat their source; once is enough.
        if !message.contains(&text) {
            message = if message.is_empty() {
                text
            } else {
                format!("{message}: {text}")
            };
        }
    }
    note(&format!("error: {}", message.replace("; hint: ", "\nhint: ")));
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
    fn columns_line_up() {
        let rows = [vec!["ID".into(), "IMAGE".into()], vec!["100".into(), "a".into()]];
        assert_eq!(table(&rows), "ID   IMAGE\n100  a\n");
        assert_eq!(table(&[]), "");
    }
}
