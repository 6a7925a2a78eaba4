//! `bulla move`

use std::path::PathBuf;

use clap::Args;

use super::{ClusterArgs, RecipientArgs};

/// `bulla move`
#[derive(Args)]
#[command(after_long_help = "Example:
  git mv apps/shop apps/live        and change the namespace in the file; then
  bulla move apps/live/db.sealed.yaml --from shop/db -i recovery.txt

Items that were sealed for shop/db are opened and sealed anew for the place that the file says now, under a new data key. All
who can open them today must be among the recipients. Items that belong where they are keep their bytes. A cluster never does
this: it would move anybody's Secret into the caller's namespace.")]
pub struct MoveArgs {
    /// The sealed file, with its new namespace and name
    #[arg(value_name = "FILE", required_unless_present = "file_flag")]
    pub file: Option<PathBuf>,
    /// The same as FILE
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "file")]
    pub file_flag: Option<PathBuf>,
    /// Where the items were sealed for
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub from: String,
    /// An age identity file, - for standard input; may be repeated (default: as for bulla unseal)
    #[arg(short = 'i', long = "identity", value_name = "FILE")]
    pub identities: Vec<PathBuf>,
    /// Of several SealedSecrets, which one (its new namespace)
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Of several SealedSecrets, which one (its new name)
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Whom to seal for.
    #[command(flatten)]
    pub recipients: RecipientArgs,
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}
