//! See `hardprune_tests::fuzz_bodies::keys`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| hardprune_tests::fuzz_bodies::keys::check(input));
