//! With somebody at a terminal.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::sandbox::Sandbox;

fn terminal() -> (std::fs::File, std::fs::File) {
    let ours: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).expect("granted");
    unlockpt(&ours).expect("unlocked");
    let name = ptsname(&ours, Vec::new()).expect("a name");
    let theirs = std::fs::File::options().read(true).write(true).open(name.to_str().expect("text")).expect("opens");
    (ours.into(), theirs)
}

fn typed(sandbox: &Sandbox, args: &[&str], keys: &[&str]) -> (i32, String) {
    answered(sandbox, args, "(hidden): ", keys)
}

fn answered(sandbox: &Sandbox, args: &[&str], prompt: &str, keys: &[&str]) -> (i32, String) {
    let (mut ours, theirs) = terminal();
    let mut child = sandbox
        .bulla(args)
        .env("NO_COLOR", "1")
        .stdin(Stdio::from(theirs.try_clone().expect("a copy")))
        .stderr(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    let mut keys = keys.iter();
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    let mut prompts = 0;
    // When the program has gone, reading fails.
    while let Ok(count) = ours.read(&mut buffer) {
        if count == 0 {
            break;
        }
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if seen.matches(prompt).count() > prompts {
            prompts += 1;
            std::thread::sleep(Duration::from_millis(50));
            ours.write_all(keys.next().expect("more to type").as_bytes()).expect("types");
        }
    }
    (child.wait().expect("ends").code().unwrap_or(-1), seen.replace("\r\n", "\n"))
}

#[test]
fn values_are_asked_for_and_not_shown() {
    let sandbox = Sandbox::new();
    let args = ["set", "db.sealed.yaml", "username", "password", "-n", "shop", "-R", "key.txt.pub"];
    let (code, seen) = typed(&sandbox, &args, &["admim\u{7f}n\r", "wrong\u{15}hunter2\r"]);
    assert_eq!(
        (code, seen.as_str()),
        (
            0,
            "username (hidden): \npassword (hidden): \ncreated db.sealed.yaml: SealedSecret shop/db, 2 items, for key\n"
        )
    );
    for (key, value) in [("username", "admin"), ("password", "hunter2")] {
        let opened = sandbox.run(&["unseal", "db.sealed.yaml", "-i", "key.txt", "--key", key]).well();
        assert_eq!(opened.text(), value);
    }
}

#[test]
fn an_interrupt_writes_nothing() {
    let sandbox = Sandbox::new();
    let args = ["set", "db.sealed.yaml", "password", "-n", "shop", "-R", "key.txt.pub"];
    let (code, seen) = typed(&sandbox, &args, &["hun\u{3}"]);
    assert_eq!((code, seen.as_str()), (130, "password (hidden): \nerror: interrupted; nothing was written\n"));
    assert_eq!(sandbox.names(), ["key.txt", "key.txt.pub"]);
}

#[test]
fn a_new_reader_is_asked_for() {
    let sandbox = crate::policy::repository();
    let file = "apps/shop/prod/db.sealed.yaml";
    sandbox.with_input(&["set", file, "password", "-n", "shop"], "hunter2").well();
    let policy = sandbox.read(".bulla.yaml").replace("recipients: [prod]", "recipients: [prod, alice]");
    sandbox.write(".bulla.yaml", policy);
    let before = sandbox.bytes(file);
    let args = ["reseal", "apps", "-i", "recovery.txt", "--add-recipient", "alice"];
    for no in ["n\r", "\r"] {
        let (code, seen) = answered(&sandbox, &args, "[y/N] ", &[no]);
        assert!(code == 1 && seen.starts_with("adding alice r") && seen.contains("nothing was written"), "{seen}");
        assert_eq!(sandbox.bytes(file), before);
    }
    let (code, seen) = answered(&sandbox, &args, "[y/N] ", &["y\r"]);
    assert_eq!(code, 0, "{seen}");
    sandbox.run(&["unseal", file, "-i", "alice.txt"]).well();
}
