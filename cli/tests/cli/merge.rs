//! Two people change different values of one file: plain git merges them.

use crate::sandbox::Sandbox;

const KEYS: [&str; 5] = ["a-token", "b.crt", "c_password", "d", "e-user"];

#[test]
fn replacements_of_different_items_never_conflict() {
    let sandbox = Sandbox::new();
    sandbox.run(&["keygen", "-w", "recovery.txt"]).well();
    let recipients = ["-R", "key.txt.pub", "-R", "recovery.txt.pub"];
    sandbox.git(&["init", "-q", "-b", "main"]);
    let set = |key: &str, value: &str| {
        sandbox.with_input(&[&["set", "db.sealed.yaml", key, "-n", "shop"][..], &recipients].concat(), value).well();
    };
    // Some under the common data key, some under one of their own.
    for key in KEYS {
        sandbox.write(key, "old");
    }
    let files = ["a-token", "b.crt", "c_password"].map(|key| format!("{key}={key}"));
    let from = files.iter().flat_map(|file| ["--from-file", file.as_str()]).collect::<Vec<_>>();
    let create = ["set", "db.sealed.yaml", "a-token", "b.crt", "c_password", "-n", "shop"];
    sandbox.run(&[&create[..], &from, &recipients].concat()).well();
    set("d", "old");
    set("e-user", "old");
    sandbox.git(&["add", "db.sealed.yaml"]);
    sandbox.git(&["commit", "-qm", "base"]);
    for (index, ours) in KEYS.iter().enumerate() {
        for theirs in &KEYS[index + 1..] {
            sandbox.git(&["checkout", "-q", "-B", "theirs", "main"]);
            set(theirs, "theirs");
            sandbox.git(&["commit", "-qam", "theirs"]);
            sandbox.git(&["checkout", "-q", "-B", "ours", "main"]);
            set(ours, "ours");
            sandbox.git(&["commit", "-qam", "ours"]);
            sandbox.git(&["merge", "-q", "--no-edit", "theirs"]);
            let opened = sandbox.run(&["unseal", "db.sealed.yaml", "-i", "key.txt", "-o", "json"]).well();
            let secret: serde_json::Value = serde_json::from_str(&opened.text()).expect("JSON");
            for key in KEYS {
                // "ours", "theirs" and "old" in base64.
                let wanted = if key == *ours {
                    "b3Vycw=="
                } else if key == *theirs {
                    "dGhlaXJz"
                } else {
                    "b2xk"
                };
                assert_eq!(secret["data"][key], wanted, "{ours} and {theirs}: {key}");
            }
        }
    }
}
