//! Git with the textconv and the merge driver, in real repositories; and `bulla diff`.

use crate::sandbox::{Run, Sandbox, finish};

pub fn git(sandbox: &Sandbox, args: &[&str]) -> Run {
    let mut command = sandbox.command("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@example.test", "-c", "commit.gpgsign=false"]).args(args);
    finish(command, b"")
}

pub fn set(sandbox: &Sandbox, key: &str, value: &str) {
    sandbox.with_input(&["set", "db.sealed.yaml", key, "-n", "shop", "-R", "key.txt.pub"], value).well();
}

pub fn commit(sandbox: &Sandbox, message: &str) {
    git(sandbox, &["add", "db.sealed.yaml", ".gitattributes"]).well();
    git(sandbox, &["commit", "-qm", message]).well();
}

/// A repository with `a`, `b` and `c` committed on main, taught or not.
pub fn repository(taught: bool) -> Sandbox {
    let sandbox = Sandbox::new();
    git(&sandbox, &["init", "-q", "-b", "main"]).well();
    if taught {
        sandbox.run(&["git", "setup"]).well();
    } else {
        sandbox.write(".gitattributes", "");
    }
    for key in ["a", "b", "c"] {
        set(&sandbox, key, "old");
    }
    commit(&sandbox, "base");
    sandbox
}

pub fn branch(sandbox: &Sandbox, name: &str, change: impl FnOnce(&Sandbox)) {
    git(sandbox, &["checkout", "-q", "-B", name, "main"]).well();
    change(sandbox);
    commit(sandbox, name);
}

pub fn value(sandbox: &Sandbox, key: &str) -> Option<String> {
    let opened = sandbox.run(&["unseal", "db.sealed.yaml", "-i", "key.txt", "-o", "json"]).well();
    let secret: serde_json::Value = serde_json::from_str(&opened.text()).expect("JSON");
    use base64::Engine as _;
    let text = secret["data"][key].as_str()?;
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).expect("base64")).ok()
}

#[test]
fn additions_and_removals_merge() {
    for (merge, name) in
        [(&["merge", "--no-edit"][..], "theirs"), (&["rebase", "-q"], "theirs"), (&["cherry-pick"], "theirs")]
    {
        let sandbox = repository(true);
        branch(&sandbox, "theirs", |s| {
            set(s, "b1", "new b1");
            s.run(&["unset", "db.sealed.yaml", "c"]).well();
        });
        branch(&sandbox, "ours", |s| {
            set(s, "b2", "new b2");
            set(s, "c1", "new c1");
            s.run(&["unset", "db.sealed.yaml", "b"]).well();
        });
        let run = git(&sandbox, &[merge, &[name]].concat());
        assert_eq!(run.code, 0, "{merge:?}: {} {}", run.text(), run.err);
        let all = ["a", "b", "b1", "b2", "c", "c1"].map(|key| value(&sandbox, key));
        let wanted = [Some("old"), None, Some("new b1"), Some("new b2"), None, Some("new c1")];
        assert_eq!(all.each_ref().map(Option::as_deref), wanted, "{merge:?}");
    }
}

#[test]
fn a_stash_comes_back_over_another_change() {
    let sandbox = repository(true);
    set(&sandbox, "b1", "stashed");
    git(&sandbox, &["stash", "-q"]).well();
    set(&sandbox, "b2", "committed");
    commit(&sandbox, "more");
    git(&sandbox, &["stash", "pop", "-q"]).well();
    assert_eq!(value(&sandbox, "b1").as_deref(), Some("stashed"));
    assert_eq!(value(&sandbox, "b2").as_deref(), Some("committed"));
}

/// Both changed `b`; each added one.
pub fn in_conflict() -> Sandbox {
    let sandbox = repository(true);
    branch(&sandbox, "theirs", |s| {
        set(s, "b", "theirs");
        set(s, "b1", "new b1");
    });
    branch(&sandbox, "ours", |s| {
        set(s, "b", "ours");
        set(s, "b2", "new b2");
    });
    let run = git(&sandbox, &["merge", "--no-edit", "theirs"]);
    assert_eq!(run.code, 1, "{}", run.err);
    assert!(run.err.contains("bulla: conflict in db.sealed.yaml: item b of shop/db"), "{}", run.err);
    sandbox
}

#[test]
fn the_same_item_is_a_conflict_that_is_named_and_settled() {
    for (side, wanted) in [("--ours", "ours"), ("--theirs", "theirs")] {
        let sandbox = in_conflict();
        let text = sandbox.read("db.sealed.yaml");
        assert!(text.contains("<<<<<<<") && text.contains(">>>>>>>"), "{text}");
        // What is settled stands outside of the marks.
        let before = text.split("<<<<<<<").next().expect("text");
        let after = text.rsplit(">>>>>>>").next().expect("text");
        assert!(before.contains("    a:\n"), "{text}");
        assert!(after.contains("    b1:\n") && after.contains("    b2:\n") && after.contains("    c:\n"), "{text}");
        let run = sandbox.run(&["git", "resolve", "db.sealed.yaml"]);
        assert_eq!(run.code, 1);
        assert!(run.err.contains("in conflict in db.sealed.yaml: item b of shop/db"), "{}", run.err);
        assert_eq!(sandbox.read("db.sealed.yaml"), text, "nothing was written");
        assert_eq!(sandbox.run(&["git", "resolve", "db.sealed.yaml", "--ours", "a"]).code, 3);
        sandbox.run(&["git", "resolve", "db.sealed.yaml", side, "--add"]).well();
        git(&sandbox, &["commit", "-q", "--no-edit"]).well();
        assert_eq!(value(&sandbox, "b").as_deref(), Some(wanted));
        assert_eq!(value(&sandbox, "b1").as_deref(), Some("new b1"));
        assert_eq!(value(&sandbox, "b2").as_deref(), Some("new b2"));
    }
}

#[test]
fn changed_on_one_side_and_gone_on_the_other_is_a_conflict() {
    let sandbox = repository(true);
    branch(&sandbox, "theirs", |s| set(s, "b", "theirs"));
    branch(&sandbox, "ours", |s| _ = s.run(&["unset", "db.sealed.yaml", "b"]).well());
    assert_eq!(git(&sandbox, &["merge", "--no-edit", "theirs"]).code, 1);
    sandbox.run(&["git", "resolve", "db.sealed.yaml", "--ours", "b"]).well();
    assert_eq!(value(&sandbox, "b"), None);
    sandbox.run(&["git", "resolve", "db.sealed.yaml", "--theirs"]).well();
    assert_eq!(value(&sandbox, "b").as_deref(), Some("theirs"));
}

#[test]
fn comments_and_documents_of_both_sides_stay() {
    let sandbox = repository(true);
    branch(&sandbox, "theirs", |s| {
        let text = s.read("db.sealed.yaml");
        s.write("db.sealed.yaml", format!("{text}---\nkind: ConfigMap\napiVersion: v1\nmetadata: {{name: x}}\n"));
        set(s, "b1", "theirs");
    });
    branch(&sandbox, "ours", |s| {
        let text = s.read("db.sealed.yaml");
        s.write("db.sealed.yaml", format!("# ours\n{text}"));
        set(s, "b2", "ours");
    });
    git(&sandbox, &["merge", "-q", "--no-edit", "theirs"]).well();
    let text = sandbox.read("db.sealed.yaml");
    assert!(text.starts_with("# ours\n") && text.ends_with("metadata: {name: x}\n"), "{text}");
    assert_eq!(value(&sandbox, "b1").as_deref(), Some("theirs"));
    assert_eq!(value(&sandbox, "b2").as_deref(), Some("ours"));
}

#[test]
fn a_broken_side_is_a_conflict() {
    let sandbox = repository(true);
    branch(&sandbox, "theirs", |s| {
        let text = s.read("db.sealed.yaml");
        s.write("db.sealed.yaml", text.replace("  name: db\n", "  name: db\n  nonsense: [\n"));
    });
    branch(&sandbox, "ours", |s| set(s, "c", "ours"));
    let run = git(&sandbox, &["merge", "--no-edit", "theirs"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("not sound"), "{}", run.err);
}

#[test]
fn git_shows_items() {
    let sandbox = repository(true);
    set(&sandbox, "token", "x");
    let diff = git(&sandbox, &["diff"]).well().text();
    let added: Vec<&str> = diff.lines().filter(|l| l.starts_with('+') && !l.starts_with("+++")).collect();
    assert_eq!(added.len(), 1, "{diff}");
    assert!(added[0].starts_with("+    token: sealed ") && added[0].contains(", for key r"), "{diff}");
    assert!(!diff.lines().any(|l| l.starts_with('-') && !l.starts_with("---")), "{diff}");
    let log = git(&sandbox, &["log", "-p"]).well().text();
    assert!(log.contains("+    a: sealed "), "{log}");
    // What can't be read is shown as it is.
    sandbox.write("db.sealed.yaml", "a: [\n");
    let diff = git(&sandbox, &["diff"]).well().text();
    assert!(diff.contains("+# bulla: this file is shown as it is: ") && diff.contains("+a: ["), "{diff}");
}

#[test]
fn setup_can_be_repeated_and_taken_back() {
    let sandbox = Sandbox::empty();
    git(&sandbox, &["init", "-q", "-b", "main"]).well();
    sandbox.write(".gitattributes", "*.png binary");
    let config = sandbox.bytes(".git/config");
    sandbox.run(&["git", "setup", "--hook"]).well();
    let (attributes, taught) = (sandbox.read(".gitattributes"), sandbox.bytes(".git/config"));
    assert!(attributes.starts_with("*.png binary\n*.sealed.yaml diff=bulla merge=bulla\n"), "{attributes}");
    sandbox.run(&["git", "setup", "--hook"]).well();
    assert_eq!(sandbox.read(".gitattributes"), attributes);
    assert_eq!(sandbox.bytes(".git/config"), taught);
    sandbox.run(&["git", "remove"]).well();
    assert_eq!(sandbox.read(".gitattributes"), "*.png binary\n");
    assert_eq!(sandbox.bytes(".git/config"), config);
    assert!(!sandbox.path(".git/hooks/pre-commit").exists());
    sandbox.write(".git/hooks/pre-commit", "#!/bin/sh\n");
    let run = sandbox.run(&["git", "setup", "--hook"]);
    assert_eq!(run.code, 1);
    assert!(
        run.err.contains("is there already and is not overwritten") && run.err.contains("check --staged || exit 1")
    );
    sandbox.run(&["git", "remove"]).well();
    assert_eq!(sandbox.read(".git/hooks/pre-commit"), "#!/bin/sh\n");
}

#[test]
fn diff_tells_items_scope_and_policy() {
    let sandbox = repository(false);
    set(&sandbox, "b", "new");
    set(&sandbox, "token", "x");
    sandbox.run(&["unset", "db.sealed.yaml", "c"]).well();
    let run = sandbox.run(&["diff", "--exit-code"]);
    assert_eq!(run.code, 10, "{}", run.err);
    assert_eq!(
        run.text(),
        "db.sealed.yaml  shop/db\n  ~ b               new value, sealed for key\n  - c               removed\n  \
         + token           new, sealed for key\n"
    );
    assert_eq!(sandbox.run(&["diff", "--staged", "--exit-code"]).well().text(), "");
    let text = sandbox.read("db.sealed.yaml");
    sandbox.write("db.sealed.yaml", text.replace("spec:\n", "spec:\n  scope: cluster-wide\n"));
    sandbox.write(".bulla.yaml", "version: 1\nrecipients:\n  \"mallory|`\\e[2J@all\": {file: x}\n");
    sandbox.write("plain.yaml", crate::sandbox::DB);
    git(&sandbox, &["add", "."]).well();
    let run = sandbox.run(&["diff", "HEAD"]);
    assert_eq!(run.code, 1, "misplaced: {}", run.err);
    let out = run.text();
    assert!(out.contains("  ! scope           strict -> cluster-wide"), "{out}");
    assert!(out.contains("plaintext Secret") && !out.contains("hunter2"), "{out}");
    assert!(out.contains("mallory|`\\u{1b}[2J@all.file") && !out.contains('\u{1b}'), "{out}");
    let out = sandbox.run(&["diff", "HEAD", "-o", "markdown"]).text();
    assert!(!out.contains("mallory|") && !out.contains('`') && !out.contains("@all"), "{out}");
    let out = sandbox.run(&["diff", "HEAD", "-o", "json"]).text();
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["schemaVersion"], 1);
    assert_eq!(sandbox.run(&["diff", "nowhere"]).code, 3);
    assert_eq!(sandbox.run(&["diff", "--", "--output=x"]).code, 0);
}

#[test]
fn only_a_reseal_passes_the_gate() {
    let sandbox = repository(false);
    sandbox.run(&["keygen", "-w", "new.txt"]).well();
    let public = sandbox.read("new.txt.pub");
    sandbox.write("new.pub", format!("# name: key\n{public}"));
    let gate = ["diff", "HEAD", "--only", "reseal", "-R", "new.pub", "--", "db.sealed.yaml"];
    sandbox.run(&["reseal", "db.sealed.yaml", "-i", "key.txt", "-R", "new.pub"]).well();
    let run = sandbox.run(&gate);
    assert_eq!(run.code, 0, "{} {}", run.text(), run.err);
    assert!(run.text().contains("  = envelopes       key "), "{}", run.text());
    let resealed = sandbox.read("db.sealed.yaml");
    // For another key than the policy's.
    let run = sandbox.run(&["diff", "HEAD", "--only", "reseal", "-R", "key.txt.pub", "--", "db.sealed.yaml"]);
    assert_eq!(run.code, 10, "{}", run.err);
    assert!(
        run.err.contains("not a reseal: db.sealed.yaml:") && run.err.contains(" item b: envelope key is for"),
        "{}",
        run.err
    );
    // A comment, a new value.
    sandbox.write("db.sealed.yaml", format!("{resealed}# more\n"));
    assert_eq!(sandbox.run(&gate).code, 10);
    sandbox.write("db.sealed.yaml", &resealed);
    sandbox.with_input(&["set", "db.sealed.yaml", "a", "-R", "new.pub"], "other").well();
    let run = sandbox.run(&gate);
    assert_eq!(run.code, 10);
    assert!(run.err.contains("item a: the item has another text"), "{}", run.err);
}
