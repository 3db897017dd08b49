//! The container file builds with the compiler that the workspace asks for, into images with nobody and nothing in them.

use crate::files::{place, read};

const CONTAINER_FILE: &str = "deploy/containers/Containerfile";

#[test]
fn images_are_empty_but_for_the_program_and_belong_to_nobody() {
    let text = read(CONTAINER_FILE).unwrap();
    let images: Vec<&str> = text.lines().filter(|line| line.starts_with("FROM ")).collect();
    assert_eq!(
        images[1..],
        [
            "FROM scratch AS base",
            "FROM base AS hardprune-worker",
            "FROM base AS hardprune"
        ]
    );
    assert!(text.contains("ca-certificates.crt"));
    for program in ["hardprune", "hardprune-worker"] {
        assert!(text.contains(&format!("ENTRYPOINT [\"/{program}\"]")));
    }
    assert!(!text.contains("\nUSER root") && text.contains("\nUSER 65532:65532\n"));
}

#[test]
fn the_builder_compiles_this_workspace() {
    let text = read(CONTAINER_FILE).unwrap();
    let image = text
        .lines()
        .find(|line| line.starts_with("FROM docker.io/library/rust:"))
        .unwrap();
    let version = image.split([':', '-']).nth(1).unwrap();
    let minor = |version: &str| {
        version
            .split('.')
            .nth(1)
            .and_then(|minor| minor.parse::<u32>().ok())
    };
    assert!(minor(version) >= minor(env!("CARGO_PKG_RUST_VERSION")), "{image}");
    // What the build context lets through must be enough for Cargo.
    let context = read(".dockerignore").unwrap();
    let workspace = read("Cargo.toml").unwrap();
    let members = workspace
        .lines()
        .find_map(|line| line.strip_prefix("members = "))
        .unwrap();
    for member in members.split('"').skip(1).step_by(2) {
        assert!(
            place(member).is_dir() && context.contains(&format!("!{member}\n")),
            "{member}"
        );
    }
}
