//! A folder, and the program in it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder that goes away.
pub struct Sandbox {
    dir: tempfile::TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Run {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.out.clone()).expect("text")
    }

    /// Demands success.
    #[track_caller]
    pub fn well(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.err);
        self
    }

    /// Demands this end, this text on standard error, and nothing on standard output.
    #[track_caller]
    pub fn fails(&self, code: i32, err: &str) {
        assert_eq!(self.err, err);
        assert_eq!(self.code, code, "{}", self.err);
        assert_eq!(self.text(), "");
    }
}

impl Sandbox {
    /// An empty folder.
    pub fn empty() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    /// A folder with `key.txt` and `key.txt.pub`.
    pub fn new() -> Self {
        let sandbox = Self::empty();
        sandbox.run(&["keygen", "-w", "key.txt"]).well();
        sandbox
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).expect("writes");
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("reads")
    }

    pub fn read(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).expect("text")
    }

    /// The names of all files here.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).expect("lists");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    /// The fingerprint of an identity made here.
    pub fn fingerprint(&self, public: &str) -> String {
        let text = self.read(public);
        let recipient: bulla::recipient::Recipient = text.lines().last().expect("a line").parse().expect("a recipient");
        recipient.fingerprint().to_string()
    }

    /// A program here, with nothing of the environment but PATH.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.dir.path()).env_clear().env("HOME", self.path("home"));
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    pub fn bulla(&self, args: &[&str]) -> Command {
        let mut command = self.command(program());
        command.args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        finish(self.bulla(args), b"")
    }

    pub fn with_input(&self, args: &[&str], input: impl AsRef<[u8]>) -> Run {
        finish(self.bulla(args), input.as_ref())
    }

    /// Runs git, which must be there and succeed.
    #[track_caller]
    pub fn git(&self, args: &[&str]) {
        let mut command = self.command("git");
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.test", "-c", "commit.gpgsign=false"]).args(args);
        let output = command.output().expect("git must be installed");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

/// The program of `tests/linters`, which `cargo xtask test` builds. Without it what needs it is skipped, in CI it fails.
#[allow(clippy::print_stderr)]
pub fn linters() -> Option<PathBuf> {
    let found = std::env::var_os("BULLA_LINTERS").map(PathBuf::from);
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "BULLA_LINTERS does not name the program of tests/linters");
        eprintln!("skipped: BULLA_LINTERS does not name the program of tests/linters (cargo xtask test builds it)");
    }
    found
}

pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_bulla"))
}

/// Runs a command with this input.
pub fn finish(mut command: Command, input: &[u8]) -> Run {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // A program that does not read is none of this thread's business.
    let feeder = std::thread::spawn(move || _ = stdin.write_all(&input));
    let output = child.wait_with_output().expect("ends");
    feeder.join().expect("feeds");
    Run {
        code: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

/// A Secret with two values.
pub const DB: &str = "\
apiVersion: v1
kind: Secret
metadata:
  name: db
  namespace: shop
stringData:
  password: hunter2
  username: admin
";

/// A ConfigMap.
pub const CONFIG: &str = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings   # kept
data: {a:   'b'}
";
