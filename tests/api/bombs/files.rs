//! Small files that ask for much, written byte by byte.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, RgbImage};

/// Bits in the order of deflate and VP8L: the lowest first.
#[derive(Default)]
pub struct Bits {
    pub bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    pub fn put(&mut self, value: u64, count: u32) {
        for i in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = (value >> i & 1) as u8;
            *self.bytes.last_mut().unwrap() |= bit << (self.used % 8);
            self.used += 1;
        }
    }
}

pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// A zlib stream of about 1,032 zero bytes for each of `zeros`: two bits for 258 of them.
pub fn zlib_of_zeros(zeros: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(0x0178, 16);
    bits.put(0b101, 3); // last block, dynamic codes
    bits.put(29, 5);
    bits.put(0, 5);
    bits.put(14, 4);
    // Lengths of the code lengths' codes, in deflate's order: 18 has 1; 2 and 1 have 2.
    for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1] {
        let length = match symbol {
            18 => 1,
            1 | 2 => 2,
            _ => 0,
        };
        bits.put(length, 3);
    }
    let skip = |bits: &mut Bits, n: u64| {
        bits.put(0, 1);
        bits.put(n - 11, 7);
    };
    let (one, two) = (0b01, 0b11); // codes are sent highest bit first
    bits.put(two, 2); // literal 0: code 10
    skip(&mut bits, 138);
    skip(&mut bits, 117);
    bits.put(two, 2); // end of block: code 11
    skip(&mut bits, 28);
    bits.put(one, 2); // length 258: code 0
    bits.put(one, 2); // distance 1: code 0
    bits.put(0b01, 2); // a literal to repeat
    // From here on a zero bit is half a match; an odd one up to the byte's end is completed after.
    let rest = (8 - bits.used % 8) % 8;
    let mut bytes = bits.bytes;
    bytes.resize(bytes.len() + zeros, 0);
    bytes.push(if rest % 2 == 1 { 0b110 } else { 0b11 });
    bytes.extend([0; 4]);
    bytes
}

pub fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut chunk = (data.len() as u32).to_be_bytes().to_vec();
    chunk.extend(kind);
    chunk.extend(data);
    let crc = crc32(&chunk[4..]);
    chunk.extend(crc.to_be_bytes());
    chunk
}

/// A PNG of chunks between its header and its end.
pub fn png(width: u32, height: u32, depth: u8, color: u8, rest: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = width.to_be_bytes().to_vec();
    header.extend(height.to_be_bytes());
    header.extend([depth, color, 0, 0, 0]);
    bytes.extend(png_chunk(b"IHDR", &header));
    bytes.extend(rest.concat());
    bytes.extend(png_chunk(b"IEND", b""));
    bytes
}

/// An encoded picture with some detail.
pub fn encoded(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 7) as u8, (y * 5) as u8, (x * y) as u8])
    });
    write(DynamicImage::ImageRgb8(image), format)
}

pub fn write(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A PNG whose animation control announces 10,000 frames, with as many frames behind the first.
pub fn apng_of_many_frames() -> Vec<u8> {
    let frame_control = |number: u32| {
        let mut data = number.to_be_bytes().to_vec();
        data.extend([
            0, 0, 0, 8, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 100, 0, 0,
        ]);
        png_chunk(b"fcTL", &data)
    };
    let pixels = zlib_of_zeros(1);
    let mut chunks = vec![
        png_chunk(b"acTL", &[0, 0, 0x27, 0x10, 0, 0, 0, 0]),
        frame_control(0),
        png_chunk(b"IDAT", &pixels),
    ];
    for frame in 1..10_000_u32 {
        chunks.push(frame_control(frame * 2 - 1));
        let mut data = (frame * 2).to_be_bytes().to_vec();
        data.extend(&pixels);
        chunks.push(png_chunk(b"fdAT", &data));
    }
    png(8, 8, 8, 2, &chunks)
}

pub fn gif_of_many_frames() -> Vec<u8> {
    let mut bytes = gif_header(8, 8);
    for _ in 0..10_000 {
        bytes.extend(gif_frame(8, 8));
    }
    bytes.push(0x3b);
    bytes
}

/// A GIF's screen with a palette of two colours.
pub fn gif_header(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = b"GIF89a".to_vec();
    bytes.extend(width.to_le_bytes());
    bytes.extend(height.to_le_bytes());
    bytes.extend([0x80, 0, 0, 0, 0, 0, 255, 255, 255]);
    bytes
}

/// A frame that holds a clear code and nothing else.
pub fn gif_frame(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = vec![0x2c, 0, 0, 0, 0];
    bytes.extend(width.to_le_bytes());
    bytes.extend(height.to_le_bytes());
    bytes.extend([0, 2, 2, 0x4c, 0x01, 0]);
    bytes
}

pub fn riff(chunks: &[(&[u8; 4], u32, &[u8])]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    for (name, size, data) in chunks {
        body.extend(*name);
        body.extend(size.to_le_bytes());
        body.extend(*data);
        body.resize(body.len() + data.len() % 2, 0);
    }
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(body);
    bytes
}

pub fn vp8x(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let mut data = vec![flags, 0, 0, 0];
    data.extend(&(width - 1).to_le_bytes()[..3]);
    data.extend(&(height - 1).to_le_bytes()[..3]);
    data
}

/// A lossless WebP of 64x64 pixels whose single entropy block names a group by its red and green. All
/// groups up to it have five code tables of 1,024 entries.
pub fn webp_of_tables(red: u8, green: u8) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(0x2f, 8);
    bits.put(63, 14);
    bits.put(63, 14);
    bits.put(0, 4); // no alpha, version 0
    bits.put(0, 1); // no transform
    bits.put(0, 1); // no colour cache
    bits.put(1, 1); // several groups
    bits.put(4, 3); // blocks of 64 pixels: one
    bits.put(0, 1); // the block image has no colour cache
    // Its five codes hold one symbol each: green, red, blue, alpha, distance.
    for symbol in [green, red, 0, 0, 0] {
        bits.put(0b101, 3); // simple, one symbol, of eight bits
        bits.put(symbol.into(), 8);
    }
    for _ in 0..(u32::from(red) << 8 | u32::from(green)) * 5 + 5 {
        put_comb(&mut bits);
    }
    bits.bytes.resize(bits.bytes.len() + 4096, 0);
    let data = bits.bytes;
    riff(&[(b"VP8L", data.len() as u32, &data)])
}

/// A code with lengths 1, 2, ... 9, 10, 10 for the first eleven symbols: the fewest bits that make a
/// table of 1,024 entries.
fn put_comb(bits: &mut Bits) {
    bits.put(0, 1); // not simple
    // VP8L's order of code lengths: 17 18 0 1 2 3 4 5 16 6 7 8 9 10. The twelve symbols 1 to 10 and
    // none other get codes of three and four bits.
    bits.put(14 - 4, 4);
    for symbol in [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10] {
        let length = match symbol {
            1..=6 => 3,
            7..=10 => 4,
            _ => 0,
        };
        bits.put(length, 3);
    }
    bits.put(1, 1); // not all symbols are listed
    bits.put(1, 3); // four bits of count
    bits.put(11 - 2, 4);
    // Canonical: symbols 1 to 6 are 000 to 101, 7 to 10 are 1100 to 1111, highest bit first.
    for length in [1_u64, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10] {
        let (code, count) = if length <= 6 {
            (length - 1, 3)
        } else {
            (0b1100 + length - 7, 4)
        };
        bits.put(code.reverse_bits() >> (64 - count), count);
    }
}

pub struct Jpeg(pub Vec<u8>);

impl Jpeg {
    /// Start, tables, and a frame of components without subsampling. The DC code has one symbol, a
    /// difference of 0; the AC code two, end of block (0) and a run of 2^14 ended blocks (10).
    pub fn frame(sof: u8, width: u16, height: u16, components: u8) -> Self {
        let mut bytes = vec![0xff, 0xd8];
        if components == 4 {
            bytes.extend(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0");
        }
        bytes.extend([0xff, 0xdb, 0, 67, 0]);
        bytes.extend([1; 64]);
        bytes.extend([0xff, sof, 0, 8 + 3 * components, 8]);
        bytes.extend(height.to_be_bytes());
        bytes.extend(width.to_be_bytes());
        bytes.push(components);
        for id in 1..=components {
            bytes.extend([id, 0x11, 0]);
        }
        let mut counts = [0; 16];
        counts[0] = 1;
        bytes.extend([0xff, 0xc4, 0, 20, 0x00]);
        bytes.extend(counts);
        bytes.push(0);
        counts[1] = 1;
        bytes.extend([0xff, 0xc4, 0, 21, 0x10]);
        bytes.extend(counts);
        bytes.extend([0x00, 0xe0]);
        Self(bytes)
    }

    /// A scan of some components over some coefficients, with its data.
    pub fn scan(mut self, components: &[u8], spectral: [u8; 3], data: &[u8]) -> Self {
        let n = components.len() as u8;
        self.0.extend([0xff, 0xda, 0, 6 + 2 * n, n]);
        for id in components {
            self.0.extend([*id, 0]);
        }
        self.0.extend(spectral);
        self.0.extend(data);
        self
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0xff, 0xd9]);
        self.0
    }
}

/// A progressive JPEG of one component whose scans all end every block at once.
pub fn progressive(width: u16, height: u16, scans: usize) -> Vec<u8> {
    let blocks = usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8);
    let mut jpeg =
        Jpeg::frame(0xc2, width, height, 1).scan(&[1], [0, 0, 0], &vec![0; blocks / 8 + 1]);
    // Each run is 15 or more bits: the code 10 and fourteen bits of its length.
    let mut runs = Vec::new();
    for _ in 0..blocks.div_ceil(16_384) {
        runs.extend([0x80, 0]);
    }
    for _ in 1..scans {
        jpeg = jpeg.scan(&[1], [1, 63, 0], &runs);
    }
    jpeg.end()
}

/// A baseline JPEG whose first component comes again and again.
pub fn baseline_scans(width: u16, height: u16, scans: usize) -> Vec<u8> {
    let blocks = usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8);
    let data = vec![0; blocks / 4 + 1];
    let mut jpeg = Jpeg::frame(0xc0, width, height, 3);
    for _ in 0..scans {
        jpeg = jpeg.scan(&[1], [0, 63, 0], &data);
    }
    for component in [2, 3] {
        jpeg = jpeg.scan(&[component], [0, 63, 0], &data);
    }
    jpeg.end()
}

/// EXIF metadata (a TIFF header and directories) that leads in circles.
pub fn exif_loops() -> Vec<(&'static str, Vec<u8>)> {
    let big = |rest: &[u8]| [b"MM\0\x2a", rest].concat();
    vec![
        (
            "exif directory at its own offset",
            big(&[
                0, 0, 0, 4, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 4,
            ]),
        ),
        (
            "exif next directory is the first",
            big(&[0, 0, 0, 8, 0, 0, 0, 0, 0, 8]),
        ),
        (
            "exif of 65,535 entries",
            big(&[&[0, 0, 0, 8, 0xff, 0xff][..], &[0; 4000]].concat()),
        ),
        ("exif directory far outside", big(&[0xff, 0xff, 0xff, 0xff])),
        (
            "exif orientation of 4 G values",
            big(&[
                0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 8, 0, 0, 0, 0,
            ]),
        ),
        (
            "exif sub-directory in a circle",
            big(&[
                0, 0, 0, 8, 0, 1, 0x87, 0x69, 0, 4, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 8,
            ]),
        ),
        (
            "exif orientation 255",
            big(&[
                0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 255, 0, 0, 0, 0, 0, 0,
            ]),
        ),
        ("exif without anything", Vec::new()),
    ]
}
