//! Commands of the system: `ip`, `nft`, `tc`, `docker` and their like.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Runs a command that must succeed, and gives what it says.
///
/// # Panics
/// With what it complains of, when it fails.
pub(crate) async fn run(words: &[&str]) -> String {
    feed(words, "").await
}

/// The same with something to read.
pub(crate) async fn feed(words: &[&str], input: &str) -> String {
    let told = words.join(" ");
    match attempt(words, input).await {
        Ok(said) => said,
        Err(why) => panic!("{told}: {why}"),
    }
}

/// Runs a command that may fail: what it says, or what it complains of.
pub(crate) async fn attempt(words: &[&str], input: &str) -> Result<String, String> {
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    let input = input.to_owned();
    // The load goes on meanwhile.
    let ran = tokio::task::spawn_blocking(move || now(&words, &input)).await;
    ran.map_err(|why| why.to_string())?
}

/// The same where nothing else goes on.
pub(crate) fn now<W: AsRef<str>>(words: &[W], input: &str) -> Result<String, String> {
    let [program, arguments @ ..] = words else {
        return Err("no command".to_owned());
    };
    let mut child = Command::new(program.as_ref())
        .args(arguments.iter().map(AsRef::as_ref))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|why| why.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who reads nothing has ended, and says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let ended = child.wait_with_output().map_err(|why| why.to_string())?;
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    if ended.status.success() {
        Ok(said)
    } else {
        Err(String::from_utf8_lossy(&ended.stderr).trim().to_owned() + &said)
    }
}

/// Whether a program is there.
pub(crate) fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).exists())
}

/// The first of these that is not there.
pub(crate) fn lacks(programs: &[&str]) -> Result<(), String> {
    let missing: Vec<_> = programs.iter().filter(|program| !has(program)).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("there is no {missing:?}"))
    }
}
