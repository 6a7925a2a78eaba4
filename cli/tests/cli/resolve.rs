//! `bulla git resolve`: conflicts of every kind, settled from the index.

use crate::git::{branch, git, repository, set, value};
use crate::sandbox::Sandbox;
use crate::tty::Terminal;

/// Both changed `b` and a label of the template, each in its way.
fn in_conflict() -> Sandbox {
    let sandbox = repository(true);
    let label = |s: &Sandbox, team: &str| {
        let text = s.read("db.sealed.yaml");
        let template = format!("spec:\n  template:\n    metadata:\n      labels:\n        team: {team}\n");
        s.write("db.sealed.yaml", text.replace("spec:\n", &template));
    };
    for (name, b, c) in [("theirs", "theirs", Some("c of theirs")), ("ours", "ours", None)] {
        branch(&sandbox, name, |s| {
            set(s, "b", b);
            if let Some(c) = c {
                set(s, "c", c);
            }
            label(s, name);
        });
    }
    let run = git(&sandbox, &["merge", "--no-edit", "theirs"]);
    assert_eq!(run.code, 1, "{}", run.err);
    for what in ["item b of shop/db", "spec.template.metadata.labels.team of shop/db"] {
        assert!(run.err.contains(&format!("bulla: conflict in db.sealed.yaml: {what}\n")), "{}", run.err);
    }
    sandbox
}

fn settled(sandbox: &Sandbox, b: &str, team: &str) {
    let text = sandbox.read("db.sealed.yaml");
    assert!(text.contains(&format!("        team: {team}\n")) && !text.contains("<<<<"), "{text}");
    assert_eq!(value(sandbox, "b").as_deref(), Some(b));
    assert_eq!(value(sandbox, "c").as_deref(), Some("c of theirs"), "what one side changed is not asked for");
    sandbox.run(&["unseal", "db.sealed.yaml", "-i", "key.txt"]).well();
}

#[test]
fn one_side_for_everything() {
    let sandbox = in_conflict();
    for side in ["ours", "theirs"] {
        sandbox.run(&["git", "resolve", "db.sealed.yaml", &format!("--{side}")]).well();
        settled(&sandbox, side, side);
    }
}

#[test]
fn one_side_for_some_and_the_other_for_the_rest() {
    let sandbox = in_conflict();
    let run = sandbox.run(&["git", "resolve", "db.sealed.yaml", "--ours", "b"]);
    assert_eq!(run.code, 1);
    assert!(run.err.starts_with("error: in conflict in db.sealed.yaml: spec.template"), "{}", run.err);
    sandbox.run(&["git", "resolve", "db.sealed.yaml", "--ours", "b", "--rest", "theirs"]).well();
    settled(&sandbox, "ours", "theirs");
    sandbox.run(&["git", "resolve", "db.sealed.yaml", "--theirs", "b", "--rest", "ours", "--add"]).well();
    settled(&sandbox, "theirs", "ours");
    git(&sandbox, &["commit", "-q", "--no-edit"]).well();
    assert_eq!(sandbox.run(&["git", "resolve", "db.sealed.yaml", "--ours"]).code, 3, "there is no conflict any more");
}

#[test]
fn each_is_asked_for() {
    let sandbox = in_conflict();
    let mut terminal = Terminal::bulla(&sandbox, &["git", "resolve", "db.sealed.yaml"]);
    terminal.expect("item b of shop/db: (o)urs or (t)heirs?").send("o\r");
    terminal.expect("spec.template.metadata.labels.team of shop/db: (o)urs or (t)heirs?").send("t\r");
    let (code, shown) = terminal.code();
    assert!(code == 0 && shown.contains("; next: git add 'db.sealed.yaml'\n"), "{code} {shown}");
    settled(&sandbox, "ours", "theirs");
}

#[test]
fn json_files() {
    let sandbox = Sandbox::new();
    git(&sandbox, &["init", "-q", "-b", "main"]).well();
    sandbox.run(&["git", "setup"]).well();
    let set = |key: &str, value: &str| {
        sandbox.with_input(&["set", "db.sealed.json", key, "-n", "shop", "-R", "key.txt.pub"], value).well();
    };
    let commit = |message: &str| {
        git(&sandbox, &["add", "db.sealed.json", ".gitattributes"]).well();
        git(&sandbox, &["commit", "-qm", message]).well();
    };
    set("a", "old");
    set("b", "old");
    commit("base");
    for side in ["theirs", "ours"] {
        git(&sandbox, &["checkout", "-q", "-B", side, "main"]).well();
        set("b", side);
        set(&format!("of-{side}"), side);
        commit(side);
    }
    let run = git(&sandbox, &["merge", "--no-edit", "theirs"]);
    assert!(run.code == 1 && run.err.contains("conflict in db.sealed.json: item b of shop/db"), "{}", run.err);
    sandbox.run(&["git", "resolve", "db.sealed.json", "--theirs", "--add"]).well();
    let opened = sandbox.run(&["unseal", "db.sealed.json", "-i", "key.txt", "-o", "json"]).well();
    let secret: serde_json::Value = serde_json::from_slice(&opened.out).expect("JSON");
    let wanted = serde_json::json!({"a": "b2xk", "b": "dGhlaXJz", "of-ours": "b3Vycw==", "of-theirs": "dGhlaXJz"});
    assert_eq!(secret["data"], wanted);
    serde_json::from_slice::<serde_json::Value>(&sandbox.bytes("db.sealed.json")).expect("still JSON");
}

#[test]
fn gone_on_one_side() {
    let sandbox = repository(true);
    branch(&sandbox, "theirs", |s| set(s, "b", "theirs"));
    git(&sandbox, &["checkout", "-q", "-B", "ours", "main"]).well();
    git(&sandbox, &["rm", "-q", "db.sealed.yaml"]).well();
    git(&sandbox, &["commit", "-qm", "gone"]).well();
    assert_eq!(git(&sandbox, &["merge", "--no-edit", "theirs"]).code, 1);
    sandbox.run(&["git", "resolve", "db.sealed.yaml", "--theirs"]).fails(
        1,
        "error: db.sealed.yaml is gone on one side\nhelp: keep it: git add FILE     or let it go: git rm FILE\n",
    );
}

#[test]
fn outside_of_a_merge_and_of_a_repository() {
    let sandbox = repository(true);
    let run = sandbox.run(&["git", "resolve", "db.sealed.yaml", "--ours"]);
    assert!(run.code == 3 && run.err.contains("has no conflict in the index"), "{}", run.err);
    let empty = Sandbox::empty();
    empty.write("x.yaml", "a: b\n");
    let run = empty.run(&["git", "resolve", "x.yaml", "--ours"]);
    assert!(run.code == 1 && run.err.contains("is in no Git repository"), "{}", run.err);
}

/// A rebase of several commits stops at each that conflicts, and goes on.
#[test]
fn a_rebase_goes_on_after_each() {
    let sandbox = repository(true);
    branch(&sandbox, "theirs", |s| set(s, "b", "theirs"));
    branch(&sandbox, "ours", |s| set(s, "b", "first"));
    for (key, text) in [("c", "c of ours"), ("b", "last")] {
        set(&sandbox, key, text);
        crate::git::commit(&sandbox, text);
    }
    let mut run = git(&sandbox, &["rebase", "-q", "theirs"]);
    let mut stops = 0;
    while run.code != 0 {
        stops += 1;
        assert!(stops < 4 && run.err.contains("conflict in db.sealed.yaml: item b of shop/db"), "{}", run.err);
        // The commit that is replayed is theirs.
        sandbox.run(&["git", "resolve", "db.sealed.yaml", "--theirs", "--add"]).well();
        run = git(&sandbox, &["-c", "core.editor=true", "rebase", "--continue"]);
    }
    assert!(stops >= 1);
    assert_eq!(value(&sandbox, "b").as_deref(), Some("last"));
    assert_eq!(value(&sandbox, "c").as_deref(), Some("c of ours"));
}
