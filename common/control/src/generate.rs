//! Making keys, for `headwater keygen`. The only place here that draws random
//! bytes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::keys::{Algorithm, HMAC_SECRET_BYTES_MIN, is_name};

/// A new key as lines for key files. `Debug` does not show the private one.
#[derive(Clone, PartialEq, Eq)]
pub struct GeneratedKey {
    /// The line that signs. For `hmac-sha256` both sides need it.
    pub private_line: String,
    /// The line that verifies, for everyone else; `None` for `hmac-sha256`.
    pub public_line: Option<String>,
}

impl fmt::Debug for GeneratedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeneratedKey")
            .field("public_line", &self.public_line)
            .finish_non_exhaustive()
    }
}

/// Why no key was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenerateError {
    /// The node's name or the key id cannot stand in a key file.
    #[error(
        "{0:?} is not a name: use printable ASCII without quotes, backslashes and spaces, 128 at most"
    )]
    Name(String),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
}

/// Makes a key for `node` under the id `keyid`.
///
/// # Errors
/// A name that the file format cannot hold, or no randomness.
pub fn generate(
    algorithm: Algorithm,
    node: &str,
    keyid: &str,
) -> Result<GeneratedKey, GenerateError> {
    for name in [node, keyid] {
        if !is_name(name) {
            return Err(GenerateError::Name(name.to_owned()));
        }
    }
    let random = SystemRandom::new();
    match algorithm {
        Algorithm::HmacSha256 => {
            let mut secret = [0; HMAC_SECRET_BYTES_MIN];
            random
                .fill(&mut secret)
                .map_err(|_| GenerateError::Random)?;
            Ok(GeneratedKey {
                private_line: format!("hmac-sha256 {node} {keyid} {}", STANDARD.encode(secret)),
                public_line: None,
            })
        }
        Algorithm::Ed25519 => {
            let pkcs8 =
                Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| GenerateError::Random)?;
            let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref())
                .expect("ring reads the document it has just written");
            let public = STANDARD.encode(pair.public_key());
            Ok(GeneratedKey {
                private_line: format!("ed25519 {node} {keyid} {}", STANDARD.encode(pkcs8)),
                public_line: Some(format!("ed25519-public {node} {keyid} {public}")),
            })
        }
    }
}
