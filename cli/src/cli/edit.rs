//! `bulla edit`

use std::path::PathBuf;

use clap::Args;

use super::{ClusterArgs, RecipientArgs};

/// `bulla edit`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla edit db.sealed.yaml -R prod.pub                  needs no key: values are hidden
  bulla edit db.sealed.yaml -R prod.pub -i alice.txt     values are shown

Opens $VISUAL, else $EDITOR, else vi, with a line KEY: VALUE for each item. What is typed in place of <sealed> gets sealed; what
is left keeps its bytes; a line that is taken out takes its item out; a new line adds one. The text lies in a folder of your
own in memory, and is overwritten and removed whatever happens. An editor that fails, or that leaves what can't be read,
changes nothing.")]
pub struct EditArgs {
    /// The sealed file
    #[arg(value_name = "FILE", required_unless_present = "file_flag")]
    pub file: Option<PathBuf>,
    /// The same as FILE
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "file")]
    pub file_flag: Option<PathBuf>,
    /// Show the values, opened with this age identity file; - for standard input; may be repeated
    #[arg(short = 'i', long = "identity", value_name = "FILE")]
    pub identities: Vec<PathBuf>,
    /// Show the values, opened with the identity that bulla unseal would find
    #[arg(long)]
    pub show: bool,
    /// Of several SealedSecrets, which one
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Of several SealedSecrets, which one
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Whom to seal for.
    #[command(flatten)]
    pub recipients: RecipientArgs,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}
