//! Bombs in the headers of images.

use super::*;

pub(super) fn headers() -> Vec<Bomb> {
    let idat = || png_chunk(b"IDAT", &zlib_of_zeros(48 << 10));
    let mut bombs = vec![
        bomb(
            "PNG of 65,535 squared",
            png(65_535, 65_535, 8, 2, &[idat()]),
            LARGE,
        ),
        bomb(
            "PNG of 65,535 squared, one bit",
            png(65_535, 65_535, 1, 0, &[idat()]),
            LARGE,
        ),
        bomb(
            "PNG of 2^31 - 1 squared",
            png(i32::MAX as u32, i32::MAX as u32, 16, 6, &[idat()]),
            REFUSED,
        ),
        bomb(
            "PNG of 2^32 - 1 squared",
            png(u32::MAX, u32::MAX, 8, 2, &[idat()]),
            REFUSED,
        ),
        bomb(
            "PNG of 2^31 - 1 by 1",
            png(i32::MAX as u32, 1, 8, 2, &[idat()]),
            REFUSED,
        ),
        bomb(
            "PNG of 1 by 2^31 - 1",
            png(1, i32::MAX as u32, 8, 2, &[idat()]),
            LARGE,
        ),
        bomb("PNG of no width", png(0, 10, 8, 2, &[idat()]), BROKEN),
        bomb("PNG of no height", png(10, 0, 8, 2, &[idat()]), BROKEN),
        bomb(
            "PNG of an unknown depth",
            png(10, 10, 7, 2, &[idat()]),
            BROKEN,
        ),
        bomb(
            "PNG of an unknown colour",
            png(10, 10, 8, 5, &[idat()]),
            BROKEN,
        ),
        bomb(
            "PNG of a palette that is not there",
            png(10, 10, 8, 3, &[idat()]),
            BROKEN,
        ),
        bomb(
            "PNG of 16 bits, over the weight of its pixels",
            png(6000, 6000, 16, 6, &[idat()]),
            LARGE,
        ),
        bomb("PNG without data", png(6000, 6000, 8, 2, &[]), BROKEN),
        bomb(
            "PNG of 36 million pixels in 1 KiB",
            png(6000, 6000, 8, 2, &[png_chunk(b"IDAT", &zlib_of_zeros(600))]),
            BROKEN,
        ),
        bomb(
            "GIF of 65,535 squared",
            [
                gif_header(65_535, 65_535),
                gif_frame(65_535, 65_535),
                vec![0x3b],
            ]
            .concat(),
            LARGE,
        ),
        bomb(
            "GIF whose frame is 17 GB",
            [gif_header(8, 8), gif_frame(65_535, 65_535), vec![0x3b]].concat(),
            BROKEN,
        ),
        bomb(
            "GIF of no size",
            [gif_header(0, 0), gif_frame(0, 0), vec![0x3b]].concat(),
            BROKEN,
        ),
        bomb(
            "GIF without frames",
            [gif_header(100, 100), vec![0x3b]].concat(),
            BROKEN,
        ),
        bomb(
            "WebP canvas of 2^24 squared",
            riff(&[(b"VP8X", 10, &vp8x(0, 1 << 24, 1 << 24))]),
            REFUSED,
        ),
        bomb(
            "WebP canvas without an image",
            riff(&[(b"VP8X", 10, &vp8x(0, 16, 16))]),
            BROKEN,
        ),
        bomb(
            "WebP lossless of 16,384 squared",
            riff(&[(b"VP8L", 5, &[0x2f, 0xff, 0xff, 0xff, 0x0f])]),
            REFUSED,
        ),
        bomb(
            "WebP lossy of 16,383 squared",
            riff(&[(
                b"VP8 ",
                10,
                &[0, 0, 0, 0x9d, 1, 0x2a, 0xff, 0x3f, 0xff, 0x3f],
            )]),
            LARGE,
        ),
    ];
    for (name, flag) in [(b"EXIF", 8), (b"ICCP", 32), (b"XMP ", 4)] {
        let head = vp8x(flag, 16, 16);
        let image = &encoded(ImageFormat::WebP, 16, 16)[12..];
        let mut bytes = riff(&[(b"VP8X", 10, &head)]);
        bytes.extend(image);
        bytes.extend(name);
        bytes.extend(u32::MAX.to_le_bytes());
        bytes.extend([0; 64]);
        let title = format!("WebP with 4 GB of {}", String::from_utf8_lossy(name));
        bombs.push(bomb(title, bytes, ANY));
    }
    let frame = [
        &[0; 6][..],
        &[15, 0, 0, 15, 0, 0, 0, 0, 0, 0],
        b"EXIF\xff\xff\xff\xff",
    ]
    .concat();
    let chunks: [(&[u8; 4], u32, &[u8]); 3] = [
        (b"VP8X", 10, &vp8x(2, 16, 16)),
        (b"ANIM", 6, &[0; 6]),
        (b"ANMF", frame.len() as u32, &frame),
    ];
    bombs.push(bomb("WebP frame with 4 GB of EXIF", riff(&chunks), BROKEN));
    for (name, width, height, bits, compression) in [
        ("BMP of 2^31 - 1 squared", i32::MAX, i32::MAX, 24_u16, 0_u32),
        ("BMP of negative size", -10, -10, 24, 0),
        ("BMP of the least height", 10, i32::MIN, 24, 0),
        ("BMP of 65,535 squared, run lengths", 65_535, 65_535, 8, 1),
        ("BMP of 49 million pixels, run lengths", 7_000, 7_000, 8, 1),
        ("BMP of 49 million pixels and no data", 7_000, 7_000, 32, 0),
        ("BMP of an unknown depth", 8, 8, 77, 0),
    ] {
        let mut bytes = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
        bytes.extend(width.to_le_bytes());
        bytes.extend(height.to_le_bytes());
        bytes.extend([1, 0]);
        bytes.extend(bits.to_le_bytes());
        bytes.extend(compression.to_le_bytes());
        bytes.extend([0; 20]);
        bytes.extend([0; 2048]);
        bombs.push(bomb(name, bytes, if height < -10 { REFUSED } else { ANY }));
    }
    bombs
}
