//! Whatever moment a command is killed at, every file is as it was or as it should be.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bulla::manifest::Stream;
use bulla::open::open;
use bulla::recipient::{Identity, parse_identities};
use bulla::resource::SealedSecret;

use crate::sandbox::{DB, Sandbox};

const FILES: usize = 12;

fn identities(sandbox: &Sandbox, file: &str) -> Vec<Identity> {
    parse_identities(&sandbox.read(file)).expect("identities")
}

/// What a file opens to; `None` when these identities open it not.
fn values(bytes: &[u8], identities: &[Identity]) -> Option<BTreeMap<String, Vec<u8>>> {
    let stream = Stream::read(bytes).expect("a whole file");
    let object = stream.objects().next().expect("an object");
    let sealed: SealedSecret = object.sealed().expect("a SealedSecret").manifest.into();
    let secret = open(&sealed, &identities.iter().collect::<Vec<_>>()).ok()?;
    Some(secret.data.iter().map(|(key, value)| (key.clone(), value.expose().to_vec())).collect())
}

/// Moments of a run, spread evenly in an order that is not: each from 0 to 1.
fn moments(count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(|n| (n as f64 * 0.618_033_988_749_895).fract())
}

/// Runs a command and kills it after this time. Whether it was still running.
fn killed(sandbox: &Sandbox, args: &[&str], input: Option<&str>, after: Duration) -> bool {
    let mut command = sandbox.bulla(args);
    command
        .stdin(input.map_or_else(Stdio::null, |name| std::fs::File::open(sandbox.path(name)).expect("input").into()));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
    let start = Instant::now();
    while start.elapsed() < after {
        std::hint::spin_loop();
    }
    let running = child.try_wait().expect("is known").is_none();
    child.kill().expect("is killed");
    child.wait().expect("ends");
    running
}

fn duration(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

/// Only sealed files and what the test made may lie around: a file that was being written holds ciphertext alone.
fn no_plaintext(sandbox: &Sandbox, made: &[&str]) {
    for name in sandbox.names().into_iter().filter(|name| !made.contains(&name.as_str())) {
        if sandbox.path(&name).is_file() {
            let bytes = sandbox.bytes(&name);
            assert!(!bytes.windows(7).any(|part| part == b"hunter2"), "{name} holds a value");
        }
    }
}

#[test]
fn a_killed_reseal_leaves_old_files_and_new_ones_and_goes_on_where_it_was() {
    let sandbox = Sandbox::new();
    sandbox.run(&["keygen", "-w", "new.txt"]).well();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-R", "key.txt.pub", "-w", "sealed.yaml"]).well();
    let old = sandbox.bytes("sealed.yaml");
    let (before, after) = (identities(&sandbox, "key.txt"), identities(&sandbox, "new.txt"));
    let expected = values(&old, &before).expect("opens");
    std::fs::create_dir(sandbox.path("tree")).expect("a folder");
    let reset = || (0..FILES).for_each(|n| sandbox.write(&format!("tree/{n}.sealed.yaml"), &old));
    let args = ["reseal", "tree", "-i", "key.txt", "-R", "new.txt.pub"];
    reset();
    let whole = duration(|| _ = sandbox.run(&args).well());
    let (mut interrupted, mut mixed) = (0, 0);
    for moment in moments(200) {
        reset();
        interrupted += usize::from(killed(&sandbox, &args, None, whole.mul_f64(moment)));
        let mut done = 0;
        for n in 0..FILES {
            let bytes = sandbox.bytes(&format!("tree/{n}.sealed.yaml"));
            if bytes != old {
                assert_eq!(values(&bytes, &after).as_ref(), Some(&expected), "neither old nor new");
                done += 1;
            }
        }
        mixed += usize::from(done > 0 && done < FILES);
        if done > 0 && done < FILES && mixed % 8 == 1 {
            // It goes on: what is done already is not in its way.
            sandbox.run(&["reseal", "tree", "-i", "key.txt", "-i", "new.txt", "-R", "new.txt.pub"]).well();
            for n in 0..FILES {
                let bytes = sandbox.bytes(&format!("tree/{n}.sealed.yaml"));
                assert_eq!(values(&bytes, &after).as_ref(), Some(&expected));
            }
        }
    }
    no_plaintext(&sandbox, &["db.yaml"]);
    assert!(interrupted >= 50, "only {interrupted} of 200 runs were killed");
    assert!(mixed >= 1, "no run was killed between two files");
}

#[test]
fn a_killed_set_leaves_the_old_file_or_the_new_one() {
    let sandbox = Sandbox::new();
    sandbox.write("db.yaml", DB);
    sandbox.run(&["seal", "db.yaml", "-R", "key.txt.pub", "-w", "db.sealed.yaml"]).well();
    let old = sandbox.bytes("db.sealed.yaml");
    let held = identities(&sandbox, "key.txt");
    let before = values(&old, &held).expect("opens");
    let mut after = before.clone();
    after.insert("token".into(), b"t0ken".to_vec());
    sandbox.write("value", "t0ken");
    let args = ["set", "db.sealed.yaml", "token", "-R", "key.txt.pub"];
    let whole = duration(|| _ = sandbox.with_input(&args, "t0ken").well());
    let mut interrupted = 0;
    for moment in moments(200) {
        sandbox.write("db.sealed.yaml", &old);
        interrupted += usize::from(killed(&sandbox, &args, Some("value"), whole.mul_f64(moment)));
        let bytes = sandbox.bytes("db.sealed.yaml");
        assert!(bytes == old || values(&bytes, &held).as_ref() == Some(&after), "neither old nor new");
    }
    no_plaintext(&sandbox, &["db.yaml", "value"]);
    assert!(interrupted >= 50, "only {interrupted} of 200 runs were killed");
}

#[test]
fn a_killed_migrate_leaves_whole_files_and_goes_on_where_it_was() {
    let sandbox = crate::bitnami::sandbox();
    let old = sandbox.with_input(&["seal", "--cert", "large.pem"], DB).well().out;
    let held = identities(&sandbox, "key.txt");
    std::fs::create_dir(sandbox.path("tree")).expect("a folder");
    let reset = || (0..FILES).for_each(|n| sandbox.write(&format!("tree/{n}.yaml"), &old));
    let args = ["migrate", "tree", "--replace", "--prunes-last", "-i", "large.key", "-R", "key.txt.pub"];
    reset();
    let whole = duration(|| _ = sandbox.run(&args).well());
    let expected = values(&sandbox.bytes("tree/0.yaml"), &held).expect("opens");
    let (mut interrupted, mut mixed) = (0, 0);
    for moment in moments(120) {
        reset();
        interrupted += usize::from(killed(&sandbox, &args, None, whole.mul_f64(moment)));
        let done = |count: usize| {
            let bytes = sandbox.bytes(&format!("tree/{count}.yaml"));
            assert!(bytes == old || values(&bytes, &held).as_ref() == Some(&expected), "neither old nor new");
            bytes != old
        };
        let finished = (0..FILES).filter(|n| done(*n)).count();
        mixed += usize::from(finished > 0 && finished < FILES);
        if finished > 0 && finished < FILES && mixed % 8 == 1 {
            sandbox.run(&args).well();
            assert!((0..FILES).all(done));
        }
    }
    no_plaintext(&sandbox, &[]);
    assert!(interrupted >= 30, "only {interrupted} of 120 runs were killed");
    assert!(mixed >= 1, "no run was killed between two files");
}
