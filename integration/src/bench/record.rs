//! One figure, with what is needed to judge it.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// What was measured.
    pub case: String,
    /// Which part of the system did it.
    pub tier: &'static str,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The same of what it is held against, in the same run.
    pub baseline: Option<f64>,
    /// Value by baseline.
    pub ratio: Option<f64>,
    /// Samples; the median counts.
    pub n: usize,
    /// The machine's load over the last minute when the figure was taken.
    pub load: f64,
}

impl Record {
    /// A figure with nothing to hold it against.
    pub fn new(
        case: impl Into<String>,
        tier: &'static str,
        (value, unit): (f64, &'static str),
        n: usize,
    ) -> Result<Self> {
        Ok(Record {
            case: case.into(),
            tier,
            value,
            unit,
            baseline: None,
            ratio: None,
            n,
            load: load()?,
        })
    }

    /// The same figure, held against another.
    pub fn against(self, baseline: f64) -> Self {
        Record {
            baseline: Some(baseline),
            ratio: Some(self.value / baseline),
            ..self
        }
    }
}

/// The machine's load over the last minute.
fn load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").context("read the machine's load")?;
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().context("the load is a number")
}

/// The middle one of some samples.
///
/// # Panics
/// If there are none.
pub fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Writes one object a line, in place of what was there.
pub fn keep(records: &[Record], path: &Path) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let mut text = String::new();
    for record in records {
        text += &serde_json::to_string(record).context("print a record")?;
        text.push('\n');
    }
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// Prints a table in Markdown.
pub fn show(records: &[Record], out: &mut impl Write) -> Result<()> {
    writeln!(
        out,
        "| case | tier | value | unit | baseline | ratio | n | load |"
    )?;
    writeln!(out, "|---|---|---:|---|---:|---:|---:|---:|")?;
    for record in records {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), figure);
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {:.1} |",
            record.case,
            record.tier,
            figure(record.value),
            record.unit,
            number(record.baseline),
            number(record.ratio),
            record.n,
            record.load
        )?;
    }
    Ok(())
}

/// Digits that mean something.
fn figure(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_counts() {
        assert_eq!(median(vec![3.0, 1.0, 100.0]), 3.0);
    }

    #[test]
    fn what_is_kept_is_one_object_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deeper/kept.jsonl");
        let record = Record::new("walk", "reader", (10.0, "inodes/s"), 5)
            .unwrap()
            .against(4.0);
        let alone = Record::new("open", "reader", (0.5, "ms"), 5).unwrap();
        keep(&[record.clone(), alone], &path).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["ratio"], 2.5);
        assert_eq!(lines[1]["baseline"], serde_json::Value::Null);
        let mut table = Vec::new();
        show(&[record], &mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        assert!(
            table.contains("| walk | reader | 10.00 | inodes/s | 4.00 | 2.50 | 5 |"),
            "{table}"
        );
    }
}
