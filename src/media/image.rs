//! Encoded bytes to pixels: recognised by content, judged by header, decoded, laid on white,
//! resized and turned upright.

use std::io::Cursor;

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use image::{
    DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage, RgbaImage,
    metadata::Orientation,
};

use crate::config::ImagesConfig;

/// Why bytes are not an image that will be shown to the model. A decoder's own words are not
/// passed on: they may tell about the process.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not one of the formats taken.
    #[error("the data is not a PNG, JPEG, WebP, GIF or BMP image")]
    Unsupported,
    /// One of them, but broken or cut short.
    #[error("the image is damaged or incomplete and cannot be decoded")]
    Broken,
    /// More pixels than allowed, by its header.
    #[error("the image has {width}x{height} pixels; at most {max} pixels are allowed")]
    TooManyPixels {
        /// Width by the header.
        width: u32,
        /// Height by the header.
        height: u32,
        /// `images.max_input_pixels`.
        max: u64,
    },
    /// A strip.
    #[error(
        "the image is {width}x{height}; the longer side may be at most {max} times the shorter"
    )]
    AspectRatio {
        /// Width by the header.
        width: u32,
        /// Height by the header.
        height: u32,
        /// `images.max_aspect_ratio`.
        max: f64,
    },
}

/// What a header says.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    format: ImageFormat,
    width: u32,
    height: u32,
    orientation: Orientation,
}

impl Header {
    /// Width and height after EXIF orientation.
    pub fn upright(&self) -> (u32, u32) {
        if swaps_sides(self.orientation) {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        }
    }
}

fn swaps_sides(orientation: Orientation) -> bool {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => true,
        Orientation::NoTransforms
        | Orientation::Rotate180
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical => false,
    }
}

/// Reads the header and judges it; no pixel is decoded and no memory for pixels taken.
///
/// # Errors
/// Not an image, a broken header, or one that the limits refuse.
pub fn inspect(bytes: &[u8], limits: &ImagesConfig) -> Result<Header, ImageError> {
    let format = image::guess_format(bytes).map_err(|_| ImageError::Unsupported)?;
    let known = [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Gif,
        ImageFormat::Bmp,
    ];
    if !known.contains(&format) {
        return Err(ImageError::Unsupported);
    }
    let mut decoder = decoder(bytes, format)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 {
        return Err(ImageError::Broken);
    }
    // Four bytes a pixel in memory, so 16-bit pixels count double.
    let weight = pixels.max(decoder.total_bytes() / 4);
    if weight > limits.max_input_pixels {
        return Err(ImageError::TooManyPixels {
            width,
            height,
            max: limits.max_input_pixels,
        });
    }
    if f64::from(width.max(height)) > f64::from(width.min(height)) * limits.max_aspect_ratio {
        return Err(ImageError::AspectRatio {
            width,
            height,
            max: limits.max_aspect_ratio,
        });
    }
    if format == ImageFormat::Jpeg && !jpeg_is_complete(bytes) {
        return Err(ImageError::Broken);
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok(Header {
        format,
        width,
        height,
        orientation,
    })
}

fn decoder(bytes: &[u8], format: ImageFormat) -> Result<impl ImageDecoder + '_, ImageError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // Pixels are limited by our own rule; this bounds what a decoder takes beside them.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(1 << 30);
    reader.limits(limits);
    reader.into_decoder().map_err(|_| ImageError::Broken)
}

/// Whether a JPEG has an end-of-image marker after the start of its first scan. The decoder fills
/// what is missing of a truncated file with grey instead of saying so. In entropy-coded data 0xFF
/// is always followed by a zero or a restart marker, so the marker cannot be there by chance.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            0xff => at += 1,
            0xda => {
                return bytes[at..]
                    .windows(2)
                    .rev()
                    .any(|pair| pair == [0xff, 0xd9]);
            }
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    // Not laid out as expected; the decoder has the last word.
    true
}

/// Decodes an inspected image to `target` width and height.
///
/// # Errors
/// Damaged data.
pub fn decode(bytes: &[u8], header: Header, target: (u32, u32)) -> Result<RgbImage, ImageError> {
    let decoder = decoder(bytes, header.format)?;
    let image = DynamicImage::from_decoder(decoder).map_err(|_| ImageError::Broken)?;
    let pixels = flatten(image);
    // Resizing first turns fewer pixels; the sides are those before turning.
    let (width, height) = if swaps_sides(header.orientation) {
        (target.1, target.0)
    } else {
        target
    };
    let resized = resize(pixels, width, height)?;
    if header.orientation == Orientation::NoTransforms {
        return Ok(resized);
    }
    let mut image = DynamicImage::ImageRgb8(resized);
    image.apply_orientation(header.orientation);
    Ok(image.into_rgb8())
}

/// 8-bit RGB, transparent parts laid on white.
fn flatten(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let rgba: RgbaImage = image.into_rgba8();
    let (width, height) = rgba.dimensions();
    let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
    for pixel in rgba.as_raw().chunks_exact(4) {
        let alpha = u16::from(pixel[3]);
        for &channel in &pixel[..3] {
            // Rounded c * a + 255 * (1 - a), a in 255ths.
            let mixed = u16::from(channel) * alpha + 255 * (255 - alpha) + 127;
            rgb.push((mixed / 255) as u8);
        }
    }
    RgbImage::from_raw(width, height, rgb).unwrap_or_default()
}

/// Antialiased bicubic (a = -0.5) on 8-bit pixels, as Pillow's BICUBIC and so as the processors of
/// transformers.
fn resize(pixels: RgbImage, width: u32, height: u32) -> Result<RgbImage, ImageError> {
    if pixels.dimensions() == (width, height) {
        return Ok(pixels);
    }
    let source = ImageRef::new(
        pixels.width(),
        pixels.height(),
        pixels.as_raw(),
        PixelType::U8x3,
    )
    .map_err(|_| ImageError::Broken)?;
    let mut resized = Image::new(width, height, PixelType::U8x3);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .use_alpha(false);
    Resizer::new()
        .resize(&source, &mut resized, &options)
        .map_err(|_| ImageError::Broken)?;
    RgbImage::from_raw(width, height, resized.into_vec()).ok_or(ImageError::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageEncoder, Rgba};

    fn png(image: &DynamicImage) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn load(bytes: &[u8], target: (u32, u32)) -> Result<RgbImage, ImageError> {
        decode(bytes, inspect(bytes, &ImagesConfig::default())?, target)
    }

    #[test]
    fn transparent_parts_are_white() {
        let mut image = RgbaImage::from_pixel(2, 1, Rgba([10, 20, 30, 0]));
        image.put_pixel(1, 0, Rgba([10, 20, 30, 128]));
        let pixels = load(&png(&DynamicImage::ImageRgba8(image)), (2, 1)).unwrap();
        assert_eq!(pixels.get_pixel(0, 0).0, [255, 255, 255]);
        assert_eq!(pixels.get_pixel(1, 0).0, [132, 137, 142]);
    }

    #[test]
    fn sixteen_bit_grey_becomes_eight_bit_rgb() {
        let image = image::ImageBuffer::from_pixel(3, 3, image::Luma([0x8080_u16]));
        let pixels = load(&png(&DynamicImage::ImageLuma16(image)), (3, 3)).unwrap();
        assert_eq!(pixels.get_pixel(1, 1).0, [128, 128, 128]);
    }

    #[test]
    fn every_format_is_known_by_its_content() {
        let red = DynamicImage::ImageRgb8(RgbImage::from_pixel(8, 8, image::Rgb([255, 0, 0])));
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::WebP,
            ImageFormat::Gif,
            ImageFormat::Bmp,
        ] {
            let mut bytes = Cursor::new(Vec::new());
            red.write_to(&mut bytes, format).unwrap();
            let pixels = load(&bytes.into_inner(), (8, 8)).unwrap();
            let [r, g, b] = pixels.get_pixel(4, 4).0;
            assert!(r > 250 && g < 5 && b < 5, "{format:?}: {r} {g} {b}");
        }
    }

    #[test]
    fn an_animation_is_its_first_frame() {
        let frame = |color| image::Frame::new(RgbaImage::from_pixel(8, 8, Rgba(color)));
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        encoder
            .encode_frames([frame([0, 0, 255, 255]), frame([0, 255, 0, 255])])
            .unwrap();
        drop(encoder);
        assert_eq!(load(&bytes, (8, 8)).unwrap().get_pixel(4, 4).0, [0, 0, 255]);
    }

    #[test]
    fn exif_orientation_is_applied() {
        // Red left, blue right; orientation 6 shows it turned by 90 degrees: red on top.
        let image = RgbImage::from_fn(64, 32, |x, _| {
            image::Rgb(if x < 32 { [255, 0, 0] } else { [0, 0, 255] })
        });
        let exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        encoder
            .write_image(image.as_raw(), 64, 32, image::ExtendedColorType::Rgb8)
            .unwrap();
        let header = inspect(&bytes, &ImagesConfig::default()).unwrap();
        assert_eq!(header.upright(), (32, 64));
        let pixels = decode(&bytes, header, (32, 64)).unwrap();
        assert!(pixels.get_pixel(16, 8).0[0] > 200 && pixels.get_pixel(16, 56).0[2] > 200);
    }

    #[test]
    fn a_jpeg_cut_short_is_refused_at_every_length() {
        let image = RgbImage::from_fn(64, 64, |x, y| {
            image::Rgb([(x * 4) as u8, (y * 4) as u8, (x ^ y) as u8])
        });
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new(&mut bytes)
            .write_image(image.as_raw(), 64, 64, image::ExtendedColorType::Rgb8)
            .unwrap();
        load(&bytes, (64, 64)).unwrap();
        for end in (4..bytes.len()).step_by(7) {
            assert!(
                load(&bytes[..end], (64, 64)).is_err(),
                "cut at {end} of {}",
                bytes.len()
            );
        }
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        // IHDR of 65,535 x 65,535 pixels, and nothing else worth reading.
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend([
            0, 0, 255, 255, 0, 0, 255, 255, 8, 2, 0, 0, 0, 0x1b, 0x10, 0x9d, 0x4f,
        ]);
        let crc = {
            let mut crc = u32::MAX;
            for byte in &bytes[12..29] {
                crc ^= u32::from(*byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 {
                        (crc >> 1) ^ 0xedb8_8320
                    } else {
                        crc >> 1
                    };
                }
            }
            !crc
        };
        bytes.truncate(29);
        bytes.extend(crc.to_be_bytes());
        bytes.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
        assert!(matches!(
            load(&bytes, (32, 32)),
            Err(ImageError::TooManyPixels { .. })
        ));
    }

    #[test]
    fn a_page_and_an_unlisted_format_are_not_images() {
        for bytes in [
            &b"<!doctype html><html>"[..],
            b"",
            b"II*\0\x08\0\0\0",
            b"%PDF-1.7",
            b"<svg xmlns=",
        ] {
            assert!(matches!(
                load(bytes, (32, 32)),
                Err(ImageError::Unsupported)
            ));
        }
    }
}
