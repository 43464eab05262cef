//! What many requests have in common, written once.

use std::net::IpAddr;

use super::Attributes;
use crate::record::Record;

/// How many ends of requests, and how many who asked, are remembered. Two that want one
/// place take turns in it, at the price of writing theirs again.
const ENDS: usize = 64;
const ASKERS: usize = 256;

/// Longer ones, of hosts and clients that nobody has, are not kept.
const KEPT_BYTES_MAX: usize = 1024;

/// The attributes that records share, as they were written last.
///
/// A record finds its place by what it says; it takes what lies there only if that was
/// written of the same words, so that whoever sends odd ones costs time and no more.
#[derive(Debug)]
pub(crate) struct Common {
    ends: Memo<End>,
    askers: Memo<Asker>,
}

impl Common {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            ends: Memo::new(ENDS),
            askers: Memo::new(ASKERS),
        }
    }

    /// Appends to a message whose attributes are `field`: for whom it was asked, and how
    /// that ended.
    pub(super) fn end(&mut self, out: &mut Vec<u8>, field: u32, record: &Record) {
        let packed = packed(field, record);
        let place = hash(packed, record.words.host().as_bytes());
        self.ends.write(
            out,
            place,
            |end| end.is_of(packed, record),
            |out| Attributes::new(out, field).end(record),
            || End::of(packed, record),
        );
    }

    /// The same of who asked.
    pub(super) fn asker(&mut self, out: &mut Vec<u8>, field: u32, record: &Record) {
        let place = match record.client {
            IpAddr::V4(client) => hash(u64::from(field), &client.octets()),
            IpAddr::V6(client) => hash(u64::from(field), &client.octets()),
        };
        self.askers.write(
            out,
            place,
            |asker| asker.is_of(field, record),
            |out| Attributes::new(out, field).asker(record),
            || Asker::of(field, record),
        );
    }
}

/// A table of what was written, by what it was written of.
#[derive(Debug)]
struct Memo<K> {
    slots: Vec<Option<(K, Vec<u8>)>>,
}

impl<K> Memo<K> {
    fn new(slots: usize) -> Self {
        Self {
            slots: std::iter::repeat_with(|| None).take(slots).collect(),
        }
    }

    /// Appends what lies at that place if `is_it`, and what `write` writes otherwise,
    /// to be remembered under its `key`.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        place: u64,
        is_it: impl FnOnce(&K) -> bool,
        write: impl FnOnce(&mut Vec<u8>),
        key: impl FnOnce() -> K,
    ) {
        let place = place as usize % self.slots.len();
        let Some(slot) = self.slots.get_mut(place) else {
            return write(out);
        };
        if let Some((_, written)) = slot.as_ref().filter(|(key, _)| is_it(key)) {
            out.extend_from_slice(written);
            return;
        }
        let start = out.len();
        write(out);
        let written = out.get(start..).unwrap_or_default();
        if written.len() <= KEPT_BYTES_MAX {
            *slot = Some((key(), written.to_vec()));
        }
    }
}

/// For whom a request was, and how it ended.
#[derive(Debug)]
struct End {
    packed: u64,
    host: String,
    site: String,
    hop_from: String,
}

impl End {
    fn of(packed: u64, record: &Record) -> Self {
        Self {
            packed,
            host: record.words.host().to_owned(),
            site: record.words.site().to_owned(),
            hop_from: record.words.hop_from().to_owned(),
        }
    }

    fn is_of(&self, packed: u64, record: &Record) -> bool {
        self.packed == packed
            && self.host == record.words.host()
            && self.site == record.words.site()
            && self.hop_from == record.words.hop_from()
    }
}

/// Who asked.
#[derive(Debug)]
struct Asker {
    field: u32,
    client: IpAddr,
    peer: IpAddr,
    user_agent: String,
}

impl Asker {
    fn of(field: u32, record: &Record) -> Self {
        Self {
            field,
            client: record.client,
            peer: record.peer,
            user_agent: record.words.user_agent().to_owned(),
        }
    }

    fn is_of(&self, field: u32, record: &Record) -> bool {
        self.field == field
            && self.client == record.client
            && self.peer == record.peer
            && self.user_agent == record.words.user_agent()
    }
}

/// All of an end that is not text, and where it is written, as one number.
fn packed(field: u32, record: &Record) -> u64 {
    [
        field as u8,
        record.method as u8,
        record.outcome as u8,
        record.protocol as u8,
        u8::from(record.scheme == "https"),
    ]
    .into_iter()
    .fold(u64::from(record.status), |packed, next| {
        packed << 8 | u64::from(next)
    })
}

/// FNV-1a, of which the upper half is the better mixed.
fn hash(first: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let hash = bytes
        .iter()
        .map(|byte| u64::from(*byte))
        .chain([first])
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, next| {
            (hash ^ next).wrapping_mul(PRIME)
        });
    hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::samples::{self, said};
    use crate::record::{Method, Outcome, Protocol, Said};

    fn written(common: &mut Common, field: u32, record: &Record) -> Vec<u8> {
        let mut out = Vec::new();
        common.end(&mut out, field, record);
        common.asker(&mut out, field, record);
        out
    }

    fn with_said(said: Said<'_>) -> Record {
        Record {
            words: said.into(),
            ..samples::miss()
        }
    }

    /// Records that differ from the first in one thing each.
    fn different() -> Vec<Record> {
        let base = samples::miss();
        let changes: [fn(&mut Record); 7] = [
            |record| record.status = 304,
            |record| record.method = Method::Head,
            |record| record.outcome = Outcome::Hit,
            |record| record.protocol = Protocol::H1,
            |record| record.scheme = "http",
            |record| record.client = [192, 0, 2, 8].into(),
            |record| record.peer = record.client,
        ];
        let changed = changes.into_iter().map(|change| {
            let mut record = base.clone();
            change(&mut record);
            record
        });
        let long = "long".repeat(KEPT_BYTES_MAX);
        let texts = [
            Said {
                host: "a",
                ..said()
            },
            Said { host: "", ..said() },
            Said {
                host: &long,
                ..said()
            },
            Said {
                site: "a",
                ..said()
            },
            Said {
                hop_from: "edge-1",
                ..said()
            },
            Said {
                user_agent: "",
                ..said()
            },
            Said {
                user_agent: &long,
                ..said()
            },
        ];
        let mut records: Vec<Record> = changed.chain(texts.map(with_said)).collect();
        records.push(base);
        records
    }

    #[test]
    fn what_is_remembered_is_what_would_be_written() {
        let mut common = Common::new();
        // Every record after every other one, and after itself.
        for first in different() {
            for second in different() {
                for (field, record) in [(9, &first), (9, &second), (6, &second), (9, &second)] {
                    let anew = written(&mut Common::new(), field, record);
                    assert_eq!(written(&mut common, field, record), anew, "{record:?}");
                }
            }
        }
    }

    #[test]
    fn one_place_is_taken_in_turns() {
        let mut common = Common::new();
        for number in (0..u16::try_from(ASKERS).unwrap() * 4).chain(0..9) {
            let host = &format!("host-{number}.example");
            let mut record = with_said(Said { host, ..said() });
            let [high, low] = number.to_be_bytes();
            record.client = [192, 0, high, low].into();
            let anew = written(&mut Common::new(), 9, &record);
            assert_eq!(written(&mut common, 9, &record), anew, "{number}");
        }
    }
}
