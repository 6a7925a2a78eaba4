//! What people do from one end to the other, offline, with the commands as they type them.

use crate::sandbox::{CONFIG, DB, Run, Sandbox, finish};

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
    let check = sandbox.run(&["check"]).well();
    assert!(check.err.starts_with("no findings") || check.err.contains("no findings"), "{}", check.err);
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
    let check = sandbox.run(&["check", "apps/shop/live"]);
    assert_eq!(check.code, 10, "{}", check.err);
    let told = check.text();
    for line in ["error[BUL101]: ", "--> apps/shop/live/db.sealed.yaml:8:5\n", "not sealed for live/db"] {
        assert!(told.contains(line), "{told}");
    }
    let moved = sandbox.run(&["move", file, "--from", "shop/db", "-i", "recovery.txt"]).well();
    assert_eq!(moved.err, "re-bound 2 items of db from shop to live, for prod, dr, recovery\n");
    assert_eq!(value(&sandbox, file, "password", "prod.txt"), "hunter2");
    sandbox.run(&["check", "apps/shop/live"]).well();
    // Without an identity: all of them again.
    sandbox.write(file, sandbox.read(file).replace("namespace: live", "namespace: third"));
    assert_eq!(sandbox.run(&["check", "apps/shop/live"]).code, 10);
    for (key, text) in [("v-username", "admin"), ("v-password", "hunter3")] {
        sandbox.write(&format!("{key}.txt"), text);
    }
    let files = ["--from-file", "username=v-username.txt", "--from-file", "password=v-password.txt"];
    sandbox.run(&[&["set", file, "username", "password"][..], &files].concat()).well();
    sandbox.run(&["check", "apps/shop/live"]).well();
    assert_eq!(value(&sandbox, file, "password", "dr.txt"), "hunter3");
}

#[test]
fn a_repository_full_of_plaintext() {
    let sandbox = Sandbox::empty();
    for folder in [".bulla", "apps/shop", "charts/web/templates"] {
        std::fs::create_dir_all(sandbox.path(folder)).expect("a folder");
    }
    for name in ["prod", "recovery"] {
        let public = format!(".bulla/{name}.pub");
        sandbox.run(&["keygen", "-w", &format!("{name}.txt"), "--recipient", &public]).well();
    }
    sandbox.write(".gitignore", "*.txt\n*.sarif\nhome/\n");
    sandbox.git(&["init", "-q", "-b", "main"]);
    let api = DB.replace("name: db", "name: api");
    sandbox.write("apps/shop/db.yaml", format!("# The database.\n{DB}---\n{CONFIG}---\n{api}"));
    sandbox.write("apps/shop/config.yaml", CONFIG);
    sandbox.write("charts/web/values.yaml", "password: sw0rdfish-sw0rdfish\n");
    let template = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ .Release.Name }}\nstringData:\n  password: {{ .Values.password | quote }}\n";
    sandbox.write("charts/web/templates/secret.yaml", template);
    sandbox.write("old.yaml", DB.replace("name: db", "name: old"));
    commit(&sandbox, "as it was");
    sandbox.git(&["rm", "-q", "old.yaml"]);
    sandbox.git(&["commit", "-qm", "no more"]);

    let run = sandbox.run(&["check", "--report", "sarif=bulla.sarif"]);
    assert_eq!(run.code, 10, "{}", run.err);
    assert_eq!(run.text().matches("error[BUL001]: plaintext Secret").count(), 2, "{}", run.text());
    assert!(run.text().contains("error[BUL003]") && !run.text().contains("hunter2"), "{}", run.text());
    let sarif: serde_json::Value = serde_json::from_slice(&sandbox.bytes("bulla.sarif")).expect("SARIF");
    assert_eq!(sarif["runs"][0]["results"].as_array().map(Vec::len), Some(3), "{sarif}");

    sandbox.run(&["init", ".bulla/prod.pub", "--as", "prod"]).well();
    sandbox.run(&["recipients", "add", "recovery", ".bulla/recovery.pub", "--always"]).well();
    let run = sandbox.run(&["seal", "--in-place", "."]).well();
    assert_eq!(
        run.err,
        "sealed 2 Secrets in 1 file for prod, recovery; 1 other object kept byte for byte; 1 skipped:\n  \
         charts/web/templates/secret.yaml:4   a template: seal the rendered value (BUL012)\nnote: what was committed in \
         plaintext stays in Git's history: change those values, then bulla set FILE KEY…\n"
    );
    let text = sandbox.read("apps/shop/db.yaml");
    assert!(text.starts_with("# The database.\n") && text.contains(&format!("---\n{CONFIG}---\n")), "{text}");
    assert!(!text.contains("hunter2"));
    assert_eq!(sandbox.read("charts/web/templates/secret.yaml"), template);
    commit(&sandbox, "sealed");
    assert_eq!(
        sandbox
            .run(&[
                "unseal",
                "apps/shop/db.yaml",
                "-n",
                "shop",
                "--name",
                "api",
                "--key",
                "password",
                "-i",
                "recovery.txt"
            ])
            .well()
            .text(),
        "hunter2"
    );

    // What is in the history has to be changed: the list, without values.
    let run = sandbox.run(&["check", "--history", "-o", "json"]);
    assert_eq!(run.code, 10, "{}", run.err);
    let history: serde_json::Value = serde_json::from_slice(&run.out).expect("JSON");
    let objects = history["findings"].as_array().expect("findings").iter().filter(|f| f["rule"] == "BUL001");
    assert_eq!(objects.count(), 3, "{history}");
    assert!(!run.text().contains("hunter2"));
    // What can't be mended today is written down, and only what is new counts.
    assert_eq!(sandbox.run(&["check"]).code, 10);
    sandbox.run(&["check", "--baseline-write", ".bulla/baseline.json"]).well();
    let policy = sandbox.read(".bulla.yaml");
    sandbox.write(".bulla.yaml", format!("{policy}check:\n  baseline: .bulla/baseline.json\n"));
    sandbox.run(&["check"]).well();
    sandbox.write("new.yaml", DB);
    assert_eq!(sandbox.run(&["check"]).code, 10);
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

/// A clone in which `apps/shop/db.sealed.yaml` has two values, sealed for prod and recovery; alice is named and reads nothing.
pub fn small() -> Sandbox {
    let sandbox = Sandbox::empty();
    for folder in [".bulla", "apps/shop", "docs"] {
        std::fs::create_dir_all(sandbox.path(folder)).expect("a folder");
    }
    for name in ["prod", "recovery", "alice"] {
        let (identity, public) = (format!("{name}.txt"), format!(".bulla/{name}.pub"));
        sandbox.run(&["keygen", "-w", &identity, "--recipient", &public]).well();
    }
    let recipients = "version: 1\nrecipients:\n  prod: {file: .bulla/prod.pub}\n  alice: {file: .bulla/alice.pub}\n  \
                      recovery: {file: .bulla/recovery.pub, always: true}\n";
    sandbox.write(".bulla.yaml", format!("{recipients}rules:\n  - path: apps/shop/**\n    recipients: [prod]\n  - path: apps/live/**\n    recipients: [prod]\n"));
    sandbox.write(".gitignore", "*.txt\nhome/\nsecret.yaml\n");
    sandbox.git(&["init", "-q", "-b", "main"]);
    for (key, value) in [("password", "hunter2"), ("username", "admin")] {
        sandbox.with_input(&["set", "apps/shop/db.sealed.yaml", key, "-n", "shop"], value).well();
    }
    commit(&sandbox, "db");
    sandbox
}

/// The same, with the branches main and theirs, which both have another password.
pub fn conflict() -> Sandbox {
    let sandbox = small();
    for (key, value) in [("user.name", "t"), ("user.email", "t@example.test")] {
        sandbox.git(&["config", key, value]);
    }
    sandbox.run(&["git", "setup"]).well();
    commit(&sandbox, "attributes");
    let password = |branch: &[&str], value: &str| {
        sandbox.git(branch);
        sandbox.with_input(&["set", "apps/shop/db.sealed.yaml", "password"], value).well();
        commit(&sandbox, value);
    };
    password(&["checkout", "-qb", "theirs"], "theirs");
    password(&["checkout", "-q", "main"], "ours");
    sandbox
}
