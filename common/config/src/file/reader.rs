//! Walks a TOML tree, takes keys out of it, and remembers what was wrong.
//!
//! Every way to read a value records a problem where it cannot, and carries on
//! with a default or None, so that one pass finds all problems of a file. What
//! has no taker when a table's closure ends is an unknown key.
//!
//! The rule for callers: take all keys of a table first, build the result last.
//! An early return in between would make known keys look unknown.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::values::{self, Fault, shown};
use crate::problem::{Notes, Place, Problem};

/// One file being read.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    top_keys: &'static [&'static str],
    line_starts: Vec<usize>,
    notes: RefCell<Notes>,
}

impl<'a> Reader<'a> {
    /// Reads `text` with `read`, which gets the top table. None is also the
    /// answer for what is not TOML at all. A key of `top_keys` inside a table is
    /// refused with the advice to move it to the top.
    pub(crate) fn read<T>(
        text: &'a str,
        file: &'a Path,
        top_keys: &'static [&'static str],
        notes: &mut Notes,
        read: impl FnOnce(&mut Table<'_>) -> Option<T>,
    ) -> Option<T> {
        let reader = Reader {
            file,
            text,
            top_keys,
            line_starts: line_starts(text),
            notes: RefCell::default(),
        };
        let (tree, errors) = DeTable::parse_recoverable(text);
        let result = if errors.is_empty() {
            let mut top = Table::new(&reader, Place::file(file), tree.get_ref());
            let result = read(&mut top);
            top.finish();
            result
        } else {
            reader.syntax(&errors);
            None
        };
        let found = reader.notes.into_inner();
        notes.problems.extend(found.problems);
        notes.warnings.extend(found.warnings);
        result
    }

    fn syntax(&self, errors: &[toml::de::Error]) {
        let mut line_before = None;
        for error in errors {
            let offset = error.span().map_or(self.text.len(), |span| span.start);
            let line = self.line(offset);
            // The parser stumbles several times over one slip; the first says most.
            if line_before == Some(line) {
                continue;
            }
            line_before = Some(line);
            let place = Place {
                file: self.file.to_owned(),
                line: Some(line),
                key: self.key_on_line(line),
            };
            let message = error.message();
            let mend = if message.starts_with("duplicate key") {
                "keep one of the two"
            } else {
                "correct this line; the rest is checked once the file is TOML"
            };
            self.problem(place.problem(format!("not TOML: {message}"), mend));
        }
    }

    /// The words before `=` on a line that is no TOML, or what there is of them.
    fn key_on_line(&self, line: usize) -> String {
        let start = self.line_starts.get(line.saturating_sub(1));
        let text = start
            .and_then(|start| self.text.get(*start..))
            .and_then(|rest| rest.lines().next())
            .unwrap_or_default();
        let key = text.split('=').next().unwrap_or_default();
        key.trim()
            .trim_matches(['[', ']'])
            .chars()
            .filter(|c| !c.is_control())
            .take(60)
            .collect()
    }

    fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    fn problem(&self, problem: Problem) {
        self.notes.borrow_mut().problems.push(problem);
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(after_newlines).collect()
}

/// A table whose keys are being taken.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    reader: &'a Reader<'a>,
    place: Place,
    left: BTreeMap<&'a str, Item<'a>>,
    asked: Vec<&'static str>,
}

impl<'a> Table<'a> {
    fn new(reader: &'a Reader<'a>, place: Place, table: &'a DeTable<'a>) -> Self {
        let left = table.iter().map(|(key, value)| {
            let name: &str = key.get_ref();
            let item = Item {
                reader,
                place: Place {
                    file: place.file.clone(),
                    line: Some(reader.line(key.span().start)),
                    key: join(&place.key, name),
                },
                offset: key.span().start,
                value: value.get_ref(),
            };
            (name, item)
        });
        Self {
            reader,
            left: left.collect(),
            place,
            asked: Vec::new(),
        }
    }

    /// The value of `key`, if there is one.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Item<'a>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.left.remove(key)
    }

    /// The value of `key`; its absence is a problem. `example` shows how to write it.
    pub(crate) fn required(&mut self, key: &'static str, example: &str) -> Option<Item<'a>> {
        let item = self.take(key);
        if item.is_none() {
            let place = Place {
                key: join(&self.place.key, key),
                ..self.place.clone()
            };
            self.reader
                .problem(place.problem("is missing", format!("add `{example}`")));
        }
        item
    }

    /// Whether `key` is still to be taken.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.left.contains_key(key)
    }

    /// Whether everything was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// All that is left, in file order: for tables whose keys are names.
    pub(crate) fn take_all(&mut self) -> Vec<(&'a str, Item<'a>)> {
        let mut all: Vec<_> = std::mem::take(&mut self.left).into_iter().collect();
        all.sort_by_key(|(_, item)| item.offset);
        all
    }

    pub(crate) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.take(key)
            .and_then(|item| item.flag())
            .unwrap_or(default)
    }

    pub(crate) fn whole<T: TryFrom<u64>>(
        &mut self,
        key: &'static str,
        default: T,
        range: RangeInclusive<u64>,
    ) -> T {
        self.take(key)
            .and_then(|item| item.whole(range))
            .unwrap_or(default)
    }

    pub(crate) fn bytes<T: TryFrom<u64>>(
        &mut self,
        key: &'static str,
        default: T,
        range: RangeInclusive<u64>,
    ) -> T {
        self.take(key)
            .and_then(|item| item.bytes(range))
            .unwrap_or(default)
    }

    pub(crate) fn ratio(&mut self, key: &'static str, default: f64) -> f64 {
        self.take(key)
            .and_then(|item| item.ratio())
            .unwrap_or(default)
    }

    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        choices: &[(&str, T)],
    ) -> T {
        self.take(key)
            .and_then(|item| item.choice(choices))
            .unwrap_or(default)
    }

    /// The elements of a list; none where the key is absent.
    pub(crate) fn list(&mut self, key: &'static str) -> Vec<Item<'a>> {
        self.take(key)
            .and_then(|item| item.list())
            .unwrap_or_default()
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn problem(&self, what: impl Into<String>, mend: impl Into<String>) {
        self.reader.problem(self.place.problem(what, mend));
    }

    /// A problem of something that belongs into this table.
    pub(crate) fn problem_at(&self, place: &Place, what: &str, mend: &str) {
        self.reader.problem(place.problem(what, mend));
    }

    fn finish(self) {
        for (key, item) in &self.left {
            let near = values::nearest(key, self.asked.iter().copied());
            let mend = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None if self.reader.top_keys.contains(key) => {
                    "move it to the top of the file, above the first `[table]`".to_owned()
                }
                None => format!("remove it, or use one of {}", known(&self.asked)),
            };
            item.problem("is an unknown key", mend);
        }
    }
}

fn known(keys: &[&str]) -> String {
    let quoted: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    quoted.join(", ")
}

fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if bare {
        key.to_owned()
    } else {
        format!("\"{}\"", values::clipped(key))
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

/// A value that was taken, with the place it stands at.
#[derive(Debug, Clone)]
pub(crate) struct Item<'a> {
    reader: &'a Reader<'a>,
    place: Place,
    offset: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Item<'a> {
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn problem(&self, what: impl Into<String>, mend: impl Into<String>) {
        self.reader.problem(self.place.problem(what, mend));
    }

    pub(crate) fn warning(&self, what: impl Into<String>, mend: impl Into<String>) {
        let warning = self.place.problem(what, mend);
        self.reader.notes.borrow_mut().warnings.push(warning);
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong_type("write text in quotes");
        }
        text
    }

    /// Text that `parse` understands.
    pub(crate) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, Fault>) -> Option<T> {
        match parse(self.text()?) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.problem(fault.what, fault.mend);
                None
            }
        }
    }

    /// A path, relative to the folder of the file that names it.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if text.is_empty() || text.contains(char::is_control) {
            self.problem("is no file name", "write the path of a file");
            return None;
        }
        let folder = self.reader.file.parent().unwrap_or(Path::new(""));
        Some(folder.join(text))
    }

    pub(crate) fn is_flag(&self) -> bool {
        self.value.is_bool()
    }

    pub(crate) fn is_text(&self) -> bool {
        self.value.is_str()
    }

    pub(crate) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(crate) fn flag(&self) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.wrong_type("write `true` or `false`, without quotes");
        }
        flag
    }

    pub(crate) fn whole<T: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let mend = format!("write a number from {} to {}", range.start(), range.end());
        let Some(number) = self.integer() else {
            self.wrong_type(&mend);
            return None;
        };
        let value = u64::try_from(number).ok().filter(|n| range.contains(n));
        let value = value.and_then(|n| T::try_from(n).ok());
        if value.is_none() {
            self.problem(format!("is out of range: {}", self.digits()), mend);
        }
        value
    }

    /// A size: bytes as a number, or text with a unit.
    pub(crate) fn bytes<T: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let number = match (self.value.as_str(), self.integer()) {
            (Some(_), _) => i128::from(self.parse(values::size)?),
            (None, Some(number)) => number,
            (None, None) => {
                self.wrong_type("write bytes as a number, or a size as \"64MiB\"");
                return None;
            }
        };
        let value = u64::try_from(number).ok().filter(|n| range.contains(n));
        let value = value.and_then(|n| T::try_from(n).ok());
        if value.is_none() {
            let (least, most) = (
                values::size_text(*range.start()),
                values::size_text(*range.end()),
            );
            self.problem(
                match self.value.as_str() {
                    Some(text) => format!("is out of range: {}", shown(text)),
                    None => format!("is out of range: {} bytes", self.digits()),
                },
                format!("write a size from {least} to {most}"),
            );
        }
        value
    }

    pub(crate) fn ratio(&self) -> Option<f64> {
        let mend = "write a share from 0.0 (none) to 1.0 (all)";
        let number = match self.value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(integer) => integer.as_str().parse().ok(),
            _ => {
                self.wrong_type(mend);
                return None;
            }
        };
        let ratio = number.filter(|ratio: &f64| (0.0..=1.0).contains(ratio));
        if ratio.is_none() {
            self.problem("is out of range", mend);
        }
        ratio
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<_> = choices
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect();
        let mend = format!("write {}", words.join(" or "));
        let Some(text) = self.value.as_str() else {
            self.wrong_type(&mend);
            return None;
        };
        let choice = choices.iter().find(|(word, _)| *word == text);
        if choice.is_none() {
            self.problem(format!("{} is no choice here", shown(text)), mend);
        }
        choice.map(|(_, value)| *value)
    }

    /// The elements, each with its own line.
    pub(crate) fn list(&self) -> Option<Vec<Item<'a>>> {
        let Some(array) = self.value.as_array() else {
            let mend = match self.value {
                DeValue::Table(_) => format!("write `[[{}]]`", self.place.key),
                _ => "write a list: `[…, …]`".to_owned(),
            };
            self.wrong_type(&mend);
            return None;
        };
        let elements = array.iter().enumerate().map(|(at, element)| Item {
            reader: self.reader,
            place: Place {
                file: self.place.file.clone(),
                line: Some(self.reader.line(element.span().start)),
                key: format!("{}[{at}]", self.place.key),
            },
            offset: element.span().start,
            value: element.get_ref(),
        });
        Some(elements.collect())
    }

    /// Hands the table to `read` and then refuses what `read` did not take.
    pub(crate) fn table<T>(&self, read: impl FnOnce(&mut Table<'a>) -> Option<T>) -> Option<T> {
        let Some(table) = self.value.as_table() else {
            self.wrong_type("write a table: `{ key = value }`, or keys under a `[heading]`");
            return None;
        };
        let mut table = Table::new(self.reader, self.place.clone(), table);
        let result = read(&mut table);
        table.finish();
        result
    }

    pub(crate) fn wrong_type(&self, mend: &str) {
        let is = match self.value {
            DeValue::String(_) => "is text",
            DeValue::Integer(_) => "is a whole number",
            DeValue::Float(_) => "is a fraction",
            DeValue::Boolean(_) => "is true or false",
            DeValue::Datetime(_) => "is a date",
            DeValue::Array(_) => "is a list",
            DeValue::Table(_) => "is a table",
        };
        self.problem(format!("{is}, which does not fit"), mend);
    }

    fn digits(&self) -> String {
        let integer = self.value.as_integer();
        integer.map_or_else(String::new, |integer| values::clipped(&integer.to_string()))
    }

    fn integer(&self) -> Option<i128> {
        let integer = self.value.as_integer()?;
        // What needs more than 127 bits is out of every range, as this is.
        Some(i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX))
    }
}

/// Reads every element, so that each notes its own problem; None if one did.
pub(crate) fn each<'a, T>(
    items: &[Item<'a>],
    mut read: impl FnMut(&Item<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let read: Vec<_> = items.iter().map(&mut read).collect();
    read.into_iter().collect()
}
