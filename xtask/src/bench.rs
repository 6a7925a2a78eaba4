//! `cargo xtask bench`: figures, side by side in one run.

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub struct Args {}

/// Measures.
pub fn run(_: &Args) -> anyhow::Result<()> {
    anyhow::bail!("nothing is measured yet")
}
