//! Writing a plan's files into a folder.
//!
//! Invariants: nothing but files of our own names is ever replaced; a file with a
//! secret is never, not for a moment, readable by others.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::plan::EjectedFile;
use crate::failure::Failure;

/// Tries at finding a name that no other process has in the system's folder.
const TEMPORARY_TRIES: u32 = 100;

/// Writes `files` into `folder`, which is made where it is missing. Refuses a
/// folder with anything else in it: node files of an older, larger topology would
/// look as if they belonged to this one.
pub(super) fn eject(files: &[EjectedFile], folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder)
        .map_err(|error| Failure::because(format!("cannot make {}: {error}", folder.display())))?;
    let unreadable = |error| Failure::because(format!("cannot read {}: {error}", folder.display()));
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if !files.iter().any(|file| name == file.name.as_str()) {
            return Err(Failure::because(format!(
                "{} holds {}, which is no file of this topology; remove it or choose another folder",
                folder.display(),
                name.display(),
            )));
        }
    }
    files.iter().try_for_each(|file| {
        let path = folder.join(&file.name);
        write(file, &path)
            .map_err(|error| Failure::because(format!("cannot write {}: {error}", path.display())))
    })
}

/// Replaces `path`. The old file goes first: opened as it is, it would keep its
/// mode, and a link would lead the secret elsewhere.
fn write(file: &EjectedFile, path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(path)?
        .write_all(file.text.as_bytes())
}

/// A folder of our own under the system's one for temporary files, for this user
/// alone. It goes, with all that is in it, when this value does.
#[derive(Debug)]
pub(super) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// Makes it, empty.
    pub(super) fn new() -> io::Result<Self> {
        let process = std::process::id();
        let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
        for number in 0..TEMPORARY_TRIES {
            let path = std::env::temp_dir().join(format!("headwater-demo-{process}-{number}"));
            // Making fails on whatever has the name already, a planted link included.
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = error,
                Err(error) => return Err(error),
            }
        }
        Err(taken)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // What cannot be removed now is left to the system's own tidying.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::plan::{Plan, files};
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn an_ejected_topology_loads() {
        let folder = tempfile::tempdir().unwrap();
        for (uppers, mtls) in [(2, false), (2, true), (0, false)] {
            let plan = Plan {
                uppers,
                mtls,
                ..Plan::default()
            };
            let folder = folder.path().join(format!("{uppers}-{mtls}"));
            eject(&files(&plan).unwrap(), &folder).unwrap();
            for node in plan.edges().chain(plan.uppers()) {
                let path = folder.join(format!("{}.toml", node.name()));
                let loaded = config::load(&path, node.role, &|_| None).unwrap();
                assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
                assert_eq!(loaded.node.name, node.name());
                assert_eq!(loaded.node.listeners[0].address, node.address());
                assert_eq!(loaded.node.admin.address, node.admin_address());
                let texts = loaded
                    .keys
                    .iter()
                    .map(|key| (key.source.as_str(), key.text.expose()));
                let ring = control::Keyring::parse(texts).unwrap();
                assert_eq!(
                    ring.signing("edge-1").is_some(),
                    uppers > 0 && node.name() != "edge-2" && node.name() != "edge-3"
                );
            }
        }
    }

    #[test]
    fn secrets_are_for_their_owner_even_over_an_open_file() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(&Plan::default()).unwrap();
        let key = folder.path().join("edge-1.key");
        fs::write(&key, "old").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o666)).unwrap();
        eject(&files, folder.path()).unwrap();
        assert_eq!(mode(&key), 0o600);
        assert!(
            fs::read_to_string(&key)
                .unwrap()
                .contains("hmac-sha256 edge-1 ")
        );
        // A second time over our own names is no offence.
        eject(&files, folder.path()).unwrap();
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("edge-9.toml"), "").unwrap();
        let failure = eject(&files(&Plan::default()).unwrap(), folder.path()).unwrap_err();
        assert!(failure.words().contains("edge-9.toml"), "{failure:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_temporary_folder_is_private_and_goes() {
        let folder = TemporaryFolder::new().unwrap();
        let other = TemporaryFolder::new().unwrap();
        let path = folder.path().to_owned();
        assert_ne!(path, other.path());
        assert_eq!(mode(&path), 0o700);
        drop(folder);
        assert!(!path.exists());
    }
}
