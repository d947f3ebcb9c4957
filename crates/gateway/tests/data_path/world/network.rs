//! The machine's network, and a list of where somebody wanted to go.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use base::{Network, NetworkFuture, Stream, SystemNetwork};
use parking_lot::Mutex;

/// Remembers which ports were asked for, and which were connected to.
#[derive(Debug, Default)]
pub(crate) struct WatchedNetwork {
    resolved: Mutex<Vec<u16>>,
    connected: Mutex<Vec<u16>>,
    /// Names that lead where a test says.
    names: Mutex<HashMap<String, Vec<IpAddr>>>,
    /// Addresses of the internet behind which a test stands.
    leads: Mutex<HashMap<IpAddr, SocketAddr>>,
}

impl WatchedNetwork {
    pub(crate) fn has_resolved(&self, port: u16) -> bool {
        self.resolved.lock().contains(&port)
    }

    pub(crate) fn has_connected(&self, port: u16) -> bool {
        self.connected.lock().contains(&port)
    }

    /// A name leads to these addresses from now on.
    pub(crate) fn name(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
        self.names.lock().insert(name.to_owned(), addresses);
    }

    /// Whoever goes to this address comes to a place of the test's.
    pub(crate) fn lead(&self, from: &str, to: SocketAddr) {
        self.leads.lock().insert(from.parse().unwrap(), to);
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
        if let Some(addresses) = self.names.lock().get(host) {
            let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, port));
            let addresses = addresses.collect();
            return Box::pin(async move { Ok(addresses) });
        }
        SystemNetwork.resolve(host, port)
    }

    fn connect(&self, address: SocketAddr) -> NetworkFuture<'_, Box<dyn Stream>> {
        self.connected.lock().push(address.port());
        let lead = self.leads.lock().get(&address.ip()).copied();
        SystemNetwork.connect(lead.unwrap_or(address))
    }
}
