//! Handing the listening sockets to the process that comes after this one.
//!
//! The old process waits at a Unix socket. A new one that has read its files and could
//! serve asks there, is given the descriptors, binds what it listens on besides, and
//! says that it is ready; only then does the old one let go and drain. What must stay
//! true:
//!
//! * The accept queue is never closed: both hold the same sockets, so whoever connects
//!   in between waits there for whoever accepts next.
//! * Until the old one has said `yours` it serves, whatever becomes of the new one. The
//!   new one accepts nothing before that, so it can still fail without a visitor
//!   noticing.
//! * Only a process of the same user, or of root, may ask: the socket is its owner's
//!   alone, and the kernel says who is at the other end.

mod wire;
mod words;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use observe::Event;
use tokio::net::UnixListener;

use crate::door::accept::ACCEPT_PAUSE;
use crate::drain::Drain;
use crate::state::Node;
use wire::Talk;
use words::Message;

/// The listening sockets of a node, by the addresses in its configuration.
pub(crate) type Sockets = Vec<(SocketAddr, TcpListener)>;

/// What the process before offers. Dropped without `take_it`, it stays with that one.
#[derive(Debug)]
pub(crate) struct Offered {
    talk: Talk,
    pub(crate) sockets: Sockets,
    /// The process before.
    pub(crate) pid: i32,
}

/// Asks the process before for its sockets. None: there is none. Blocking.
///
/// # Errors
/// When somebody is there and gives nothing.
pub(crate) fn ask(path: &Path, node: &str) -> Result<Option<Offered>, String> {
    let stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        // Nobody was ever there, or nobody is any more.
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let pid = peer(&stream)?;
    let mut talk = Talk::over(stream, words::highest()).map_err(|error| error.to_string())?;
    let node = node.to_owned();
    talk.say(&Message::Take { node }, &[])?;
    let (version, message, fds) = talk.hear()?;
    talk.version = words::common(version)
        .ok_or_else(|| format!("process {pid} speaks version {version} of the hand-over"))?;
    match message {
        Message::Offer { sockets } if sockets.len() == fds.len() => {
            let fds = fds.into_iter().map(TcpListener::from);
            Ok(Some(Offered {
                talk,
                sockets: sockets.into_iter().zip(fds).collect(),
                pid,
            }))
        }
        Message::No { why } => Err(format!("process {pid} says: {why}")),
        _ => Err(format!("process {pid} did not offer what it listed")),
    }
}

impl Offered {
    /// Says that this process is ready. When this returns without an error, the process
    /// before accepts nothing any more. Blocking.
    pub(crate) fn take_it(mut self) -> Result<(), String> {
        self.talk.say(&Message::Ready, &[])?;
        match self.talk.hear()? {
            (_, Message::Yours, _) => Ok(()),
            (_, Message::No { why }, _) => Err(why),
            _ => Err("it said something else than `yours`".to_owned()),
        }
    }
}

/// Where the process after this one will ask. It listens under a name of its own until
/// it takes the place of the one before.
#[derive(Debug)]
pub(crate) struct Place {
    listener: UnixListener,
    path: PathBuf,
    beside: PathBuf,
    inode: u64,
}

impl Place {
    /// Listens beside `path`, for its owner alone.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let _ = std::fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside)?;
        std::fs::set_permissions(&beside, PermissionsExt::from_mode(0o600))?;
        let inode = std::fs::metadata(&beside)?.ino();
        Ok(Self {
            listener,
            path: path.to_owned(),
            beside,
            inode,
        })
    }

    /// Takes the place of the process before, in one step.
    pub(crate) fn claim(&self) -> io::Result<()> {
        std::fs::rename(&self.beside, &self.path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.beside);
        // Somebody else may have the place by now.
        if std::fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Takes the place where the process after this one will ask, and waits for it there.
pub(crate) fn begin(node: &Arc<Node>, place: Place, sockets: Sockets, drain: &Arc<Drain>) {
    match place.claim() {
        Ok(()) => {
            let (node, drain) = (Arc::clone(node), Arc::clone(drain));
            tokio::spawn(offer(node, place, sockets, drain));
        }
        Err(error) => {
            let event = Event::HandoverFailed {
                why: format!("{}: {error}", place.path.display()),
            };
            node.observer.event(event, node.now_ms());
        }
    }
}

/// Waits for the process after this one, and gives it the sockets once. Whoever asks and
/// does not come to serve is told in the log. Ends with a drain, whatever began it.
async fn offer(node: Arc<Node>, place: Place, sockets: Sockets, drain: Arc<Drain>) {
    let sockets = Arc::new(sockets);
    let mut draining = node.draining.clone();
    loop {
        let asked = tokio::select! {
            asked = place.listener.accept() => asked,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        let Ok((stream, _)) = asked else {
            // Out of descriptors: the process after this one will ask again.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (its_node, its_sockets) = (Arc::clone(&node), Arc::clone(&sockets));
        let giving = tokio::task::spawn_blocking(move || {
            let stream = stream.into_std().map_err(|error| error.to_string())?;
            give(&its_node, stream, &its_sockets)
        });
        let given = giving.await.unwrap_or_else(|error| Err(error.to_string()));
        match given {
            Ok(pid) => {
                drain.hand_over();
                let detail = format!("to process {pid}");
                node.observer
                    .event(Event::HandedOver { detail }, node.now_ms());
                return;
            }
            Err(why) => node
                .observer
                .event(Event::HandoverFailed { why }, node.now_ms()),
        }
    }
}

/// One conversation with a process that asks; its id once it has the sockets.
fn give(node: &Node, stream: UnixStream, sockets: &Sockets) -> Result<i32, String> {
    let pid = peer(&stream)?;
    let of_whom = |why: String| format!("process {pid}: {why}");
    let mut talk = Talk::over(stream, words::highest()).map_err(|error| error.to_string())?;
    let (theirs, asked, _) = talk.hear().map_err(of_whom)?;
    let Some(version) = words::common(theirs) else {
        return Err(of_whom(format!("it speaks version {theirs}")));
    };
    talk.version = version;
    let Message::Take { node: named } = asked else {
        return Err(of_whom("it did not ask for the sockets".to_owned()));
    };
    if named != node.name() {
        let why = format!("this is {}, not {named}", node.name());
        let _ = talk.say(&Message::No { why: why.clone() }, &[]);
        return Err(of_whom(why));
    }
    let (addresses, fds): (Vec<_>, Vec<BorrowedFd<'_>>) = sockets
        .iter()
        .map(|(address, socket)| (*address, socket.as_fd()))
        .unzip();
    let offer = Message::Offer { sockets: addresses };
    talk.say(&offer, &fds).map_err(of_whom)?;
    match talk.hear().map_err(of_whom)? {
        (_, Message::Ready, _) => {}
        (_, Message::No { why }, _) => return Err(of_whom(why)),
        _ => return Err(of_whom("it did not say that it is ready".to_owned())),
    }
    if node.is_draining() {
        let why = "this process was told to end meanwhile".to_owned();
        let _ = talk.say(&Message::No { why: why.clone() }, &[]);
        return Err(of_whom(why));
    }
    talk.say(&Message::Yours, &[]).map_err(of_whom)?;
    Ok(pid)
}

/// The process at the other end, if it is one that may be there.
fn peer(stream: &UnixStream) -> Result<i32, String> {
    let peer = rustix::net::sockopt::socket_peercred(stream).map_err(|error| error.to_string())?;
    if peer.uid != rustix::process::geteuid() && !peer.uid.is_root() {
        return Err(format!(
            "user {} is at the other end, who is not this process's",
            peer.uid.as_raw()
        ));
    }
    Ok(peer.pid.as_raw_pid())
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_its_owners_and_goes_with_it_unless_it_was_taken() {
        let folder = std::env::temp_dir().join(format!("headwater-place-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("edge.sock");
        assert!(ask(&path, "edge-1").unwrap().is_none(), "nobody was there");
        let old = Place::beside(&path).unwrap();
        assert!(!path.exists());
        old.claim().unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let new = Place::beside(&path).unwrap();
        new.claim().unwrap();
        drop(old);
        assert!(path.exists(), "it is the new one's");
        drop(new);
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
