//! The sockets a node listens on: taken over from the process before, or bound.
//!
//! They are matched by the addresses in the configurations of both. What this process
//! no longer listens on stays with the one before and ends with it; what it listens on
//! besides is bound anew.

use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;

use crate::handover::{self, Offered, Place, Sockets};
use crate::start::StartError;

/// Every listening socket of a node, before anybody accepts on it.
#[derive(Debug)]
pub(crate) struct Bound {
    /// In the order of the configuration.
    pub(crate) visitors: Vec<TcpListener>,
    pub(crate) admin: TcpListener,
    /// Where the process after this one will ask, and what it will be given.
    pub(crate) next: Option<(Place, Sockets)>,
    /// What came from the process before, for the log.
    pub(crate) taken_over: Option<String>,
}

/// Listens on all of it. Where a process before this one serves, it has let go when this
/// returns; where this fails, it has not.
pub(crate) async fn listen(config: &config::Node) -> Result<Bound, StartError> {
    let node = config.name.as_str();
    let mut next = None;
    let mut offered = None;
    if let Some(path) = &config.handover {
        let failed = |why| StartError::HandOver {
            node: node.to_owned(),
            path: path.clone(),
            why,
        };
        let place = Place::beside(path).map_err(|error| failed(error.to_string()))?;
        next = Some((place, Sockets::new()));
        offered = ask(path, node).await.map_err(failed)?;
    }
    let mut taken = Vec::new();
    let mut socket = async |listener, address| {
        let socket = match offered.as_mut().and_then(|offered| pick(offered, address)) {
            Some(socket) => {
                taken.push(address.to_string());
                TcpListener::from_std(socket)
            }
            None => TcpListener::bind(address).await,
        };
        let socket = socket.and_then(|socket| {
            if let Some((_, sockets)) = &mut next {
                sockets.push((address, again(&socket)?));
            }
            Ok(socket)
        });
        socket.map_err(|error| StartError::Listen {
            node: node.to_owned(),
            listener,
            address,
            why: error.to_string(),
        })
    };
    let mut visitors = Vec::with_capacity(config.listeners.len());
    for listener in &config.listeners {
        visitors.push(socket("visitors", listener.address).await?);
    }
    let admin = socket("admin", config.admin.address).await?;
    let mut taken_over = None;
    if let (Some(offered), Some(path)) = (offered, &config.handover) {
        taken_over = Some(format!("{} of process {}", taken.join(", "), offered.pid));
        let took = tokio::task::spawn_blocking(|| offered.take_it()).await;
        let took = took.unwrap_or_else(|error| Err(error.to_string()));
        took.map_err(|why| StartError::HandOver {
            node: node.to_owned(),
            path: path.clone(),
            why,
        })?;
    }
    Ok(Bound {
        visitors,
        admin,
        next,
        taken_over,
    })
}

async fn ask(path: &Path, node: &str) -> Result<Option<Offered>, String> {
    let (path, node) = (path.to_owned(), node.to_owned());
    let asked = tokio::task::spawn_blocking(move || handover::ask(&path, &node)).await;
    asked.unwrap_or_else(|error| Err(error.to_string()))
}

/// The first socket on offer for that address.
fn pick(offered: &mut Offered, address: SocketAddr) -> Option<std::net::TcpListener> {
    let mut on_offer = offered.sockets.iter();
    let at = on_offer.position(|(offered, _)| *offered == address)?;
    Some(offered.sockets.remove(at).1)
}

/// The same socket once more, to be handed over.
fn again(socket: &TcpListener) -> std::io::Result<std::net::TcpListener> {
    use std::os::fd::AsFd as _;
    socket
        .as_fd()
        .try_clone_to_owned()
        .map(std::net::TcpListener::from)
}
