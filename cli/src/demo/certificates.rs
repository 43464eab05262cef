//! Certificates for mutual TLS between the tiers of a demo.
//!
//! One authority that exists for a moment: its private key is never written down,
//! so nobody can issue another certificate under it later.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// An authority's certificate and what it has issued, as PEM.
pub(super) struct Certificates {
    /// The authority's own certificate.
    pub(super) ca: String,
    /// One a node, in the order asked for.
    pub(super) issued: Vec<Issued>,
}

/// One node's certificate and key, as PEM.
pub(super) struct Issued {
    pub(super) node: String,
    pub(super) certificate: String,
    pub(super) key: String,
}

/// The name a node's certificate is for. `.test` never resolves (RFC 6761 §6.2).
pub(super) fn host(node: &str) -> String {
    format!("{node}.headwater.test")
}

/// Makes an authority and one certificate for each node, good for serving and for
/// asking alike.
pub(super) fn issue(nodes: impl Iterator<Item = String>) -> Result<Certificates, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Headwater demo authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_key = KeyPair::generate()?;
    let ca = params.self_signed(&authority_key)?.pem();
    let authority = Issuer::new(params, authority_key);

    let mut issued = Vec::new();
    for node in nodes {
        let mut params = CertificateParams::new(vec![host(&node)])?;
        params
            .distinguished_name
            .push(DnType::CommonName, host(&node));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &authority)?.pem();
        issued.push(Issued {
            node,
            certificate,
            key: key.serialize_pem(),
        });
    }
    Ok(Certificates { ca, issued })
}
