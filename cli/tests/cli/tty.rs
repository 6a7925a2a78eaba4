//! A terminal with a program on it, and somebody who reads and types.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::sandbox::{Sandbox, program};

/// Longer than anything takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// A program whose controlling terminal this is, so that Ctrl-C and a hang-up reach it as they do people's programs.
pub struct Terminal {
    ours: std::fs::File,
    child: Child,
    /// What was shown until now, and how much of that was waited for already.
    seen: Vec<u8>,
    told: usize,
}

/// A session of its own, with the terminal. Signals that the tests' own parent ignores (nohup, a job in the background) would be
/// ignored in it as well: `env` takes that back.
pub const OWN: [&str; 4] = ["--ctty", "--", "env", "--default-signal=HUP,INT,QUIT"];

impl Terminal {
    /// Runs `bulla` on a terminal of its own, without colours.
    pub fn bulla(sandbox: &Sandbox, args: &[&str]) -> Self {
        let mut command = sandbox.command("setsid");
        command.args(OWN).arg(program()).args(args).env("NO_COLOR", "1");
        Self::start(command)
    }

    /// Runs a command that becomes a session of its own (`setsid --ctty`).
    pub fn start(mut command: Command) -> Self {
        assert_eq!(command.get_program(), OsStr::new("setsid"));
        let ours: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&ours).expect("granted");
        unlockpt(&ours).expect("unlocked");
        let name = ptsname(&ours, Vec::new()).expect("a name");
        // Not for the program, nor for one that another test starts: a terminal goes away when nobody holds it.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = rustix::fs::open(&*name, flags, 0.into());
        let theirs: std::fs::File = theirs.expect("opens").into();
        let copy = || Stdio::from(theirs.try_clone().expect("a copy"));
        let child = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().expect("setsid of util-linux");
        Self { ours: ours.into(), child, seen: Vec::new(), told: 0 }
    }

    /// Reads what is shown next; `false` when the program has gone.
    fn read(&mut self) -> bool {
        let mut fds = [PollFd::new(&self.ours, PollFlags::IN)];
        let timeout = Timespec { tv_sec: i64::try_from(SOON.as_secs()).expect("a minute"), tv_nsec: 0 };
        let ready = poll(&mut fds, Some(&timeout)).expect("polls");
        if ready == 0 {
            self.child.kill().expect("is killed");
            panic!("nothing more was shown after {:?}", self.shown());
        }
        let mut buffer = [0; 4096];
        // When the program has gone, reading fails.
        let count = self.ours.read(&mut buffer).unwrap_or(0);
        self.seen.extend_from_slice(&buffer[..count]);
        count > 0
    }

    /// Waits until this is shown, once more than before.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> &mut Self {
        loop {
            if let Some(at) = self.seen[self.told..].windows(text.len()).position(|part| part == text.as_bytes()) {
                self.told += at + text.len();
                return self;
            }
            let more = self.read();
            assert!(more, "{text:?} was not shown, but {:?}", self.shown());
        }
    }

    /// Types.
    pub fn send(&mut self, keys: &str) -> &mut Self {
        self.ours.write_all(keys.as_bytes()).expect("types");
        self
    }

    /// What was shown, as lines of text.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen).replace("\r\n", "\n")
    }

    /// Waits for the program's end.
    pub fn end(mut self) -> (ExitStatus, String) {
        while self.read() {}
        (self.child.wait().expect("ends"), self.shown())
    }

    /// The same, of a program that ends by itself.
    pub fn code(self) -> (i32, String) {
        let (status, shown) = self.end();
        (status.code().unwrap_or(-1), shown)
    }

    /// The terminal goes away.
    pub fn hang_up(self) -> ExitStatus {
        let Self { ours, mut child, .. } = self;
        drop(ours);
        child.wait().expect("ends")
    }

    /// Whether what is typed is shown.
    pub fn echoes(&self) -> bool {
        let modes = rustix::termios::tcgetattr(self.ours.as_fd()).expect("is a terminal").local_modes;
        modes.contains(rustix::termios::LocalModes::ECHO)
    }
}
