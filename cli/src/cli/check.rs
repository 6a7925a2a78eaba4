//! `bulla check`

use std::path::PathBuf;

use clap::Args;

use super::{ClusterArgs, RecipientArgs, ReportFormat};

/// `bulla check`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla check                                 this directory, as .gitignore has it
  bulla check --staged                        what is about to be committed: for a hook
  bulla check --history                       every file that was ever committed, each content once
  bulla check --history origin/main..HEAD     what a branch brings
  helm template . | bulla check -             what is rendered
  bulla check --report sarif=bulla.sarif      besides the text, for code scanning
  bulla check --explain BUL001                what a rule means, and the way out
  bulla check --fix FILE -R prod.pub          seal what can be sealed where it stands

Finds Secrets in plaintext (also within ConfigMaps, annotations, Helm values, Kustomize generators, env, kubeconfigs, private
keys, tokens, age identities) and sealed files that are broken, misplaced or not as .bulla.yaml wants them. Needs no key and
no cluster, and never prints, stores or sends a value.

An exception stands in a comment on the line of the finding, on the one before it, or before the object:
  # bulla:allow BUL004 a dummy of the test database

Exit codes: 0 no findings; 10 findings (0 with --exit-zero); 1, 2, 3, 4 as everywhere.")]
pub struct CheckArgs {
    /// Files and directories; - is standard input (default: this directory)
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Look at what is staged in Git, not at the working tree
    #[arg(long, conflicts_with = "history")]
    pub staged: bool,
    /// Look at all commits, or at those of RANGE (A..B)
    #[arg(long, value_name = "RANGE", num_args = 0..=1, default_missing_value = "--all")]
    pub history: Option<String>,
    /// Ask the cluster whether the SealedSecrets open
    #[arg(long, conflicts_with_all = ["staged", "history"])]
    pub live: bool,
    /// Seal plaintext Secrets where they stand (bulla seal --in-place)
    #[arg(long, conflicts_with_all = ["staged", "history", "live"])]
    pub fix: bool,
    /// Print what a rule means; without RULE, the list of all
    #[arg(long, value_name = "RULE", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["staged", "history", "live", "fix"])]
    pub explain: Option<String>,
    /// Write all findings into a baseline: from then on only new ones count
    #[arg(long, value_name = "FILE")]
    pub baseline_write: Option<PathBuf>,
    /// Findings in this baseline don't count (default: check.baseline of .bulla.yaml)
    #[arg(long, value_name = "FILE", conflicts_with = "baseline_write")]
    pub baseline: Option<PathBuf>,
    /// Exit with 0 even when there are findings
    #[arg(long)]
    pub exit_zero: bool,
    /// The day that exceptions and keys are judged by (tests)
    #[arg(long, value_name = "YYYY-MM-DD", hide = true)]
    pub today: Option<String>,
    /// How to tell what was found
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: ReportFormat,
    /// Write a report as well: sarif, json, junit or github; - as FILE is standard output; may be repeated
    #[arg(long, value_name = "FORMAT=FILE")]
    pub report: Vec<String>,
    /// Whom to seal for, with --fix.
    #[command(flatten)]
    pub recipients: RecipientArgs,
    /// The cluster, with --live.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}
