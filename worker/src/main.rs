//! `hardprune-worker`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    hardprune_worker::program::main()
}
