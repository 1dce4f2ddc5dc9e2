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
