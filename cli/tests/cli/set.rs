use crate::sandbox::{DB, Sandbox};

fn sealed() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "db.sealed.yaml", "-R", "key.txt.pub"]).well();
    sandbox
}

fn value(sandbox: &Sandbox, file: &str, key: &str) -> Vec<u8> {
    sandbox.run(&["unseal", file, "-i", "key.txt", "--key", key]).well().out
}

#[test]
fn a_file_that_is_not_there_is_created() {
    let sandbox = Sandbox::new();
    let run =
        sandbox.with_input(&["set", "db.sealed.yaml", "password", "-n", "shop", "-R", "key.txt.pub"], "x\r\n").well();
    assert_eq!(
        run.err,
        "created db.sealed.yaml: SealedSecret shop/db, 1 item (a trailing newline was dropped), for key\n"
    );
    assert!(sandbox.read("db.sealed.yaml").contains("  name: db\n  namespace: shop\n"));
    assert_eq!(value(&sandbox, "db.sealed.yaml", "password"), b"x");
    let run = sandbox.with_input(&["set", "y.json", "k", "-n", "shop", "--name", "z", "-R", "key.txt.pub"], "x").well();
    assert_eq!(run.err, "created y.json: SealedSecret shop/z, 1 item, for key\n");
    assert!(sandbox.read("y.json").starts_with('{'));
    sandbox.with_input(&["set", "db2.sealed.yaml", "password", "-R", "key.txt.pub"], "x").fails(
        2,
        "error: Secret \"db2\" has no namespace, and scope strict binds to one\nhelp: pass -n (your kubectl context is not \
         used)\n",
    );
    sandbox
        .with_input(&["set", "No_Name.yaml", "k", "-n", "shop", "-R", "key.txt.pub"], "x")
        .fails(2, "error: No_Name.yaml gives no name for a Secret\nhelp: --name NAME\n");
}

#[test]
fn only_the_lines_of_the_key_change() {
    let sandbox = sealed();
    let before = sandbox.read("db.sealed.yaml");
    let run = sandbox.with_input(&["set", "db.sealed.yaml", "password", "-R", "key.txt.pub"], "new\n").well();
    assert_eq!(run.err, "set password in shop/db (3 bytes; a trailing newline was dropped), for key\n");
    let after = sandbox.read("db.sealed.yaml");
    let (head, _) = before.split_once("    password:").expect("the item");
    let (_, tail) = before.split_once("    username:").expect("the next");
    assert!(after.starts_with(&format!("{head}    password:")) && after.ends_with(&format!("    username:{tail}")));
    assert_eq!(value(&sandbox, "db.sealed.yaml", "password"), b"new");
    assert_eq!(value(&sandbox, "db.sealed.yaml", "username"), b"admin");
}

#[test]
fn one_final_line_end_is_dropped_unless_exact() {
    let sandbox = sealed();
    for (input, exact, wanted) in
        [("a\n\n", false, "a\n"), ("a\r\n", false, "a"), ("a\r", false, "a\r"), ("a\n", true, "a\n"), ("a", false, "a")]
    {
        let mut args = vec!["set", "db.sealed.yaml", "k", "-R", "key.txt.pub"];
        args.extend(exact.then_some("--exact"));
        sandbox.with_input(&args, input).well();
        assert_eq!(value(&sandbox, "db.sealed.yaml", "k"), wanted.as_bytes());
    }
}

#[test]
fn empty_values_need_a_word() {
    let sandbox = sealed();
    let before = sandbox.bytes("db.sealed.yaml");
    let args = ["set", "db.sealed.yaml", "password", "-R", "key.txt.pub"];
    for input in ["", "\n"] {
        sandbox.with_input(&args, input).fails(
            1,
            "error: standard input was empty: no value for \"password\"\nhelp: printf %s \"$PASSWORD\" | bulla set \
             db.sealed.yaml password     (empty on purpose: --allow-empty)\n",
        );
    }
    assert_eq!(before, sandbox.bytes("db.sealed.yaml"));
    sandbox.with_input(&[&args[..], &["--allow-empty"]].concat(), "").well();
    assert_eq!(value(&sandbox, "db.sealed.yaml", "password"), b"");
}

#[test]
fn several_keys_need_files_or_a_terminal() {
    let sandbox = sealed();
    sandbox.with_input(&["set", "db.sealed.yaml", "a", "b", "-R", "key.txt.pub"], "x").fails(
        2,
        "error: 2 keys, and standard input has one value\nhelp: one at a time, or: bulla set db.sealed.yaml a --from-file \
         a=PATH b --from-file b=PATH\n",
    );
    sandbox.write("one", "1\n");
    sandbox.write("two", "2");
    let run = sandbox
        .run(&["set", "db.sealed.yaml", "a", "b", "--from-file", "a=one", "--from-file", "b=two", "-R", "key.txt.pub"])
        .well();
    assert_eq!(run.err, "set a (2 bytes), b (1 byte) in shop/db, for key\n");
    assert_eq!(value(&sandbox, "db.sealed.yaml", "a"), b"1\n");
}

#[test]
fn values_are_made_up() {
    let sandbox = sealed();
    for (kind, len) in [("password", 32), ("hex", 64), ("base64", 44), ("uuid", 36)] {
        let args = ["set", "db.sealed.yaml", "k", "--generate", kind, "-R", "key.txt.pub"];
        sandbox.run(&args).well();
        let one = value(&sandbox, "db.sealed.yaml", "k");
        sandbox.run(&args).well();
        let two = value(&sandbox, "db.sealed.yaml", "k");
        assert!(one.len() == len && two.len() == len && one != two, "{kind}");
    }
}

#[test]
fn who_reads_the_file_must_be_among_the_recipients() {
    let sandbox = sealed();
    sandbox.run(&["keygen", "-w", "other.txt"]).well();
    let before = sandbox.bytes("db.sealed.yaml");
    let fingerprint = sandbox.fingerprint("key.txt.pub");
    sandbox.with_input(&["set", "db.sealed.yaml", "k", "-R", "other.txt.pub"], "x").fails(
        1,
        &format!(
            "error: db.sealed.yaml is sealed for key {fingerprint} too, who is not among the recipients given and would \
             lose the value\n  --> db.sealed.yaml\nhelp: name that recipient as well (-r or -R), or first: bulla reseal \
             db.sealed.yaml --live, or -i OLD -R NEW.pub\n"
        ),
    );
    assert_eq!(before, sandbox.bytes("db.sealed.yaml"));
    sandbox.with_input(&["set", "db.sealed.yaml", "k", "-R", "other.txt.pub", "-R", "key.txt.pub"], "x").well();
}

#[test]
fn a_wider_scope_is_refused_where_one_was_asked_for() {
    let sandbox = Sandbox::new();
    let create = ["set", "w.yaml", "k", "-n", "shop", "--scope", "namespace-wide", "-R", "key.txt.pub"];
    sandbox.with_input(&create, "x").well();
    sandbox.with_input(&["set", "w.yaml", "k", "-R", "key.txt.pub"], "y").well();
    sandbox.with_input(&["set", "w.yaml", "k", "--scope", "strict", "-R", "key.txt.pub"], "z").fails(
        1,
        "error: the file's scope is namespace-wide, wider than strict: the value could be opened in more places than you \
         want\n  --> w.yaml:7:10\n7 |   scope: ········\n  |          ^^^^^^^^\nhelp: leave --scope out, or seal it anew \
         in a file of its own\n",
    );
}

#[test]
fn usage_errors() {
    let sandbox = sealed();
    sandbox.run(&["set", "db.sealed.yaml"]).fails(2, "error: no key is named\nhelp: bulla set FILE KEY…\n");
    sandbox.run(&["set", "-", "k"]).fails(2, "error: bulla set changes a file; standard input is none\n");
    sandbox.run(&["set", "db.sealed.yaml", "a b"]).fails(
        2,
        "error: \"a b\" can't be a key of a Secret: 1 to 253 of a-z A-Z 0-9 - . _, not \".\" and not beginning with \"..\"\n",
    );
    sandbox.run(&["set", "db.sealed.yaml", "a", "a"]).fails(2, "error: the key a is named twice\n");
    sandbox.with_input(&["set", "-f", "db.sealed.yaml", "a", "-R", "key.txt.pub"], "x").well();
    sandbox.with_input(&["set", "db.yaml", "a", "-R", "key.txt.pub"], "x").fails(
        1,
        "error: there is no SealedSecret in db.yaml, but 1 other object (Secret)\nhelp: seal it first: bulla seal db.yaml\n",
    );
}

#[test]
fn data_keys_are_warned_of_and_limited() {
    let sandbox = sealed();
    sandbox.write("v", "x");
    let keys: Vec<String> = (0..46).map(|n| format!("k{n}")).collect();
    let files: Vec<String> = keys.iter().map(|key| format!("{key}=v")).collect();
    let mut args = vec!["set", "db.sealed.yaml", "-R", "key.txt.pub"];
    args.extend(keys.iter().map(String::as_str));
    args.extend(files.iter().flat_map(|file| ["--from-file", file]));
    assert!(!sandbox.run(&args).well().err.contains("warning"));
    let run = sandbox.with_input(&["set", "db.sealed.yaml", "more", "-R", "key.txt.pub"], "x").well();
    assert!(run.err.contains("warning: shop/db has 48 data keys of at most 64"), "{}", run.err);
    let keys: Vec<String> = (0..17).map(|n| format!("l{n}")).collect();
    let files: Vec<String> = keys.iter().map(|key| format!("{key}=v")).collect();
    let mut args = vec!["set", "db.sealed.yaml", "-R", "key.txt.pub"];
    args.extend(keys.iter().map(String::as_str));
    args.extend(files.iter().flat_map(|file| ["--from-file", file]));
    let before = sandbox.bytes("db.sealed.yaml");
    sandbox.run(&args).fails(
        1,
        "error: db.sealed.yaml has 64 data keys already, one for each value that was set by itself\n  --> \
         db.sealed.yaml\nhelp: make one of them: bulla reseal db.sealed.yaml --fresh -i IDENTITY -R RECIPIENT.pub\n",
    );
    assert_eq!(before, sandbox.bytes("db.sealed.yaml"));
}

#[test]
fn unset_takes_items_out() {
    let sandbox = sealed();
    let run = sandbox.run(&["unset", "db.sealed.yaml", "username"]).well();
    assert_eq!(
        run.err,
        "took username out of shop/db in db.sealed.yaml; 1 item left\nnote: what was committed stays in Git's history: if \
         the value still counts, change it where it counts\n"
    );
    let before = sandbox.bytes("db.sealed.yaml");
    sandbox
        .run(&["unset", "db.sealed.yaml", "username"])
        .fails(3, "error: there is no item username in db.sealed.yaml, but password\n");
    assert_eq!(before, sandbox.bytes("db.sealed.yaml"));
    sandbox.run(&["unset", "nothing.yaml", "k"]).fails(3, "error: can't read nothing.yaml: there is no such file\n");
}
