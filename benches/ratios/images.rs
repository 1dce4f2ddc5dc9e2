//! A 12-megapixel JPEG in a data URL to pixels for the model, against `image::load_from_memory` and
//! its Lanczos resize of the decoded bytes.

use std::time::Instant;

use image::{
    ExtendedColorType, ImageEncoder, RgbImage, codecs::jpeg::JpegEncoder, imageops::FilterType,
};
use porthole::{
    config::ImagesConfig,
    media::{budget::ImageGeometry, data_url, image as media},
};

use crate::{ROUNDS, ms, ratio, row};

fn photo() -> Vec<u8> {
    let mut seed = 1_u32;
    let image = RgbImage::from_fn(4000, 3000, |x, y| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (seed >> 28) as u8;
        image::Rgb([
            (x / 16) as u8 ^ noise,
            (y / 12) as u8,
            ((x + y) / 28) as u8 | noise,
        ])
    });
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 85)
        .write_image(image.as_raw(), 4000, 3000, ExtendedColorType::Rgb8)
        .expect("an image can be encoded");
    bytes
}

pub(crate) fn run() {
    let bytes = photo();
    let url = format!(
        "data:image/jpeg;base64,{}",
        base64_simd::STANDARD.encode_to_string(&bytes)
    );
    let geometry = ImageGeometry::patches(32, 65_536, 1 << 24);
    let limits = ImagesConfig::default();
    let (width, height) = geometry.target(4000, 3000, limits.auto_max_pixels);
    let (mut pairs, mut base64, mut only_decode) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let data = data_url::decode(url.as_bytes(), limits.max_bytes).expect("a data URL");
        base64.push(ms(started.elapsed()));
        let header = media::inspect(&data, &limits).expect("a photo");
        let ours = media::decode(&data, header, (width, height)).expect("a photo");
        let our_time = ms(started.elapsed());

        let started = Instant::now();
        let decoded = image::load_from_memory(&bytes).expect("a photo");
        only_decode.push(ms(started.elapsed()));
        let theirs = decoded
            .resize_exact(width, height, FilterType::Lanczos3)
            .to_rgb8();
        pairs.push((our_time, ms(started.elapsed())));
        assert_eq!(ours.dimensions(), theirs.dimensions());
    }
    row(
        "image: 12-Mpx JPEG data URL to pixels",
        pairs.iter().map(|(a, _)| *a).collect(),
        "ms",
    );
    row("image:   of that, base64", base64, "ms");
    row(
        "image: image::load_from_memory + Lanczos3",
        pairs.iter().map(|(_, b)| *b).collect(),
        "ms",
    );
    row("image:   of that, load_from_memory", only_decode, "ms");
    ratio("image: time, ours / image crate", &pairs, "aim under 0.333");
}
