//! `headwater keygen`: a new signing key, and the word where its lines belong.
//!
//! Invariants: a secret is written to a file that only its owner can read, over
//! nothing that was there before, or to standard output; nothing else prints it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use control::GeneratedKey;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::failure::Failure;

/// Command line of `headwater keygen`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The node that will sign with the key, by its `name`.
    #[arg(value_name = "NODE")]
    node: String,
    /// How it signs.
    #[arg(long, value_enum, default_value_t = Algorithm::HmacSha256)]
    algorithm: Algorithm,
    /// The key's public name; NODE and eight random digits where none is given.
    #[arg(long, value_name = "ID")]
    keyid: Option<String>,
    /// Write the key to a new file (mode 0600) instead of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The algorithms, under their names in the key file.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Algorithm {
    /// One secret, shared by an edge and the upper tiers.
    HmacSha256,
    /// A private key that stays on its node, and a public one for the others.
    Ed25519,
}

/// `headwater keygen`.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let keyid = match &options.keyid {
        Some(keyid) => keyid.clone(),
        None => fresh_keyid(&options.node)?,
    };
    let algorithm = match options.algorithm {
        Algorithm::HmacSha256 => control::Algorithm::HmacSha256,
        Algorithm::Ed25519 => control::Algorithm::Ed25519,
    };
    let key = control::generate(algorithm, &options.node, &keyid).map_err(Failure::because)?;
    let text = file_text(&options.node, &key);
    match &options.out {
        Some(path) => {
            write_new(path, &text)?;
            writeln!(io::stderr(), "wrote {}", path.display())?;
        }
        None => io::stdout().write_all(text.as_bytes())?,
    }
    io::stderr().write_all(advice(&options.node, &key).as_bytes())?;
    Ok(())
}

/// Rotation needs a second key beside the first, so the default must not repeat.
fn fresh_keyid(node: &str) -> Result<String, Failure> {
    let mut random = [0; 4];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| Failure::because("the system gave no random bytes for a keyid"))?;
    Ok(format!("{node}-{:08x}", u32::from_be_bytes(random)))
}

/// The key file: the private line, and the public one as a comment to copy from.
fn file_text(node: &str, key: &GeneratedKey) -> String {
    let mut text = format!("# Signs for {node}. Secret.\n{}\n", key.private_line);
    if let Some(public) = &key.public_line {
        text.push_str(&format!(
            "# Public, for the key files of the nodes that talk to {node}:\n# {public}\n"
        ));
    }
    text
}

/// What to do with it, without repeating anything secret.
fn advice(node: &str, key: &GeneratedKey) -> String {
    match &key.public_line {
        None => format!(
            "Name its file in `keys.files` of {node} and of every upper tier that {node} asks:\n\
             it is one shared secret, for this edge alone. To rotate, add it to the upper tiers first.\n"
        ),
        Some(public) => format!(
            "Name its file in `keys.files` of {node} alone. The other side needs only this public line\n\
             in its key file (of every upper tier, if {node} is an edge; of every edge, if it is an upper tier):\n\
             {public}\n\
             An upper tier needs an ed25519 key of its own to sign its answers.\n"
        ),
    }
}

/// Creates `path` with mode 0600. Fails where something is there already: a key
/// that was overwritten by mistake cannot be had back.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    opened
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| {
            let path = path.display();
            match error.kind() {
                io::ErrorKind::AlreadyExists => Failure::because(format!(
                    "{path} exists; move it away or choose another name"
                )),
                _ => Failure::because(format!("cannot write {path}: {error}")),
            }
        })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn options(algorithm: Algorithm, out: &Path) -> Options {
        Options {
            node: "edge-1".to_owned(),
            algorithm,
            keyid: None,
            out: Some(out.to_owned()),
        }
    }

    #[test]
    fn the_file_is_a_key_file_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        for algorithm in [Algorithm::HmacSha256, Algorithm::Ed25519] {
            let path = folder.path().join(format!("{algorithm:?}.key"));
            run(&options(algorithm, &path)).unwrap();
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
            let text = fs::read_to_string(&path).unwrap();
            let ring = control::Keyring::parse([("file", text.as_str())]).unwrap();
            assert!(ring.signing("edge-1").is_some(), "{text}");
        }
    }

    #[test]
    fn an_existing_file_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edge-1.key");
        fs::write(&path, "precious").unwrap();
        let failure = run(&options(Algorithm::HmacSha256, &path)).unwrap_err();
        assert!(failure.words().contains("exists"), "{failure:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn the_advice_repeats_the_public_line_and_never_the_secret() {
        for algorithm in [control::Algorithm::HmacSha256, control::Algorithm::Ed25519] {
            let key = control::generate(algorithm, "edge-1", "edge-1-a").unwrap();
            let secret = key.private_line.rsplit(' ').next().unwrap();
            let advice = advice("edge-1", &key);
            assert!(!advice.contains(secret));
            assert_eq!(
                advice.contains("ed25519-public edge-1"),
                key.public_line.is_some()
            );
        }
    }
}
