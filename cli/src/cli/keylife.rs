//! `bulla keys rollback|retire|backup|restore`

use std::path::PathBuf;

use clap::Args;

use super::{ClusterArgs, RecipientArgs, ReportFormat};

/// `bulla keys rollback`
#[derive(Args)]
#[command(
    after_long_help = "Makes a key Standby: it goes on opening and is not sealed for any more; the newest of the others is. For a
key that turns out wrong after a rotation. Nothing is lost and nothing in Git changes; bulla reseal PATH --live then wraps
for the other key what was wrapped for this one already."
)]
pub struct KeysRollbackArgs {
    /// Which key (default: the preferred one)
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// How to tell what was done
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: ReportFormat,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `bulla keys retire`
#[derive(Args)]
#[command(
    after_long_help = "A retired key is kept and opens nothing. The controller refuses it for the last Active key, and while a SealedSecret in
the cluster has no envelope for another key; it does not know of Git: bulla reseal PATH --live --check does."
)]
pub struct KeysRetireArgs {
    /// Which key
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Although SealedSecrets in the cluster need it
    #[arg(long)]
    pub force: bool,
    /// How to tell what was done
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: ReportFormat,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `bulla keys backup`
#[derive(Args)]
#[command(after_long_help = "Example:
  bulla keys backup -R recovery.pub -w backup.age

An age file to the recipients named with -r and -R: whoever has one of their identities has all keys of the cluster. It
works only for those who may read Secrets in the controller's namespace. Back up again after each rotation.")]
pub struct KeysBackupArgs {
    /// Write to this file
    #[arg(short = 'w', long = "write", value_name = "FILE", required = true)]
    pub write: PathBuf,
    /// Whom to encrypt to.
    #[command(flatten)]
    pub recipients: RecipientArgs,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `bulla keys restore`
#[derive(Args)]
#[command(after_long_help = "Example:
  bulla keys restore backup.age -i recovery.txt --context prod-new

Shows what is in the backup and loads the keys for opening only: the cluster goes on sealing for its own. --activate
makes the most recently preferred of them Active, and preferred at once: the cluster then stands in for the lost one, and
nothing in Git changes. Keys that are there already are left alone.")]
pub struct KeysRestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Open it with this age identity file; may be repeated
    #[arg(short = 'i', long = "identity", value_name = "FILE", required = true)]
    pub identities: Vec<PathBuf>,
    /// Seal for the most recently preferred of its keys
    #[arg(long)]
    pub activate: bool,
    /// Only show what is in it
    #[arg(long, conflicts_with = "activate")]
    pub dry_run: bool,
    /// How to tell what was done
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub output: ReportFormat,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}
