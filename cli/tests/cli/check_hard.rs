//! `bulla check` on input that is large, hostile or in motion, and in repositories of all kinds.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::sandbox::{CONFIG, DB, Sandbox};

/// Rule, file and line of each finding, and what was said.
fn found(sandbox: &Sandbox, dir: &str, args: &[&str]) -> (Vec<(String, String, u64)>, String) {
    let mut command = sandbox.bulla(&[&["check", "-o", "json"], args].concat());
    command.current_dir(sandbox.path(dir));
    let run = crate::sandbox::finish(command, b"");
    let value: Value = serde_json::from_slice(&run.out).unwrap_or_else(|_| panic!("{}", run.err));
    let findings = value["findings"].as_array().expect("findings").iter();
    let text = |f: &Value, key: &str| f[key].as_str().unwrap_or_default().to_owned();
    let all: Vec<_> =
        findings.map(|f| (text(f, "rule"), text(f, "file"), f["line"].as_u64().unwrap_or_default())).collect();
    assert_eq!(run.code, if all.is_empty() { 0 } else { 10 }, "{}", run.err);
    (all, run.err)
}

fn one(rule: &str, file: &str, line: u64) -> Vec<(String, String, u64)> {
    vec![(rule.into(), file.into(), line)]
}

const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEII5f3xFm2ye+jjh5JHpb4i+fohhdVn+LMPcOiKhrWgi3oAoGCCqGSM49\n-----END EC PRIVATE KEY-----\n";

#[test]
fn a_file_of_gigabytes_is_read_to_its_end_in_little_memory() {
    let sandbox = Sandbox::empty();
    let mut file = std::fs::File::create(sandbox.path("dump.txt")).expect("creates");
    // Text at its begin, a hole that takes no room on the disk, and a key at the end.
    file.write_all("a line of text\n".repeat(1000).as_bytes()).expect("writes");
    file.seek(SeekFrom::Start(1 << 29)).expect("seeks");
    file.write_all(format!("\n{KEY}").as_bytes()).expect("writes");
    drop(file);
    let (findings, _) = found(&sandbox, ".", &[]);
    assert_eq!(findings, one("BUL007", "dump.txt", 1002));
}

#[test]
fn very_many_findings_in_one_file_have_their_places() {
    const COUNT: usize = 20_000;
    let sandbox = Sandbox::empty();
    sandbox.write(".env", (0..COUNT).map(|n| format!("A{n}_PASSWORD=x{n}-secret-Y\n")).collect::<String>());
    let (findings, _) = found(&sandbox, ".", &[".env"]);
    assert_eq!(findings.len(), COUNT);
    assert!(findings.iter().enumerate().all(|(n, f)| f.2 == n as u64 + 1));
    // All on one line.
    let items: Vec<String> = (0..COUNT / 10)
        .map(|n| {
            format!("{{\"kind\":\"Secret\",\"metadata\":{{\"name\":\"s{n}\"}},\"stringData\":{{\"p\":\"hunter{n}\"}}}}")
        })
        .collect();
    let list = format!("{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[{}]}}", items.join(","));
    sandbox.write("list.json", &list);
    let run = sandbox.run(&["check", "-o", "json", "list.json"]);
    let value: Value = serde_json::from_slice(&run.out).expect("JSON");
    let findings = value["findings"].as_array().expect("findings");
    assert_eq!(findings.len(), COUNT / 10);
    let column = findings.last().expect("one")["column"].as_u64().expect("a column") as usize;
    assert!(list[column - 1..].starts_with("\"p\""));
}

#[test]
fn files_that_come_and_go_during_the_walk_are_no_error() {
    let sandbox = Sandbox::empty();
    for folder in 0..20 {
        std::fs::create_dir(sandbox.path(&format!("d{folder}"))).expect("makes");
        sandbox.write(&format!("d{folder}/config.yaml"), CONFIG);
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                round += 1;
                for folder in 0..20 {
                    let path = sandbox.path(&format!("d{folder}/come-{}.yaml", round % 3));
                    // They may be there, or not: that is the point.
                    _ = std::fs::write(&path, CONFIG);
                    _ = std::fs::remove_file(sandbox.path(&format!("d{folder}/come-{}.yaml", (round + 1) % 3)));
                    let whole = sandbox.path(&format!("d{folder}/folder"));
                    _ = std::fs::create_dir(&whole);
                    _ = std::fs::write(whole.join("a.yaml"), CONFIG);
                    _ = std::fs::remove_dir_all(&whole);
                }
            }
        });
        for _ in 0..30 {
            let run = sandbox.run(&["check"]);
            assert_eq!(run.code, 0, "{}{}", run.text(), run.err);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn worktrees_and_submodules() {
    let sandbox = Sandbox::empty();
    sandbox.git(&["init", "-q", "-b", "main", "repo"]);
    sandbox.write("repo/db.yaml", DB);
    sandbox.git(&["-C", "repo", "add", "-A"]);
    sandbox.git(&["-C", "repo", "commit", "-qm", "1"]);
    sandbox.git(&["-C", "repo", "worktree", "add", "-q", "-b", "other", "inside"]);
    // Below the repository lies a checkout of its own: it is not looked at twice, and that is said.
    let (findings, said) = found(&sandbox, "repo", &[]);
    assert_eq!(findings, one("BUL001", "db.yaml", 7));
    assert!(said.contains("repositories of their own: inside"), "{said}");
    // Within it, everything goes as in any other.
    assert_eq!(found(&sandbox, "repo/inside", &[]).0, one("BUL001", "db.yaml", 7));
    assert_eq!(found(&sandbox, "repo/inside", &["--staged"]).0, []);
    sandbox.write("repo/inside/new.yaml", DB);
    sandbox.git(&["-C", "repo/inside", "add", "-A"]);
    assert_eq!(found(&sandbox, "repo/inside", &["--staged"]).0, one("BUL001", "new.yaml", 7));
    assert_eq!(found(&sandbox, "repo", &["--staged"]).0, []);
    assert_eq!(found(&sandbox, "repo/inside", &["--history"]).0, one("BUL001", "db.yaml", 7));

    sandbox.git(&["init", "-q", "-b", "main", "outer"]);
    sandbox.git(&["-C", "outer", "-c", "protocol.file.allow=always", "submodule", "add", "-q", "../repo", "sub"]);
    assert_eq!(found(&sandbox, "outer", &["--staged"]).0, []);
    let (findings, said) = found(&sandbox, "outer", &[]);
    assert_eq!(findings, []);
    assert!(said.contains("repositories of their own: sub"), "{said}");
    sandbox.git(&["-C", "outer", "commit", "-qm", "1"]);
    assert_eq!(found(&sandbox, "outer", &["--history"]).0, []);
}

const POLICY: &str = "version: 1\nrecipients:\n  prod: {file: .bulla/prod.pub}\nrules:\n  - {path: \"**\", recipients: [prod]}\ncheck:\n  exclude: [vendor/**]\n  baseline: base.json\n";

#[test]
fn what_is_staged_is_judged_by_the_policy_that_is_staged() {
    let sandbox = Sandbox::new();
    let recipient = sandbox.read("key.txt.pub");
    std::fs::remove_file(sandbox.path("key.txt")).expect("removes");
    sandbox.git(&["init", "-q"]);
    sandbox.write(".gitignore", "home\n*.pub\n!.bulla/*.pub\n");
    for folder in ["vendor", ".bulla"] {
        std::fs::create_dir(sandbox.path(folder)).expect("makes");
    }
    sandbox.write("vendor/db.yaml", DB);
    sandbox.write(".bulla.yaml", POLICY);
    sandbox.write(".bulla/prod.pub", &recipient);
    sandbox.git(&["add", "-A"]);
    assert_eq!(found(&sandbox, ".", &["--staged"]).0, []);
    // The working tree's policy does not count, neither where it lets more pass …
    sandbox.git(&["reset", "-q"]);
    sandbox.write("db.yaml", DB);
    sandbox.write(".bulla.yaml", POLICY.replace("vendor/**", "\"**\""));
    sandbox.git(&["add", "db.yaml", ".bulla/prod.pub"]);
    assert_eq!(found(&sandbox, ".", &["--staged"]).0, one("BUL001", "db.yaml", 7));
    // … nor where it is broken.
    sandbox.write(".bulla.yaml", POLICY);
    sandbox.git(&["add", ".bulla.yaml"]);
    sandbox.write(".bulla.yaml", "version: 7\n");
    assert_eq!(found(&sandbox, ".", &["--staged"]).0, one("BUL001", "db.yaml", 7));
    sandbox.git(&["add", ".bulla.yaml"]);
    let (findings, _) = found(&sandbox, ".", &["--staged"]);
    assert!(findings.iter().any(|f| f.0 == "BUL110"), "{findings:?}");

    // So with what the policy names: the pin and the baseline are those of the index.
    sandbox.write(".bulla.yaml", POLICY);
    sandbox.run(&["check", "--baseline-write", "base.json"]).well();
    sandbox.git(&["add", ".bulla.yaml"]);
    assert_eq!(found(&sandbox, ".", &["--staged"]).0, one("BUL001", "db.yaml", 7));
    sandbox.git(&["add", "base.json"]);
    assert_eq!(found(&sandbox, ".", &["--staged"]).0, []);
    sandbox.write("plain.yaml", DB.replace("name: db", "name: api"));
    sandbox.run(&["seal", "plain.yaml", "-r", "prod", "-w", "api.sealed.yaml"]).well();
    sandbox.git(&["add", "api.sealed.yaml"]);
    assert_eq!(found(&sandbox, ".", &["--staged"]).0, []);
    sandbox.git(&["rm", "-q", "--cached", ".bulla/prod.pub"]);
    let (findings, _) = found(&sandbox, ".", &["--staged"]);
    assert_eq!(findings.iter().map(|f| f.0.as_str()).collect::<Vec<_>>(), ["BUL110"]);
}

#[test]
fn an_index_without_a_policy_has_none() {
    let sandbox = Sandbox::empty();
    sandbox.git(&["init", "-q"]);
    sandbox.write("db.yaml", DB);
    sandbox.git(&["add", "-A"]);
    sandbox.write(".bulla.yaml", "version: 1\ncheck:\n  exclude: [\"**\"]\n");
    assert_eq!(found(&sandbox, ".", &["--staged"]).0, one("BUL001", "db.yaml", 7));
}

/// Letters and digits that look random; put together here so that no file of this repository has the shape of a token.
fn body(length: usize) -> String {
    const LETTERS: &[u8] = b"k7QwZ2mX9rTb4LsVd8HnYc3GfJp6KuAe5";
    (0..length).map(|at| LETTERS[(at * 7 + at / 5) % LETTERS.len()] as char).collect()
}

#[test]
fn tokens_of_known_services_are_known_by_their_form() {
    let sandbox = Sandbox::empty();
    let found_in = |name: &str, text: &str| {
        sandbox.write(name, text);
        let (findings, _) = found(&sandbox, ".", &[name]);
        let shown = sandbox.run(&["check", name]);
        assert!(!shown.text().contains(&text[text.len() / 2..]) || findings.is_empty(), "{}", shown.text());
        findings.into_iter().map(|f| f.0).collect::<Vec<_>>()
    };
    for (begin, length) in
        [("gh!p_", 36), ("gl!pat-", 20), ("xo!xb-", 40), ("sk!_live_", 24), ("np!m_", 36), ("hv!s.", 40), ("AI!za", 35)]
    {
        let begin = begin.replace('!', "");
        assert_eq!(found_in("main.go", &format!("x := \"{begin}{}\"\n", body(length))), ["BUL018"], "{begin}");
        assert_eq!(found_in("deploy.yaml", &format!("a: {begin}{}\n", body(length))), ["BUL018"], "{begin}");
        for quiet in ["x".repeat(length), "a".repeat(length), body(5), format!("{}...", body(8))] {
            assert_eq!(found_in("main.go", &format!("x := \"{begin}{quiet}\"\n")), [""; 0], "{begin}{quiet}");
        }
        assert_eq!(found_in("main.go", &format!("x := \"z{begin}{}\"\n", body(length))), [""; 0], "{begin}");
    }
    // An id of AWS is none by itself.
    let id = format!("AK{}", "IAQ3EGZ7NBT5XK2WVHPD".get(0..18).expect("there"));
    assert_eq!(found_in("a.txt", &format!("{id}\n")), [""; 0]);
    assert_eq!(found_in("a.txt", &format!("{id}\n{}\n", body(40))), ["BUL018"]);
}

#[test]
fn keys_in_other_encodings_are_found() {
    use base64::Engine as _;
    let sandbox = Sandbox::empty();
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    sandbox.write(
        "values.yaml",
        format!("tls:\n  crt: {}\n  key: {}\n", encode(&KEY.replace("EC PRIVATE KEY", "CERTIFICATE")), encode(KEY)),
    );
    assert_eq!(found(&sandbox, ".", &["values.yaml"]).0, one("BUL007", "values.yaml", 3));
    // A key store of Java: one entry, a private key; and one that only trusts.
    let store =
        |tag: u8| [&[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, tag, 0, 1, b'a'][..], &[0; 64]].concat();
    sandbox.write("server.jks", store(1));
    sandbox.write("trust.jks", store(2));
    assert_eq!(found(&sandbox, ".", &["server.jks", "trust.jks"]).0, one("BUL007", "server.jks", 1));
    let map = |tag| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\nbinaryData:\n  store.jks: {}\n",
            base64::engine::general_purpose::STANDARD.encode(store(tag))
        )
    };
    sandbox.write("key.yaml", map(1));
    sandbox.write("trust.yaml", map(2));
    assert_eq!(found(&sandbox, ".", &["key.yaml", "trust.yaml"]).0, one("BUL007", "key.yaml", 5));
}
