//! Waiting for something to become true.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

/// Asks until the answer is `Ok`, for at most `timeout`; `Err` means "not yet", and the last one is what the failure shows.
/// So a condition says what it saw: `ensure!(secret.data == wanted, "it holds {:?}", secret.data)`.
///
/// # Errors
/// When the time is over: the last error, or that the condition never came to an answer.
pub async fn eventually<T>(what: &str, timeout: Duration, mut condition: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + timeout;
    let mut last = anyhow!("it never answered");
    let mut pause = Duration::from_millis(10);
    loop {
        match timeout_at(deadline, condition()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(seen)) => last = seen,
            Err(_) => return Err(last).with_context(|| format!("{what}: not within {timeout:?}")),
        }
        if Instant::now() + pause >= deadline {
            return Err(last).with_context(|| format!("{what}: not within {timeout:?}"));
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
