//! What people do from one end to the other, offline, with the commands as they type them.

use crate::sandbox::{Run, Sandbox, finish};

const POLICY: &str = "\
version: 1
recipients:
  prod: {file: .bulla/prod.pub}
  dr: {file: .bulla/dr.pub}
  recovery: {file: .bulla/recovery.pub, always: true}
rules:
  - path: apps/*/prod/**
    recipients: [prod, dr]
  - path: apps/*/live/**
    recipients: [prod, dr]
";
const FILE: &str = "apps/shop/prod/db.sealed.yaml";

/// A clone of a repository that has a policy, without a kubeconfig.
pub fn clone() -> Sandbox {
    let sandbox = Sandbox::empty();
    for folder in [".bulla", "apps/shop/prod", "apps/shop/dev"] {
        std::fs::create_dir_all(sandbox.path(folder)).expect("a folder");
    }
    for name in ["prod", "dr", "recovery"] {
        let (identity, public) = (format!("{name}.txt"), format!(".bulla/{name}.pub"));
        sandbox.run(&["keygen", "-w", &identity, "--recipient", &public]).well();
    }
    sandbox.write(".bulla.yaml", POLICY);
    sandbox.write(".gitignore", "*.txt\nhome/\n");
    sandbox.git(&["init", "-q", "-b", "main"]);
    sandbox.run(&["git", "setup"]).well();
    commit(&sandbox, "policy");
    sandbox
}

fn commit(sandbox: &Sandbox, message: &str) {
    sandbox.git(&["add", "."]);
    sandbox.git(&["commit", "-qm", message]);
}

fn git(sandbox: &Sandbox, args: &[&str]) -> Run {
    let mut command = sandbox.command("git");
    command.args(args);
    finish(command, b"").well()
}

fn set(sandbox: &Sandbox, key: &str, value: &str) -> Run {
    sandbox.with_input(&["set", FILE, key, "-n", "shop"], value).well()
}

fn value(sandbox: &Sandbox, file: &str, key: &str, identity: &str) -> String {
    sandbox.run(&["unseal", file, "--key", key, "-i", identity]).well().text()
}

#[test]
fn first_use_on_a_laptop_and_one_more_password() {
    let sandbox = clone();
    let run = set(&sandbox, "password", "hunter2");
    assert_eq!(run.err, format!("created {FILE}: SealedSecret shop/db, 1 item, for prod, dr, recovery\n"));
    commit(&sandbox, "db credentials");
    let run = set(&sandbox, "api-token", "tok-123456\n");
    assert_eq!(
        run.err,
        "set api-token in shop/db (10 bytes; a trailing newline was dropped), for prod, dr, recovery\n"
    );
    for identity in ["prod.txt", "dr.txt", "recovery.txt"] {
        assert_eq!(value(&sandbox, FILE, "api-token", identity), "tok-123456");
    }
    // A person reads the diff by items, and nothing but the new one is in it.
    let text = finish_diff(&sandbox);
    let added: Vec<_> = text.lines().filter(|line| line.starts_with('+') && !line.starts_with("+++")).collect();
    assert!(!added.is_empty() && added.iter().all(|line| line.contains("api-token")), "{text}");
    assert!(!text.lines().any(|line| line.starts_with('-') && !line.starts_with("---")), "{text}");
    // In ciphertext as well: lines are added, none goes.
    let stat = git(&sandbox, &["diff", "--numstat", "--no-textconv"]).text();
    let numbers: Vec<&str> = stat.split_whitespace().collect();
    assert!(numbers.first().is_some_and(|added| *added != "0") && numbers.get(1) == Some(&"0"), "{stat}");
}

fn finish_diff(sandbox: &Sandbox) -> String {
    // The driver's program is the one under test: setup wrote its path.
    git(sandbox, &["diff"]).text()
}

#[test]
fn a_file_that_moved_is_bound_anew_by_somebody_with_an_identity() {
    let sandbox = clone();
    set(&sandbox, "password", "hunter2");
    set(&sandbox, "username", "admin");
    commit(&sandbox, "db");
    git(&sandbox, &["mv", "apps/shop/prod", "apps/shop/live"]);
    let file = "apps/shop/live/db.sealed.yaml";
    sandbox.write(file, sandbox.read(file).replace("namespace: shop", "namespace: live"));
    let moved = sandbox.run(&["move", file, "--from", "shop/db", "-i", "recovery.txt"]).well();
    assert_eq!(moved.err, "re-bound 2 items of db from shop to live, for prod, dr, recovery\n");
    assert_eq!(value(&sandbox, file, "password", "prod.txt"), "hunter2");
}

#[test]
fn a_review_tells_what_changed() {
    let sandbox = clone();
    set(&sandbox, "password", "hunter2");
    commit(&sandbox, "db");
    git(&sandbox, &["checkout", "-qb", "change"]);
    set(&sandbox, "password", "hunter3");
    commit(&sandbox, "another password");
    let run = sandbox.run(&["diff", "main..."]).well();
    let text = run.text();
    assert!(text.contains(FILE) && text.contains("shop/db") && text.contains("password"), "{text}");
    assert!(!text.contains("hunter"), "{text}");
    let gate = sandbox.run(&["diff", "main...", "--only", "reseal"]);
    assert_eq!(gate.code, 10, "{}", gate.err);
}

#[test]
fn values_for_local_development() {
    let sandbox = clone();
    sandbox.run(&["keygen"]).well();
    let public = "home/.config/bulla/identity.txt.pub";
    sandbox.run(&["recipients", "add", "alice", public, "--rule", "apps/*/dev/**"]).well();
    let file = "apps/shop/dev/db.sealed.yaml";
    let run = sandbox.with_input(&["set", file, "password", "-n", "shop-dev"], "for-dev").well();
    assert!(run.err.ends_with("for alice, recovery\n"), "{}", run.err);
    let run = sandbox.run(&["exec", file, "--", "sh", "-c", "printf %s \"$password\""]).well();
    assert_eq!(run.text(), "for-dev");
    assert_eq!(sandbox.run(&["unseal", file, "--key", "password"]).well().text(), "for-dev");
    // What runs in production stays closed to her.
    set(&sandbox, "password", "hunter2");
    assert_eq!(sandbox.run(&["unseal", FILE]).code, 1);
}
