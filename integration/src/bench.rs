//! Benchmarks: what is measured, against what, and how a figure is kept. `doc/BENCHMARKS.md` explains the cases.

pub mod datapath;
pub mod density;
pub mod fetch;
pub mod reader;
pub mod record;
pub mod start;
pub mod stream;
pub mod tree;
