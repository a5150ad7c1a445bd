//! All tests that need more than one crate, in one program. Each file here is a module; a test checks that none is
//! forgotten.

mod corpus;
mod images;
mod layering;
mod local;
mod no_forgotten_files;
mod node;
mod semantics;
