//! `bulla exec`

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// `bulla exec`
#[derive(Args)]
#[command(after_long_help = "Examples:
  bulla exec apps/shop/dev/db.sealed.yaml -- npm start
  bulla exec db.sealed.yaml queue.sealed.yaml --upper --prefix SHOP_ -- ./server     api-token becomes SHOP_API_TOKEN

The program takes this one's place: its exit code, its signals and its terminal are its own. Nothing is written to the disk.
Names that decide what a program loads or runs (PATH, LD_PRELOAD, NODE_OPTIONS, …) are refused: whoever may write the sealed
file needs no more than a public key for it.")]
pub struct ExecArgs {
    /// The sealed files
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    pub command: Vec<OsString>,
    /// An age identity file, - for standard input; may be repeated (default: as for bulla unseal)
    #[arg(short = 'i', long = "identity", value_name = "FILE")]
    pub identities: Vec<PathBuf>,
    /// Only these keys; may be repeated
    #[arg(short = 'k', long = "key", value_name = "KEY")]
    pub keys: Vec<String>,
    /// Put this before each name
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub prefix: String,
    /// Capital letters, and _ for what can't stand in a name: api-token becomes API_TOKEN
    #[arg(long)]
    pub upper: bool,
    /// Set also what decides what programs load or run, such as PATH and LD_PRELOAD
    #[arg(long)]
    pub allow_special: bool,
    /// Of several SealedSecrets in a file, which one
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Of several SealedSecrets in a file, which one
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}
