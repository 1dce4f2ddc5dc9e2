//! Encoded bytes to pixels: recognised by content, judged by header, decoded, laid on white,
//! resized and turned upright.

use std::io::Cursor;

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use image::{
    ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage, RgbaImage,
    metadata::Orientation,
};

use super::{memory::Need, structure};
use crate::config::ImagesConfig;

/// What a PNG's texts and colour profile may inflate to, bytes.
const PNG_METADATA: u64 = 32 << 20;
/// Pixels times scans of a progressive JPEG. Each scan visits every block again for next to no bytes
/// of file; a photo of 50 million pixels with the usual ten scans is at half of this.
const MAX_SCANNED_PIXELS: u64 = 1 << 30;
/// Groups of code tables of a lossless WebP; libwebp writes at most 2,600.
const MAX_WEBP_GROUPS: u32 = 4_096;
/// Bytes that the five tables of a group take at most.
const WEBP_GROUP: u64 = 5 * 4_160;

/// Why bytes are not an image that will be shown to the model. A decoder's own words are not
/// passed on: they may tell about the process.
#[derive(Debug, Clone, thiserror::Error)]
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
    /// A progressive JPEG that costs more to decode than its pixels are worth.
    #[error("the image has {0} scans, too many for its size")]
    TooManyScans(u64),
}

/// What a header says.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    format: ImageFormat,
    width: u32,
    height: u32,
    orientation: Orientation,
    /// Bytes that decoding takes at its peak, the encoded bytes not counted.
    working: u64,
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

    /// Memory to decode the image to `target`.
    pub(super) fn need(&self, target: (u32, u32)) -> Need {
        let result = u64::from(target.0) * u64::from(target.1) * 3;
        // Resizing holds the source, what is between its two passes, and the result.
        let columns = u64::from(target.0.max(target.1));
        let rows = u64::from(self.width.max(self.height));
        let resizing = self.pixels() * 3 + columns * rows * 3;
        Need {
            working: self.working.max(resizing),
            result,
        }
    }

    fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
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
    let mut decoder = decoder(bytes, format, limits.max_input_pixels)?;
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
    let (decoding, orientation) = inspect_structure(bytes, format, &mut decoder)?;
    let flattening = match (decoder.color_type(), decoder.color_type().has_alpha()) {
        (ColorType::Rgb8, _) => 0,
        (ColorType::Rgba8, _) | (_, false) => 3 * pixels,
        (_, true) => 7 * pixels,
    };
    Ok(Header {
        format,
        width,
        height,
        orientation,
        working: decoder.total_bytes() + decoding.max(flattening),
    })
}

/// Bytes that a decoder takes beside its output, and the orientation.
fn inspect_structure(
    bytes: &[u8],
    format: ImageFormat,
    decoder: &mut impl ImageDecoder,
) -> Result<(u64, Orientation), ImageError> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if format == ImageFormat::WebP {
        let chunks = structure::webp_chunks(bytes, (width as usize, height as usize));
        let groups = chunks.table_groups.ok_or(ImageError::Broken)?;
        if groups > MAX_WEBP_GROUPS {
            return Err(ImageError::Broken);
        }
        let frames = if chunks.is_animated { 8 } else { 4 };
        let decoding = frames * pixels + u64::from(groups) * WEBP_GROUP;
        return Ok((decoding, chunks.orientation));
    }
    let mut decoding = 0;
    if format == ImageFormat::Gif {
        decoding = 4 * pixels;
    }
    if format == ImageFormat::Jpeg {
        let markers = structure::jpeg_markers(bytes);
        if !markers.is_complete {
            return Err(ImageError::Broken);
        }
        if markers.scans.saturating_mul(pixels) > MAX_SCANNED_PIXELS {
            return Err(ImageError::TooManyScans(markers.scans));
        }
        // The decoder's copy of the file, and two bytes for each coefficient of up to four components.
        let coefficients = if markers.keeps_coefficients { 8 } else { 0 };
        decoding = bytes.len() as u64 + coefficients * pixels;
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((decoding, orientation))
}

/// A decoder that takes no more memory beside its output than an image of `pixels` needs.
fn decoder(
    bytes: &[u8],
    format: ImageFormat,
    pixels: u64,
) -> Result<impl ImageDecoder + '_, ImageError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(if format == ImageFormat::Png {
        PNG_METADATA
    } else {
        // A frame of its own, before it is laid on the canvas.
        4 * pixels
    });
    reader.limits(limits);
    reader.into_decoder().map_err(|_| ImageError::Broken)
}

/// Decodes an inspected image to `target` width and height.
///
/// # Errors
/// Damaged data.
pub fn decode(bytes: &[u8], header: Header, target: (u32, u32)) -> Result<RgbImage, ImageError> {
    let decoder = decoder(bytes, header.format, header.pixels())?;
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
mod tests;
