//! Items bound to another place.

use crate::sandbox::{DB, Sandbox};

/// A file that was sealed for shop/db and says live/db now.
fn moved() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.with_input(&["seal", "-w", "s.yaml", "-R", "key.txt.pub"], DB).well();
    sandbox.write("s.yaml", sandbox.read("s.yaml").replace("namespace: shop", "namespace: live # new"));
    sandbox
}

const MOVE: [&str; 6] = ["move", "s.yaml", "-i", "key.txt", "-R", "key.txt.pub"];

fn value(sandbox: &Sandbox, key: &str) -> String {
    sandbox.run(&["unseal", "s.yaml", "-i", "key.txt", "--key", key]).well().text()
}

#[test]
fn a_whole_file_moves_under_one_new_data_key() {
    let sandbox = moved();
    let before = sandbox.read("s.yaml");
    let run = sandbox.run(&[&MOVE[..], &["--from", "shop/db"]].concat()).well();
    assert_eq!(run.err, "re-bound 2 items of db from shop to live, for key\n");
    let after = sandbox.read("s.yaml");
    assert!(after.contains("namespace: live # new\n") && after.matches("envelopes:").count() == 1, "{after}");
    // Nothing sealed is the same: the old data key is of the old place.
    for line in before.lines().filter(|line| line.len() > 60) {
        assert!(!after.contains(line), "{line}");
    }
    assert_eq!((value(&sandbox, "password"), value(&sandbox, "username")), ("hunter2".into(), "admin".into()));
    let run = sandbox.run(&[&MOVE[..], &["--from", "shop/db"]].concat()).well();
    assert_eq!(run.err, "nothing to move: all items of s.yaml are sealed for live/db\n");
    assert_eq!(sandbox.read("s.yaml"), after);
}

#[test]
fn what_is_in_its_place_keeps_its_bytes() {
    let sandbox = moved();
    let both = ["set", "s.yaml", "password", "username", "--generate", "hex", "-R", "key.txt.pub"];
    sandbox.run(&both).well();
    // Of two places now: one item goes back to a third.
    let name = "  name: db\n";
    assert!(sandbox.read("s.yaml").contains(name));
    let stayed = value(&sandbox, "username");
    sandbox.write("t.yaml", sandbox.read("s.yaml").replace(name, "  name: other\n"));
    sandbox.run(&["set", "t.yaml", "password", "username", "--generate", "hex", "-R", "key.txt.pub"]).well();
    let foreign = sandbox.run(&["unseal", "t.yaml", "-i", "key.txt", "--key", "password"]).well().text();
    let item = |text: &str| {
        let at = text.find("    password:").expect("the item");
        text[at..text.find("    username:").expect("the next")].to_owned()
    };
    let (own, other) = (sandbox.read("s.yaml"), sandbox.read("t.yaml"));
    sandbox.write("s.yaml", own.replace(&item(&own), &item(&other)));
    let run = sandbox.run(&[&MOVE[..], &["--from", "live/other"]].concat()).well();
    assert_eq!(run.err, "re-bound 1 item from live/other to live/db, for key\n");
    assert_eq!(value(&sandbox, "password"), foreign);
    assert_eq!(value(&sandbox, "username"), stayed);
    let after = sandbox.read("s.yaml");
    assert_eq!(after.split("    username:").nth(1), own.split("    username:").nth(1));
}

#[test]
fn of_neither_place_is_said_and_nothing_written() {
    let sandbox = moved();
    let before = sandbox.read("s.yaml");
    let run = sandbox.run(&[&MOVE[..], &["--from", "shop/web"]].concat());
    assert!(run.code == 1 && run.err.contains("BUL101") && run.err.contains("shop/web"), "{}", run.err);
    let run = sandbox.run(&[&MOVE[..], &["--from", "shop"]].concat());
    run.fails(2, "error: --from \"shop\" is no NAMESPACE/NAME\nhelp: as in --from shop/db\n");
    sandbox.run(&["keygen", "-w", "other.txt"]).well();
    let other = ["move", "s.yaml", "--from", "shop/db", "-i", "other.txt", "-R", "key.txt.pub"];
    let run = sandbox.run(&other);
    assert!(run.code == 1 && run.err.starts_with("error: no identity in other.txt opens shop/db\n"), "{}", run.err);
    let lost = ["move", "s.yaml", "--from", "shop/db", "-i", "key.txt", "-R", "other.txt.pub"];
    let run = sandbox.run(&lost);
    assert!(run.code == 1 && run.err.contains("would lose the value"), "{}", run.err);
    assert_eq!(sandbox.read("s.yaml"), before);
}

#[test]
fn a_wider_scope_is_said() {
    let sandbox = moved();
    sandbox.write("s.yaml", sandbox.read("s.yaml").replace("spec:\n", "spec:\n  scope: cluster-wide\n"));
    let run = sandbox.run(&[&MOVE[..], &["--from", "shop/db"]].concat()).well();
    assert!(run.err.contains("warning: they were sealed with scope strict; cluster-wide lets"), "{}", run.err);
    assert_eq!(value(&sandbox, "password"), "hunter2");
}
