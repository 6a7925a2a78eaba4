//! The short form of the chaos tests; `cargo xtask chaos` is the long one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bulla_tests::binary;
use bulla_tests::chaos::{Options, run};

/// With another seed in `BULLA_CHAOS_SEED` it is another schedule; the default is one that is known to pass, so that what fails
/// here was broken by a change.
#[tokio::test(flavor = "multi_thread")]
async fn everything_ends_right_whatever_goes_wrong() -> Result<()> {
    let seed = std::env::var("BULLA_CHAOS_SEED").unwrap_or_else(|_| "1".to_owned());
    let digits = seed.trim_start_matches("0x");
    let radix = if digits.len() < seed.len() { 16 } else { 10 };
    let options = Options {
        seed: u64::from_str_radix(digits, radix).context("BULLA_CHAOS_SEED")?,
        objects: 60,
        lasts: Duration::from_secs(45),
        short: true,
        program: binary("bulla-controller")?,
    };
    let outcome = run(&options).await?;
    ensure!(outcome.rounds.len() > 5, "only {} rounds", outcome.rounds.len());
    ensure!(outcome.wrong.is_empty(), "{:#?}\n{}", outcome.wrong, outcome.report);
    Ok(())
}
