use std::os::unix::fs::PermissionsExt as _;

use crate::sandbox::Sandbox;

#[test]
fn writes_an_identity_for_its_owner_alone_and_a_recipient() {
    let sandbox = Sandbox::empty();
    let run = sandbox.run(&["keygen", "-w", "key.txt"]).well();
    assert_eq!(run.err, "wrote key.txt (the identity: keep it secret) and key.txt.pub (the recipient), hybrid\n");
    assert_eq!(run.text(), format!("{}\n", sandbox.fingerprint("key.txt.pub")));
    let mode = std::fs::metadata(sandbox.path("key.txt")).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(sandbox.read("key.txt").lines().last().expect("a line").starts_with("AGE-SECRET-KEY-PQ-1"));
    let public = sandbox.read("key.txt.pub");
    assert!(public.starts_with("# created: 20") && public.lines().count() == 2, "{public}");
    assert!(!run.err.contains("AGE-SECRET-KEY"));
}

#[test]
fn a_classical_key_is_made_on_request() {
    let sandbox = Sandbox::empty();
    sandbox.run(&["keygen", "--classical", "-w", "key.txt", "--recipient", "alice.pub"]).well();
    assert_eq!(sandbox.names(), ["alice.pub", "key.txt"]);
    assert_eq!(sandbox.read("alice.pub").lines().last().expect("a line").len(), 62);
}

#[test]
fn nothing_is_overwritten() {
    let sandbox = Sandbox::new();
    let before = (sandbox.bytes("key.txt"), sandbox.bytes("key.txt.pub"));
    let help = "help: choose another name, or move it away if nothing is sealed for it any more\n";
    let run = sandbox.run(&["keygen", "-w", "key.txt"]);
    run.fails(1, &format!("error: key.txt is there already and is not overwritten\n{help}"));
    let run = sandbox.run(&["keygen", "-w", "other.txt", "--recipient", "key.txt.pub"]);
    run.fails(1, &format!("error: key.txt.pub is there already and is not overwritten\n{help}"));
    assert_eq!(before, (sandbox.bytes("key.txt"), sandbox.bytes("key.txt.pub")));
    assert_eq!(sandbox.names(), ["key.txt", "key.txt.pub"]);
}

#[test]
fn an_identity_is_never_printed() {
    Sandbox::empty()
        .run(&["keygen", "-w", "-"])
        .fails(2, "error: an identity is never printed\nhelp: bulla keygen -w FILE\n");
}

#[test]
fn without_a_file_it_goes_below_the_home_directory() {
    let sandbox = Sandbox::empty();
    sandbox.run(&["keygen"]).well();
    assert!(sandbox.read("home/.config/bulla/identity.txt").contains("AGE-SECRET-KEY-PQ-1"));
    let mode = std::fs::metadata(sandbox.path("home/.config/bulla")).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
