//! `bulla git`

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `bulla git`
#[derive(Args)]
pub struct GitArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: GitCommand,
}

/// What can be done with Git.
#[derive(Subcommand)]
pub enum GitCommand {
    /// Let git diff show sealed files readably, and git merge merge them item by item, in this clone.
    Setup(GitSetupArgs),
    /// Take back what setup did.
    Remove,
    /// Settle the conflicts of a sealed file, from the index.
    Resolve(ResolveArgs),
    /// Print a file as git diff shows it.
    Textconv(TextconvArgs),
    /// The merge driver, which git calls.
    #[command(hide = true)]
    Merge(MergeArgs),
}

/// `bulla git setup`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla git setup             .git/config, and the lines for *.sealed.yaml in .gitattributes
  bulla git setup --hook      also a pre-commit hook that runs: bulla check --staged

Can be run again at any time. .gitattributes is for everybody: commit it. .git/config is this clone's: everybody runs this once.")]
pub struct GitSetupArgs {
    /// Install a pre-commit hook; one that is there is never overwritten
    #[arg(long)]
    pub hook: bool,
}

/// `bulla git resolve`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla git resolve db.sealed.yaml                      asks, item by item
  bulla git resolve db.sealed.yaml --theirs --add       everything in conflict as they have it
  bulla git resolve db.sealed.yaml --ours password --rest theirs

Reads the three versions from Git's index, so what was done to the file since is lost. In a rebase \"ours\" is the branch that is
rebased onto, \"theirs\" the commit that is replayed. Without --add the file stays unmerged in the index.")]
pub struct ResolveArgs {
    /// The file with conflicts
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Items that the side is for (default: everything in conflict)
    #[arg(value_name = "KEY")]
    pub keys: Vec<String>,
    /// Take what the branch has that one is on
    #[arg(long, conflicts_with = "theirs")]
    pub ours: bool,
    /// Take what the other branch has
    #[arg(long)]
    pub theirs: bool,
    /// For all other conflicts, when KEYs are named
    #[arg(long, value_enum, value_name = "SIDE", requires = "keys")]
    pub rest: Option<SideArg>,
    /// Mark it settled: git add FILE
    #[arg(long)]
    pub add: bool,
}

/// A side of a merge.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideArg {
    /// The branch that one is on.
    Ours,
    /// The branch that is merged.
    Theirs,
}

/// `bulla git textconv`
#[derive(Args)]
pub struct TextconvArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `bulla git merge`
#[derive(Args)]
pub struct MergeArgs {
    /// What both come from (%O)
    pub base: PathBuf,
    /// Ours, and where the result goes (%A)
    pub ours: PathBuf,
    /// Theirs (%B)
    pub theirs: PathBuf,
    /// The length of conflict markers (%L)
    pub marker_size: u16,
    /// The path in the repository (%P)
    pub path: std::ffi::OsString,
}
