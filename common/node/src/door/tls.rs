//! TLS at the door: PEM files into pingora's acceptor.

use std::path::PathBuf;
use std::sync::Arc;

use config::ListenerTls;
use pingora_core::listeners::tls::Acceptor;
use rustls::RootCertStore;
use rustls::server::{ServerConfig, WebPkiClientVerifier};

use crate::certificates::Kept;
use crate::upstream::tls::{certificates, private_key};

/// The acceptor of a listener, which follows its files. An error names the file and
/// what is wrong with it.
pub(crate) fn kept(tls: &ListenerTls, http2: bool) -> Result<Kept<Acceptor>, String> {
    let files = [&tls.certificate, &tls.key]
        .into_iter()
        .chain(&tls.client_ca);
    let own = tls.clone();
    Kept::load(files.map(PathBuf::as_path), move || acceptor(&own, http2))
}

fn acceptor(tls: &ListenerTls, http2: bool) -> Result<Acceptor, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| format!("{}: {error}", path.display()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(certificates(&tls.certificate)?, private_key(&tls.key)?)
        .map_err(|error| format!("{}: {error}", tls.certificate.display()))?;
    config.alpn_protocols = if http2 {
        vec![b"h2".to_vec(), b"http/1.1".to_vec()]
    } else {
        vec![b"http/1.1".to_vec()]
    };
    Ok(Acceptor::from_server_config(Arc::new(config)))
}
