//! `kubeseal`, as the established command is called: its flags, its output, its errors (docs/kubeseal.md). What may be done with
//! secrets is decided in the library, as for every other command.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::KubesealArgs;
use crate::failure::{Exit, Failure, Result, printable, shown};
use crate::output as say;

mod cert;
mod connect;
mod input;
mod merge;
mod output;
mod raw;
mod recover;
mod reencrypt;
mod seal;
mod validate;

/// Runs it. Every error ends with 1, as there; what is wrong with the flags themselves has ended with 2 before.
pub fn run(args: &KubesealArgs) -> ExitCode {
    match chosen(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say::failure(&failure);
            let exit = if failure.exit == Exit::Interrupted { Exit::Interrupted } else { Exit::Failed };
            ExitCode::from(exit.code())
        }
    }
}

/// What is to be done, the first that applies.
fn chosen(args: &KubesealArgs) -> Result<()> {
    if args.version {
        return say::data(format!("kubeseal version: v{}\n", env!("CARGO_PKG_VERSION")).as_bytes());
    }
    for word in &args.rest {
        say::warn(&format!("{} is ignored: kubeseal reads standard input, or the file of -f", printable(word)));
    }
    if args.rotate {
        say::say("Flag --rotate has been deprecated, please use --re-encrypt instead");
    }
    if !args.from_file.is_empty() && !args.raw {
        return Err(Failure::new("--from-file requires --raw"));
    }
    if !args.recovery_unseal && !args.recovery_private_key.is_empty() {
        say::warn("ignoring --recovery-private-key because unseal command not chosen with --recovery-unseal");
    }
    if args.recovery_unseal {
        recover::run(args)
    } else if args.validate {
        validate::run(args)
    } else if args.re_encrypt || args.rotate {
        reencrypt::run(args)
    } else if args.fetch_cert {
        cert::print(args)
    } else if args.merge_into.is_some() {
        merge::run(args)
    } else if args.raw {
        raw::run(args)
    } else {
        seal::run(args)
    }
}

/// Says on a terminal what is waited for.
fn expect(what: &str) {
    if std::io::stdin().is_terminal() {
        say::say(&format!("(tty detected: expecting {what} in stdin)"));
    }
}

/// An error about a file as Go tells it: scripts look for these words.
fn as_go(path: &Path, mut failure: Box<Failure>) -> Box<Failure> {
    if failure.exit == Exit::Missing {
        failure.message = format!("open {}: no such file or directory", shown(path));
    }
    failure
}
