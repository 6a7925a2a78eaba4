//! `bulla diff`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::RecipientArgs;

/// `bulla diff`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla diff                                     the working tree against the index
  bulla diff --staged                            what is going to be committed
  bulla diff origin/main...                      what this branch did since it left main
  bulla diff HEAD~1 HEAD -- apps/shop
  bulla diff old.sealed.yaml new.sealed.yaml     two files
  bulla diff HEAD -o markdown >> \"$GITHUB_STEP_SUMMARY\"
  bulla diff HEAD --only reseal                  10 unless nothing but envelopes changed

Needs no key and no cluster. Changes of .bulla.yaml and of .bulla/*.pub are shown too: they decide who can read what is sealed
next. A file in which something is broken is told, and the exit code is 1.")]
pub struct DiffArgs {
    /// Two files; a revision; two revisions; A..B; A...B (since they parted)
    #[arg(value_name = "A B|REV|REV..REV", num_args = 0..=2)]
    pub states: Vec<String>,
    /// Only these files and folders
    #[arg(value_name = "PATH", last = true)]
    pub paths: Vec<PathBuf>,
    /// Compare the last commit with the index
    #[arg(long, alias = "cached")]
    pub staged: bool,
    /// How it is told
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT", default_value_t)]
    pub output: DiffFormat,
    /// Exit with 10 when there is any difference
    #[arg(long)]
    pub exit_code: bool,
    /// Exit with 10 when there is any other difference than this
    #[arg(long, value_enum, value_name = "KIND")]
    pub only: Option<Only>,
    /// For --only reseal between two commits: let .bulla/*.pub change, which somebody else guards
    #[arg(long, requires = "only")]
    pub allow_pins: bool,
    /// For --only reseal: whom the lines must be for, by the names in these files (default: the pins of .bulla.yaml).
    #[command(flatten)]
    pub recipients: RecipientArgs,
}

/// How differences are told.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiffFormat {
    /// For people.
    #[default]
    Text,
    /// For a comment on a pull request, or the summary of a job.
    Markdown,
    /// One JSON document with a schemaVersion.
    Json,
}

/// What may be different.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// Envelopes, for the recipients that the policy names.
    Reseal,
}
