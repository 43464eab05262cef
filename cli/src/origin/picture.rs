//! The demo's photograph: a PNG computed from a formula, the same in every build.

use std::sync::LazyLock;

use bytes::Bytes;

use super::deflate;

const WIDTH: u32 = 320;
const HEIGHT: u32 = 200;

/// Hills before an evening sky, 320 by 200 pixels of 8-bit RGB, as a PNG file.
pub(super) fn png() -> Bytes {
    static PNG: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(encode()));
    PNG.clone()
}

/// Writes the file after the PNG specification (third edition), §5 and §11.
fn encode() -> Vec<u8> {
    let mut pixels = Vec::with_capacity(((WIDTH * 3 + 1) * HEIGHT) as usize);
    for y in 0..HEIGHT {
        // Each line begins with its filter type; 0 leaves the bytes as they are.
        pixels.push(0);
        for x in 0..WIDTH {
            pixels.extend_from_slice(&colour(x, y));
        }
    }
    let mut head = Vec::with_capacity(13);
    head.extend_from_slice(&WIDTH.to_be_bytes());
    head.extend_from_slice(&HEIGHT.to_be_bytes());
    // Bit depth 8, colour type RGB, the only compression and filter there are,
    // not interlaced.
    head.extend_from_slice(&[8, 2, 0, 0, 0]);

    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut file, b"IHDR", &head);
    chunk(&mut file, b"IDAT", &deflate::zlib(&pixels));
    chunk(&mut file, b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    let length = u32::try_from(data.len()).expect("our picture is far below 4 GiB");
    file.extend_from_slice(&length.to_be_bytes());
    file.extend_from_slice(name);
    file.extend_from_slice(data);
    file.extend_from_slice(&deflate::crc32(&[name, data]).to_be_bytes());
}

/// The colour of one pixel: two ranges of hills, a low sun, a sky that fades.
fn colour(x: u32, y: u32) -> [u8; 3] {
    let far = 150 - hill(x, 90) / 2;
    let near = 185 - hill(x + 40, 130) / 2;
    if y > near {
        return [18, 38, 44];
    }
    if y > far {
        return [40, 74, 84];
    }
    let (dx, dy) = (x.abs_diff(225), y.abs_diff(105));
    if dx * dx + dy * dy < 26 * 26 {
        return [255, 226, 160];
    }
    let fade = u8::try_from(y.min(HEIGHT - 1)).unwrap_or(u8::MAX);
    [60 + fade / 2, 90 + fade / 3, 140 - fade / 4]
}

/// A smooth wave of whole numbers, 0 to 50, with the given period.
fn hill(x: u32, period: u32) -> u32 {
    let half = period / 2;
    let rise = (x % period).abs_diff(half);
    // A parabola between two valleys, so that no floating point can differ
    // from one machine to another.
    50 - 50 * rise * rise / (half * half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_a_whole_png_and_always_the_same() {
        let file = png();
        assert_eq!(file, encode());
        assert!(file.starts_with(b"\x89PNG\r\n\x1a\n"));
        // Walk the chunks: each length leads exactly to the next, each checksum holds.
        let mut rest = &file[8..];
        let mut names = Vec::new();
        while !rest.is_empty() {
            let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            let (name, data) = (&rest[4..8], &rest[8..8 + length]);
            let crc = u32::from_be_bytes(rest[8 + length..][..4].try_into().unwrap());
            assert_eq!(crc, deflate::crc32(&[name, data]));
            names.push(String::from_utf8(name.to_vec()).unwrap());
            rest = &rest[12 + length..];
        }
        assert_eq!(names, ["IHDR", "IDAT", "IEND"]);
    }
}
