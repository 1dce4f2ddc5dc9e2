//! What the decoders do not tell of a file before they decode it, read from its outer structure
//! alone: whether a JPEG is whole and how many scans it has, and what a WebP holds.

use image::metadata::Orientation;

use super::vp8l;

/// What the markers of a JPEG say (ITU-T T.81, annex B).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JpegMarkers {
    /// Whether there is an end-of-image marker behind the first scan. The decoder fills what is
    /// missing of a truncated file with grey instead of saying so.
    pub(super) is_complete: bool,
    /// Whether the decoder keeps the coefficients of the whole image in memory, because several
    /// scans bring them: the file is progressive, or its components come one after the other.
    pub(super) keeps_coefficients: bool,
    /// Scans, where there can be several.
    pub(super) scans: u64,
}

/// Walks over a JPEG's segments. In entropy-coded data 0xFF is always followed by a zero or a restart
/// marker, so a marker cannot be there by chance.
pub(super) fn jpeg_markers(bytes: &[u8]) -> JpegMarkers {
    let mut at = 2;
    let mut keeps_coefficients = false;
    let mut components = 0;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            0xff => at += 1,
            0xda => {
                let rest = &bytes[at..];
                keeps_coefficients |= rest.get(4).is_none_or(|scanned| *scanned < components);
                return JpegMarkers {
                    is_complete: rest.windows(2).rev().any(|pair| pair == [0xff, 0xd9]),
                    keeps_coefficients,
                    scans: if keeps_coefficients {
                        count_scans(rest)
                    } else {
                        1
                    },
                };
            }
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => {
                // Frame headers are 0xC0 to 0xCF, less three tables.
                if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
                    keeps_coefficients |= matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce);
                    components = components.max(bytes.get(at + 9).copied().unwrap_or(0));
                }
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
    // Not laid out as expected: the decoder has the last word on whether it is an image, and the
    // worst is assumed of what it costs.
    JpegMarkers {
        is_complete: true,
        keeps_coefficients: true,
        scans: count_scans(bytes),
    }
}

fn count_scans(bytes: &[u8]) -> u64 {
    let marks = bytes.windows(2).filter(|pair| *pair == [0xff, 0xda]);
    marks.count() as u64
}

/// What the chunks of a WebP say (RFC 9649).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WebpChunks {
    /// From the EXIF chunk, if it is inside the file.
    pub(super) orientation: Orientation,
    /// Most groups of code tables that a losslessly coded part has, alpha included; `None` where
    /// such a part is broken.
    pub(super) table_groups: Option<u32>,
    /// Whether there are frames.
    pub(super) is_animated: bool,
}

/// Walks over the chunks of a WebP with a canvas of `size`. The decoder's own reading of EXIF takes
/// as much memory as the chunk claims to have.
pub(super) fn webp_chunks(bytes: &[u8], size: (usize, usize)) -> WebpChunks {
    let mut found = WebpChunks {
        orientation: Orientation::NoTransforms,
        table_groups: Some(0),
        is_animated: false,
    };
    for (name, is_whole, data) in chunks(bytes.get(12..).unwrap_or_default()) {
        match &name {
            b"EXIF" if is_whole => {
                let orientation = Orientation::from_exif_chunk(data);
                found.orientation = orientation.unwrap_or(Orientation::NoTransforms);
            }
            // Only the first frame is decoded.
            b"ANMF" if !found.is_animated => {
                found.is_animated = true;
                let side = |at: usize| match data.get(at..at + 3) {
                    Some(&[a, b, c]) => u32::from_le_bytes([a, b, c, 0]) as usize + 1,
                    _ => 0,
                };
                let frame = (side(6).min(size.0), side(9).min(size.1));
                for (name, _, data) in chunks(data.get(16..).unwrap_or_default()) {
                    found.count_groups(name, data, frame, size);
                }
            }
            _ => found.count_groups(name, data, size, size),
        }
    }
    found
}

impl WebpChunks {
    fn count_groups(
        &mut self,
        name: [u8; 4],
        data: &[u8],
        frame: (usize, usize),
        canvas: (usize, usize),
    ) {
        let max_pixels = (canvas.0 * canvas.1) as u64;
        let groups = match (&name, data) {
            (b"VP8L", _) => vp8l::groups(data, None, max_pixels),
            // An alpha plane, if it is coded.
            (b"ALPH", [info, data @ ..]) if info & 3 == 1 => {
                vp8l::groups(data, Some(frame), max_pixels)
            }
            _ => Some(0),
        };
        let most = self.table_groups.zip(groups);
        self.table_groups = most.map(|(one, other)| one.max(other));
    }
}

/// Name, whether all of it is there, and data.
fn chunks(mut rest: &[u8]) -> impl Iterator<Item = ([u8; 4], bool, &[u8])> {
    std::iter::from_fn(move || {
        let (&[a, b, c, d, s0, s1, s2, s3], data) = rest.split_first_chunk::<8>()?;
        let size = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
        let padded = size.saturating_add(size & 1);
        rest = data.get(padded..).unwrap_or_default();
        Some((
            [a, b, c, d],
            size <= data.len(),
            &data[..size.min(data.len())],
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_claims_more_than_there_is_takes_nothing() {
        let mut bytes = b"RIFF\0\0\0\0WEBP".to_vec();
        bytes.extend(b"EXIF\xff\xff\xff\xff");
        bytes.extend([0; 10]);
        let found = webp_chunks(&bytes, (8, 8));
        assert_eq!(found.orientation, Orientation::NoTransforms);
        assert_eq!(found.table_groups, Some(0));
        bytes.truncate(12);
        bytes.extend(b"VP8L\xff\xff\xff\xff\x2f\x07\x00");
        assert_eq!(webp_chunks(&bytes, (8, 8)).table_groups, None);
        assert_eq!(webp_chunks(b"RIFF", (8, 8)).table_groups, Some(0));
    }

    #[test]
    fn scans_are_counted_where_there_can_be_several() {
        let file = |junk: &[u8], sof: u8, in_scan: u8, scans: usize| {
            let mut bytes = vec![0xff, 0xd8];
            bytes.extend(junk);
            bytes.extend([
                0xff, sof, 0, 17, 8, 0, 8, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ]);
            for _ in 0..scans {
                bytes.extend([0xff, 0xda, 0, 3, in_scan, 7, 0xff, 0, 7]);
            }
            bytes.extend([0xff, 0xd9]);
            jpeg_markers(&bytes)
        };
        let progressive = file(b"", 0xc2, 3, 7);
        assert!(progressive.keeps_coefficients && progressive.is_complete);
        assert_eq!(progressive.scans, 7);
        let baseline = file(b"", 0xc0, 3, 1);
        assert!(!baseline.keeps_coefficients && baseline.scans == 1);
        let one_by_one = file(b"", 0xc0, 1, 90);
        assert!(one_by_one.keeps_coefficients && one_by_one.scans == 90);
        // What is hidden from this walk by a stray byte is counted all the same.
        assert_eq!(file(b"x", 0xc2, 3, 7).scans, 7);
    }
}
