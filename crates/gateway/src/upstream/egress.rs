//! Where the gateway may connect to: a name is resolved once, every address is judged, and the
//! connection goes to the judged address and nowhere else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base::Network;

/// Whether an upstream may be at an address that is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Only the public internet.
    Public,
    /// Anywhere: the operator vouches for the host.
    Anywhere,
}

/// Why a host cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The name has no address.
    #[error("the host's name could not be resolved")]
    Resolve(#[source] std::io::Error),
    /// Every address is private, and the operator has not allowed that.
    #[error("the host has no public address and `allow_private_address` is not set")]
    NotPublic,
}

/// The addresses of `host` that may be connected to, in the resolver's order.
///
/// # Errors
///
/// [`EgressError`]: no address, or none that is allowed.
pub async fn permitted_addresses(
    network: &dyn Network,
    host: &str,
    port: u16,
    reach: Reach,
) -> Result<Vec<SocketAddr>, EgressError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = network
        .resolve(bare, port)
        .await
        .map_err(EgressError::Resolve)?;
    let permitted: Vec<SocketAddr> = found
        .into_iter()
        .filter(|address| reach == Reach::Anywhere || is_public(address.ip()))
        .collect();
    if permitted.is_empty() {
        Err(EgressError::NotPublic)
    } else {
        Ok(permitted)
    }
}

/// Whether an address is on the public internet; whatever embeds an IPv4 address is judged by
/// it.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(embedded) => is_public_v4(embedded),
            None => is_public_v6(address),
        },
    }
}

/// By the IANA special-purpose registry of IPv4: nothing that is not globally reachable.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_unspecified()
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local() // the clouds' metadata service is 169.254.169.254
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        || (a == 100 && (64..128).contains(&b)) // shared by carriers; Alibaba's metadata
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)) // benchmarking
        || a >= 240;
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    // Only 2000::/3 is global unicast; of that, 2001:db8::/32 is documentation and 2001::/23
    // holds protocols (Teredo embeds addresses).
    let global = first & 0xe000 == 0x2000;
    let documentation = first == 0x2001 && address.segments()[1] == 0x0db8;
    let protocols = first == 0x2001 && address.segments()[1] < 0x0200;
    global && !documentation && !protocols
}

/// The IPv4 address inside a mapped, compatible, NAT64 or 6to4 address.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let from = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => Some(from(high, low)),
        [0x0064, 0xff9b, _, _, _, _, high, low] => Some(from(high, low)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use base::SystemNetwork;

    use super::*;

    #[test]
    fn what_is_not_public_is_refused_in_every_dress() {
        for address in [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(address.parse().expect(address)), "{address}");
        }
        for address in [
            "1.1.1.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "2002:808:808::",
        ] {
            assert!(is_public(address.parse().expect(address)), "{address}");
        }
    }

    #[tokio::test]
    async fn numbers_in_disguise_are_judged_by_what_they_resolve_to() {
        for host in [
            "127.0.0.1",
            "[::1]",
            "localhost",
            "0x7f.1",
            "017700000001",
            "2130706433",
        ] {
            let found = permitted_addresses(&SystemNetwork, host, 80, Reach::Public).await;
            assert!(found.is_err(), "{host}: {found:?}");
        }
        let vouched = permitted_addresses(&SystemNetwork, "127.0.0.1", 80, Reach::Anywhere).await;
        assert_eq!(vouched.expect("the operator vouches").len(), 1);
    }
}
