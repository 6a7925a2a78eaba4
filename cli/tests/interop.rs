//! What Bulla seals is opened by programs that share none of its code, and the other way round: the reader in Go, which
//! is a page over `filippo.io/age`, the one in Python, and age itself.

#![allow(clippy::expect_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The Go program, which `cargo xtask test` builds. Without it these tests are skipped, in CI they fail.
fn oracles() -> Option<PathBuf> {
    let found = std::env::var_os("BULLA_ORACLES").map(PathBuf::from);
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "BULLA_ORACLES does not name the program of tests/oracles");
        eprintln!("skipped: BULLA_ORACLES does not name the program of tests/oracles (cargo xtask test builds it)");
    }
    found
}

fn run(command: &mut Command, dir: &Path, input: &[u8]) -> Vec<u8> {
    let mut child = command
        .current_dir(dir)
        .env_remove("KUBECONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("stdin");
    let input = input.to_vec();
    // A program may end without having read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("ends");
    writer.join().expect("written");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn bulla(args: &[&str], dir: &Path, input: &[u8]) -> Vec<u8> {
    run(Command::new(env!("CARGO_BIN_EXE_bulla")).args(args), dir, input)
}

/// Values of all lengths around the padding's edges, and some that are not text.
fn values() -> BTreeMap<String, String> {
    let mut values = BTreeMap::from([
        ("empty".to_owned(), vec![]),
        ("text".to_owned(), "pässwörd\n".as_bytes().to_vec()),
        (".dockerconfigjson".to_owned(), br#"{"auths":{}}"#.to_vec()),
        ("binary".to_owned(), (0..=255).collect()),
    ]);
    for length in [1, 59, 60, 61, 68, 69, 1000, 5000] {
        values.insert(format!("len-{length}"), vec![b'x'; length]);
    }
    values.into_iter().map(|(key, value)| (key, STANDARD.encode(value))).collect()
}

/// A Secret manifest of [`values`].
fn secret() -> Vec<u8> {
    let metadata = json!({"name": "db", "namespace": "shop"});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": values()});
    serde_json::to_vec(&secret).expect("JSON")
}

fn parse<T: serde::de::DeserializeOwned>(text: &[u8]) -> T {
    serde_json::from_slice(text).expect("JSON")
}

const SCOPES: [&str; 3] = ["strict", "namespace-wide", "cluster-wide"];
const KINDS: [(&str, &[&str]); 2] = [("hybrid", &[]), ("classical", &["--classical"])];

#[test]
fn the_reader_in_go_opens_what_bulla_sealed() {
    let Some(oracles) = oracles() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    for (kind, flag) in KINDS {
        bulla(&[&["keygen", "-w", kind], flag].concat(), dir, b"");
        let recipient = format!("{kind}.pub");
        for scope in SCOPES {
            let sealed = bulla(&["seal", "-R", &recipient, "--scope", scope, "-o", "json"], dir, &secret());
            let opened: BTreeMap<String, String> =
                parse(&run(Command::new(&oracles).args(["open", kind]), dir, &sealed));
            assert_eq!(opened, values(), "{kind}, {scope}");
        }
    }
}

#[test]
fn the_reader_in_go_opens_items_that_were_set_alone() {
    let Some(oracles) = oracles() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    bulla(&["keygen", "-w", "key"], dir, b"");
    bulla(&["seal", "-R", "key.pub", "-o", "json", "-w", "db.sealed.json"], dir, &secret());
    bulla(&["set", "db.sealed.json", "text", "-R", "key.pub"], dir, b"another");
    let sealed = fs::read(dir.join("db.sealed.json")).expect("reads");
    let object: Value = parse(&sealed);
    assert!(object["spec"]["items"]["text"]["envelopes"].is_object(), "it brings its own data key");
    let opened: BTreeMap<String, String> = parse(&run(Command::new(&oracles).args(["open", "key"]), dir, &sealed));
    let mut expected = values();
    expected.insert("text".into(), STANDARD.encode("another"));
    assert_eq!(opened, expected);
}

#[test]
fn bulla_opens_what_the_writer_in_go_sealed() {
    let Some(oracles) = oracles() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let plain = serde_json::to_vec(&values()).expect("JSON");
    for (kind, flag) in KINDS {
        bulla(&[&["keygen", "-w", kind], flag].concat(), dir, b"");
        let recipient = format!("{kind}.pub");
        for scope in SCOPES {
            for each in [&["seal"][..], &["seal", "-each"]] {
                let mut writer = Command::new(&oracles);
                writer.args(each).args([&recipient, "shop", "db", scope]);
                let sealed = run(&mut writer, dir, &plain);
                let opened: Value = parse(&bulla(&["unseal", "-", "-i", kind, "-o", "json"], dir, &sealed));
                assert_eq!(opened["data"], json!(values()), "{kind}, {scope}, {each:?}");
            }
        }
    }
}

#[test]
fn the_digest_of_go_is_ours() {
    let Some(oracles) = oracles() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    bulla(&["keygen", "-w", "key"], dir.path(), b"");
    let sealed = bulla(&["seal", "-R", "key.pub", "-o", "json"], dir.path(), &secret());
    let theirs = run(Command::new(&oracles).arg("digest"), dir.path(), &sealed);
    let ours = bulla::digest::content_digest(&parse(&sealed)).expect("a place");
    assert_eq!(String::from_utf8_lossy(&theirs).trim(), ours);
}

#[test]
fn age_opens_our_envelopes_and_its_keys_work_here() {
    let Some(oracles) = oracles() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    for (kind, _) in KINDS {
        // A key that age made, in a file as age writes it.
        let identity = run(Command::new(&oracles).args(["age-keygen", kind]), dir, b"");
        fs::write(dir.join("age.txt"), identity).expect("writes");
        let recipient = run(Command::new(&oracles).args(["age-keygen", "-y", "age.txt"]), dir, b"");
        fs::write(dir.join("age.pub"), recipient).expect("writes");
        let sealed = bulla(&["seal", "-R", "age.pub", "-o", "json"], dir, &secret());
        let opened: Value = parse(&bulla(&["unseal", "-", "-i", "age.txt", "-o", "json"], dir, &sealed));
        assert_eq!(opened["data"], json!(values()));
        let object: Value = parse(&sealed);
        let lines = object["spec"]["envelopes"].as_object().expect("a map");
        let line = lines.values().next().and_then(Value::as_str).expect("a line");
        let age_file = STANDARD.decode(line.rsplit(':').next().expect("base64")).expect("base64");
        let payload = run(Command::new(&oracles).args(["age", "-d", "-i", "age.txt"]), dir, &age_file);
        assert_eq!(payload.len(), 48);
        assert!(payload.starts_with(b"bulla/v1/dek\0\0\0\0"));
    }
}

#[test]
fn the_break_glass_reader_in_python_opens_what_bulla_sealed() {
    let Some(oracles) = oracles() else { return };
    if !Command::new("python3").arg("--version").output().is_ok_and(|found| found.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "python3 is missing");
        eprintln!("skipped: python3 is missing");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    bulla(&["keygen", "-w", "key"], dir, b"");
    for scope in SCOPES {
        let sealed = bulla(&["seal", "-R", "key.pub", "--scope", scope, "-o", "json"], dir, &secret());
        let mut reader = Command::new("python3");
        reader
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tools/bulla-open.py"))
            .arg("key")
            .env("AGE", format!("{} age", oracles.display()))
            .env("AGE_KEYGEN", format!("{} age-keygen", oracles.display()));
        let opened: BTreeMap<String, String> = parse(&run(&mut reader, dir, &sealed));
        assert_eq!(opened, values(), "{scope}");
    }
}
