//! Whatever moment a command is killed at, every file is as it was or as it should be.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
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

/// Runs of a command that are killed, until enough of them were.
struct Killer<'a> {
    sandbox: &'a Sandbox,
    args: &'a [&'a str],
    /// A file for standard input.
    input: Option<&'static str>,
    runs: u32,
    /// How long a run takes, as far as the last ones tell: it is another one with each load of the machine.
    whole: Duration,
    /// Runs that were still going on when they were killed.
    interrupted: usize,
}

impl<'a> Killer<'a> {
    fn new(sandbox: &'a Sandbox, args: &'a [&'a str], input: Option<&'static str>) -> Self {
        Self { sandbox, args, input, runs: 0, whole: Duration::from_millis(20), interrupted: 0 }
    }

    /// Kills a run at a moment of it: those of all runs are spread evenly, in an order that is not.
    fn at_some_moment(&mut self) {
        let after = self.whole.mul_f64((f64::from(self.runs) * 0.618_033_988_749_895).fract());
        let start = Instant::now();
        let running = self.when(|| start.elapsed() >= after);
        self.whole = self.whole.mul_f64(if running { 1.05 } else { 0.8 });
    }

    /// Kills a run as soon as this is so. Whether it was still going on.
    fn when(&mut self, mut now: impl FnMut() -> bool) -> bool {
        self.runs += 1;
        assert!(self.runs < 10_000, "of {} runs only {} were killed", self.runs, self.interrupted);
        let mut command = self.sandbox.bulla(self.args);
        let open = |name| std::fs::File::open(self.sandbox.path(name)).expect("input").into();
        command.stdin(self.input.map_or_else(Stdio::null, open)).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("starts");
        while !now() && child.try_wait().expect("is known").is_none() {
            std::hint::spin_loop();
        }
        let running = child.try_wait().expect("is known").is_none();
        child.kill().expect("is killed");
        child.wait().expect("ends");
        self.interrupted += usize::from(running);
        running
    }
}

/// Files in `tree/`, each of which is put in another one's place when it is written.
struct Files<'a> {
    sandbox: &'a Sandbox,
    old: &'a [u8],
    /// Which files are the old ones.
    inodes: Vec<u64>,
}

impl<'a> Files<'a> {
    fn new(sandbox: &'a Sandbox, old: &'a [u8]) -> Self {
        std::fs::create_dir(sandbox.path("tree")).expect("a folder");
        let mut files = Self { sandbox, old, inodes: Vec::new() };
        files.reset();
        files
    }

    fn name(n: usize) -> String {
        format!("tree/{n}.sealed.yaml")
    }

    fn inodes(sandbox: &Sandbox) -> Vec<u64> {
        let inode = |n| std::fs::metadata(sandbox.path(&Self::name(n))).expect("a file").ino();
        (0..FILES).map(inode).collect()
    }

    fn reset(&mut self) {
        (0..FILES).for_each(|n| self.sandbox.write(&Self::name(n), self.old));
        self.inodes = Self::inodes(self.sandbox);
    }

    /// How many files are other ones.
    fn replaced(&self) -> usize {
        Self::inodes(self.sandbox).iter().zip(&self.inodes).filter(|(now, before)| now != before).count()
    }

    /// How many files are new; each is old or new.
    fn new_ones(&self, held: &[Identity], expected: &BTreeMap<String, Vec<u8>>) -> usize {
        let is_new = |n: &usize| {
            let bytes = self.sandbox.bytes(&Self::name(*n));
            let changed = bytes != self.old;
            assert!(!changed || values(&bytes, held).as_ref() == Some(expected), "neither old nor new");
            changed
        };
        (0..FILES).filter(is_new).count()
    }
}

/// Kills runs that change the files, at moments of all kinds and between two files, until there were enough of both.
fn kill_often(
    killer: &mut Killer<'_>,
    files: &mut Files<'_>,
    held: &[Identity],
    expected: &BTreeMap<String, Vec<u8>>,
    again: &[&str],
) {
    let mut mixed = 0;
    while killer.interrupted < 100 || mixed < 24 {
        files.reset();
        if killer.runs.is_multiple_of(2) {
            killer.at_some_moment();
        } else {
            let wanted = 1 + (killer.runs as usize / 2) % (FILES - 1);
            killer.when(|| files.replaced() >= wanted);
        }
        let done = files.new_ones(held, expected);
        if (1..FILES).contains(&done) {
            mixed += 1;
            if mixed % 8 == 1 {
                // It goes on: what is done already is not in its way.
                files.sandbox.run(again).well();
                assert_eq!(files.new_ones(held, expected), FILES);
            }
        }
    }
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
    let mut files = Files::new(&sandbox, &old);
    let args = ["reseal", "tree", "-i", "key.txt", "-R", "new.txt.pub"];
    let again = ["reseal", "tree", "-i", "key.txt", "-i", "new.txt", "-R", "new.txt.pub"];
    kill_often(&mut Killer::new(&sandbox, &args, None), &mut files, &after, &expected, &again);
    no_plaintext(&sandbox, &["db.yaml"]);
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
    let mut killer = Killer::new(&sandbox, &args, Some("value"));
    while killer.interrupted < 100 {
        sandbox.write("db.sealed.yaml", &old);
        killer.at_some_moment();
        let bytes = sandbox.bytes("db.sealed.yaml");
        assert!(bytes == old || values(&bytes, &held).as_ref() == Some(&after), "neither old nor new");
    }
    no_plaintext(&sandbox, &["db.yaml", "value"]);
}

#[test]
fn a_killed_migrate_leaves_whole_files_and_goes_on_where_it_was() {
    let sandbox = crate::bitnami::sandbox();
    let old = sandbox.with_input(&["seal", "--cert", "large.pem"], DB).well().out;
    let held = identities(&sandbox, "key.txt");
    let mut files = Files::new(&sandbox, &old);
    let args = ["migrate", "tree", "--replace", "--prunes-last", "-i", "large.key", "-R", "key.txt.pub"];
    sandbox.run(&args).well();
    let expected = values(&sandbox.bytes(&Files::name(0)), &held).expect("opens");
    kill_often(&mut Killer::new(&sandbox, &args, None), &mut files, &held, &expected, &args);
    no_plaintext(&sandbox, &[]);
}
