//! What a process has used, as the kernel counts it.

use anyhow::{Context, Result};

/// Ticks of a second in what the kernel tells of processes: a part of its interface, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of a process so far, in user and kernel mode, seconds.
pub fn processor_seconds(id: u32) -> Result<f64> {
    let path = format!("/proc/{id}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The name, in brackets, may have blanks. Behind it the times are the 12th and 13th fields.
    let (_, behind) = stat.rsplit_once(')').context("a name in brackets")?;
    let fields = behind.split_whitespace().skip(11).take(2);
    let ticks: u64 = fields
        .map(|field| field.parse::<u64>().context("a number of ticks"))
        .sum::<Result<u64>>()?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// The most memory that a process had in RAM so far, bytes.
pub fn peak_memory(id: u32) -> Result<u64> {
    let path = format!("/proc/{id}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    let kib: u64 = number.context("a peak")?.parse().context("a number")?;
    Ok(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let me = std::process::id();
        assert!(peak_memory(me).unwrap() > 1 << 20);
        let began = processor_seconds(me).unwrap();
        while processor_seconds(me).unwrap() <= began {
            std::hint::black_box(vec![0_u8; 1 << 16]);
        }
    }
}
