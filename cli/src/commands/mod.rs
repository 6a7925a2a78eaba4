//! The commands, one a file.

use std::process::ExitCode;

use crate::cli::{Cli, ClusterArgs, Command, KeysCommand, RecipientArgs, RecipientsCommand, ReportFormat};
use crate::failure::{Failure, Result};
use crate::output;

mod check;
mod diff;
mod edit;
mod exec;
mod git;
mod init;
mod install;
pub mod keygen;
mod keylife;
mod keys;
mod migrate;
mod program;
mod recipients;
mod relocate;
mod reseal;
mod rotate;
mod rsa_keys;
mod seal;
mod set;
mod status;
mod unseal;
mod unset;

/// How a command that did what it should ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// 0
    Well,
    /// 1: what failed has been said already.
    Failed,
    /// 10
    Findings,
}

impl Done {
    /// The worse of two ends.
    pub const fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (Self::Findings, _) | (_, Self::Findings) => Self::Findings,
            _ => Self::Well,
        }
    }
}

/// Runs a command and says what went wrong.
pub fn run(cli: Cli) -> ExitCode {
    let mut report = ReportFormat::Text;
    let result = match cli.command {
        Command::Kubeseal(args) => return crate::kubeseal::run(&args),
        Command::Diff(args) => {
            if args.output == crate::cli::DiffFormat::Json {
                report = ReportFormat::Json;
            }
            diff::run(&args)
        }
        Command::Git(args) => git::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Recipients(args) => match args.0.command {
            Some(RecipientsCommand::Add(args)) => recipients::add(&args),
            Some(RecipientsCommand::Update(args)) => {
                report = args.output;
                recipients::update(&args)
            }
            Some(RecipientsCommand::Show(show)) => {
                report = show.output;
                recipients::show(&show)
            }
            None => {
                report = args.0.show.output;
                recipients::show(&args.0.show)
            }
        },
        Command::Init(args) => init::run(&args),
        Command::Seal(args) => seal::run(&args),
        Command::Set(args) => set::run(&args),
        Command::Unset(args) => unset::run(&args),
        Command::Unseal(args) => unseal::run(&args),
        Command::Edit(args) => edit::run(&args),
        Command::Exec(args) => exec::run(&args),
        Command::Move(args) => relocate::run(&args),
        Command::Check(args) => {
            report = args.output;
            check::run(&args)
        }
        Command::Reseal(args) => {
            report = args.output;
            reseal::run(&args)
        }
        Command::Migrate(args) => {
            report = args.output;
            migrate::run(&args)
        }
        Command::Rotate(args) => {
            report = args.output;
            rotate::run(&args)
        }
        Command::Keys(args) => match args.0.command {
            KeysCommand::List(args) => {
                report = args.output;
                keys::list(&args)
            }
            KeysCommand::Create(args) => {
                report = args.output;
                keys::create(&args)
            }
            KeysCommand::Rollback(args) => {
                report = args.output;
                keylife::rollback(&args)
            }
            KeysCommand::Retire(args) => {
                report = args.output;
                keylife::retire(&args)
            }
            KeysCommand::Backup(args) => keylife::backup(&args),
            KeysCommand::Restore(args) => {
                report = args.output;
                keylife::restore(&args)
            }
        },
        Command::Status(args) => {
            report = args.output;
            status::run(&args)
        }
        Command::Install(args) => install::run(&args),
        Command::Completions(args) => program::completions(&args),
        Command::Man(args) => program::man(&args),
    };
    match result {
        Ok(Done::Well) => ExitCode::SUCCESS,
        Ok(Done::Failed) => ExitCode::from(1),
        Ok(Done::Findings) => ExitCode::from(10),
        Err(failure) => fail(&failure, report),
    }
}

fn fail(failure: &Failure, report: ReportFormat) -> ExitCode {
    output::failure(failure);
    if report == ReportFormat::Json {
        // Where not even this can be written, the exit code says it.
        _ = output::document(serde_json::json!({ "errors": failure.json() }));
    }
    ExitCode::from(failure.exit.code())
}

/// Refuses options of a cluster where recipients are named: nobody would be asked.
fn no_idle_cluster(recipients: &RecipientArgs, cluster: &ClusterArgs) -> Result<()> {
    let named =
        !recipients.recipients.is_empty() || !recipients.recipients_files.is_empty() || recipients.cert.is_some();
    let flags = [
        ("--context", cluster.context.is_some()),
        ("--kubeconfig", cluster.kubeconfig.is_some()),
        ("--controller-url", cluster.controller_url.is_some()),
    ];
    match flags.iter().find(|(_, given)| named && *given) {
        Some((flag, _)) => {
            Err(Failure::usage(format!("{flag} has no meaning here: recipients are named, no cluster is asked"))
                .help(format!("leave {flag} out, or -r and -R")))
        }
        None => Ok(()),
    }
}

/// FILE and KEY… of `set` and `unset`: with `-f`, all arguments are keys.
fn file_and_keys(
    args: &[String],
    flag: Option<&std::path::PathBuf>,
    command: &str,
) -> Result<(std::path::PathBuf, Vec<String>)> {
    let (file, keys) = match (flag, args) {
        (Some(file), keys) => (file.clone(), keys.to_vec()),
        (None, [file, keys @ ..]) => (file.into(), keys.to_vec()),
        (None, []) => (std::path::PathBuf::new(), Vec::new()),
    };
    if keys.is_empty() {
        return Err(Failure::usage("no key is named").help(format!("bulla {command} FILE KEY…")));
    }
    if crate::files::is_stdin(&file) {
        return Err(Failure::usage(format!("bulla {command} changes a file; standard input is none")));
    }
    for (index, key) in keys.iter().enumerate() {
        if !bulla::scope::is_item_key(key) {
            if let Some((key, _)) = key.split_once('=') {
                return Err(Failure::usage(format!(
                    "{key}=…: a value on the command line is seen by others; only keys are named here"
                ))
                .help(format!("printf %s \"$VALUE\" | bulla {command} FILE {key}     or --from-file")));
            }
            return Err(Failure::usage(format!(
                "{key:?} can't be a key of a Secret: 1 to 253 of a-z A-Z 0-9 - . _, not \".\" and not beginning with \"..\""
            )));
        }
        if keys[..index].contains(key) {
            return Err(Failure::usage(format!("the key {key} is named twice")));
        }
    }
    Ok((file, keys))
}
