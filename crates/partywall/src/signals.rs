//! What the operating system asks of the process.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals, received from the moment on at which this is made: make it before anybody is told that
/// the process serves.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To stop: SIGTERM or SIGINT.
    Stop,
    /// To read the configuration again: SIGHUP.
    Reload,
}

impl Signals {
    /// Receives signals from now on.
    ///
    /// # Errors
    ///
    /// If the process cannot receive signals.
    pub(crate) fn receive() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// What is asked next.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: a signal that arrives later is received by whoever waits then.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// Resolves once the process is asked to stop.
    ///
    /// # Cancel safety
    ///
    /// As [`Signals::next`].
    pub(crate) async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}

fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("cannot receive signals")
}
