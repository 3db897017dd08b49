//! See `hardprune_tests::fuzz_bodies::registry_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hardprune_tests::fuzz_bodies::registry_config::check(input));
