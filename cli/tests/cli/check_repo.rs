//! `bulla check` in repositories: changes of the policy that somebody would not want to be seen, worktrees, submodules.

use serde_json::Value;

use crate::sandbox::{CONFIG, DB, Run, Sandbox, finish};

const POLICY: &str = "\
version: 1
recipients:
  prod: {file: .bulla/prod.pub}
  recovery: {file: .bulla/recovery.pub, always: true}
rules:
  - path: '**'
    recipients: [prod]
policy: {allowClassical: false}
";

/// A repository with a policy and a sealed file, committed; and `mallory.pub` beside it, which is not.
fn repository() -> Sandbox {
    let sandbox = Sandbox::empty();
    sandbox.git(&["init", "-q", "-b", "main"]);
    std::fs::write(sandbox.path(".git/info/exclude"), "*.txt\n/mallory.pub\n").expect("writes");
    std::fs::create_dir(sandbox.path(".bulla")).expect("makes");
    for name in [".bulla/prod", ".bulla/recovery", "mallory"] {
        sandbox.run(&["keygen", "-w", "key.txt", "--recipient", &format!("{name}.pub")]).well();
        std::fs::remove_file(sandbox.path("key.txt")).expect("removes");
    }
    sandbox.write(".bulla.yaml", POLICY);
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "--in-place", "db.yaml"]).well();
    sandbox.git(&["add", "-A"]);
    sandbox.git(&["commit", "-qm", "as it should be"]);
    sandbox
}

fn rules(run: &Run) -> Vec<String> {
    let json: Value = serde_json::from_slice(&run.out).expect("JSON");
    let findings = json["findings"].as_array().expect("findings").iter();
    findings.map(|one| format!("{} {}", one["rule"].as_str().unwrap(), one["file"].as_str().unwrap())).collect()
}

/// A change, what `check` finds, and what `diff` says of it.
struct Hostile {
    what: &'static str,
    change: fn(&Sandbox),
    check: &'static [&'static str],
    diff: &'static [&'static str],
}

fn policy(sandbox: &Sandbox, old: &str, new: &str) {
    assert!(POLICY.contains(old), "{old}");
    sandbox.write(".bulla.yaml", POLICY.replace(old, new));
}

const HOSTILE: &[Hostile] = &[
    Hostile {
        what: "a reader more",
        change: |sandbox| {
            std::fs::copy(sandbox.path("mallory.pub"), sandbox.path(".bulla/mallory.pub")).expect("copies");
            policy(sandbox, "  recovery:", "  mallory: {file: .bulla/mallory.pub, always: true}\n  recovery:");
        },
        check: &["BUL107 db.yaml"],
        diff: &["recipients.mallory.always", "added: true", ".bulla/mallory.pub", "nobody -> r"],
    },
    Hostile {
        what: "another key under a known name",
        change: |sandbox| {
            std::fs::copy(sandbox.path("mallory.pub"), sandbox.path(".bulla/prod.pub")).expect("copies");
        },
        check: &["BUL105 db.yaml"],
        diff: &[".bulla/prod.pub", "pinned recipient"],
    },
    Hostile {
        what: "no recovery any more",
        change: |sandbox| policy(sandbox, ", always: true", ""),
        check: &["BUL105 db.yaml"],
        diff: &["recipients.recovery.always", "removed, was true"],
    },
    Hostile {
        what: "nothing is looked at",
        change: |sandbox| policy(sandbox, "policy:", "check: {exclude: ['*']}\npolicy:"),
        check: &["BUL205 .bulla.yaml"],
        diff: &["check.exclude[0]", "added: *"],
    },
    Hostile {
        what: "a rule is switched off",
        change: |sandbox| {
            policy(sandbox, "policy:", "check: {exceptions: [{rule: BUL001, path: '**/*.yaml', reason: x}]}\npolicy:");
            sandbox.write("new.yaml", DB.replace("name: db", "name: new"));
        },
        check: &["BUL205 .bulla.yaml"],
        diff: &["check.exceptions[0].path", "added: **/*.yaml"],
    },
    Hostile {
        what: "the policy is gone",
        change: |sandbox| std::fs::remove_file(sandbox.path(".bulla.yaml")).expect("removes"),
        check: &["BUL110 .bulla.yaml"],
        diff: &["recipients.prod.file", "removed, was .bulla/prod.pub"],
    },
    Hostile {
        what: "a policy that can't be read",
        change: |sandbox| policy(sandbox, "version: 1", "version: [1"),
        check: &["BUL110 .bulla.yaml"],
        diff: &[],
    },
    Hostile {
        what: "a key that is gone",
        change: |sandbox| std::fs::remove_file(sandbox.path(".bulla/prod.pub")).expect("removes"),
        check: &["BUL110 .bulla.yaml"],
        diff: &[".bulla/prod.pub", "-> nobody"],
    },
    Hostile {
        what: "a policy for a folder",
        change: |sandbox| {
            std::fs::create_dir(sandbox.path("apps")).expect("makes");
            sandbox.write("apps/.bulla.yaml", POLICY);
        },
        check: &["BUL110 apps/.bulla.yaml"],
        diff: &["apps/.bulla.yaml"],
    },
    // Nothing of what is there is wrong by these: only a reader of the change can say whether they are meant.
    Hostile {
        what: "a wider scope is let be",
        change: |sandbox| {
            policy(sandbox, "    recipients: [prod]\n", "    recipients: [prod]\n    scope: cluster-wide\n")
        },
        check: &[],
        diff: &["rules[0].scope", "added: cluster-wide"],
    },
    Hostile {
        what: "classical keys are let be",
        change: |sandbox| policy(sandbox, "allowClassical: false", "allowClassical: true"),
        check: &[],
        diff: &["policy.allowClassical", "false -> true"],
    },
    Hostile {
        what: "one file is left out",
        change: |sandbox| {
            policy(sandbox, "policy:", "check: {exclude: [new.yaml]}\npolicy:");
            sandbox.write("new.yaml", DB.replace("name: db", "name: new"));
        },
        check: &[],
        diff: &["check.exclude[0]", "added: new.yaml"],
    },
];

#[test]
fn hostile_changes_of_the_policy_are_found_or_told() {
    for hostile in HOSTILE {
        let sandbox = repository();
        let before = sandbox.run(&["check", "-o", "json"]).well();
        assert_eq!(rules(&before), [""; 0]);
        (hostile.change)(&sandbox);
        sandbox.git(&["add", "-A"]);
        let run = sandbox.run(&["check", "-o", "json"]);
        assert_eq!(rules(&run), hostile.check, "{}: {}", hostile.what, run.text());
        let diff = sandbox.run(&["diff", "HEAD"]);
        for word in hostile.diff {
            assert!(diff.text().contains(word), "{}: {word:?} is not in\n{}{}", hostile.what, diff.text(), diff.err);
        }
        assert_eq!(diff.code, i32::from(hostile.diff.is_empty()), "{}: {}", hostile.what, diff.err);
    }
}

#[test]
fn a_hostile_policy_is_found_when_it_is_staged() {
    let sandbox = repository();
    sandbox.write(".bulla.yaml", POLICY.replace("policy:", "check: {exclude: ['**']}\npolicy:"));
    sandbox.git(&["add", "-A"]);
    sandbox.write(".bulla.yaml", POLICY);
    let run = sandbox.run(&["check", "--staged", "-o", "json"]);
    assert_eq!((rules(&run), run.code), (vec!["BUL205 .bulla.yaml".to_owned()], 10), "{}", run.text());
}

#[test]
fn a_worktree_is_looked_at_and_a_submodule_is_said() {
    let sandbox = Sandbox::empty();
    sandbox.git(&["init", "-q", "-b", "main", "other"]);
    sandbox.write("other/db.yaml", DB);
    sandbox.git(&["-C", "other", "add", "-A"]);
    sandbox.git(&["-C", "other", "commit", "-qm", "1"]);
    sandbox.git(&["init", "-q", "-b", "main", "repo"]);
    sandbox.write("repo/config.yaml", CONFIG);
    let other = sandbox.path("other").display().to_string();
    sandbox.git(&["-C", "repo", "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &other, "sub"]);
    sandbox.git(&["-C", "repo", "add", "-A"]);
    sandbox.git(&["-C", "repo", "commit", "-qm", "1"]);
    sandbox.git(&["-C", "repo", "worktree", "add", "-q", "-b", "topic", "../tree"]);
    let run = |folder: &str, args: &[&str]| {
        let mut command = sandbox.bulla(args);
        command.current_dir(sandbox.path(folder));
        finish(command, b"")
    };
    let whole = run("repo", &["check"]).well();
    assert!(whole.err.contains("repositories of their own: sub"), "{}", whole.err);
    // The worktree's own index and files, and the history that both have.
    sandbox.write("tree/db.yaml", DB);
    sandbox.git(&["-C", "tree", "add", "db.yaml"]);
    for args in [["check", "-o", "json"].as_slice(), &["check", "--staged", "-o", "json"]] {
        assert_eq!(rules(&run("tree", args)), ["BUL001 db.yaml"], "{args:?}");
        assert_eq!(rules(&run("repo", args)), [""; 0], "{args:?}");
    }
    sandbox.git(&["-C", "tree", "commit", "-qm", "2"]);
    for folder in ["tree", "repo"] {
        assert_eq!(rules(&run(folder, &["check", "--history", "-o", "json"])), ["BUL001 db.yaml"], "{folder}");
    }
}
