//! The address of a listening socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A kind of address to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A unix socket in the file system.
    File(PathBuf),
    /// A unix socket with a name but no file (unix(7)).
    Abstract(Vec<u8>),
    /// TCP.
    Internet(SocketAddr),
}

impl Place {
    /// Whether a connection to `other` comes to a socket that is bound here.
    pub fn is_reached_by(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Internet(bound), Self::Internet(asked)) => {
                let is_any = bound.ip().is_unspecified() || asked.ip().is_unspecified();
                bound.port() == asked.port() && (is_any || bound.ip() == asked.ip())
            }
            _ => self == other,
        }
    }
}

/// In the form of a configuration.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
            Self::Internet(address) => address.fmt(f),
        }
    }
}
