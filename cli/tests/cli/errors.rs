//! Every error says what is wrong, where, and what to do, and shows no value.

use bech32::{Checksum, Hrp};

use crate::sandbox::{CONFIG, DB, Sandbox};

fn seal(text: impl AsRef<[u8]>) -> crate::sandbox::Run {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", text);
    sandbox.run(&["seal", "db.yaml", "-R", "key.txt.pub"])
}

#[test]
fn no_recipients() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml"]).fails(
        1,
        "error: no recipient for db.yaml: neither -r nor -R\nhelp: bulla seal db.yaml -R prod.pub     \
         (bulla recipients --context NAME > prod.pub)\n",
    );
    sandbox.write("empty.pub", "# nobody\n");
    sandbox
        .run(&["seal", "db.yaml", "-R", "empty.pub"])
        .fails(1, "error: there is no key in empty.pub\n  --> empty.pub\n");
    sandbox
        .run(&["seal", "db.yaml", "-R", "nowhere.pub"])
        .fails(3, "error: can't read nowhere.pub: there is no such file\n");
}

#[test]
fn a_recipient_that_is_one_character_off() {
    let sandbox = Sandbox::new();
    let text = sandbox.read("key.txt.pub");
    let at = text.len() - 700;
    let other = if &text[at..=at] == "q" { "p" } else { "q" };
    sandbox.write("bad.pub", format!("{}{other}{}", &text[..at], &text[at + 1..]));
    sandbox.with_input(&["seal", "-R", "bad.pub"], DB).fails(
        1,
        "error: not an age recipient (age1pq… or age1…); is a character missing or changed?\n  --> bad.pub:2\nhelp: copy \
         the whole line again, or: bulla recipients --context NAME\n",
    );
    sandbox.with_input(&["seal", "-r", "age1nope"], DB).fails(
        1,
        "error: -r: not an age recipient (age1pq… or age1…); is a character missing or changed?\nhelp: -r takes a name \
         of .bulla.yaml, or a recipient itself; for one in a file: -R FILE\n",
    );
}

/// Bech32 of any length, as age has it.
enum Long {}

impl Checksum for Long {
    type MidstateRepr = u32;
    const CODE_LENGTH: usize = 4096;
    const CHECKSUM_LENGTH: usize = bech32::Bech32::CHECKSUM_LENGTH;
    const GENERATOR_SH: [u32; 5] = bech32::Bech32::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = bech32::Bech32::TARGET_RESIDUE;
}

#[test]
fn a_share_of_low_order() {
    let sandbox = Sandbox::new();
    let classical = bech32::encode_lower::<Long>(Hrp::parse("age").expect("a prefix"), &[0; 32]).expect("encodes");
    let public = sandbox.read("key.txt.pub");
    let (hrp, mut bytes) = {
        let checked = bech32::primitives::decode::CheckedHrpstring::new::<Long>(public.lines().last().expect("a line"))
            .expect("decodes");
        (checked.hrp(), checked.byte_iter().collect::<Vec<u8>>())
    };
    let share = bytes.len() - 32;
    bytes[share..].fill(0);
    let hybrid = bech32::encode_lower::<Long>(hrp, &bytes).expect("encodes");
    for recipient in [classical, hybrid] {
        sandbox.write("low.pub", format!("{recipient}\n"));
        sandbox.with_input(&["seal", "-R", "low.pub"], DB).fails(
            1,
            "error: the recipient's X25519 share is of low order: anybody could open what is sealed for it\n  --> \
             low.pub:1\nhelp: do not use it; ask where it comes from\n",
        );
    }
}

#[test]
fn mixed_recipients() {
    let sandbox = Sandbox::new();
    sandbox.run(&["keygen", "--classical", "-w", "old.txt"]).well();
    let args = ["seal", "-R", "key.txt.pub", "-R", "old.txt.pub"];
    sandbox.with_input(&args, DB).fails(
        1,
        "error: hybrid and classical recipients together: what is sealed would be only as safe against a quantum computer \
         as the classical one (classical: old)\nhelp: leave one of the kinds out; or, if it is meant: --allow-mixed\n",
    );
    sandbox.with_input(&[&args[..], &["--allow-mixed"]].concat(), DB).well();
}

#[test]
fn private_keys_and_certificates_are_no_recipients() {
    let sandbox = Sandbox::new();
    let run = sandbox.with_input(&["seal", "-R", "key.txt"], DB);
    run.fails(
        1,
        "error: this is a private key (AGE-SECRET-KEY-…) where a recipient belongs; use the .pub file beside it\n  --> \
         key.txt:3\nhelp: if anybody else could read this file, make a new key\n",
    );
    sandbox.write("cert.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    let what = "error: cert.pem: the certificate is damaged: copy the whole of it again\n";
    sandbox.with_input(&["seal", "-R", "cert.pem"], DB).fails(1, &format!("{what}  --> cert.pem\n"));
    sandbox.with_input(&["seal", "--cert", "cert.pem"], DB).fails(1, what);
}

#[test]
fn a_classical_envelope_is_not_wrapped_for_a_hybrid_key() {
    let sandbox = Sandbox::new();
    sandbox.run(&["keygen", "--classical", "-w", "old.txt"]).well();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "old.txt.pub"]).well();
    let run = sandbox.run(&["reseal", "s.yaml", "-i", "old.txt", "-R", "key.txt.pub"]);
    assert_eq!(run.code, 1);
    assert!(
        run.err.starts_with(
            "error: shop/db: its old envelope is classical: the data key must be replaced, not wrapped anew\n  --> \
             s.yaml\nhelp: bulla reseal s.yaml --fresh -i OLD -R NEW.pub\n"
        ),
        "{}",
        run.err
    );
    sandbox.run(&["reseal", "s.yaml", "--fresh", "-i", "old.txt", "-R", "key.txt.pub"]).well();
    sandbox
        .with_input(&["seal", "-R", "-"], DB)
        .fails(2, "error: standard input can't be both the manifest and the recipients\n");
}

#[test]
fn one_name_for_two() {
    let sandbox = Sandbox::new();
    sandbox.run(&["keygen", "-w", "b.txt"]).well();
    for name in ["key", "b"] {
        sandbox.write(&format!("{name}.pub"), format!("# name: prod\n{}", sandbox.read(&format!("{name}.txt.pub"))));
    }
    sandbox.with_input(&["seal", "-R", "key.pub", "-R", "b.pub"], DB).fails(
        1,
        "error: the name prod stands for two recipients\nhelp: name them with a line \"# name: NAME\" before the recipient \
         in its file\n",
    );
    let run = sandbox.with_input(&["seal", "-R", "key.pub"], DB).well();
    assert!(run.text().contains("    prod: >-\n"));
    sandbox.write("off.pub", format!("# name: off\n{}", sandbox.read("b.txt.pub")));
    let run = sandbox.with_input(&["seal", "-R", "off.pub"], DB);
    assert!(run.code == 1 && run.err.contains("--> off.pub:1\n"), "{}", run.err);
}

#[test]
fn missing_name_and_namespace() {
    seal(DB.replace("  namespace: shop\n", "")).fails(
        1,
        "error: Secret \"db\" has no namespace, and scope strict binds to one\n  --> db.yaml:4:3\nhelp: add \"namespace:\" \
         under metadata, or pass -n (your kubectl context is not used)\n",
    );
    seal(DB.replace("  name: db\n", "")).fails(
        1,
        "error: the Secret has no name, and scope strict binds to one\n  --> db.yaml:4:3\nhelp: add \"name:\" under \
         metadata, or pass --name\n",
    );
    seal(DB.replace("namespace: shop", "namespace: Shop")).fails(
        1,
        "error: Secret \"db\": the namespace is not a DNS label (1 to 63 of a-z 0-9 -, beginning and ending with a letter \
         or digit)\n  --> db.yaml:5:14\n5 |   namespace: ········\n  |              ^^^^^^^^\n",
    );
}

#[test]
fn no_secret_at_all() {
    seal("").fails(1, "error: there is no Secret in db.yaml: it is empty\n");
    seal(CONFIG).fails(
        1,
        "error: there is no Secret in db.yaml, but 1 other object (ConfigMap)\nhelp: only a v1 Secret is ever sealed\n",
    );
    let sandbox = Sandbox::new();
    sandbox
        .with_input(&["seal", "-R", "key.txt.pub"], "")
        .fails(1, "error: standard input was empty: there is no Secret to seal\n");
    let sealed = sandbox.with_input(&["seal", "-R", "key.txt.pub"], DB).well();
    sandbox.with_input(&["seal", "-R", "key.txt.pub"], sealed.out).fails(
        1,
        "error: there is no Secret in standard input, but 1 other object (SealedSecret)\nhelp: it is sealed already; to \
         change a value: bulla set FILE KEY\n",
    );
}

#[test]
fn malformed_values() {
    seal(format!("{DB}  password: again\n")).fails(
        1,
        "error: the key \"password\" is there twice\n  --> db.yaml:9:3\n9 |   password: ········\n  |   ^^^^^^^^\nhelp: keep \
         one of them; tools differ in which one they take\n",
    );
    seal(DB.replace("hunter2", "0123")).fails(
        1,
        "error: stringData.password is a number, not text\n  --> db.yaml:7:13\n7 |   password: ········\n  |             \
         ^^^^^^^^\nhelp: quote it\n",
    );
    let run = seal(DB.replace("  password:", "  on:"));
    assert_eq!(run.code, 1);
    assert!(run.err.starts_with("error: the key on under stringData is a boolean to many readers\n"), "{}", run.err);
    seal(DB.replace("stringData", "data").replace("hunter2", "hunter2!").replace("admin", "YQ==")).fails(
        1,
        "error: data.password is not base64\n  --> db.yaml:7:13\n7 |   password: ········\n  |             \
         ^^^^^^^^\nhelp: text as it is belongs under stringData\n",
    );
    let json =
        r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a","namespace":"b"},"data":{"k":"Yg==","k":"Yw=="}}"#;
    let run = seal(json);
    assert!(run.code == 1 && run.err.starts_with("error: the key \"k\" is there twice\n"), "{}", run.err);
    let run = seal("password: [hunter2");
    assert_eq!((run.code, run.err.contains("hunter2")), (1, false), "{}", run.err);
}

#[test]
fn too_large() {
    let run = seal(DB.replace("hunter2", &"x".repeat(1_200_000)));
    assert_eq!(run.code, 1);
    assert!(run.err.starts_with("error: Secret \"db\" is too large: sealed it has "), "{}", run.err);
    assert!(
        run.err.ends_with("at most 1468006 (etcd's limit)\n  --> db.yaml:4:3\nhelp: split the Secret\n"),
        "{}",
        run.err
    );
}

/// A sealed file, changed.
fn unseal(change: impl Fn(&str) -> String) -> crate::sandbox::Run {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).well();
    let text = sandbox.read("s.yaml");
    let changed = change(&text);
    assert_ne!(text, changed);
    sandbox.write("s.yaml", changed);
    sandbox.run(&["unseal", "s.yaml", "-i", "key.txt"])
}

const EXCERPT: &str = "  --> s.yaml:8:5\n8 |     password:\n  |     ^^^^^^^^";
const FROM_GIT: &str = "help: take the file from Git as it was\n";

fn sealed_password(text: &str) -> &str {
    text.lines().nth(9).expect("the text").trim()
}

#[test]
fn truncated_items() {
    unseal(|text| text.replace(sealed_password(text), &sealed_password(text)[..74]))
        .fails(1, &format!("error: item \"password\": it is cut off\n{EXCERPT}\n{FROM_GIT}"));
    unseal(|text| text.replace(sealed_password(text), &sealed_password(text)[..75]))
        .fails(1, &format!("error: item \"password\": its base64 is damaged\n{EXCERPT}\n{FROM_GIT}"));
}

#[test]
fn an_unknown_version() {
    // The first byte of an item is its version: its last two bits are the first of the second character.
    unseal(|text| {
        let (id, rest) = sealed_password(text).split_once(':').expect("a colon");
        const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let at = ALPHABET.find(&rest[1..2]).expect("base64");
        text.replace(sealed_password(text), &format!("{id}:A{}{}", &ALPHABET[at + 16..=at + 16], &rest[2..]))
    })
    .fails(
        1,
        &format!(
            "error: item \"password\": version 2 of the format is not known to this program; a newer one may open \
             it\n{EXCERPT}\n{FROM_GIT}"
        ),
    );
}

#[test]
fn a_missing_envelope() {
    let run = unseal(|text| text[..text.find("  envelopes:").expect("envelopes")].to_owned());
    assert_eq!(run.code, 1);
    assert!(
        run.err.starts_with(&format!(
            "error: item \"password\" has no envelope: nobody can open it\n{EXCERPT}\nhelp: take the file from Git as it \
             was, or enter the value again: bulla set\n\nerror: item \"username\" has no envelope"
        )),
        "{}",
        run.err
    );
}

#[test]
fn moved_items() {
    let moved = |place: &str| {
        format!(
            "error[BUL101]: sealed for another place; will not open here\n{EXCERPT} not sealed for {place} (scope \
             strict)\nhelp: bulla move s.yaml --from NAMESPACE/NAME -i IDENTITY\nhelp: without an identity: put the names \
             back, or enter again all that is misplaced: bulla set s.yaml KEY…\n"
        )
    };
    for (from, to, place) in [("name: db", "name: web", "shop/web"), ("namespace: shop", "namespace: live", "live/db")]
    {
        let run = unseal(|text| text.replace(from, to));
        assert_eq!(run.code, 1);
        assert!(run.err.starts_with(&moved(place)), "{}", run.err);
    }
    let run = unseal(|text| text.replace("    password:", "    passwort:"));
    assert!(run.code == 1 && run.err.starts_with("error[BUL101]: sealed for another place"), "{}", run.err);
    let run = unseal(|text| text.replace("  namespace: shop\n", ""));
    assert!(
        run.err
            .starts_with("error: the SealedSecret has no namespace, and scope strict binds to one\n  --> s.yaml:1:1\n"),
        "{}",
        run.err
    );
}

#[test]
fn anchors_and_duplicates_in_sealed_files() {
    let run = unseal(|text| text.replace("    password:", "    password: &a"));
    assert!(run.code == 1 && run.err.contains("in a sealed manifest\n"), "{}", run.err);
    let run = unseal(|text| text.replace("    username:", "    password:"));
    assert!(run.code == 1 && run.err.starts_with("error: the key \"password\" is there twice\n"), "{}", run.err);
}

#[test]
fn no_arguments_show_a_short_help() {
    let run = Sandbox::empty().run(&[]);
    assert_eq!((run.code, run.out.len()), (2, 0));
    assert!(run.err.contains("Usage: bulla <COMMAND>"), "{}", run.err);
    let run = Sandbox::empty().run(&["--version"]).well();
    assert_eq!(run.text(), format!("bulla {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn install_prints_manifests() {
    let run = Sandbox::empty().run(&["install", "--image", "example.test/bulla:1"]).well();
    assert_eq!(run.err, "");
    assert_eq!(run.text().matches("kind: CustomResourceDefinition\n").count(), 2);
    assert!(run.text().contains("kind: Namespace\n"));
    let run = Sandbox::empty().run(&["install"]).well();
    assert_eq!(run.err, "warning: there is no release yet: the image is a placeholder. Pass --image REF\n");
    let run = Sandbox::empty().run(&["install", "--crds-only"]).well();
    assert_eq!((run.err.as_str(), run.text().contains("kind: Namespace")), ("", false));
    let run = Sandbox::empty().run(&["install", "--image", "a b"]);
    run.fails(2, "error: --image \"a b\" is no reference to an image\n");
    // Elsewhere: in a namespace that is there.
    let image = ["install", "--image", "example.test/bulla:1", "--controller-namespace"];
    let run = Sandbox::empty().run(&[&image[..], &["kube-system"]].concat()).well();
    assert!(!run.text().contains("bulla-system") && !run.text().contains("kind: Namespace\n"));
    assert!(run.text().contains("args: [--namespace=kube-system]"));
    Sandbox::empty()
        .run(&[&image[..], &["A b"]].concat())
        .fails(2, "error: --controller-namespace \"A b\" is no namespace\n");
    Sandbox::empty()
        .run(&[&image[..], &["sealed", "--bitnami"]].concat())
        .fails(2, "error: --controller-namespace: with --bitnami it runs in --bitnami-namespace\n");
}

#[test]
fn install_prints_what_serving_bitnamis_objects_takes_and_no_more() {
    let of = |args: &[&str]| {
        let all = [&["install", "--image", "example.test/bulla:1"], args].concat();
        Sandbox::empty().run(&all).well().text().to_owned()
    };
    let (plain, observe, own) = (of(&[]), of(&["--bitnami=observe"]), of(&["--bitnami"]));
    assert!(!plain.contains("bitnami"));
    assert!(observe.contains("args: [--namespace=kube-system, --bitnami=observe, --bitnami-namespace=kube-system]"));
    assert!(own.contains("args: [--namespace=kube-system, --bitnami=own, --bitnami-namespace=kube-system]"));
    // Rights to write, and the name that kubeseal asks for, only where they are needed.
    for (text, writes) in [(&observe, false), (&own, true)] {
        assert_eq!(text.contains("name: bulla-observed\n"), !writes);
        assert!(text.contains("  name: bulla-bitnami\n"));
        assert_eq!(text.contains("name: sealed-secrets-controller\n"), writes);
        assert_eq!(text.matches("resources: [sealedsecrets/status]").count(), 1 + usize::from(writes));
        assert!(!text.contains("bulla-system") && !text.contains("kind: Namespace\n"));
    }
    let elsewhere = of(&["--bitnami", "--bitnami-namespace", "sealed"]);
    assert!(elsewhere.contains("  namespace: sealed\n") && !elsewhere.contains("kube-system"));
    let run = Sandbox::empty().run(&["install", "--bitnami", "--bitnami-namespace", "A b"]);
    run.fails(2, "error: --bitnami-namespace \"A b\" is no namespace\n");
}

#[test]
fn install_mounts_recovery_recipients() {
    let sandbox = Sandbox::empty();
    sandbox.run(&["keygen", "-w", "recovery.txt"]).well();
    let recipient = std::fs::read_to_string(sandbox.path("recovery.txt.pub")).unwrap();
    let run = sandbox.run(&["install", "--image", "example.test/bulla:1", "--recovery", "dr=recovery.txt.pub"]).well();
    let text = run.text();
    let documents: Vec<serde_json::Value> = serde_yaml::Deserializer::from_str(&text)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .collect();
    let of = |kind: &str| documents.iter().find(|document| document["kind"] == kind).unwrap();
    let key = recipient.lines().find(|line| line.starts_with("age1")).unwrap();
    assert_eq!(of("ConfigMap")["data"]["dr"], key);
    let pod = &of("Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["args"][1], "--recipient=dr=/etc/bulla/recovery/dr");
    assert_eq!(pod["containers"][0]["volumeMounts"][0]["mountPath"], "/etc/bulla/recovery");
    assert_eq!(pod["containers"][0]["volumeMounts"][0]["name"], pod["volumes"][0]["name"]);
    assert_eq!(pod["volumes"][0]["configMap"]["name"], of("ConfigMap")["metadata"]["name"]);
    assert_eq!(pod["containers"][0]["image"], "example.test/bulla:1");
    for (given, why) in [
        ("recovery.txt.pub", "it wants NAME=FILE, as recovery=recovery.pub"),
        ("D R=recovery.txt.pub", "a name is a lowercase letter, then letters, digits and dashes"),
    ] {
        sandbox.run(&["install", "--recovery", given]).fails(2, &format!("error: --recovery {given:?}: {why}\n"));
    }
    let run = sandbox.run(&["install", "--bitnami", "--recovery", "dr=recovery.txt.pub"]).well();
    assert!(run.text().contains("  name: bulla-recovery\n  namespace: kube-system\n"), "{}", run.text());
    assert!(run.text().contains("--bitnami-namespace=kube-system, '--recipient=dr=/etc/bulla/recovery/dr']\n"));
    let private = sandbox.run(&["install", "--recovery", "dr=recovery.txt"]);
    assert!(private.code != 0 && private.err.contains("recovery.txt") && private.out.is_empty(), "{}", private.err);
    let missing = sandbox.run(&["install", "--recovery", "dr=none.pub"]);
    assert!(missing.code != 0 && missing.err.contains("none.pub") && missing.out.is_empty(), "{}", missing.err);
}

#[test]
fn a_git_conflict_is_called_one() {
    let sandbox = Sandbox::new();
    sandbox.write("s.yaml", format!("{DB}<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> other\n"));
    let run = sandbox.with_input(&["set", "s.yaml", "password", "-R", "key.txt.pub"], "x");
    assert!(run.err.starts_with("error: there is an unsettled Git conflict here\n  --> s.yaml:9:1\n"), "{}", run.err);
    assert!(run.code == 1 && run.err.contains("help: settle it"));
}

#[test]
fn a_value_among_the_keys_is_not_repeated() {
    let sandbox = Sandbox::new();
    let run = sandbox.with_input(&["set", "new.sealed.yaml", "password=hunter2", "-n", "x", "-R", "key.txt.pub"], "");
    assert!(run.code == 2 && run.err.starts_with("error: password=…: a value on the command line"), "{}", run.err);
    assert!(!run.err.contains("hunter2"));
    let run = sandbox.run(&["seal", "--name", "x", "-n", "y", "--from-literal", "a b=hunter2", "-R", "key.txt.pub"]);
    assert!(run.code == 2 && !run.err.contains("hunter2"), "{}", run.err);
}

#[test]
fn a_recipient_of_before_a_rotation_is_told_apart_from_a_stranger() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["keygen", "-w", "new"]).well();
    let named = |file: &str| format!("# name: prod\n{}", sandbox.read(file));
    sandbox.write("old.pub", named("key.txt.pub"));
    sandbox.write("new.pub", named("new.pub"));
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "old.pub"]).well();
    let before = sandbox.bytes("s.yaml");
    let run = sandbox.with_input(&["set", "s.yaml", "password", "-R", "new.pub"], "x");
    assert!(
        run.code == 1 && run.err.starts_with("error: s.yaml is sealed for another key called prod ("),
        "{}",
        run.err
    );
    assert!(run.err.contains("help: if the one given is old, fetch the new one: bulla recipients > prod.pub\n"));
    assert_eq!(sandbox.bytes("s.yaml"), before);
}

#[test]
fn after_a_move_all_values_can_be_entered_again_at_once() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-w", "s.yaml", "-R", "key.txt.pub"]).well();
    sandbox.write("s.yaml", sandbox.read("s.yaml").replace("namespace: shop", "namespace: live"));
    sandbox.write("value", "again");
    let one = sandbox.run(&["set", "s.yaml", "password", "--from-file", "value", "-R", "key.txt.pub"]);
    assert!(one.code == 1 && one.err.contains("BUL101") && one.err.contains("11 |     username:"), "{}", one.err);
    let both = ["--from-file", "password=value", "--from-file", "username=value"];
    sandbox.run(&[&["set", "s.yaml", "password", "username", "-R", "key.txt.pub"][..], &both].concat()).well();
    let opened = sandbox.run(&["unseal", "s.yaml", "-i", "key.txt", "--key", "username"]).well();
    assert_eq!(opened.text(), "again");
}
