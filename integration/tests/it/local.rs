//! The half that needs neither registry nor containerd: convert a layout, look at it, mount it.

mod checking;
mod converting;
mod kernel;
mod mounting;
mod reference;
