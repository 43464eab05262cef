//! What TLS files hold, read anew when they change.
//!
//! Certificates live for weeks and nodes for months, so whoever renews one only has
//! to write the files. What must stay true:
//!
//! * What is in force was read whole and is usable. A file that is half written, or
//!   a key that does not belong to its certificate, changes nothing and is told.
//! * A connection keeps what it began with; only new ones meet what is new.
//! * Files are looked at by their times and sizes. They are read when they have
//!   changed and then stayed as they are for one look, since a certificate and its
//!   key are written one after the other.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use observe::Event;
use parking_lot::Mutex;
use pingora_core::server::ShutdownWatch;

use crate::state::Node;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How one file looks from outside: modification time, size and inode. None: it is
/// not there, or may not be looked at.
type Look = Option<(i64, i64, u64, u64)>;

/// Something made of TLS files, as they were when they were last read.
pub(crate) struct Kept<T> {
    files: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    now: ArcSwap<T>,
    looks: Mutex<Looks>,
}

/// What has been seen of the files.
struct Looks {
    /// As they were when they were last read, with or without success.
    read: Vec<Look>,
    /// As they were at the last look.
    last: Vec<Look>,
}

impl<T> std::fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl<T> Kept<T> {
    /// Reads `files` by `read` for the first time.
    pub(crate) fn load<'a>(
        files: impl IntoIterator<Item = &'a Path>,
        read: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let files: Vec<_> = files.into_iter().map(Path::to_owned).collect();
        // Looked at first: what changes while it is read is read again.
        let looks = look(&files);
        Ok(Self {
            now: ArcSwap::from_pointee(read()?),
            looks: Mutex::new(Looks {
                read: looks.clone(),
                last: looks,
            }),
            read: Box::new(read),
            files,
        })
    }

    /// What is in force.
    pub(crate) fn now(&self) -> Arc<T> {
        self.now.load_full()
    }
}

/// Puts in force what was read.
pub(crate) type Accept<'a> = Box<dyn FnOnce() + 'a>;

/// TLS files of which nobody needs to know what is made of them.
pub(crate) trait Renewable: std::fmt::Debug + Send + Sync {
    /// Reads the files now, or says what is wrong with them. What was read is in
    /// force when the function is called that is given back.
    fn renewed(&self) -> Result<Accept<'_>, String>;

    /// Reads the files if they have changed and settled. None: they have not.
    fn look(&self) -> Option<Result<(), String>>;

    /// The files, for whoever reads the log.
    fn files(&self) -> &[PathBuf];
}

impl<T: Send + Sync> Renewable for Kept<T> {
    fn renewed(&self) -> Result<Accept<'_>, String> {
        let looks = look(&self.files);
        let read = Arc::new((self.read)()?);
        Ok(Box::new(move || {
            self.now.store(read);
            self.looks.lock().read = looks;
        }))
    }

    fn look(&self) -> Option<Result<(), String>> {
        let seen = look(&self.files);
        {
            let mut looks = self.looks.lock();
            let is_settled = looks.last == seen;
            looks.last.clone_from(&seen);
            if !is_settled || looks.read == seen {
                return None;
            }
            // Whatever comes of it, it is not read again until it changes again.
            looks.read = seen;
        }
        Some((self.read)().map(|read| self.now.store(Arc::new(read))))
    }

    fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

fn look(files: &[PathBuf]) -> Vec<Look> {
    let one = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
    };
    files.iter().map(one).collect()
}

/// What is made of TLS files that the node's own file names: what its listeners show,
/// and what it shows and believes towards upper tiers.
pub(crate) fn own(node: &Node, listeners: &[Arc<dyn Renewable>]) -> Vec<Arc<dyn Renewable>> {
    let uppers = node.upstreams.uppers.iter();
    let uppers = uppers.filter_map(|upper| Some(upper.tls.clone()? as Arc<dyn Renewable>));
    listeners.iter().cloned().chain(uppers).collect()
}

/// And what is made of those that the sites file names, for its pools.
fn of_pools(node: &Node) -> Vec<Arc<dyn Renewable>> {
    let live = node.live.load();
    let pools = live.all().filter_map(|site| site.origin_tls.clone());
    pools.map(|tls| tls as Arc<dyn Renewable>).collect()
}

/// Watches all of it until the node drains, and tells what came of each change.
pub(crate) async fn watch(
    node: Arc<Node>,
    listeners: Vec<Arc<dyn Renewable>>,
    mut draining: ShutdownWatch,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = draining.changed() => return,
        }
        let of_pools = of_pools(&node);
        for renewable in own(&node, &listeners).iter().chain(&of_pools) {
            let Some(outcome) = renewable.look() else {
                continue;
            };
            let event = match outcome {
                Ok(()) => Event::Reloaded {
                    what: format!("certificates: {}", names(renewable.files())),
                },
                Err(why) => Event::ReloadFailed { why },
            };
            node.observer.event(event, node.now_ms());
        }
    }
}

fn names(files: &[PathBuf]) -> String {
    let names: Vec<_> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number kept in a file.
    fn kept(file: &Path) -> Kept<u32> {
        let path = file.to_owned();
        let read = move || {
            let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
            text.parse().map_err(|_| format!("{text} is no number"))
        };
        Kept::load([file], read).unwrap()
    }

    #[test]
    fn what_changes_is_read_when_it_has_settled_and_only_if_it_is_good() {
        let folder = std::env::temp_dir().join(format!("headwater-kept-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("number");
        fs::write(&file, "1").unwrap();
        let kept = kept(&file);
        assert_eq!((kept.look(), *kept.now()), (None, 1), "unchanged");

        // Sizes differ, since a file system's clock may be coarse.
        fs::write(&file, "22").unwrap();
        assert_eq!((kept.look(), *kept.now()), (None, 1), "not settled");
        assert_eq!((kept.look(), *kept.now()), (Some(Ok(())), 22));
        assert_eq!((kept.look(), *kept.now()), (None, 22));

        fs::write(&file, "bad").unwrap();
        assert_eq!(kept.look(), None);
        let why = "bad is no number".to_owned();
        assert_eq!((kept.look(), *kept.now()), (Some(Err(why)), 22));
        assert_eq!((kept.look(), *kept.now()), (None, 22), "told once");

        fs::remove_file(&file).unwrap();
        assert_eq!(kept.look(), None);
        assert!(matches!(kept.look(), Some(Err(_))));
        assert_eq!(*kept.now(), 22);

        fs::write(&file, "4444").unwrap();
        let accept = kept.renewed().unwrap();
        assert_eq!(*kept.now(), 22, "not before it is accepted");
        accept();
        assert_eq!((kept.look(), *kept.now()), (None, 4444));
        fs::remove_dir_all(&folder).unwrap();
    }
}
