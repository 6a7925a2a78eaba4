//! `bulla`: seals Kubernetes Secrets so that they can live in Git.

use std::process::ExitCode;

use clap::Parser as _;

mod cli;
mod cluster;
mod commands;
mod failure;
mod files;
mod git;
mod input;
mod model;
mod output;
mod policy;
mod recipients;
mod tree;

fn main() -> ExitCode {
    // A core dump could hold values. Where that can't be had there is nothing better to do.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    commands::run(cli::Cli::parse())
}
