//! Who may use NATS, and who it is: certificates, credentials, and the texts of those that are refused, which never show a
//! secret.

#[path = "security/certificates.rs"]
mod certificates;
#[path = "security/operator.rs"]
mod operator;

use std::net::TcpListener;
use std::path::Path;

use hardprune_tests::fleet::Fleet;
use hardprune_tests::generate::Shape;
use hardprune_tests::nats_server::NatsOptions;
use hardprune_tests::scene::{Scene, fast_folder, report_of};
use tempfile::TempDir;

use certificates::Authority;
use operator::Operator;

const USER: &str = "authorization { user: me, password: \"hunter2-is-secret\" }\n";
const PASSWORD: &str = "hunter2-is-secret";
const TOKEN: &str = "t0ken-is-secret";

fn scene() -> Scene {
    Scene::on_folder(&Shape::small(41)).unwrap()
}

fn fleet(scene: Scene, configuration: &str) -> Fleet {
    let options = NatsOptions {
        configuration: configuration.to_owned(),
        ..NatsOptions::default()
    };
    Fleet::with(scene, &options).unwrap()
}

/// A file of this text, with the line's end that editors leave.
fn file(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, format!("{text}\n")).unwrap();
    text_of(&path)
}

fn text_of(path: &Path) -> String {
    path.display().to_string()
}

/// A run and its worker reach NATS so; none of the secrets is shown by any of them.
fn prunes(fleet: &Fleet, url: &str, credentials: &[&str], secrets: &[&str]) {
    let mut worker = fleet
        .worker_with(url, "", &[credentials, &["-v"]].concat())
        .unwrap();
    let options = fleet.options(url, credentials);
    let arguments = fleet.scene.delete(&[options.as_slice(), &["-vv"]].concat());
    let finished = fleet.scene.program.run(&arguments).unwrap();
    let report = report_of(&finished, 0).unwrap();
    fleet.check_finished(&report).unwrap();
    worker.signal("TERM").unwrap();
    assert_eq!(worker.wait().unwrap(), 0);
    for text in [&finished.stdout, &finished.stderr, &worker.log()] {
        check_hides(text, secrets);
    }
    for kept in fleet.scene.state_files("").unwrap() {
        check_hides(&String::from_utf8_lossy(&std::fs::read(kept).unwrap()), secrets);
    }
}

/// Coordinator, worker and `runs` are refused with exit status 2, say all of this, and show no secret.
fn are_refused(fleet: &Fleet, url: &str, credentials: &[&str], say: &[&str], secrets: &[&str]) {
    let before = fleet.scene.inventory().unwrap();
    let options = fleet.options(url, credentials);
    let delete = fleet.scene.delete(&options);
    let runs = [&["runs", "list", "--nats", url], credentials].concat();
    let mut worker = fleet.worker_with(url, "", credentials).unwrap();
    let mut texts = vec![(worker.wait().unwrap(), worker.log())];
    for arguments in [delete, runs] {
        let finished = fleet.scene.program.run(&arguments).unwrap();
        assert_eq!(finished.stdout, "");
        texts.push((finished.status, finished.stderr));
    }
    for (status, text) in texts {
        assert_eq!(status, 2, "{text}");
        for words in say {
            assert!(text.contains(words), "no {words:?} in {text}");
        }
        check_hides(&text, secrets);
    }
    assert_eq!(fleet.scene.inventory().unwrap(), before);
}

fn check_hides(text: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!text.contains(secret), "it shows a secret: {text}");
    }
}

#[test]
fn a_user_with_a_password_in_a_file() {
    let fleet = fleet(scene(), USER);
    let folder = fast_folder().unwrap();
    let password = file(&folder, "password", PASSWORD);
    let credentials = ["--nats-user", "me", "--nats-password-file", &password];
    prunes(&fleet, &fleet.nats.url(), &credentials, &[PASSWORD]);
}

#[test]
fn a_user_with_a_password_in_the_environment() {
    let scene = scene()
        .with("HARDPRUNE_NATS_PASSWORD", PASSWORD)
        .with("HARDPRUNE_NATS_USER", "me");
    let fleet = fleet(scene, USER);
    prunes(&fleet, &fleet.nats.url(), &[], &[PASSWORD]);
}

#[test]
fn a_user_and_a_password_in_the_address() {
    let fleet = fleet(scene(), USER);
    let url = format!("nats://me:{PASSWORD}@{}", fleet.nats.address());
    prunes(&fleet, &url, &[], &[PASSWORD]);
}

#[test]
fn a_token_in_a_file_in_the_environment_and_in_the_address() {
    let configuration = format!("authorization {{ token: \"{TOKEN}\" }}\n");
    let folder = fast_folder().unwrap();
    let token = file(&folder, "token", TOKEN);
    let by_file = fleet(scene(), &configuration);
    prunes(
        &by_file,
        &by_file.nats.url(),
        &["--nats-token-file", &token],
        &[TOKEN],
    );
    let by_environment = fleet(scene().with("HARDPRUNE_NATS_TOKEN", TOKEN), &configuration);
    prunes(&by_environment, &by_environment.nats.url(), &[], &[TOKEN]);
    let by_address = fleet(scene(), &configuration);
    let url = format!("nats://{TOKEN}@{}", by_address.nats.address());
    prunes(&by_address, &url, &[], &[TOKEN]);
}

#[test]
fn an_nkey_in_a_file() {
    let key = nkeys::KeyPair::new_user();
    let configuration = format!(
        "authorization {{ users = [ {{ nkey: {} }} ] }}\n",
        key.public_key()
    );
    let fleet = fleet(scene(), &configuration);
    let folder = fast_folder().unwrap();
    let seed = key.seed().unwrap();
    let nkey = file(&folder, "nkey", &seed);
    prunes(&fleet, &fleet.nats.url(), &["--nats-nkey", &nkey], &[&seed]);
}

#[test]
fn a_file_of_credentials() {
    let folder = fast_folder().unwrap();
    let operator = Operator::new(folder.path()).unwrap();
    let fleet = fleet(scene(), &operator.configuration);
    let credentials = file(&folder, "worker.creds", &operator.credentials);
    let url = fleet.nats.url();
    prunes(&fleet, &url, &["--nats-creds", &credentials], &[&operator.seed]);
    are_refused(&fleet, &url, &[], &["--nats-creds"], &[]);
}

#[test]
fn wrong_credentials_are_refused_and_not_shown() {
    let fleet = fleet(scene(), USER);
    let folder = fast_folder().unwrap();
    let password = file(&folder, "password", "wr0ng-but-secret");
    let token = file(&folder, "token", "wr0ng-but-secret");
    let other_nkey = nkeys::KeyPair::new_user().seed().unwrap();
    let nkey = file(&folder, "nkey", &other_nkey);
    let (plain, no_nkey) = (fleet.nats.url(), file(&folder, "no-nkey", "wr0ng-but-secret"));
    let in_address = format!("nats://me:wr0ng-but-secret@{}", fleet.nats.address());
    let secrets = ["wr0ng-but-secret", &other_nkey, PASSWORD];
    for (url, credentials) in [
        (
            &plain,
            vec!["--nats-user", "me", "--nats-password-file", &password],
        ),
        (&plain, vec!["--nats-token-file", &token]),
        (&plain, vec!["--nats-nkey", &nkey]),
        (&plain, vec!["--nats-nkey", &no_nkey]),
        (&plain, vec![]),
        (&in_address, vec![]),
    ] {
        let say = ["--nats-user", "--nats-token-file", "--nats-creds", "--nats-nkey"];
        are_refused(&fleet, url, &credentials, &say, &secrets);
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let fleet = fleet(scene(), "");
    let folder = fast_folder().unwrap();
    let garbage = file(&folder, "garbage", "s3cret-garbage");
    let missing = text_of(&folder.path().join("missing"));
    let url = fleet.nats.url();
    let secrets = ["s3cret-garbage"];
    are_refused(
        &fleet,
        &url,
        &["--nats-creds", &garbage],
        &[&garbage, "JWT"],
        &secrets,
    );
    for option in ["--nats-creds", "--nats-nkey", "--nats-token-file", "--nats-ca"] {
        are_refused(
            &fleet,
            &url,
            &[option, &missing],
            &[&missing, "No such file"],
            &secrets,
        );
    }
    are_refused(
        &fleet,
        &url,
        &["--nats-user", "me"],
        &["--nats-password-file", "HARDPRUNE_NATS_PASSWORD"],
        &secrets,
    );
}

#[test]
fn a_command_that_is_proposed_holds_no_password() {
    let fleet = fleet(Scene::on_s3(&Shape::small(42), Default::default()).unwrap(), USER);
    let url = format!("nats://me:{PASSWORD}@{}", fleet.nats.address());
    let _worker = fleet.worker_with(&url, "", &[]).unwrap();
    let state = text_of(fleet.scene.state());
    let storage = &fleet.scene.store_names()[0];
    let joined = format!("--nats={url}");
    for nats in [vec!["--nats", url.as_str()], vec![joined.as_str()]] {
        let arguments = [&["check", storage, "--state", &state], nats.as_slice()].concat();
        let finished = fleet.scene.program.run(&arguments).unwrap();
        assert_eq!(finished.status, 0, "{}", finished.stderr);
        assert!(
            finished.stdout.contains("hardprune delete"),
            "{}",
            finished.stdout
        );
        assert!(
            finished.stdout.contains(&fleet.nats.address().to_string()),
            "{}",
            finished.stdout
        );
        check_hides(&finished.stdout, &[PASSWORD]);
        check_hides(&finished.stderr, &[PASSWORD]);
    }
}

/// The server's part of a configuration with TLS.
fn tls(authority: &Authority, verify: bool) -> String {
    let (certificate, key) = authority.sign("server").unwrap();
    format!(
        "tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {:?}, verify: {verify}, timeout: 10 }}\n",
        authority.certificate()
    )
}

#[test]
fn a_server_is_known_by_its_authority() {
    let folder = fast_folder().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let other = text_of(&Authority::new(folder.path(), "other").unwrap().certificate());
    let fleet = fleet(scene(), &tls(&authority, false));
    let ca = text_of(&authority.certificate());
    let url = format!("tls://{}", fleet.nats.address());
    are_refused(
        &fleet,
        &url,
        &["--nats-ca", &other],
        &["--nats-ca", "certificate"],
        &[],
    );
    are_refused(&fleet, &url, &[], &["--nats-ca", "certificate"], &[]);
    prunes(&fleet, &url, &["--nats-ca", &ca], &[]);
}

#[test]
fn a_server_that_asks_for_certificates_gets_them() {
    let folder = fast_folder().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let fleet = fleet(scene(), &tls(&authority, true));
    let ca = text_of(&authority.certificate());
    let (certificate, key) = authority.sign("client").unwrap();
    let (certificate, key) = (text_of(&certificate), text_of(&key));
    let foreign = Authority::new(folder.path(), "other")
        .unwrap()
        .sign("foreign")
        .unwrap();
    let foreign = (text_of(&foreign.0), text_of(&foreign.1));
    let url = format!("tls://{}", fleet.nats.address());
    let say = ["--nats-cert", "--nats-key"];
    are_refused(&fleet, &url, &["--nats-ca", &ca], &say, &[]);
    let credentials = [
        "--nats-ca",
        &ca,
        "--nats-cert",
        &foreign.0,
        "--nats-key",
        &foreign.1,
    ];
    are_refused(&fleet, &url, &credentials, &say, &[]);
    let credentials = ["--nats-ca", &ca, "--nats-cert", &certificate, "--nats-key", &key];
    prunes(&fleet, &url, &credentials, &[]);
}

#[test]
fn a_server_without_tls_is_not_the_one_that_was_meant() {
    let folder = fast_folder().unwrap();
    let ca = text_of(&Authority::new(folder.path(), "ca").unwrap().certificate());
    let fleet = fleet(scene(), "");
    for url in [fleet.nats.url(), format!("tls://{}", fleet.nats.address())] {
        are_refused(&fleet, &url, &["--nats-ca", &ca], &["--nats-ca"], &[]);
    }
}

#[test]
fn a_server_that_is_not_there_or_says_nothing_or_is_none() {
    let fleet = fleet(scene(), "");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), closed] {
        let say = [&*address.to_string(), "is a nats-server listening there?"];
        are_refused(&fleet, &format!("nats://{address}"), &[], &say, &[]);
    }
    are_refused(
        &fleet,
        "nats://no-such-host.invalid:4222",
        &[],
        &["no-such-host.invalid", "check the address"],
        &[],
    );
    are_refused(
        &fleet,
        "nats://me:hunter2@[:4222",
        &[],
        &["nats://host:4222"],
        &["hunter2"],
    );
}
