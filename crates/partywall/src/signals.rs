//! What the operating system asks of the process.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Resolves once the process is asked to stop: SIGTERM or SIGINT.
///
/// # Errors
///
/// If the process cannot receive signals.
///
/// # Cancel safety
///
/// Cancel-safe: a signal that arrives later is received by whoever waits then.
pub(crate) async fn stop() -> anyhow::Result<()> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// A stream of the requests to read the configuration again: SIGHUP.
///
/// # Errors
///
/// If the process cannot receive signals.
pub(crate) fn reload() -> anyhow::Result<Signal> {
    listen(SignalKind::hangup())
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("cannot receive signals")
}
