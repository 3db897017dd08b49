//! `hardprune-worker`: see the library.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

// Buffers go from task to task and thread to thread: the system's allocator waits for itself then, and keeps what is free (musl's is
// slower still).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    hardprune_worker::program::main()
}
