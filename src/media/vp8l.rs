//! How many groups of code tables a lossless WebP has, found before it is decoded (RFC 9649,
//! section 3).
//!
//! The decoder builds five tables of up to 4 KiB for each of up to 65,536 groups before it reads a
//! pixel, so a file of a few megabytes can take more than a gigabyte, whatever its size in pixels.
//! The number of groups is the largest value in a small image of its own, the entropy image; to
//! arrive there, what precedes it has to be read.

/// Codes of a group: green with lengths and cache, red, blue, alpha, distances.
type Group = [Code; 5];

/// A canonical prefix code.
enum Code {
    /// One symbol, of no bits.
    Single(u16),
    /// Symbols by length and value, and how many there are of each length.
    Many {
        counts: [usize; 16],
        symbols: Vec<u16>,
    },
}

/// Bits, the lowest of each byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The groups of a stream; `None` where it breaks off or is not valid. A stream without a header, of
/// an alpha plane, gets its `size` from outside.
pub(super) fn groups(data: &[u8], size: Option<(usize, usize)>, max_pixels: u64) -> Option<u32> {
    let mut bits = Bits { bytes: data, at: 0 };
    let (mut width, height) = match size {
        Some(size) => size,
        None => {
            if bits.read(8)? != 0x2f {
                return None;
            }
            let size = (bits.read(14)? + 1, bits.read(14)? + 1);
            bits.read(4)?;
            size
        }
    };
    if (width * height) as u64 > max_pixels {
        return None;
    }
    let mut seen = [false; 4];
    while bits.read(1)? == 1 {
        let kind = bits.read(2)?;
        if std::mem::replace(seen.get_mut(kind)?, true) {
            return None;
        }
        match kind {
            // Predictors and colour transforms, an image of blocks each.
            0 | 1 => {
                let shift = bits.read(3)? + 2;
                image(&mut bits, blocks(width, shift), blocks(height, shift))?;
            }
            // A palette; few colours are packed several to a pixel.
            3 => {
                let colors = bits.read(8)? + 1;
                image(&mut bits, colors, 1)?;
                let shift = match colors {
                    0..=2 => 3,
                    3..=4 => 2,
                    5..=16 => 1,
                    _ => 0,
                };
                width = blocks(width, shift);
            }
            _ => {}
        }
    }
    cache_size(&mut bits)?;
    if bits.read(1)? == 0 {
        return Some(1);
    }
    let shift = bits.read(3)? + 2;
    let largest = image(&mut bits, blocks(width, shift), blocks(height, shift))?;
    Some(largest + 1)
}

fn blocks(size: usize, shift: usize) -> usize {
    (size + (1 << shift) - 1) >> shift
}

/// Reads an image without an entropy image of its own. Returns the largest value of red and green
/// together, which is what an entropy image names groups with. Copies bring no new values.
fn image(bits: &mut Bits, width: usize, height: usize) -> Option<u32> {
    let cache = cache_size(bits)?;
    let codes = group(bits, cache)?;
    let mut left = width * height;
    let mut largest = 0;
    while left > 0 {
        let green = codes[0].symbol(bits)?;
        match green {
            0..256 => {
                let red = codes[1].symbol(bits)?;
                codes[2].symbol(bits)?;
                codes[3].symbol(bits)?;
                largest = largest.max(u32::from(red) << 8 | u32::from(green));
                left -= 1;
                if codes[..4]
                    .iter()
                    .all(|code| matches!(code, Code::Single(_)))
                {
                    // All pixels are this one.
                    return Some(largest);
                }
            }
            256..280 => {
                let length = prefixed(bits, green - 256)?;
                let distance = codes[4].symbol(bits)?;
                prefixed(bits, distance)?;
                left = left.checked_sub(length)?;
            }
            _ => left -= 1,
        }
    }
    Some(largest)
}

/// Entries of the colour cache.
fn cache_size(bits: &mut Bits) -> Option<usize> {
    if bits.read(1)? == 0 {
        return Some(0);
    }
    let size = bits.read(4)?;
    (1..=11).contains(&size).then(|| 1 << size)
}

fn group(bits: &mut Bits, cache: usize) -> Option<Group> {
    Some([
        code(bits, 256 + 24 + cache)?,
        code(bits, 256)?,
        code(bits, 256)?,
        code(bits, 256)?,
        code(bits, 40)?,
    ])
}

/// A length or a distance: a prefix, and bits that refine it.
fn prefixed(bits: &mut Bits, prefix: u16) -> Option<usize> {
    let prefix = usize::from(prefix);
    if prefix < 4 {
        return Some(prefix + 1);
    }
    let extra = (prefix - 2) >> 1;
    let offset = (2 + (prefix & 1)) << extra;
    Some(offset + bits.read(extra)? + 1)
}

/// Reads a code over an alphabet.
fn code(bits: &mut Bits, alphabet: usize) -> Option<Code> {
    if bits.read(1)? == 1 {
        let has_two = bits.read(1)? == 1;
        let first_bits = if bits.read(1)? == 1 { 8 } else { 1 };
        let first = bits.read(first_bits)? as u16;
        if !has_two {
            return Some(Code::Single(first));
        }
        let mut counts = [0; 16];
        counts[1] = 2;
        let symbols = vec![first, bits.read(8)? as u16];
        return Some(Code::Many { counts, symbols });
    }
    const ORDER: [usize; 19] = [
        17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
    ];
    let listed = bits.read(4)? + 4;
    let mut lengths = [0; 19];
    for at in ORDER.iter().take(listed) {
        lengths[*at] = bits.read(3)? as u8;
    }
    let of_lengths = Code::of(&lengths)?;
    let mut reads = alphabet;
    if bits.read(1)? == 1 {
        let size = 2 + 2 * bits.read(3)?;
        reads = 2 + bits.read(size)?;
    }
    let mut lengths = Vec::with_capacity(alphabet);
    let mut previous = 8;
    while lengths.len() < alphabet && reads > 0 {
        reads -= 1;
        let (value, times) = match of_lengths.symbol(bits)? {
            16 => (previous, 3 + bits.read(2)?),
            17 => (0, 3 + bits.read(3)?),
            18 => (0, 11 + bits.read(7)?),
            length => (length as u8, 1),
        };
        if value != 0 {
            previous = value;
        }
        lengths.resize(lengths.len() + times, value);
    }
    if lengths.len() > alphabet {
        return None;
    }
    Code::of(&lengths)
}

impl Code {
    /// The code whose symbols have these lengths, 0 for none.
    fn of(lengths: &[u8]) -> Option<Self> {
        let mut counts = [0; 16];
        for length in lengths {
            *counts.get_mut(usize::from(*length))? += 1;
        }
        counts[0] = 0;
        let mut symbols: Vec<u16> = (0..lengths.len() as u16)
            .filter(|symbol| lengths[usize::from(*symbol)] != 0)
            .collect();
        symbols.sort_by_key(|symbol| lengths[usize::from(*symbol)]);
        match symbols[..] {
            [] => return None,
            [symbol] => return Some(Self::Single(symbol)),
            _ => {}
        }
        let sum: usize = (1..16).map(|length| counts[length] << (15 - length)).sum();
        (sum == 1 << 15).then_some(Self::Many { counts, symbols })
    }

    fn symbol(&self, bits: &mut Bits) -> Option<u16> {
        let (counts, symbols) = match self {
            Self::Single(symbol) => return Some(*symbol),
            Self::Many { counts, symbols } => (counts, symbols),
        };
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &counts[1..] {
            code = code << 1 | bits.read(1)?;
            first <<= 1;
            if code < first + count {
                return symbols.get(index + code - first).copied();
            }
            index += count;
            first += count;
        }
        None
    }
}

impl Bits<'_> {
    fn read(&mut self, count: usize) -> Option<usize> {
        let mut value = 0;
        for i in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value |= usize::from(byte >> (self.at % 8) & 1) << i;
            self.at += 1;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{DynamicImage, ImageFormat, RgbaImage};

    /// The stream of a picture that the encoder has written.
    fn stream(width: u32, height: u32, colors: u32) -> Vec<u8> {
        let image = RgbaImage::from_fn(width, height, |x, y| {
            let n = (x * 31 + y * 17) % colors;
            image::Rgba([n as u8, (n >> 3) as u8, (n * 7) as u8, (255 - n % 9) as u8])
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        DynamicImage::ImageRgba8(image)
            .write_to(&mut bytes, ImageFormat::WebP)
            .unwrap();
        bytes.into_inner()[20..].to_vec()
    }

    #[test]
    fn an_encoders_streams_are_read() {
        for (width, height, colors) in [(1, 1, 1), (64, 64, 2), (100, 70, 16), (300, 200, 5000)] {
            let data = stream(width, height, colors);
            assert_eq!(groups(&data, None, 1 << 20), Some(1), "{width}x{height}");
            assert_eq!(groups(&data, None, 0), None);
        }
    }

    #[test]
    fn any_bytes_are_read_to_an_end() {
        let data = stream(300, 200, 5000);
        for end in 0..64 {
            groups(&data[..end], None, 1 << 20);
        }
        let mut state = 1_u32;
        for _ in 0..20_000 {
            let mut noise = vec![0x2f];
            noise.extend((0..60).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            }));
            groups(&noise, None, 1 << 28);
            groups(&noise[1..], Some((500, 500)), 1 << 28);
        }
    }
}
