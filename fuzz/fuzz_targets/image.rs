//! Whatever bytes claim to be an image: an image of exactly the wanted size, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use porthole::{
    config::ImagesConfig,
    media::{budget::ImageGeometry, image},
};

fuzz_target!(|bytes: &[u8]| {
    let limits = ImagesConfig {
        max_input_pixels: 1 << 20,
        ..ImagesConfig::default()
    };
    let Ok(header) = image::inspect(bytes, &limits) else {
        return;
    };
    let (width, height) = header.upright();
    assert!(u64::from(width) * u64::from(height) <= limits.max_input_pixels);
    let geometry = ImageGeometry::patches(32, 1_024, 1 << 16);
    let target = geometry.target(width, height, 1 << 16);
    if let Ok(pixels) = image::decode(bytes, header, target) {
        assert_eq!(pixels.dimensions(), target);
    }
});
