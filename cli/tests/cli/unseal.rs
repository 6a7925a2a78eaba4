use std::os::unix::fs::PermissionsExt as _;

use crate::sandbox::{CONFIG, DB, Sandbox};

#[test]
fn several_secrets_are_several_documents_or_a_list() {
    let sandbox = Sandbox::new();
    let two = format!("{DB}---\n{}---\n{CONFIG}", DB.replace("name: db", "name: web"));
    sandbox.write("two.yaml", two);
    sandbox.run(&["seal", "two.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).well();
    let run = sandbox.run(&["unseal", "s.yaml", "-i", "key.txt"]).well();
    assert_eq!(run.err, "note: left out 1 other object\n");
    assert_eq!(run.text().matches("kind: Secret\n").count(), 2);
    assert!(run.text().contains("\n---\n"));
    let run = sandbox.run(&["unseal", "s.yaml", "-i", "key.txt", "-o", "json"]).well();
    let list: serde_json::Value = serde_json::from_str(&run.text()).expect("JSON");
    assert_eq!((&list["kind"], list["items"].as_array().map(Vec::len)), (&"List".into(), Some(2)));
    sandbox.run(&["unseal", "s.yaml", "-i", "key.txt", "--key", "password"]).fails(
        2,
        "error: there are 2 SealedSecrets in s.yaml: shop/db, shop/web\nhelp: say which one with -n and --name\n",
    );
    let one = sandbox.run(&["unseal", "s.yaml", "-i", "key.txt", "--key", "password", "--name", "web"]).well();
    assert_eq!(one.out, b"hunter2");
    sandbox
        .run(&["unseal", "s.yaml", "-i", "key.txt", "--key", "nope", "--name", "web"])
        .fails(3, "error: there is no item nope in s.yaml, but password, username\n");
}

#[test]
fn a_file_with_plaintext_is_readable_by_its_owner_alone() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).well();
    sandbox.run(&["unseal", "s.yaml", "-i", "key.txt", "-w", "plain.yaml"]).well();
    let mode = std::fs::metadata(sandbox.path("plain.yaml")).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    sandbox
        .run(&["unseal", "s.yaml", "-i", "key.txt", "-w", "plain.yaml"])
        .fails(1, "error: plain.yaml is there already and is not overwritten\n");
}

#[test]
fn the_wrong_identity_is_told_with_fingerprints() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).well();
    sandbox.run(&["keygen", "-w", "other.txt"]).well();
    sandbox.run(&["unseal", "s.yaml", "-i", "other.txt"]).fails(
        1,
        &format!(
            "error: no identity in other.txt opens shop/db\n  --> s.yaml\n  sealed for: key {}\n  other.txt:  {}\n",
            sandbox.fingerprint("key.txt.pub"),
            sandbox.fingerprint("other.txt.pub")
        ),
    );
    sandbox.run(&["unseal", "s.yaml", "-i", "other.txt", "-i", "key.txt"]).well();
}

#[test]
fn all_or_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).well();
    let good = sandbox.read("s.yaml");
    let bad = good.replace("name: db", "name: web");
    sandbox.write("s.yaml", format!("{good}---\n{bad}"));
    let run = sandbox.run(&["unseal", "s.yaml", "-i", "key.txt"]);
    assert_eq!((run.code, run.out.len()), (1, 0));
}

#[test]
fn what_is_no_identity_is_told() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).well();
    sandbox.run(&["unseal", "s.yaml", "-i", "key.txt.pub"]).fails(
        1,
        "error: this is a recipient (age1…) where an identity belongs; use the file without .pub\n  --> key.txt.pub:2\n",
    );
    sandbox.write("junk", "s3cret junk\n");
    let run = sandbox.run(&["unseal", "s.yaml", "-i", "junk"]);
    run.fails(
        1,
        "error: not an age identity (AGE-SECRET-KEY-PQ-1… or AGE-SECRET-KEY-1…)\n  --> junk:1\nhelp: bulla keygen -w FILE \
         makes one\n",
    );
    sandbox
        .run(&["unseal", "db.yaml", "-i", "key.txt"])
        .fails(1, "error: there is no SealedSecret in db.yaml, but 1 other object (Secret)\n");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sandbox = Sandbox::new();
    sandbox.write("big.yaml", DB.replace("hunter2", &"x".repeat(300_000)));
    sandbox.run(&["seal", "big.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).well();
    let mut command = sandbox.command("sh");
    command.args(["-c", "set -- \"$1\"; { \"$1\" unseal s.yaml -i key.txt; echo $? >code; } | true"]);
    command.arg("sh").arg(crate::sandbox::program());
    let run = crate::sandbox::finish(command, b"");
    assert_eq!(run.err, "");
    assert_eq!(sandbox.read("code"), "0\n");
}
