//! What a pull request could try to get past `bulla diff --only reseal`.

use crate::sandbox::{Run, Sandbox};
use crate::workflows::clone;

const FILE: &str = "apps/shop/prod/db.sealed.yaml";

/// A repository with a file for production, whose policy names alice for development alone.
fn repository() -> Sandbox {
    let sandbox = clone();
    sandbox.run(&["keygen", "-w", "alice.txt", "--recipient", ".bulla/alice.pub"]).well();
    sandbox.run(&["recipients", "add", "alice", ".bulla/alice.pub", "--rule", "apps/*/dev/**"]).well();
    sandbox.with_input(&["set", FILE, "password", "-n", "shop"], "hunter2").well();
    commit(&sandbox, "db");
    sandbox.git(&["checkout", "-qb", "change"]);
    std::fs::create_dir_all(sandbox.path("home")).expect("a folder");
    sandbox
}

fn commit(sandbox: &Sandbox, message: &str) {
    sandbox.git(&["add", "."]);
    sandbox.git(&["commit", "-qm", message]);
}

/// The gate as a job runs it, between the commits.
fn gate(sandbox: &Sandbox, more: &[&str]) -> Run {
    sandbox.run(&[&["diff", "main...", "--only", "reseal"][..], more].concat())
}

#[test]
fn a_pin_does_not_vouch_for_itself() {
    let sandbox = repository();
    sandbox.run(&["keygen", "-w", "mallory.txt", "--recipient", "home/mallory.pub"]).well();
    sandbox.write(".bulla/prod.pub", sandbox.bytes("home/mallory.pub"));
    // A stranger could not open it, and would write anything; the gate can't tell.
    sandbox.run(&["reseal", FILE, "-i", "recovery.txt"]).well();
    // In one's own working tree it is one's own work.
    let run = sandbox.run(&["diff", "HEAD", "--only", "reseal"]).well();
    assert!(run.text().contains("  ! pinned recipient r"), "{}", run.text());
    commit(&sandbox, "nothing to see");
    let run = gate(&sandbox, &[]);
    assert_eq!(run.code, 10, "{}", run.err);
    assert!(run.err.starts_with("not a reseal: .bulla/prod.pub: the pin changed"), "{}", run.err);
    // Where somebody else guards them.
    let run = gate(&sandbox, &["--allow-pins"]).well();
    assert!(run.text().contains("  ! pinned recipient r"), "{}", run.text());
    // The pins that were there before, from a branch that is protected, tell the stranger's line.
    sandbox.git(&["worktree", "add", "-q", "protected", "main"]);
    let named =
        ["-R", "protected/.bulla/prod.pub", "-R", "protected/.bulla/dr.pub", "-R", "protected/.bulla/recovery.pub"];
    let run = gate(&sandbox, &[&["--allow-pins"], &named[..], &["--", "apps"]].concat());
    assert!(run.code == 10 && run.err.contains("envelope prod is for "), "{} {}", run.code, run.err);
}

#[test]
fn nobody_joins_whom_the_rule_does_not_name() {
    let sandbox = repository();
    let policy = sandbox.bytes(".bulla.yaml");
    let wider = sandbox
        .read(".bulla.yaml")
        .replace("apps/*/prod/**\n    recipients: [prod, dr]", "apps/*/prod/**\n    recipients: [prod, dr, alice]");
    sandbox.write(".bulla.yaml", &wider);
    sandbox.run(&["reseal", FILE, "-i", "recovery.txt", "--add-recipient", "alice"]).well();
    commit(&sandbox, "alice reads it");
    // With the rule that lets her: the policy changed.
    let run = gate(&sandbox, &[]);
    assert!(run.code == 10 && run.err.contains("not a reseal: .bulla.yaml:"), "{} {}", run.code, run.err);
    assert!(run.text().contains("alice") && run.text().contains("can now open 1 item"), "{}", run.text());
    // Without it: she is in the policy, and not for this file.
    sandbox.write(".bulla.yaml", policy);
    commit(&sandbox, "and the policy is as it was");
    let run = gate(&sandbox, &[]);
    assert_eq!(run.code, 10, "{}", run.err);
    assert!(run.err.contains("envelope alice is new, and the file's rule does not name it"), "{}", run.err);
}

#[test]
fn what_else_is_no_reseal() {
    let sandbox = repository();
    let good = sandbox.read(FILE);
    let elsewhere = "apps/shop/dev/db.sealed.yaml";
    let change = |what: &dyn Fn(), told: &str| {
        std::fs::create_dir_all(sandbox.path("apps/shop/dev")).expect("a folder");
        what();
        commit(&sandbox, "a change");
        let run = gate(&sandbox, &[]);
        // 1 where something is broken besides.
        assert!([1, 10].contains(&run.code) && run.err.contains(told), "{told}: {} {}", run.code, run.err);
        sandbox.git(&["reset", "-q", "--hard", "main"]);
    };
    change(&|| sandbox.write(elsewhere, &good), "the file is new");
    change(&|| std::fs::remove_file(sandbox.path(FILE)).expect("was there"), "the file is gone");
    change(
        &|| std::fs::rename(sandbox.path(FILE), sandbox.path(elsewhere)).expect("moves"),
        "the file has another name",
    );
    change(&|| sandbox.write(FILE, good.replace("spec:\n", "spec:\n  scope: cluster-wide\n")), "the scope was strict");
    change(&|| sandbox.write(FILE, format!("{good}---\n{good}")), "there were 1 SealedSecrets, and there are 2");
    change(&|| sandbox.write(FILE, good.replace("name: db", "name: \"db\"")), "something changed besides envelopes");
    change(&|| sandbox.write(".gitattributes", "* -diff\n"), "not a reseal: .gitattributes");
    change(&|| sandbox.write("README.md", "a\0b"), "not a reseal: README.md: ");
    change(
        &|| {
            std::fs::remove_file(sandbox.path(FILE)).expect("was there");
            std::os::unix::fs::symlink("/etc/hostname", sandbox.path(FILE)).expect("a link");
        },
        "it can't be looked into",
    );
    change(
        &|| {
            std::fs::create_dir_all(sandbox.path("apps/.bulla")).expect("a folder");
            sandbox.write("apps/.bulla/prod.pub", sandbox.bytes(".bulla/dr.pub"));
        },
        "not a reseal: apps/.bulla/prod.pub: the pin changed",
    );
}

/// Whatever is done to the policy shows in the diff that a reviewer reads, and in the check that runs by itself.
#[test]
fn what_is_done_to_the_policy_is_seen() {
    let sandbox = repository();
    sandbox.run(&["keygen", "-w", "mallory.txt", "--recipient", "home/mallory.pub"]).well();
    let policy = sandbox.read(".bulla.yaml");
    let sealed = sandbox.read(FILE);
    let wide = "scope: cluster-wide";
    let both = |name: &str, text: String, diff: &str, check: &str| {
        sandbox.write(name, text);
        sandbox.git(&["add", "."]);
        let told = sandbox.run(&["diff", "HEAD"]).text();
        assert!(told.contains(diff), "{name}: {diff}\n{told}");
        let run = sandbox.run(&["check"]);
        assert!(run.code == 10 && run.text().contains(check), "{name}: {check}\n{}{}", run.text(), run.err);
        sandbox.git(&["reset", "-q", "--hard"]);
    };
    let gains = policy.replace("recipients: [prod, dr]", "recipients: [prod, dr, alice]");
    both(
        ".bulla.yaml",
        gains,
        "  ! rules[0].recipients[2] added: alice",
        "is not sealed for alice, whom its rule names",
    );
    let outside = policy.replacen("file: .bulla/prod.pub", "file: ../prod.pub", 1);
    both(".bulla.yaml", outside, ".bulla/prod.pub -> ../prod.pub", "file leaves the repository");
    let wider = policy.replacen("recipients: [prod, dr]\n", &format!("recipients: [prod, dr]\n    {wide}\n"), 1);
    sandbox.write(".bulla.yaml", &wider);
    let told = sandbox.run(&["diff", "HEAD"]).text();
    assert!(told.contains("  ! rules[0].scope  added: cluster-wide"), "{told}");
    // Sealed so wide as the rule lets it, and the rule as it was before again.
    let other = "apps/shop/prod/wide.sealed.yaml";
    sandbox.with_input(&["set", other, "password", "-n", "shop"], "hunter2").well();
    let text = sandbox.read(other);
    sandbox.git(&["checkout", "-q", ".bulla.yaml"]);
    both(other, text, "wide.sealed.yaml  shop/wide\n", "error[BUL104]");
    let moved = sealed.replace("spec:\n", &format!("spec:\n  {wide}\n"));
    both(FILE, moved, "  ! scope           strict -> cluster-wide", "error[BUL101]");
    both("apps/.bulla.yaml", policy.clone(), "apps/.bulla.yaml\n  ! ", "error[BUL110]");
    both(
        ".bulla/prod.pub",
        sandbox.read("home/mallory.pub"),
        "  ! pinned recipient r",
        "for another key of prod than the pinned one",
    );
}
