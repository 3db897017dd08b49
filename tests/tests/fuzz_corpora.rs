//! The short fuzz run of `make test`: every seed of `tests/fuzz/corpus`, and some thousand inputs made of them by
//! edits that are the same in every run. `make fuzz` looks further.

use std::path::Path;
use std::{fs, iter};

use hardprune_tests::fuzz_bodies;
use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

const MUTATIONS: u64 = 4_000;

/// Pieces that edits put in: what the formats give meaning to.
const PIECES: &[&[u8]] = &[
    b"/",
    b"//",
    b"_",
    b"..",
    b"\n",
    b"\t",
    b"\0",
    b"\xff",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b": ",
    b",",
    b"*a",
    b"&a ",
    b"<<: ",
    b"!!str ",
    b"%",
    b"@",
    b"#",
    b"- ",
    b"null",
    b"sha256:",
    b"sha512",
    b"SHA256",
    b"link",
    b"/data",
    b"_layers",
    b"digest",
    b"blobSum",
    b"\\u0061",
    b"\xc5\xbf",
];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds in {}", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn mutate(seeds: &[Vec<u8>], random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(1..=4) {
        let start = random.random_range(0..=bytes.len());
        let end = (start + random.random_range(0..=12)).min(bytes.len());
        match random.random_range(0..5) {
            0 => drop(bytes.drain(start..end)),
            1 => bytes
                .iter_mut()
                .skip(start)
                .take(1)
                .for_each(|byte| *byte ^= 1 << random.random_range(0..8)),
            2 => drop(bytes.splice(
                start..start,
                PIECES[random.random_range(0..PIECES.len())].iter().copied(),
            )),
            3 => {
                let piece = bytes[start..end].to_vec();
                let at = random.random_range(0..=bytes.len());
                drop(bytes.splice(at..at, piece));
            }
            _ => {
                let other = &seeds[random.random_range(0..seeds.len())];
                let from = random.random_range(0..=other.len());
                bytes.truncate(start);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn replay(target: &str, body: fn(&[u8])) {
    let seeds = seeds(target);
    for seed in &seeds {
        body(seed);
    }
    for number in 0..MUTATIONS {
        let mut random = SmallRng::seed_from_u64(number);
        let input = mutate(&seeds, &mut random);
        check(target, number, &input, body);
    }
    let mut random = SmallRng::seed_from_u64(0);
    for number in MUTATIONS..MUTATIONS + 500 {
        let length = random.random_range(0..200);
        let input: Vec<u8> = iter::repeat_with(|| random.next_u32().to_le_bytes()[0])
            .take(length)
            .collect();
        check(target, number, &input, body);
    }
}

/// Names the input that broke a rule, so that it can become a seed.
fn check(target: &str, number: u64, input: &[u8], body: fn(&[u8])) {
    if let Err(panic) = std::panic::catch_unwind(|| body(input)) {
        eprintln!("{target}: input {number} breaks a rule: {}", input.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn keys() {
    replay("keys", fuzz_bodies::keys::check);
}

#[test]
fn links() {
    replay("links", fuzz_bodies::links::check);
}

#[test]
fn manifests() {
    replay("manifests", fuzz_bodies::manifests::check);
}

#[test]
fn registry_config() {
    replay("registry_config", fuzz_bodies::registry_config::check);
}
