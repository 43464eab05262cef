//! The checksums and the plain "stored" form of DEFLATE that PNG and gzip need.
//!
//! The demo origin makes its own picture and its own gzip-coded page. Neither has
//! to be small, only valid and the same in every build, so nothing is compressed:
//! RFC 1951 §3.2.4 allows blocks that hold their bytes as they are.

/// A stored block's length field has 16 bits (RFC 1951 §3.2.4).
const BLOCK_BYTES_MAX: usize = 65_535;

/// `data` as a DEFLATE stream of stored blocks.
fn stored(data: &[u8]) -> Vec<u8> {
    let blocks = data.len().div_ceil(BLOCK_BYTES_MAX).max(1);
    let mut out = Vec::with_capacity(data.len() + blocks * 5);
    let mut rest = data;
    loop {
        let (block, after) = rest.split_at(rest.len().min(BLOCK_BYTES_MAX));
        let last = after.is_empty();
        let length = u16::try_from(block.len()).expect("a block is at most 65535 bytes");
        out.push(u8::from(last));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
        if last {
            return out;
        }
        rest = after;
    }
}

/// `data` in the zlib format (RFC 1950), as PNG wants it.
pub(super) fn zlib(data: &[u8]) -> Vec<u8> {
    // 0x78 0x01: DEFLATE, 32 KiB window, no dictionary, fastest level.
    let mut out = vec![0x78, 0x01];
    out.extend_from_slice(&stored(data));
    out.extend_from_slice(&adler32(data).to_be_bytes());
    out
}

/// `data` in the gzip format (RFC 1952), with no name and no time in its head.
pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    out.extend_from_slice(&stored(data));
    out.extend_from_slice(&crc32(&[data]).to_le_bytes());
    // RFC 1952 §2.3.1: the size modulo 2^32, so cutting it is what is asked for.
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out
}

/// CRC-32 over the parts one after another (RFC 1952 §8; the same one as in PNG).
pub(super) fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.iter().flat_map(|part| part.iter()) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= 0xedb8_8320;
            }
        }
    }
    !crc
}

/// Adler-32 (RFC 1950 §8.2).
fn adler32(data: &[u8]) -> u32 {
    let (mut a, mut b) = (1u32, 0u32);
    for byte in data {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    (b << 16) | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_match_the_published_values() {
        assert_eq!(crc32(&[b"123456789"]), 0xcbf4_3926);
        assert_eq!(crc32(&[b"1234", b"56789"]), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn long_data_is_cut_into_blocks_of_which_only_the_last_says_so() {
        let data = vec![7u8; BLOCK_BYTES_MAX + 1];
        let out = stored(&data);
        assert_eq!(out.len(), data.len() + 10);
        assert_eq!(out[..5], [0, 0xff, 0xff, 0, 0]);
        assert_eq!(out[5 + BLOCK_BYTES_MAX..][..5], [1, 1, 0, 0xfe, 0xff]);
    }

    #[test]
    fn nothing_is_one_empty_block() {
        assert_eq!(stored(b""), [1, 0, 0, 0xff, 0xff]);
    }
}
