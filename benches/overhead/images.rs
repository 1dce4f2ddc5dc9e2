//! A photo of 12 megapixels to what a model sees: the gateway's path from the data URL on, against
//! the `image` crate's from the bare bytes on.

use std::time::Instant;

use image::{
    ExtendedColorType, ImageEncoder, Rgb, RgbImage, codecs::jpeg::JpegEncoder, imageops::FilterType,
};
use porthole::{
    config::ImagesConfig,
    media::{budget::ImageGeometry, data_url, image as media},
};

use crate::{ROUNDS, ms, row, title};

const WIDTH: u32 = 4000;
const HEIGHT: u32 = 3000;

/// Of Qwen3-VL.
const GEOMETRY: ImageGeometry = ImageGeometry {
    factor: 32,
    min_pixels: 65_536,
    max_pixels: 16_777_216,
};

/// Slopes with the noise of a sensor, so that it packs about as well as a photo.
fn photo() -> Vec<u8> {
    let mut seed = 1_u32;
    let image = RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = seed >> 28;
        let slopes = [
            x * 240 / WIDTH,
            y * 240 / HEIGHT,
            (x + y) * 240 / (WIDTH + HEIGHT),
        ];
        Rgb(slopes.map(|slope| (slope + noise) as u8))
    });
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 85)
        .write_image(image.as_raw(), WIDTH, HEIGHT, ExtendedColorType::Rgb8)
        .expect("an image can be encoded");
    bytes
}

/// Milliseconds of each step.
struct Ours {
    base64: f64,
    header: f64,
    decode_and_resize: f64,
    /// Measured apart, by asking for the size it already has.
    decode: f64,
}

struct Theirs {
    decode: f64,
    resize: f64,
}

impl Ours {
    fn whole(&self) -> f64 {
        self.base64 + self.header + self.decode_and_resize
    }
}

impl Theirs {
    fn whole(&self) -> f64 {
        self.decode + self.resize
    }
}

/// Milliseconds since `since`, which becomes now.
fn lap(since: &mut Instant) -> f64 {
    let elapsed = since.elapsed();
    *since = Instant::now();
    ms(elapsed)
}

fn ours(url: &[u8], limits: &ImagesConfig) -> Ours {
    let mut clock = Instant::now();
    let bytes = data_url::decode(url, limits.max_bytes).expect("it is a data URL");
    let base64 = lap(&mut clock);
    let header = media::inspect(&bytes, limits).expect("it is within the limits");
    let (width, height) = header.upright();
    let target = GEOMETRY.target(width, height, limits.auto_max_pixels);
    let inspected = lap(&mut clock);
    let pixels = media::decode(&bytes, header, target).expect("it is whole");
    let decode_and_resize = lap(&mut clock);
    assert_eq!(pixels.dimensions(), target);
    drop(pixels);

    let mut clock = Instant::now();
    let pixels = media::decode(&bytes, header, (WIDTH, HEIGHT)).expect("it is whole");
    let decode = lap(&mut clock);
    drop(pixels);
    Ours {
        base64,
        header: inspected,
        decode_and_resize,
        decode,
    }
}

fn theirs(bytes: &[u8], (width, height): (u32, u32)) -> Theirs {
    let mut clock = Instant::now();
    let image = image::load_from_memory(bytes).expect("it is whole");
    let decode = lap(&mut clock);
    let pixels = image
        .resize_exact(width, height, FilterType::Lanczos3)
        .to_rgb8();
    let resize = lap(&mut clock);
    assert_eq!(pixels.dimensions(), (width, height));
    Theirs { decode, resize }
}

pub(crate) fn run() {
    let bytes = photo();
    let base64 = base64_simd::STANDARD.encode_to_string(&bytes);
    let url = format!("data:image/jpeg;base64,{base64}");
    let limits = ImagesConfig::default();
    let target = GEOMETRY.target(WIDTH, HEIGHT, limits.auto_max_pixels);
    let round = || (ours(url.as_bytes(), &limits), theirs(&bytes, target));
    round();
    let rounds: Vec<(Ours, Theirs)> = (0..ROUNDS).map(|_| round()).collect();

    title(&format!(
        "Image, JPEG {WIDTH}x{HEIGHT} of {:.1} MB to {}x{}: Porthole / image crate with Lanczos3",
        bytes.len() as f64 / 1e6,
        target.0,
        target.1
    ));
    let of = |value: fn(&(Ours, Theirs)) -> f64| rounds.iter().map(value).collect::<Vec<f64>>();
    row(
        "Porthole, data URL to pixels",
        of(|(a, _)| a.whole()),
        "ms",
        "",
    );
    row("  base64", of(|(a, _)| a.base64), "ms", "");
    row("  header", of(|(a, _)| a.header), "ms", "");
    row("  decode", of(|(a, _)| a.decode), "ms", "");
    row(
        "  resize (difference)",
        of(|(a, _)| a.decode_and_resize - a.decode),
        "ms",
        "",
    );
    row(
        "image crate, bytes to pixels",
        of(|(_, b)| b.whole()),
        "ms",
        "",
    );
    row("  decode", of(|(_, b)| b.decode), "ms", "");
    row("  resize and to_rgb8", of(|(_, b)| b.resize), "ms", "");
    row(
        "time, ratio",
        of(|(a, b)| a.whole() / b.whole()),
        "x",
        "aim < 0.333",
    );
}
