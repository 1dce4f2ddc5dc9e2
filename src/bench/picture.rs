//! Pictures that nobody has seen before, and that a seed draws again.

use image::{
    ExtendedColorType, ImageEncoder, ImageError,
    codecs::{
        jpeg::JpegEncoder,
        png::{CompressionType, FilterType, PngEncoder},
    },
};
use rand::Rng;

use super::{mix::ImageSize, plan::ImageFormat};

/// Shapes on a picture.
const SHAPES: usize = 12;

/// About as large as a photograph of these pixels.
const JPEG_QUALITY: u8 = 85;

struct Ellipse {
    center: (f32, f32),
    radius: (f32, f32),
    color: [f32; 3],
}

impl Ellipse {
    fn draw(random: &mut impl Rng) -> Self {
        Self {
            center: (random.random(), random.random()),
            radius: (
                random.random_range(0.03..0.3),
                random.random_range(0.03..0.3),
            ),
            color: color(random),
        }
    }

    fn covers(&self, x: f32, y: f32) -> bool {
        let x = (x - self.center.0) / self.radius.0;
        let y = (y - self.center.1) / self.radius.1;
        x * x + y * y < 1.0
    }
}

fn color(random: &mut impl Rng) -> [f32; 3] {
    std::array::from_fn(|_| random.random_range(16.0..240.0))
}

/// An encoded picture: ellipses on a gradient, under the noise of a sensor, without which it would
/// be much smaller than a photograph.
///
/// # Errors
/// The encoder's, which has none for sizes within [`ImageSize`]'s bounds.
pub fn picture(
    size: ImageSize,
    format: ImageFormat,
    random: &mut impl Rng,
) -> Result<Vec<u8>, ImageError> {
    let pixels = pixels(size, random);
    let mut bytes = Vec::new();
    match format {
        ImageFormat::Jpeg => JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).write_image(
            &pixels,
            size.width,
            size.height,
            ExtendedColorType::Rgb8,
        )?,
        ImageFormat::Png => {
            PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Sub)
                .write_image(&pixels, size.width, size.height, ExtendedColorType::Rgb8)?;
        }
    }
    Ok(bytes)
}

fn pixels(size: ImageSize, random: &mut impl Rng) -> Vec<u8> {
    let corners = [color(random), color(random)];
    let shapes: Vec<Ellipse> = (0..SHAPES).map(|_| Ellipse::draw(random)).collect();
    let mut pixels = Vec::with_capacity(size.width as usize * size.height as usize * 3);
    for row in 0..size.height {
        let y = row as f32 / size.height as f32;
        // The shapes that this row crosses, since most rows cross few.
        let near: Vec<&Ellipse> = shapes
            .iter()
            .filter(|shape| (y - shape.center.1).abs() < shape.radius.1)
            .collect();
        for column in 0..size.width {
            let x = column as f32 / size.width as f32;
            let shape = near.iter().rev().find(|shape| shape.covers(x, y));
            let noise = random.next_u32();
            let pixel: [u8; 3] = std::array::from_fn(|channel| {
                let ground = corners[0][channel] * (1.0 - x) + corners[1][channel] * x;
                let value = shape.map_or(ground, |shape| shape.color[channel]);
                // Three bits a channel: -4 to 3.
                let noise = ((noise >> (channel * 3)) & 7) as f32 - 4.0;
                (value + noise) as u8
            });
            pixels.extend_from_slice(&pixel);
        }
    }
    pixels
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn draw(format: ImageFormat, seed: u64) -> Vec<u8> {
        let size = ImageSize {
            width: 61,
            height: 47,
        };
        picture(size, format, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap()
    }

    #[test]
    fn pictures_decode_to_their_size_and_differ_by_their_seed() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png] {
            let bytes = draw(format, 1);
            let image = image::load_from_memory(&bytes).unwrap().into_rgb8();
            assert_eq!(image.dimensions(), (61, 47));
            assert_eq!(bytes, draw(format, 1));
            let other = image::load_from_memory(&draw(format, 2)).unwrap();
            assert_ne!(image, other.into_rgb8(), "{format:?}");
        }
        assert!(draw(ImageFormat::Jpeg, 1).starts_with(&[0xff, 0xd8]));
        assert!(draw(ImageFormat::Png, 1).starts_with(b"\x89PNG"));
    }
}
