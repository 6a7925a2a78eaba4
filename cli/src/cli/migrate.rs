//! `bulla migrate`

use std::path::PathBuf;

use clap::Args;

use super::{ClusterArgs, RecipientArgs, ReportFormat};

/// `bulla migrate`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla migrate . --dry-run -r prod                what can be brought over, and what stands in the way
  bulla migrate . --beside --live                  native twins next to the files; the cluster opens and seals
  bulla migrate . --beside -i backup.yaml -r prod  the same with the private keys; no cluster is asked
  bulla migrate db.yaml --replace --prunes-last -i backup.yaml -r prod

Bitnami's SealedSecrets become native ones with the same Secret: values, labels, annotations, type, scope, template. What
can't be said faithfully is refused with its place. With --live nobody sees a value: the controller opens in the object's own
place and seals for its own key and the recipients of its configuration. A second run has nothing to do.")]
pub struct MigrateArgs {
    /// Files, and directories whose .yaml, .yml and .json files are looked at
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// The controller's private key: PEM, its Secret, or a List of them (a backup); may be repeated
    #[arg(short = 'i', long = "identity", value_name = "FILE", conflicts_with = "live")]
    pub identities: Vec<PathBuf>,
    /// Through the cluster's controller, without any private key
    #[arg(long)]
    pub live: bool,
    /// Write native twins next to the files: x.bulla.yaml for x.yaml
    #[arg(long, conflicts_with = "replace")]
    pub beside: bool,
    /// Write native objects in the place of Bitnami's; with --prunes-last
    #[arg(long)]
    pub replace: bool,
    /// What delivers this repository deletes what is gone only after it has applied what is new
    #[arg(long, requires = "replace")]
    pub prunes_last: bool,
    /// Show what would be done; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Leave this field out, which stands in the way, as the error names it; may be repeated
    #[arg(long, value_name = "FIELD")]
    pub leave_out: Vec<String>,
    /// Write what -o json prints to a file as well: json=FILE
    #[arg(long, value_name = "FORMAT=FILE")]
    pub report: Option<String>,
    /// How to tell what was done
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: ReportFormat,
    /// Whom to seal for.
    #[command(flatten)]
    pub recipients: RecipientArgs,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}
