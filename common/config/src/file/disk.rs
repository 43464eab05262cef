//! The files that a configuration names: do they exist, may we trust them.
//!
//! A file with a secret that everybody can write is refused, since whoever
//! writes it speaks as this node; one that everybody can read is warned of.
//! All reading is bounded, and only regular files are opened: a pipe would
//! make a start hang.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::model::{KeyText, Secret};
use crate::problem::{Notes, Place};

/// A configuration file, and any key or certificate, is far smaller.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A file that a configuration names.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) path: PathBuf,
    pub(crate) place: Place,
    pub(crate) what: Use,
}

/// What a named file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// PEM certificates.
    Certificate,
    /// A PEM private key.
    PrivateKey,
    /// Keys that sign control blocks, in `control`'s format.
    SigningKey,
    /// The admin listener's bearer token.
    Token,
    /// PEM certificates of who may vouch for a collector.
    CollectorCa,
    /// Header fields for a collector, `name: value` on each line.
    CollectorHeaders,
    /// A log, which need not exist yet, in a folder that must.
    Log,
}

/// Environment variables by name; None where one is not set.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads a whole text file of bounded size. The error is a sentence's end:
/// `does not exist`.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    read(path).map(|(text, _)| text)
}

/// The text with the metadata of that very file, whatever the path names next.
fn read(path: &Path) -> Result<(String, Metadata), String> {
    let file = File::open(path).map_err(|error| reason(&error))?;
    let metadata = file.metadata().map_err(|error| reason(&error))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| reason(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("is larger than 16 MiB".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    Ok((text, metadata))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
        io::ErrorKind::IsADirectory => "is a folder".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

/// What stood in named files and is used from here on.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Signing keys, in order.
    pub(crate) keys: Vec<KeyText>,
    pub(crate) token: Option<Secret>,
    pub(crate) otlp_ca: Option<String>,
    pub(crate) otlp_headers: Vec<(String, Secret)>,
}

/// Looks at every named file.
pub(crate) fn look_at(files: &[Named], notes: &mut Notes) -> Found {
    let mut found = Found::default();
    for named in files {
        let Some(text) = look_at_one(named, notes) else {
            continue;
        };
        match named.what {
            Use::SigningKey => found.keys.push(KeyText {
                source: named.path.display().to_string(),
                text: Secret::new(text),
            }),
            Use::Token => found.token = admin_token(&text, &named.place, notes),
            Use::CollectorCa => found.otlp_ca = Some(text),
            Use::CollectorHeaders => found.otlp_headers = headers(&text, &named.place, notes),
            Use::Certificate | Use::PrivateKey | Use::Log => {}
        }
    }
    found
}

fn look_at_one(named: &Named, notes: &mut Notes) -> Option<String> {
    let Named { path, place, what } = named;
    if *what == Use::Log {
        log_folder(path, place, notes);
        return None;
    }
    let shown = path.display();
    let mut refuse = |why: &str, mend: String| {
        let problem = place.problem(format!("the file {shown} {why}"), mend);
        notes.problems.push(problem);
    };
    let regular = std::fs::metadata(path).map(|found| found.is_file());
    if matches!(regular, Ok(false)) {
        refuse("is no regular file", "name a file".to_owned());
        return None;
    }
    let (text, metadata) = match read(path) {
        Ok(read) => read,
        Err(why) => {
            refuse(
                &why,
                "create it, correct the path, or mend its permissions".to_owned(),
            );
            return None;
        }
    };
    if text.trim().is_empty() {
        let mend = match what {
            Use::SigningKey => "make a key with `headwater keygen`",
            _ => "put its contents there, or name another file",
        };
        refuse("is empty", mend.to_owned());
        return None;
    }
    if let Some(block) = missing_pem_block(*what, &text) {
        refuse(
            &format!("has no PEM block `{block}`"),
            "name a PEM file; `openssl x509` and `openssl pkcs8` convert others".to_owned(),
        );
        return None;
    }
    let is_public = matches!(what, Use::Certificate | Use::CollectorCa);
    if !is_public && !permissions(path, &metadata, place, notes) {
        return None;
    }
    Some(text)
}

fn missing_pem_block(what: Use, text: &str) -> Option<&'static str> {
    let (end_of_label, block) = match what {
        Use::Certificate | Use::CollectorCa => ("-----BEGIN CERTIFICATE-----", "CERTIFICATE"),
        Use::PrivateKey => ("PRIVATE KEY-----", "PRIVATE KEY"),
        Use::SigningKey | Use::Token | Use::CollectorHeaders | Use::Log => return None,
    };
    (!text.contains(end_of_label)).then_some(block)
}

fn log_folder(path: &Path, place: &Place, notes: &mut Notes) {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.is_dir() {
        let what = format!("the log {} is a folder", path.display());
        notes
            .problems
            .push(place.problem(what, "name a file in it"));
    } else if !folder.is_dir() {
        let what = format!("the folder {} does not exist", folder.display());
        notes
            .problems
            .push(place.problem(what, "create it, or log elsewhere"));
    }
}

/// Whether the permissions of a secret file let us use it.
#[cfg(unix)]
fn permissions(path: &Path, metadata: &Metadata, place: &Place, notes: &mut Notes) -> bool {
    use std::os::unix::fs::PermissionsExt;

    let mode = metadata.permissions().mode();
    let shown = path.display();
    let mend = format!("run `chmod 600 {shown}`");
    if mode & 0o002 != 0 {
        let what = format!("the file {shown} may be written by everybody, so it proves nothing");
        notes.problems.push(place.problem(
            what,
            format!("{mend}, and make a new secret if others had access"),
        ));
        return false;
    }
    if mode & 0o004 != 0 {
        let what = format!("the file {shown} may be read by everybody");
        notes.warnings.push(place.problem(what, mend));
    }
    true
}

#[cfg(not(unix))]
fn permissions(_: &Path, _: &Metadata, _: &Place, _: &mut Notes) -> bool {
    true
}

/// The signing keys in environment variables, in the order of their names.
pub(crate) fn keys_from_env(
    names: &[(String, Place)],
    env: Env<'_>,
    notes: &mut Notes,
) -> Vec<KeyText> {
    let keys = names.iter().filter_map(|(name, place)| {
        Some(KeyText {
            source: format!("environment variable {name}"),
            text: Secret::new(variable(name, place, env, notes)?),
        })
    });
    keys.collect()
}

/// The admin listener's token from an environment variable.
pub(crate) fn token_from_env(
    (name, place): &(String, Place),
    env: Env<'_>,
    notes: &mut Notes,
) -> Option<Secret> {
    let text = variable(name, place, env, notes)?;
    admin_token(&text, place, notes)
}

fn variable(name: &str, place: &Place, env: Env<'_>, notes: &mut Notes) -> Option<String> {
    let value = env(name);
    let state = if value.is_some() { "empty" } else { "not set" };
    let value = value.filter(|text| !text.trim().is_empty());
    if value.is_none() {
        notes.problems.push(place.problem(
            format!("the environment variable {name} is {state}"),
            "set it where the node is started, or remove its name here",
        ));
    }
    value
}

/// RFC 6750 §2.1: a bearer token is visible ASCII in one piece.
fn admin_token(text: &str, place: &Place, notes: &mut Notes) -> Option<Secret> {
    let token = text.trim();
    if token.bytes().all(|b| b.is_ascii_graphic()) {
        return Some(Secret::new(token.to_owned()));
    }
    notes.problems.push(place.problem(
        "the token has spaces, line breaks or characters beyond ASCII",
        "use letters and digits, on one line",
    ));
    None
}

/// Header fields, one a line as `name: value`; empty lines and those that begin with
/// `#` are skipped. No message shows a value.
fn headers(text: &str, place: &Place, notes: &mut Notes) -> Vec<(String, Secret)> {
    let mut headers = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line
            .split_once(':')
            .and_then(|(name, value)| header(name.trim(), value.trim()))
        {
            Some(header) => headers.push(header),
            None => notes.problems.push(place.problem(
                format!("line {} of that file is no header field", number + 1),
                "write `name: value`, in ASCII",
            )),
        }
    }
    headers
}

/// RFC 9110 §5.1 and §5.5, as far as both HTTP and gRPC take it.
fn header(name: &str, value: &str) -> Option<(String, Secret)> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let good = !name.is_empty()
        && name.bytes().all(is_token)
        && !value.is_empty()
        && value.bytes().all(|b| (0x20..0x7f).contains(&b));
    good.then(|| (name.to_ascii_lowercase(), Secret::new(value.to_owned())))
}
