//! `hardprune`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    hardprune_coordinator::main()
}
