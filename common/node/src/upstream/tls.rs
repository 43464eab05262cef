//! TLS towards upstreams: PEM files into what pingora's connector wants.
//!
//! Files are read and checked before they are used, so that a bad one is an error
//! with a name and not a failed request.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::UpstreamTls;
use pingora_core::protocols::tls::CaType;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificates::Kept;

/// TLS towards one upstream, ready to use.
#[derive(Debug, Clone)]
pub(crate) struct PeerTls {
    pub(crate) sni: String,
    pub(crate) verify: bool,
    pub(crate) ca: Option<Arc<CaType>>,
    pub(crate) client: Option<Arc<CertKey>>,
}

impl PeerTls {
    /// Reads the files, and follows them. An error names the file and what is wrong
    /// with it.
    pub(crate) fn kept(tls: &UpstreamTls) -> Result<Kept<Self>, String> {
        let client = tls.client.iter().flat_map(|(chain, key)| [chain, key]);
        let files = tls.ca.iter().chain(client);
        let own = tls.clone();
        Kept::load(files.map(PathBuf::as_path), move || Self::load(&own))
    }

    fn load(tls: &UpstreamTls) -> Result<Self, String> {
        let ca = match &tls.ca {
            None => None,
            Some(path) => {
                let wrapped: Vec<WrappedX509> = certificates(path)?
                    .into_iter()
                    .map(|certificate| WrappedX509::new(certificate.to_vec(), parse_x509))
                    .collect();
                Some(Arc::from(wrapped))
            }
        };
        let client = match &tls.client {
            None => None,
            Some((certificate, key)) => {
                let chain = certificates(certificate)?
                    .into_iter()
                    .map(|certificate| certificate.to_vec())
                    .collect();
                let key = private_key(key)?;
                Some(Arc::new(CertKey::new(chain, key.secret_der().to_vec())))
            }
        };
        Ok(Self {
            sni: tls.sni.clone(),
            verify: tls.verify,
            ca,
            client,
        })
    }
}

/// Every certificate of a PEM file, each checked to be one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| format!("{}: {error}", path.display()))?
        .collect();
    let found = found.map_err(|error| format!("{}: {error}", path.display()))?;
    if found.is_empty() {
        return Err(format!("{}: holds no certificate", path.display()));
    }
    for certificate in &found {
        rustls::server::ParsedCertificate::try_from(certificate)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(found)
}

/// The private key of a PEM file.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| format!("{}: {error}", path.display()))
}
