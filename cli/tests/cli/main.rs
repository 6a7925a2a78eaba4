//! The program as a user runs it: a process in a folder of its own, with a scrubbed environment.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bitnami;
mod check;
mod check_hard;
mod check_repo;
mod check_reports;
mod check_rules;
mod cluster;
mod corpus;
mod docs;
mod edit;
mod errors;
mod exec;
mod files;
mod fixtures;
mod gate;
mod generate;
mod git;
mod globs;
mod hostile;
mod identities;
mod integrations;
mod keygen;
mod kill;
mod kubeseal;
mod merge;
mod migrate;
mod picture;
mod policy;
mod program;
mod relocate;
mod reseal;
mod resolve;
mod sandbox;
mod seal;
mod set;
mod status;
mod tampering;
mod terminal;
mod tty;
mod unseal;
mod workflows;

/// The types of the command line, for reading examples with.
#[path = "../../src"]
#[allow(dead_code, missing_docs)]
mod src {
    pub mod cli;
}
