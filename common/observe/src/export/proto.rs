//! Just enough of Protocol Buffers to write spans with.
//!
//! A span is written for every traced request, hits among them, so it goes from the
//! record straight into the bytes that are sent. Lengths of messages whose size is
//! not known before they are written have room left for them, as a varint of full
//! width, which every decoder takes. Whatever is rarer than a span is built from the
//! official messages instead.

/// Wire types of fields.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

/// Bytes of a length that is filled in later: 28 bits, 256 MiB, far beyond a batch.
const LENGTH_BYTES: usize = 4;

/// Room left for a message's length.
#[derive(Debug, Clone, Copy)]
#[must_use = "the length is written by `close`"]
pub(crate) struct Open {
    at: usize,
}

/// Starts the message `field` in `out`.
pub(crate) fn open(out: &mut Vec<u8>, field: u32) -> Open {
    key(out, field, BYTES);
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    Open { at }
}

/// Ends a message: everything written since it was opened is its content.
pub(crate) fn close(out: &mut [u8], open: Open) {
    let start = open.at + LENGTH_BYTES;
    let mut length = out.len().saturating_sub(start);
    let Some(room) = out.get_mut(open.at..start) else {
        return;
    };
    let last = room.len() - 1;
    for (index, byte) in room.iter_mut().enumerate() {
        let more = if index < last { 0x80 } else { 0 };
        *byte = (length & 0x7f) as u8 | more;
        length >>= 7;
    }
}

pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    key(out, field, BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// The same of a size that is known beforehand, so that no call is made to copy it.
#[inline]
pub(crate) fn array<const N: usize>(out: &mut Vec<u8>, field: u32, value: &[u8; N]) {
    key(out, field, BYTES);
    varint(out, N as u64);
    out.extend_from_slice(value);
}

pub(crate) fn text(out: &mut Vec<u8>, field: u32, value: &str) {
    bytes(out, field, value.as_bytes());
}

pub(crate) fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    key(out, field, VARINT);
    varint(out, value);
}

#[inline]
pub(crate) fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    key(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
pub(crate) fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    key(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Fields of `opentelemetry.proto.common.v1.KeyValue` and `AnyValue`.
const KEY: u32 = 1;
const VALUE: u32 = 2;
const STRING_VALUE: u32 = 1;
const BOOL_VALUE: u32 = 2;
const INT_VALUE: u32 = 3;

/// An attribute with a text: a `KeyValue` as `field` of the message around it.
pub(crate) fn attribute(out: &mut Vec<u8>, field: u32, name: &str, value: &str) {
    let any = sized(value.len());
    let whole = sized(name.len()) + sized(any);
    // Nearly all are short: each number is one byte then, and known beforehand.
    if let (1..16, true, Ok(whole)) = (field, whole < 0x80, u8::try_from(whole)) {
        let short = |field: u32| ((field << 3) | BYTES) as u8;
        out.reserve(usize::from(whole) + 2);
        out.extend_from_slice(&[short(field), whole, short(KEY), name.len() as u8]);
        out.extend_from_slice(name.as_bytes());
        let value_len = value.len() as u8;
        out.extend_from_slice(&[short(VALUE), any as u8, short(STRING_VALUE), value_len]);
        out.extend_from_slice(value.as_bytes());
        return;
    }
    key(out, field, BYTES);
    varint(out, whole as u64);
    text(out, KEY, name);
    key(out, VALUE, BYTES);
    varint(out, any as u64);
    text(out, STRING_VALUE, value);
}

/// An attribute with a whole number.
pub(crate) fn attribute_number(out: &mut Vec<u8>, field: u32, name: &str, value: u64) {
    scalar(out, field, name, INT_VALUE, value);
}

/// An attribute that is true or false.
pub(crate) fn attribute_flag(out: &mut Vec<u8>, field: u32, name: &str, value: bool) {
    scalar(out, field, name, BOOL_VALUE, u64::from(value));
}

fn scalar(out: &mut Vec<u8>, field: u32, name: &str, kind: u32, value: u64) {
    let any = 1 + varint_len(value);
    key(out, field, BYTES);
    varint(out, (sized(name.len()) + sized(any)) as u64);
    text(out, KEY, name);
    key(out, VALUE, BYTES);
    varint(out, any as u64);
    number(out, kind, value);
}

/// Bytes of a field below 16 that holds so many bytes.
fn sized(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

#[inline]
fn key(out: &mut Vec<u8>, field: u32, wire: u32) {
    varint(out, u64::from((field << 3) | wire));
}

#[inline]
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const fn varint_len(value: u64) -> usize {
    // Seven bits a byte; a zero takes one too.
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use prost::Message as _;

    use super::*;

    #[test]
    fn attributes_are_what_the_official_messages_are() {
        let long = "x".repeat(300);
        for (name, value) in [
            ("a", Value::StringValue(String::new())),
            ("name", Value::StringValue("value".into())),
            (&long, Value::StringValue(long.repeat(60))),
            ("zero", Value::IntValue(0)),
            ("number", Value::IntValue(200)),
            ("large", Value::IntValue(i64::MAX)),
            ("no", Value::BoolValue(false)),
            ("yes", Value::BoolValue(true)),
        ] {
            let mut out = Vec::new();
            match &value {
                Value::StringValue(text) => attribute(&mut out, 1, name, text),
                Value::IntValue(number) => {
                    attribute_number(&mut out, 1, name, u64::try_from(*number).unwrap());
                }
                Value::BoolValue(flag) => attribute_flag(&mut out, 1, name, *flag),
                other => panic!("{other:?}"),
            }
            let official = Resource {
                attributes: vec![KeyValue {
                    key: name.to_owned(),
                    value: Some(AnyValue { value: Some(value) }),
                    ..KeyValue::default()
                }],
                ..Resource::default()
            };
            assert_eq!(out, official.encode_to_vec(), "{name}");
        }
    }

    #[test]
    fn a_message_is_as_long_as_what_was_written_into_it() {
        for count in [0, 1, 127, 128, 20_000] {
            let mut out = Vec::new();
            let message = open(&mut out, 2);
            out.extend(std::iter::repeat_n(0, count));
            close(&mut out, message);
            let (field, length) = out.split_at(1);
            assert_eq!(field, [0x12]);
            let decoded = prost::encoding::decode_varint(&mut &length[..]).unwrap();
            assert_eq!(decoded, count as u64);
        }
    }

    #[test]
    fn varints_know_their_length() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
        }
    }
}
