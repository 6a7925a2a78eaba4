//! The project's own commands: `cargo xtask demo`, `cargo xtask test`, `cargo xtask bench`, `cargo xtask chaos`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_macros,
    reason = "what they print is their result"
)]

mod bench;
mod chaos;
mod demo;
mod layout;
mod run;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the main job on a real API server: seal, commit, apply, a native Secret, rotate
    Demo(demo::Args),
    /// Runs everything that has to pass: formatting, lints, docs, tests, a short fuzz run, dependency checks
    Test(test::Args),
    /// Measures, side by side in one run: medians and ratios, as a table and as JSON
    Bench(bench::Args),
    /// Lets everything go wrong for half an hour while ten thousand objects come and change, and writes a report
    Chaos(chaos::Args),
    /// Writes cli/layout.ld: which functions the linker puts together, by tracing small commands with valgrind
    Layout,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Chaos(args) => chaos::run(&args),
        Command::Layout => layout::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
