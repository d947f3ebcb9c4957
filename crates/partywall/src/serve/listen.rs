//! Taking the addresses, with an error that says what to do.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// Which of the two addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Face {
    Gateway,
    Admin,
}

impl Face {
    const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Admin => "admin API",
        }
    }

    const fn option(self) -> &'static str {
        match self {
            Self::Gateway => "`listen.gateway` in partywall.toml, or `quickstart --port`",
            Self::Admin => "`listen.admin` in partywall.toml, or `quickstart --admin-port`",
        }
    }
}

/// Why an address is not ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// Somebody else has it.
    #[error(
        "port {} on {} is in use, and the {face} needs it: stop what uses it, or choose another \
         by {option}",
        address.port(), address.ip()
    )]
    InUse {
        address: SocketAddr,
        face: &'static str,
        option: &'static str,
    },
    /// The system refuses it.
    #[error("the {face} cannot listen on {address}: {cause}; choose another by {option}")]
    Refused {
        address: SocketAddr,
        face: &'static str,
        option: &'static str,
        cause: std::io::Error,
    },
}

/// Takes `address` for `face`.
pub(super) async fn bind(address: SocketAddr, face: Face) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|cause| {
        let (name, option) = (face.name(), face.option());
        if cause.kind() == ErrorKind::AddrInUse {
            ListenError::InUse {
                address,
                face: name,
                option,
            }
        } else {
            ListenError::Refused {
                address,
                face: name,
                option,
                cause,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = holder.local_addr().unwrap();
        let text = bind(address, Face::Gateway).await.unwrap_err().to_string();
        let expected = format!("port {} on 127.0.0.1 is in use", address.port());
        assert!(
            text.starts_with(&expected) && text.contains("--port"),
            "{text}"
        );
        let elsewhere = "192.0.2.1:80".parse().unwrap();
        let text = bind(elsewhere, Face::Admin).await.unwrap_err().to_string();
        assert!(text.contains("cannot listen on 192.0.2.1:80"), "{text}");
    }
}
