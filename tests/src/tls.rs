//! A certificate authority for one scenario, and visitors that trust it.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::wire::Stream;
use crate::within;

/// An authority that lives as long as its scenario.
pub struct Authority {
    /// Its certificate, as PEM.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

impl Default for Authority {
    fn default() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        params
            .distinguished_name
            .push(DnType::CommonName, "Scenario authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("the system has randomness");
        let pem = params.self_signed(&key).expect("a good key signs").pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }
}

impl Authority {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A certificate for one name, good for serving and for asking.
    #[must_use]
    pub fn issue(&self, name: &str) -> Issued {
        let params = CertificateParams::new(vec![name.to_owned()]);
        let mut params = params.expect("the name is a good name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("the system has randomness");
        let signed = params.signed_by(&key, &self.issuer);
        Issued {
            certificate: signed.expect("the authority signs").pem(),
            key: key.serialize_pem(),
        }
    }

    /// Connects over TLS, trusting this authority alone and offering these ALPN
    /// protocols. Gives the stream and what was agreed on.
    ///
    /// # Panics
    /// When the handshake fails.
    pub async fn connect(
        &self,
        address: SocketAddr,
        name: &str,
        offered: &[&str],
    ) -> (Box<dyn Stream>, Option<String>) {
        let stream = within(10, TcpStream::connect(address)).await;
        let stream = stream.expect("the node listens");
        self.handshake(stream, name, offered).await
    }

    /// As [`Authority::connect`]; None when this authority did not vouch for what the
    /// node shows.
    pub async fn try_connect(
        &self,
        address: SocketAddr,
        name: &str,
        offered: &[&str],
    ) -> Option<Box<dyn Stream>> {
        let stream = within(10, TcpStream::connect(address)).await;
        let handshake = self.connecting(stream.ok()?, name, offered);
        let stream = within(10, handshake).await.ok()?;
        Some(Box::new(stream))
    }

    /// As [`Authority::connect`], over a connection that is there already.
    ///
    /// # Panics
    /// When the handshake fails.
    pub async fn handshake(
        &self,
        stream: TcpStream,
        name: &str,
        offered: &[&str],
    ) -> (Box<dyn Stream>, Option<String>) {
        let handshake = self.connecting(stream, name, offered);
        let stream = within(10, handshake).await.expect("the handshake succeeds");
        let agreed = stream.get_ref().1.alpn_protocol();
        let agreed = agreed.map(|one| String::from_utf8_lossy(one).into_owned());
        (Box::new(stream), agreed)
    }

    fn connecting(
        &self,
        stream: TcpStream,
        name: &str,
        offered: &[&str],
    ) -> tokio_rustls::Connect<TcpStream> {
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("our own PEM");
        roots.add(own).expect("our own certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|one| one.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).expect("the name is a good name");
        TlsConnector::from(Arc::new(config)).connect(name, stream)
    }
}
