//! Tests on configurations with something wrong in them: the error says where, and never shows a secret.

use std::ffi::OsString;
use std::path::Path;

use proptest::prelude::*;

use super::samples::{PLANTED, S3, message, s3_of, storage_of};
use super::*;

#[test]
fn what_yaml_reads_as_another_thing_needs_quotes() {
    for bucket in [
        "0123",
        "1e3",
        "1.50",
        "0x10",
        "no",
        "Yes",
        "TRUE",
        ".inf",
        "1_000",
        "+5",
        "99999999999999999999",
    ] {
        let text = S3.replace("bucket: images", &format!("bucket: {bucket}"));
        assert!(message(&text).contains("write it in quotes"), "{bucket}");
        let quoted = S3.replace("bucket: images", &format!("bucket: '{bucket}'"));
        assert_eq!(s3_of(storage_of(&quoted)).bucket, bucket);
    }
    for bucket in [
        "123",
        "true",
        "2001-01-01",
        "1a",
        "0",
        "-5",
        "e3",
        "1.2.3",
        "!!str 0123",
    ] {
        let text = S3.replace("bucket: images", &format!("bucket: {bucket}"));
        assert_eq!(
            s3_of(storage_of(&text)).bucket,
            bucket.trim_start_matches("!!str ")
        );
    }
    assert!(message(&S3.replace("bucket: images", "bucket: !!binary aGk=")).contains("without a YAML tag"));
}

#[test]
fn missing_and_wrong_settings() {
    for (from, to, says) in [
        (
            "bucket: images",
            "bucket: ''",
            "config.yml:4:5: storage.s3.bucket is missing or empty",
        ),
        (
            "bucket: images",
            "bucket: [a]",
            "config.yml:7:13: storage.s3.bucket must be text",
        ),
        (
            "region: us-east-1",
            "regio: us-east-1",
            "storage.s3.region is missing or empty; set it, or regionendpoint",
        ),
        (
            "accesskey: AKIAEXAMPLE",
            "accesskey: ",
            "storage.s3.accesskey is missing or empty",
        ),
        (
            "bucket: images",
            "bucket: b\n    secure: maybe",
            "config.yml:8:13: storage.s3.secure must be true or false",
        ),
        (
            "version: 0.1",
            "version: 0.2",
            "config.yml:1:10: a registry configuration begins with `version: 0.1`",
        ),
        (
            "version: 0.1\n",
            "",
            "config.yml:1:1: a registry configuration begins with `version: 0.1`",
        ),
        (
            "s3:",
            "swift:",
            "the storage driver is swift; hardprune can prune",
        ),
        ("s3:", "delete:", "no storage driver"),
        (
            "s3:",
            "Pl4ntedS3cret:",
            "the storage driver is one that is not known",
        ),
    ] {
        let message = message(&S3.replace(from, to));
        assert!(message.contains(says), "{message}");
        assert!(!message.contains(PLANTED), "{message}");
    }
    assert!(message("version: 0.1\nstorage: [s3]").contains("storage must be a section"));
    let message_of_stray_key = message("version: 0.1\nstorage: {Pl4ntedS3cret: x}");
    assert!(!message_of_stray_key.contains(PLANTED), "{message_of_stray_key}");
    assert!(message("version: 0.1\nstorage: {s3: x}").contains("storage.s3 must be a section"));
    assert!(message("version: 0.1").contains("no storage driver"));
}

#[test]
fn not_a_configuration_at_all() {
    for text in ["", "   \n", "# nothing\n", "just text", "- a\n- b", "{}", "null"] {
        assert!(message(text).contains("begins with `version: 0.1`"), "{text:?}");
    }
    for text in [
        "version: 0.1\n\tstorage: s3",
        "{",
        "a: [1",
        "a: \"b",
        "a: b: c",
        "*x",
        "&a [*a]",
        "%",
        "? [a]\n: b",
    ] {
        assert!(message(text).contains("not valid YAML"), "{text:?}");
    }
    let error = parse(Path::new("c"), b"version: 0.1\n\xff", []).unwrap_err();
    assert_eq!(
        error.to_string(),
        "c:2:1: not UTF-8 text; a registry configuration is YAML"
    );
    let error = parse(Path::new("c"), &vec![b' '; MAX_FILE_BYTES + 1], []).unwrap_err();
    assert!(error.to_string().contains("larger than 1048576 bytes"), "{error}");
}

#[test]
fn bombs_are_bounded() {
    let mut laughs = "a0: &a0 [lol, lol, lol]\n".to_owned();
    for level in 1..30 {
        let previous = format!("*a{}", level - 1);
        laughs += &format!("a{level}: &a{level} [{}]\n", [previous.as_str(); 9].join(", "));
    }
    assert!(message(&laughs).contains("aliases repeat too much"));

    let long = "x".repeat(500_000);
    let repeated = format!("a: &a {long}\nb: [{}]", ["*a"; 1000].join(", "));
    assert!(message(&repeated).contains("aliases repeat too much"));

    let mut chain = format!("a0: &a0 {}{}\n", "[".repeat(40), "]".repeat(40));
    for level in 1..100 {
        chain += &format!(
            "a{level}: &a{level} {}*a{}{}\n",
            "[".repeat(40),
            level - 1,
            "]".repeat(40)
        );
    }
    assert!(message(&chain).contains("nested more than 64 levels deep"));
    let deep = "[".repeat(100_000);
    assert!(message(&deep).starts_with("config.yml:1:"));
    let keys: String = (0..100_000).map(|n| format!("k{n}: \n")).collect();
    assert!(message(&keys).contains("version"));
}

#[test]
fn reads_files() {
    let absent = read(Path::new("/nonexistent/config.yml"), []).unwrap_err();
    assert!(
        absent
            .to_string()
            .starts_with("cannot read the registry configuration /nonexistent/config.yml: ")
    );
    assert!(matches!(
        read(Path::new("/"), []).unwrap_err(),
        RegistryConfigError::Unreadable { .. }
    ));
}

/// `text` with some bytes changed, removed or put in.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let base = prop_oneof![
        Just(S3),
        Just("version: 0.1\nstorage: {s3: {secretkey: Pl4ntedS3cret, bucket: b, region: r}}\n")
    ];
    let edit = (
        any::<prop::sample::Index>(),
        0..3_usize,
        "[\\[\\]{}:,&*!|>'\"%@`\n\t #a-]{0,3}",
    );
    (base, prop::collection::vec(edit, 1..6)).prop_map(|(base, edits)| {
        let mut bytes = base.as_bytes().to_vec();
        for (at, removed, inserted) in edits {
            let at = at.index(bytes.len());
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, inserted.into_bytes());
            if bytes.is_empty() {
                break;
            }
        }
        bytes
    })
}

fn assert_silent(bytes: &[u8], variables: &[(OsString, OsString)]) {
    if let Err(error) = parse(Path::new("config.yml"), bytes, variables.iter().cloned()) {
        // Also of its parts: an edit may have cut it.
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains("Pl4nted") && !shown.contains("S3cret"), "{shown}");
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = parse(Path::new("config.yml"), &bytes, []);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "(version: 0.1\n)?([a-z&*!<\\[\\]{}:,'\"|>#? \n-]|storage|s3|<<){0,60}") {
        let _ = parse(Path::new("config.yml"), text.as_bytes(), []);
    }

    #[test]
    fn no_edit_makes_an_error_show_a_secret(bytes in mutated()) {
        assert_silent(&bytes, &[]);
    }

    #[test]
    fn no_variable_makes_an_error_show_a_secret(
        name in "REGISTRY_(STORAGE|AUTH|REDIS|PROXY|DATABASE)(_(S3|SECRETKEY|BUCKET|CACHE|MAINTENANCE|READONLY|ADDR|TOKEN)){0,3}",
        before in "[\\[\\]{}:,&*!|>'\"%@` a-]{0,4}",
        after in "[\\[\\]{}:,&*!|>'\"%@` a-]{0,4}",
    ) {
        assert_silent(S3.as_bytes(), &[(name.into(), format!("{before}{PLANTED}{after}").into())]);
    }
}
