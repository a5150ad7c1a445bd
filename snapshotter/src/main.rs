//! `slipwayd`: the node's daemon and its operator commands.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
