//! Where identities come from.

use std::os::unix::fs::PermissionsExt as _;

use crate::sandbox::{DB, Sandbox, finish};

fn sealed() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.with_input(&["seal", "-w", "db.sealed.yaml", "-R", "key.txt.pub"], DB).well();
    sandbox
}

const ARGS: [&str; 4] = ["unseal", "db.sealed.yaml", "--key", "password"];

#[test]
fn the_configuration_folder_is_made_and_used() {
    let sandbox = Sandbox::empty();
    sandbox.run(&["keygen"]).well();
    let file = sandbox.path("home/.config/bulla/identity.txt");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o7777;
    assert_eq!((mode(&file), mode(file.parent().expect("a folder"))), (0o600, 0o700));
    let again = sandbox.run(&["keygen"]);
    assert!(again.code == 1 && again.err.contains("is there already and is not overwritten"), "{}", again.err);
    sandbox.with_input(&["seal", "-w", "db.sealed.yaml", "-R", "home/.config/bulla/identity.txt.pub"], DB).well();
    let run = sandbox.run(&ARGS).well();
    assert_eq!((run.text().as_str(), run.err.as_str()), ("hunter2", ""));
    std::fs::rename(sandbox.path("home/.config"), sandbox.path("elsewhere")).expect("moves");
    let mut command = sandbox.bulla(&ARGS);
    command.env("XDG_CONFIG_HOME", sandbox.path("elsewhere"));
    assert_eq!(finish(command, b"").well().text(), "hunter2");
}

#[test]
fn none_at_all_says_what_was_tried() {
    let sandbox = sealed();
    let own = sandbox.path("home/.config/bulla/identity.txt");
    sandbox.run(&ARGS).fails(
        2,
        &format!(
            "error: no identity: no -i, BULLA_IDENTITY_FILE is not set, {} is not there\nhelp: -i FILE names one; bulla \
             keygen makes your own\n",
            own.display()
        ),
    );
}

#[test]
fn the_environment_comes_before_the_folder_and_the_flag_before_both() {
    let sandbox = sealed();
    sandbox.run(&["keygen"]).well();
    let with = |args: &[&str], value: &str| {
        let mut command = sandbox.bulla(args);
        command.env("BULLA_IDENTITY_FILE", value);
        finish(command, b"")
    };
    assert_eq!(with(&ARGS, "key.txt").well().text(), "hunter2");
    with(&ARGS, "gone.txt")
        .fails(3, "error: can't read gone.txt: there is no such file\n  named by BULLA_IDENTITY_FILE\n");
    let own = with(&ARGS, "");
    assert!(own.code == 1 && own.err.contains("no identity in "), "{}", own.err);
    let named = [&ARGS[..], &["-i", "key.txt"]].concat();
    assert_eq!(with(&named, "gone.txt").well().text(), "hunter2");
}

#[test]
fn pipes_are_read_and_never_said_to_be_open() {
    let sandbox = sealed();
    let key = sandbox.bytes("key.txt");
    for stdin in ["-", "/dev/stdin", "/dev/fd/0"] {
        let run = sandbox.with_input(&[&ARGS[..], &["-i", stdin]].concat(), &key).well();
        assert_eq!((run.text().as_str(), run.err.as_str()), ("hunter2", ""), "{stdin}");
    }
    let mut shell = sandbox.command("bash");
    let line = r#""$0" unseal db.sealed.yaml --key password -i <(cat key.txt)"#;
    shell.args(["-c", line]).arg(crate::sandbox::program());
    assert_eq!(finish(shell, b"").well().text(), "hunter2");
    sandbox
        .with_input(&["unseal", "-", "-i", "-"], &key)
        .fails(2, "error: standard input can't be both the file and the identity\n");
}

#[test]
fn a_key_that_others_can_read_is_said_to_be_so() {
    let sandbox = sealed();
    std::fs::set_permissions(sandbox.path("key.txt"), std::fs::Permissions::from_mode(0o640)).expect("sets");
    let run = sandbox.run(&[&ARGS[..], &["-i", "key.txt"]].concat()).well();
    assert_eq!(run.err, "warning: key.txt holds a private key and others may read it (mode 0640): chmod 600 key.txt\n");
}
