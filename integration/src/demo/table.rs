//! The figures at the end of the demonstration.

use std::fmt::Write;
use std::time::Duration;

/// What one way to start a container cost.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Until the pull was over.
    pub pulled: Duration,
    /// From the start of the pull to the container's first line of output.
    pub first_output: Duration,
    /// Bytes that the registry sent, headers included.
    pub fetched: u64,
    /// What the container printed.
    pub output: String,
}

/// Rows of figures, with the share of `packed` (bytes of the original image) that was fetched.
pub(super) fn render(rows: &[(&str, &Measure)], packed: u64) -> String {
    let mut text = String::new();
    let mut line = |cells: [&str; 5]| {
        let [name, pulled, first, fetched, share] = cells;
        let _ = writeln!(text, "{name:<16}{pulled:>10}{first:>22}{fetched:>16}{share:>12}");
    };
    line(["", "pull", "time to first output", "bytes fetched", "of image"]);
    for (name, measure) in rows {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let share = format!("{:.0} %", measure.fetched as f64 * 100.0 / packed.max(1) as f64);
        line([
            name,
            &seconds(measure.pulled),
            &seconds(measure.first_output),
            &bytes(measure.fetched),
            &share,
        ]);
    }
    text
}

/// Bytes in megabytes, as link speeds are given.
pub(super) fn bytes(len: u64) -> String {
    format!("{:.1} MB", len as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_up() {
        let measure = Measure {
            pulled: Duration::from_millis(120),
            first_output: Duration::from_millis(1234),
            fetched: 12_300_000,
            output: String::new(),
        };
        let text = render(&[("slipway, lazy", &measure)], 123_000_000);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0].len(), lines[1].len());
        assert!(lines[1].ends_with("10 %"), "{text}");
        assert!(
            lines[1].contains("1.23 s") && lines[1].contains("12.3 MB"),
            "{text}"
        );
    }
}
