//! The machine's network, and a list of where somebody wanted to go.

use std::net::SocketAddr;

use base::{Network, NetworkFuture, Stream, SystemNetwork};
use parking_lot::Mutex;

/// Remembers which ports were asked for, and which were connected to.
#[derive(Debug, Default)]
pub(crate) struct WatchedNetwork {
    resolved: Mutex<Vec<u16>>,
    connected: Mutex<Vec<u16>>,
}

impl WatchedNetwork {
    pub(crate) fn has_resolved(&self, port: u16) -> bool {
        self.resolved.lock().contains(&port)
    }

    pub(crate) fn has_connected(&self, port: u16) -> bool {
        self.connected.lock().contains(&port)
    }

    /// How many connections to a port were begun.
    pub(crate) fn connections(&self, port: u16) -> usize {
        let connected = self.connected.lock();
        connected.iter().filter(|to| **to == port).count()
    }
}

impl Network for WatchedNetwork {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> NetworkFuture<'a, Vec<SocketAddr>> {
        self.resolved.lock().push(port);
        SystemNetwork.resolve(host, port)
    }

    fn connect(&self, address: SocketAddr) -> NetworkFuture<'_, Box<dyn Stream>> {
        self.connected.lock().push(address.port());
        SystemNetwork.connect(address)
    }
}
