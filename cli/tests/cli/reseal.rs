use std::os::unix::fs::MetadataExt as _;

use crate::sandbox::{CONFIG, DB, Sandbox};

const NOTE: &str = "note: values were not changed. If the old key leaked, change them: bulla reseal does not revoke\n";

fn sealed() -> Sandbox {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("t")).expect("a folder");
    sandbox.write("db.yaml", format!("{CONFIG}---\n# database\n{DB}"));
    sandbox.run(&["seal", "db.yaml", "-w", "t/s.yaml", "-R", "key.txt.pub"]).well();
    sandbox.with_input(&["set", "t/s.yaml", "token", "-R", "key.txt.pub"], "t").well();
    sandbox.run(&["keygen", "-w", "new.txt"]).well();
    sandbox
}

#[test]
fn only_envelope_lines_change() {
    let sandbox = sealed();
    let before = sandbox.read("t/s.yaml");
    let run = sandbox.run(&["reseal", "t", "-i", "key.txt", "-R", "new.txt.pub"]).well();
    let (old, new) = (sandbox.fingerprint("key.txt.pub"), sandbox.fingerprint("new.txt.pub"));
    assert_eq!(
        run.err,
        format!("resealed 1 of 1 file for new {new} (was {old}): 2 envelopes; 0 were current; 0 failed\n{NOTE}")
    );
    let after = sandbox.read("t/s.yaml");
    let changed: Vec<_> = before.lines().zip(after.lines()).filter(|(a, b)| a != b).collect();
    assert_eq!((changed.len(), before.lines().count()), (2, after.lines().count()));
    for (was, is) in changed {
        assert!(was.contains(&format!(":{old}:")) && is.contains(&format!(":{new}:")));
    }
    assert_eq!(sandbox.run(&["unseal", "t/s.yaml", "-i", "new.txt", "--key", "token"]).well().out, b"t");
    assert_eq!(sandbox.run(&["unseal", "t/s.yaml", "-i", "key.txt"]).code, 1);
}

#[test]
fn what_is_current_keeps_bytes_and_time() {
    let sandbox = sealed();
    sandbox.run(&["reseal", "t", "-i", "key.txt", "-R", "new.txt.pub"]).well();
    let file = || std::fs::metadata(sandbox.path("t/s.yaml")).expect("is there");
    let before = (file().ino(), file().mtime(), file().mtime_nsec(), sandbox.bytes("t/s.yaml"));
    let run = sandbox.run(&["reseal", "t", "-i", "key.txt", "-R", "new.txt.pub"]).well();
    let new = sandbox.fingerprint("new.txt.pub");
    assert_eq!(run.err, format!("resealed 0 of 1 file for new {new}: 0 envelopes; 1 was current; 0 failed\n"));
    assert_eq!(before, (file().ino(), file().mtime(), file().mtime_nsec(), sandbox.bytes("t/s.yaml")));
}

#[test]
fn check_finds_and_dry_run_tells_and_neither_writes() {
    let sandbox = sealed();
    let before = sandbox.bytes("t/s.yaml");
    let new = sandbox.fingerprint("new.txt.pub");
    let run = sandbox.run(&["reseal", "t", "-R", "new.txt.pub", "--check"]);
    assert_eq!((run.code, run.text().as_str()), (10, "t/s.yaml: 2 envelopes\n"));
    assert_eq!(run.err, format!("1 of 1 file to be resealed for new {new}; 0 were current; 0 failed\n"));
    let run = sandbox.run(&["reseal", "t", "-i", "key.txt", "-R", "new.txt.pub", "--dry-run", "-o", "json"]).well();
    let document: serde_json::Value = serde_json::from_str(&run.text()).expect("JSON");
    assert_eq!(document["schemaVersion"], 1);
    assert_eq!(document["files"], serde_json::json!([{"file": "t/s.yaml", "state": "needed", "envelopes": 2}]));
    assert_eq!(before, sandbox.bytes("t/s.yaml"));
    assert_eq!(sandbox.run(&["reseal", "t", "-R", "key.txt.pub", "--check"]).well().text(), "");
}

#[test]
fn fresh_makes_one_data_key_and_new_bodies() {
    let sandbox = sealed();
    let before = sandbox.read("t/s.yaml");
    sandbox.run(&["reseal", "t", "--fresh", "-i", "key.txt", "-R", "new.txt.pub"]).well();
    let after = sandbox.read("t/s.yaml");
    assert_eq!(after.matches("envelopes:").count(), 1);
    assert!(after.starts_with(&format!("{CONFIG}---\n# database\n")));
    for line in before.lines().filter(|line| line.trim_start().starts_with('k') && line.contains(":A")) {
        assert!(!after.contains(line));
    }
    assert_eq!(sandbox.run(&["unseal", "t/s.yaml", "-i", "new.txt", "--key", "token"]).well().out, b"t");
}

#[test]
fn another_readers_line_stays() {
    let sandbox = Sandbox::new();
    for name in ["new", "recovery"] {
        sandbox.run(&["keygen", "-w", &format!("{name}.txt")]).well();
    }
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub", "-R", "recovery.txt.pub"]).well();
    let line = |text: &str| text.lines().skip_while(|l| l.trim() != "recovery: >-").nth(1).expect("a line").to_owned();
    let before = line(&sandbox.read("s.yaml"));
    sandbox.run(&["reseal", "s.yaml", "-i", "key.txt", "-R", "new.txt.pub"]).well();
    assert_eq!(before, line(&sandbox.read("s.yaml")));
    for identity in ["new.txt", "recovery.txt"] {
        assert_eq!(sandbox.run(&["unseal", "s.yaml", "-i", identity, "--key", "password"]).well().out, b"hunter2");
    }
}

#[test]
fn recipients_that_are_there_already_stay() {
    let sandbox = Sandbox::new();
    for name in ["new", "other", "recovery"] {
        sandbox.run(&["keygen", "-w", &format!("{name}.txt")]).well();
    }
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub", "-R", "recovery.txt.pub"]).well();
    let before = sandbox.bytes("s.yaml");
    let both = ["-R", "new.txt.pub", "-R", "recovery.txt.pub"];
    // Opened with the recovery identity, whose line would go.
    let run = sandbox.run(&[&["reseal", "s.yaml", "-i", "recovery.txt"][..], &both].concat());
    assert_eq!(run.code, 1);
    assert!(
        run.err.starts_with(&format!(
            "error: the line of recovery {} would be replaced, who is among the recipients given\n",
            sandbox.fingerprint("recovery.txt.pub")
        )),
        "{}",
        run.err
    );
    let run = sandbox.run(&[&["reseal", "s.yaml", "-i", "key.txt", "-R", "other.txt.pub"][..], &both].concat());
    assert_eq!(run.code, 1);
    assert!(run.err.starts_with("error: shop/db is sealed neither for other "), "{}", run.err);
    assert_eq!(before, sandbox.bytes("s.yaml"));
    sandbox.run(&[&["reseal", "s.yaml", "-i", "key.txt"][..], &both].concat()).well();
    for identity in ["new.txt", "recovery.txt"] {
        assert_eq!(sandbox.run(&["unseal", "s.yaml", "-i", identity, "--key", "password"]).well().out, b"hunter2");
    }
    let run = sandbox.run(&[&["reseal", "s.yaml", "-i", "key.txt", "--fresh"][..], &both].concat());
    assert!(run.code == 1 && run.err.contains("no identity in key.txt opens shop/db"), "{}", run.err);
    sandbox.run(&[&["reseal", "s.yaml", "-i", "recovery.txt", "--fresh"][..], &both].concat()).well();
}

#[test]
fn errors() {
    let sandbox = sealed();
    sandbox.run(&["reseal", "t"]).fails(
        2,
        "error: how are the old envelopes opened?\nhelp: by the cluster: bulla reseal PATH --live\nhelp: by an identity: \
         bulla reseal PATH -i OLD -R NEW.pub\n",
    );
    sandbox
        .run(&["reseal", "nowhere", "-i", "key.txt", "-R", "new.txt.pub"])
        .fails(3, "error: can't read nowhere: there is no such file\n");
    sandbox
        .run(&["reseal", "db.yaml", "-i", "key.txt", "-R", "new.txt.pub"])
        .fails(1, "error: there is no SealedSecret in db.yaml\n");
    sandbox.run(&["keygen", "-w", "c.txt", "--classical"]).well();
    let run = sandbox.run(&["reseal", "t", "-i", "key.txt", "-R", "c.txt.pub"]);
    assert_eq!(run.code, 1);
    assert!(
        run.err.contains("a data key that is safe against a quantum computer is not wrapped for a classical recipient"),
        "{}",
        run.err
    );
    let run = sandbox.run(&["reseal", "t", "-i", "new.txt", "-R", "new.txt.pub", "-o", "json"]);
    assert!(run.code == 1 && run.err.contains("no identity in new.txt opens shop/db\n"), "{}", run.err);
    let document: serde_json::Value = serde_json::from_str(&run.text()).expect("JSON");
    assert_eq!((&document["failed"], &document["errors"][0]["file"]), (&1.into(), &"t/s.yaml".into()));
}

#[test]
fn a_report_says_which_files_depend_on_which_key() {
    let sandbox = Sandbox::new();
    for name in ["new.txt", "other.txt"] {
        sandbox.run(&["keygen", "-w", name]).well();
    }
    std::fs::create_dir(sandbox.path("t")).expect("a folder");
    let seal = |file: &str, recipients: &[&str]| {
        let to = recipients.iter().flat_map(|file| ["-R", file]);
        let args: Vec<&str> = ["seal", "-w", file].into_iter().chain(to).collect();
        sandbox.with_input(&args, DB).well();
    };
    seal("t/a.yaml", &["key.txt.pub"]);
    seal("t/b.yaml", &["key.txt.pub", "other.txt.pub"]);
    // One that can't be opened with what is at hand stays with its key.
    seal("t/c.yaml", &["other.txt.pub"]);
    let args = ["reseal", "t", "-i", "key.txt", "-R", "new.txt.pub"];
    let run = sandbox.run(&[&args[..], &["--dry-run", "-o", "json"]].concat()).well();
    let key = |json: &serde_json::Value, public: &str| {
        let fingerprint = sandbox.fingerprint(public);
        let keys = json["keys"].as_array().expect("keys").iter();
        keys.into_iter().find(|key| key["fingerprint"] == fingerprint.as_str()).cloned().unwrap_or_default()
    };
    let before: serde_json::Value = serde_json::from_slice(&run.out).expect("JSON");
    let old = key(&before, "key.txt.pub");
    assert_eq!(
        (&old["files"], &old["onlyFor"]),
        (&serde_json::json!(["t/a.yaml", "t/b.yaml"]), &serde_json::json!(["t/a.yaml"]))
    );
    let run = sandbox.run(&[&args[..], &["--report", "json=report.json"]].concat());
    assert!(run.code == 1 && run.text().is_empty(), "{} {}", run.code, run.err);
    let after: serde_json::Value = serde_json::from_slice(&sandbox.bytes("report.json")).expect("JSON");
    assert_eq!(after["schemaVersion"], 1);
    assert_eq!(key(&after, "key.txt.pub"), serde_json::Value::Null, "nothing depends on it any more: {after}");
    let new = key(&after, "new.txt.pub");
    assert_eq!((&new["files"], &new["current"]), (&serde_json::json!(["t/a.yaml", "t/b.yaml"]), &true.into()));
    let other = key(&after, "other.txt.pub");
    assert_eq!(
        (&other["files"], &other["onlyFor"]),
        (&serde_json::json!(["t/b.yaml", "t/c.yaml"]), &serde_json::json!(["t/c.yaml"]))
    );
    assert_eq!((&other["current"], &other["names"]), (&false.into(), &serde_json::json!(["other"])));
    let run = sandbox.run(&[&args[..], &["--report", "sarif=x"]].concat());
    assert!(run.code == 2 && run.err.contains("it is json=FILE"), "{}", run.err);
}

#[test]
fn a_key_older_than_the_policy_wants_is_told_and_makes_files_stale() {
    let sandbox = sealed();
    std::fs::create_dir(sandbox.path(".bulla")).expect("a folder");
    let public = sandbox.read("key.txt.pub");
    let recipient = public.lines().last().expect("a recipient");
    sandbox.write(".bulla/key.pub", format!("# created: 2020-01-01\n{recipient}\n"));
    let policy =
        "version: 1\nrecipients:\n  key: {file: .bulla/key.pub}\nrules:\n  - {path: 't/**', recipients: [key]}\n";
    sandbox.write(".bulla.yaml", format!("{policy}policy: {{maxKeyAge: 400d}}\n"));
    let before = sandbox.bytes("t/s.yaml");
    let run = sandbox.run(&["reseal", "t", "--check"]);
    let told = run.err.lines().last().unwrap_or_default();
    assert!(run.code == 10 && told.starts_with("warning: the key key is ") && told.contains("bulla rotate"), "{run:?}");
    let run = sandbox.run(&["reseal", "t", "--check", "-o", "json"]);
    let document: serde_json::Value = serde_json::from_slice(&run.out).expect("JSON");
    assert!(run.code == 10 && document["oldPins"][0]["name"] == "key", "{document}");
    assert!(document["oldPins"][0]["ageInDays"].as_i64().is_some_and(|age| age > 400), "{document}");
    let run = sandbox.run(&["reseal", "t", "-i", "key.txt"]).well();
    assert!(run.err.contains("0 envelopes; 1 was current") && run.err.contains("maxKeyAge is 400 days"), "{}", run.err);
    assert_eq!(before, sandbox.bytes("t/s.yaml"), "there is no newer key that it could be sealed for");
    sandbox.write(".bulla.yaml", policy);
    let run = sandbox.run(&["reseal", "t", "--check"]).well();
    assert!(!run.err.contains("maxKeyAge"), "{}", run.err);
}
