//! Whatever character of a sealed file is changed, nothing opens and nothing is shown.

use crate::sandbox::{DB, Sandbox};

/// The byte ranges of all that is bound: ciphertexts, ids, fingerprints, name, namespace, scope, keys.
fn bound(text: &str) -> Vec<(std::ops::Range<usize>, usize)> {
    let mut ranges = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        let start = offset + line.find(bare).expect("is in it");
        let (from, step) = match bare.split_once(": ") {
            Some(("name" | "namespace" | "scope", value)) => (bare.len() - value.len(), 1),
            _ if bare == "password:" || bare == "username:" => (0, 1),
            // Sealed texts: items densely, envelopes of 2.3 KB sparsely.
            _ if bare.starts_with('k') && bare.len() > 1000 => (0, 41),
            _ if bare.starts_with('k') && bare.len() > 50 => (0, 5),
            _ => (usize::MAX, 1),
        };
        if from != usize::MAX {
            let end = if bare.ends_with(':') { bare.len() - 1 } else { bare.len() };
            ranges.push((start + from..start + end, step));
        }
        offset += line.len();
    }
    ranges
}

#[test]
fn any_changed_character_fails_without_plaintext() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB.replace("hunter2", "correct horse battery staple"));
    sandbox.run(&["seal", "db.yaml", "--scope", "namespace-wide", "-w", "wide.yaml", "-R", "key.txt.pub"]).well();
    sandbox.run(&["seal", "db.yaml", "-w", "strict.yaml", "-R", "key.txt.pub"]).well();
    sandbox.with_input(&["set", "strict.yaml", "password", "-R", "key.txt.pub"], "correct horse battery staple").well();
    let mut changes = 0;
    for file in ["strict.yaml", "wide.yaml"] {
        let text = sandbox.read(file);
        let ranges = bound(&text);
        assert!(ranges.len() >= 6, "{ranges:?}");
        for (range, step) in ranges {
            // In a wide scope the name is not bound.
            if file == "wide.yaml" && text[..range.start].ends_with("  name: ") {
                continue;
            }
            for at in range.step_by(step) {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = match bytes[at] {
                    b'a' => b'b',
                    b'z' => b'y',
                    b'A'..=b'Y' | b'a'..=b'y' | b'0'..=b'8' => bytes[at] + 1,
                    b'Z' => b'A',
                    b'9' => b'0',
                    _ => b'a',
                };
                sandbox.write("changed.yaml", &bytes);
                let run = sandbox.run(&["unseal", "changed.yaml", "-i", "key.txt"]);
                let context = format!("{file} byte {at}: {}", run.err);
                assert_eq!(run.code, 1, "{context}");
                assert!(run.out.is_empty(), "{context}");
                for plain in ["correct horse", "admin", "Y29ycmVjd", "YWRtaW4"] {
                    assert!(!run.err.contains(plain), "{context}");
                }
                changes += 1;
            }
        }
    }
    assert!(changes > 200, "{changes}");
}

#[test]
fn another_scope_does_not_open() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).well();
    let text = sandbox.read("s.yaml");
    for scope in ["namespace-wide", "cluster-wide"] {
        sandbox.write("c.yaml", text.replace("spec:\n", &format!("spec:\n  scope: {scope}\n")));
        let run = sandbox.run(&["unseal", "c.yaml", "-i", "key.txt"]);
        assert!(run.code == 1 && run.out.is_empty());
        assert!(run.err.starts_with("error[BUL101]: sealed for another place; will not open here\n"), "{}", run.err);
    }
}
