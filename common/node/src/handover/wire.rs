//! Messages and descriptors over a Unix socket. Blocking, each wait bounded.

use std::io::{IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::words::{END, MESSAGE_BYTES_MAX, Message, SOCKETS_MAX};

/// How long either side waits for the other's next word. What lies between two of them
/// is binding a few sockets.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads that one message may take; with `PATIENCE` they bound the whole of it.
const READS_MAX: usize = 64;

/// One conversation between two processes of a node.
#[derive(Debug)]
pub(super) struct Talk {
    stream: UnixStream,
    pub(super) version: u32,
}

impl Talk {
    pub(super) fn over(stream: UnixStream, version: u32) -> std::io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, version })
    }

    /// Says something, with descriptors where there are any.
    pub(super) fn say(&mut self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<(), String> {
        let text = message.text(self.version);
        let sent = if fds.is_empty() {
            0
        } else {
            let mut space =
                vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(format!("more than {SOCKETS_MAX} sockets"));
            }
            let parts = [IoSlice::new(text.as_bytes())];
            sendmsg(
                self.stream.as_fd(),
                &parts,
                &mut control,
                SendFlags::NOSIGNAL,
            )
            .map_err(|error| told(&error.into()))?
        };
        let rest = text.as_bytes().get(sent..).unwrap_or_default();
        self.stream.write_all(rest).map_err(|error| told(&error))
    }

    /// Hears the next message, and the descriptors that came with it.
    pub(super) fn hear(&mut self) -> Result<(u32, Message, Vec<OwnedFd>), String> {
        let mut text = Vec::new();
        let mut fds = Vec::new();
        for _ in 0..READS_MAX {
            let mut chunk = [0; 4096];
            let mut space =
                vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut chunk)];
            let flags = RecvFlags::empty();
            let read = recvmsg(self.stream.as_fd(), &mut parts, &mut control, flags)
                .map_err(|error| told(&error.into()))?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    fds.extend(rights);
                }
            }
            if read.bytes == 0 {
                return Err("it closed the socket".to_owned());
            }
            text.extend_from_slice(chunk.get(..read.bytes).unwrap_or_default());
            if text.ends_with(END) {
                let text = std::str::from_utf8(&text);
                let text = text.map_err(|_| "what was said is no text".to_owned())?;
                let (version, message) = Message::parse(text)?;
                return Ok((version, message, fds));
            }
            if text.len() > MESSAGE_BYTES_MAX {
                break;
            }
        }
        Err("what was said has no end".to_owned())
    }
}

/// An error on the socket, in words.
fn told(error: &std::io::Error) -> String {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, WouldBlock};
    match error.kind() {
        WouldBlock | TimedOut => format!("it said nothing for {} s", PATIENCE.as_secs()),
        BrokenPipe | ConnectionReset => "it closed the socket".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_socket_that_was_handed_over_is_the_same_socket() {
        let (one, other) = UnixStream::pair().unwrap();
        let mut old = Talk::over(one, 1).unwrap();
        let mut new = Talk::over(other, 1).unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let offer = Message::Offer {
            sockets: vec![address],
        };
        old.say(&offer, &[socket.as_fd()]).unwrap();
        let (version, heard, fds) = new.hear().unwrap();
        assert_eq!((version, heard, fds.len()), (1, offer, 1));
        drop(socket);
        let taken = TcpListener::from(fds.into_iter().next().unwrap());
        assert_eq!(taken.local_addr().unwrap(), address);
        assert!(std::net::TcpStream::connect(address).is_ok());

        drop(old);
        assert_eq!(new.hear().unwrap_err(), "it closed the socket");
        assert!(new.say(&Message::Ready, &[]).is_err());
    }

    #[test]
    fn what_never_ends_is_not_read_for_ever() {
        let (mut one, other) = UnixStream::pair().unwrap();
        let mut new = Talk::over(other, 1).unwrap();
        one.set_nonblocking(true).unwrap();
        // As much as the system takes; more than a message may have.
        while one.write(&[b'a'; 4096]).is_ok() {}
        assert_eq!(new.hear().unwrap_err(), "what was said has no end");
    }
}
