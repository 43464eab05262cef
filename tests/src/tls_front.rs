//! TLS before something that speaks in the clear.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::tls::Authority;

/// Ends TLS and passes the bytes on. It ends when it is dropped.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl TlsFront {
    /// Starts one as `127.0.0.1`, which that authority vouches for, before whoever is at
    /// that address, offering one ALPN protocol.
    ///
    /// # Panics
    /// When the system has no port to give.
    pub async fn start(authority: &Authority, target: SocketAddr, alpn: &str) -> Self {
        let acceptor = acceptor(authority, alpn);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("the system has a port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    // Who does not trust the authority breaks off here.
                    let mut near = acceptor.accept(stream).await.ok()?;
                    let mut far = TcpStream::connect(target).await.ok()?;
                    let copied = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    copied.ok()
                });
            }
        });
        Self {
            address,
            accepting: accepting.abort_handle(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn acceptor(authority: &Authority, alpn: &str) -> TlsAcceptor {
    let issued = authority.issue("127.0.0.1");
    let own = CertificateDer::from_pem_slice(issued.certificate.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions")
        .with_no_client_auth()
        .with_single_cert(vec![own.expect("our own PEM")], key.expect("our own PEM"))
        .expect("the key belongs to the certificate");
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
