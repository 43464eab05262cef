//! A name server that says what it is told to, or nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use crate::until;

/// Bytes before the question (RFC 1035 §4.1.1).
const HEADER_BYTES: usize = 12;

/// The type of a question for an IPv4 address (RFC 1035 §3.2.2).
const TYPE_A: u16 = 1;

/// Knows one name, whatever it is called. It ends when it is dropped.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    serving: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    says: Says,
    asked: usize,
}

/// What it says to every question.
#[derive(Clone, Copy, Debug)]
enum Says {
    Address(Ipv4Addr, u32),
    NoSuchName,
    Nothing,
}

impl NameServer {
    /// Starts one on loopback that knows no name.
    pub async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST).await
    }

    /// The same at an address.
    ///
    /// # Panics
    /// When the system has no port to give there.
    pub async fn start_at(address: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((address, 0)).await;
        let socket = socket.expect("the system has a port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Mutex::new(Shared {
            says: Says::NoSuchName,
            asked: 0,
        }));
        let serving = tokio::spawn(serve(socket, Arc::clone(&shared))).abort_handle();
        Self {
            address,
            shared,
            serving,
        }
    }

    /// Knows no name from now on.
    pub fn knows_nothing(&self) {
        self.now(Says::NoSuchName);
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on every name has this address, for so many seconds.
    pub fn says(&self, address: Ipv4Addr, ttl_s: u32) {
        self.now(Says::Address(address, ttl_s));
    }

    /// From now on it takes questions and answers none.
    pub fn falls_silent(&self) {
        self.now(Says::Nothing);
    }

    /// How many questions for an IPv4 address it was asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.shared.lock().expect("nobody panics in here").asked
    }

    /// Waits for that many questions for an IPv4 address.
    pub async fn wait_for_questions(&self, count: usize) {
        let what = format!("the name server is asked {count} times");
        until(&what, async || (self.asked() >= count).then_some(())).await;
    }

    fn now(&self, says: Says) {
        self.shared.lock().expect("nobody panics in here").says = says;
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(socket: UdpSocket, shared: Arc<Mutex<Shared>>) {
    let mut question = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut question).await {
        let answer = {
            let mut shared = shared.lock().expect("nobody panics in here");
            answer(&question[..length], &mut shared)
        };
        if let Some(answer) = answer {
            let _gone = socket.send_to(&answer, from).await;
        }
    }
}

/// The message that answers a question (RFC 1035 §4.1).
fn answer(question: &[u8], shared: &mut Shared) -> Option<Vec<u8>> {
    let name = question.get(HEADER_BYTES..)?;
    let name_end = HEADER_BYTES + name.iter().position(|byte| *byte == 0)? + 1;
    let asked = question.get(..name_end + 4)?;
    let is_a = asked[name_end..name_end + 2] == TYPE_A.to_be_bytes();
    shared.asked += usize::from(is_a);
    let (code, address) = match shared.says {
        Says::Nothing => return None,
        Says::NoSuchName => (3, None),
        Says::Address(address, ttl_s) => (0, is_a.then_some((address, ttl_s))),
    };
    let mut message = asked.to_vec();
    // A response to a recursive question, by one that recurses.
    message[2] = 0x81;
    message[3] = 0x80 | code;
    let answers = u8::from(address.is_some());
    message[4..HEADER_BYTES].copy_from_slice(&[0, 1, 0, answers, 0, 0, 0, 0]);
    if let Some((address, ttl_s)) = address {
        // The name of the question, by reference; type A, class IN.
        message.extend([0xc0, 12, 0, 1, 0, 1]);
        message.extend(ttl_s.to_be_bytes());
        message.extend([0, 4]);
        message.extend(address.octets());
    }
    Some(message)
}
