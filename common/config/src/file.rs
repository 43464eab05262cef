//! From files to values: the only place that builds what `model.rs` describes.
//!
//! Reading has three stages, and each goes on after problems of the one before
//! as far as it can: the text of each file on its own (`node`, `sites`), the
//! files and variables they name (`disk`), and how they fit together (`across`).

mod across;
mod cache;
mod disk;
mod hosts;
mod node;
mod reader;
mod rules;
mod settings;
mod sites;
mod tls;
mod values;

use std::path::{Path, PathBuf};

use crate::model::{Loaded, Node, Role, Sites};
use crate::problem::{Notes, Place, Problem, Problems};

/// A node's file by itself, as [`parse_node`] reads it.
#[derive(Debug, Clone)]
pub struct NodeFile {
    /// The node, without its admin token, which stands elsewhere.
    pub node: Node,
    /// Files with signing keys, relative to the working directory.
    pub key_files: Vec<PathBuf>,
    /// Environment variables with signing keys.
    pub key_env: Vec<String>,
    /// Things that work but deserve a look.
    pub warnings: Vec<Problem>,
}

/// What a configuration file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The sites that all nodes share; also a file that shows no sign of being
    /// anything else.
    Sites,
    /// An edge's own file.
    Edge,
    /// An upper tier's own file.
    UpperTier,
}

/// What [`check`] has found.
#[derive(Debug, Clone)]
pub struct Report {
    /// What the file is for, by what it contains.
    pub kind: Kind,
    /// What keeps a node from starting with this file.
    pub problems: Vec<Problem>,
    /// What works but deserves a look.
    pub warnings: Vec<Problem>,
}

/// Loads a node's file, the sites file it names and the keys it names. Paths are
/// relative to the file that names them; `env` looks up environment variables.
///
/// # Errors
///
/// All problems of all these files together, sorted by file and line.
pub fn load(
    path: &Path,
    role: Role,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    let mut notes = Notes::default();
    let loaded = read_text(path, &mut notes)
        .and_then(|text| load_text(&text, path, Some(role), env, &mut notes));
    let notes = notes.sorted();
    match loaded {
        Some(loaded) if notes.problems.is_empty() => Ok(Loaded {
            warnings: notes.warnings,
            ..loaded
        }),
        _ => Err(refused(notes)),
    }
}

/// Loads a sites file and looks at the files it names.
///
/// # Errors
///
/// All its problems, sorted by line.
pub fn load_sites(path: &Path) -> Result<Sites, Problems> {
    let mut notes = Notes::default();
    let sites = read_text(path, &mut notes).and_then(|text| {
        let written = sites::read(&text, path, &mut notes);
        disk::look_at(&written.files, &mut notes);
        written.sites
    });
    finish(sites, notes)
}

/// Reads the text of a sites file without touching the disk. `file` stands in
/// messages, and paths in the text are relative to its folder.
///
/// # Errors
///
/// All problems of the text, sorted by line.
pub fn parse_sites(text: &str, file: &Path) -> Result<Sites, Problems> {
    let mut notes = Notes::default();
    let sites = sites::read(text, file, &mut notes).sites;
    finish(sites, notes)
}

/// Reads the text of a node's file without touching the disk or the
/// environment. `file` is used as in [`parse_sites`].
///
/// # Errors
///
/// All problems of the text, sorted by line.
pub fn parse_node(text: &str, file: &Path, role: Role) -> Result<NodeFile, Problems> {
    let mut notes = Notes::default();
    let written = node::read(text, file, Some(role), &mut notes);
    let warnings = notes.warnings.clone();
    let key_files = written
        .files
        .into_iter()
        .filter(|named| named.what == disk::Use::SigningKey)
        .map(|named| named.path)
        .collect();
    let node = finish(written.node, notes)?;
    Ok(NodeFile {
        node,
        key_files,
        key_env: written.key_env.into_iter().map(|(name, _)| name).collect(),
        warnings,
    })
}

/// Finds out what a file is for and says everything about it and the files it
/// names: all that [`load`] or [`load_sites`] would say.
#[must_use]
pub fn check(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Report {
    let mut notes = Notes::default();
    let mut kind = Kind::Sites;
    if let Some(text) = read_text(path, &mut notes) {
        kind = kind_of(&text);
        if kind == Kind::Sites {
            let written = sites::read(&text, path, &mut notes);
            disk::look_at(&written.files, &mut notes);
        } else {
            load_text(&text, path, None, env, &mut notes);
        }
    }
    let notes = notes.sorted();
    Report {
        kind,
        problems: notes.problems,
        warnings: notes.warnings,
    }
}

/// Everything after the node's file has been read. The result counts only if no
/// problem was noted.
fn load_text(
    text: &str,
    path: &Path,
    role: Option<Role>,
    env: disk::Env<'_>,
    notes: &mut Notes,
) -> Option<Loaded> {
    let written = node::read(text, path, role, notes);
    let found = disk::look_at(&written.files, notes);
    let mut keys = found.keys;
    keys.extend(disk::keys_from_env(&written.key_env, env, notes));
    let env_token = written
        .token_env
        .as_ref()
        .and_then(|variable| disk::token_from_env(variable, env, notes));
    let sites_file = written.sites_file.as_ref();
    let sites = sites_file.and_then(|(file, place)| named_sites(file, place, notes));

    let mut node = written.node?;
    node.admin.token = found.token.or(env_token);
    node.telemetry.otlp_ca = found.otlp_ca;
    node.telemetry.otlp_headers = found.otlp_headers;
    let written_sites = sites?;
    let sites = written_sites.sites.clone()?;
    across::check(&node, &sites, &written_sites, notes);
    Some(Loaded {
        node,
        sites,
        keys,
        warnings: Vec::new(),
    })
}

/// The sites file that a node's file names; `place` is where it does.
fn named_sites(file: &Path, place: &Place, notes: &mut Notes) -> Option<sites::Written> {
    match disk::read_text(file) {
        Ok(text) => {
            let written = sites::read(&text, file, notes);
            disk::look_at(&written.files, notes);
            Some(written)
        }
        Err(why) => {
            notes.problems.push(place.problem(
                format!("the file {} {why}", file.display()),
                "create it, correct the path, or mend its permissions",
            ));
            None
        }
    }
}

fn read_text(path: &Path, notes: &mut Notes) -> Option<String> {
    match disk::read_text(path) {
        Ok(text) => Some(text),
        Err(why) => {
            let mend = "name a file that this user can read";
            notes.problems.push(Place::file(path).problem(why, mend));
            None
        }
    }
}

fn finish<T>(value: Option<T>, notes: Notes) -> Result<T, Problems> {
    match value {
        Some(value) if notes.problems.is_empty() => Ok(value),
        _ => Err(refused(notes.sorted())),
    }
}

fn refused(notes: Notes) -> Problems {
    debug_assert!(
        !notes.problems.is_empty(),
        "nothing is refused without a reason"
    );
    Problems(notes.problems)
}

/// A node's file has a role, or at least what only a node has.
fn kind_of(text: &str) -> Kind {
    let (tree, _) = toml::de::DeTable::parse_recoverable(text);
    let top = tree.get_ref();
    let role = top.get("role").and_then(|role| role.get_ref().as_str());
    match role {
        Some("upper-tier") => Kind::UpperTier,
        Some(_) => Kind::Edge,
        None if ["listen", "upper_tier", "admin"]
            .iter()
            .any(|key| top.contains_key(*key)) =>
        {
            Kind::Edge
        }
        None => Kind::Sites,
    }
}
