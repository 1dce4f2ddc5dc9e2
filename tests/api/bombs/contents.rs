//! Bombs behind good headers, and images that only look like bombs.

use super::*;

pub(super) fn contents() -> Vec<Bomb> {
    let small = |chunks: &[Vec<u8>]| png(8, 8, 8, 2, chunks);
    let idat = png_chunk(b"IDAT", &zlib_of_zeros(1));
    let text = |kind: &[u8; 4], head: &[u8]| {
        let data = [head, &zlib_of_zeros(2 << 20)].concat();
        png_chunk(kind, &data)
    };
    let many_texts = vec![png_chunk(b"tEXt", b"a\0b"); 100_000].concat();
    let mut bombs = vec![
        bomb("PNG with 10,000 frames", apng_of_many_frames(), GOOD),
        bomb("GIF with 10,000 frames", gif_of_many_frames(), ANY),
        bomb(
            "PNG with 2 GB of colour profile",
            small(&[text(b"iCCP", b"p\0\0"), idat.clone()]),
            ANY,
        ),
        bomb(
            "PNG with 2 GB of text",
            small(&[text(b"zTXt", b"t\0\0"), idat.clone()]),
            ANY,
        ),
        bomb(
            "PNG with 2 GB of XMP",
            small(&[
                text(b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0"),
                idat.clone(),
            ]),
            ANY,
        ),
        bomb(
            "PNG with 100,000 texts",
            small(&[many_texts, idat.clone()]),
            ANY,
        ),
        bomb(
            "PNG of 192 bytes with 2 GB behind them",
            small(&[png_chunk(b"IDAT", &zlib_of_zeros(2 << 20))]),
            ANY,
        ),
        bomb(
            "JPEG of 95 scans over 49 million pixels",
            progressive(7_000, 7_000, 95),
            BROKEN,
        ),
        bomb(
            "JPEG of 9,000 scans over 300,000 pixels",
            progressive(640, 480, 9_000),
            BROKEN,
        ),
        bomb(
            "JPEG of 90 scans over 300,000 pixels",
            progressive(640, 480, 90),
            ANY,
        ),
        bomb(
            "JPEG of a component 90 times over 49 million pixels",
            baseline_scans(7_000, 7_000, 90),
            BROKEN,
        ),
        bomb(
            "JPEG of 65,535 squared",
            progressive(65_535, 65_535, 1),
            LARGE,
        ),
        bomb(
            "WebP of 65,536 groups of tables",
            webp_of_tables(255, 255),
            BROKEN,
        ),
        bomb(
            "WebP of 4,096 groups of tables",
            webp_of_tables(15, 255),
            GOOD,
        ),
        bomb(
            "JPEG of a million markers",
            {
                let mut bytes = vec![0xff, 0xd8];
                bytes.extend([0xff, 0xfe, 0, 2].repeat(1_000_000));
                bytes.extend(&encoded(ImageFormat::Jpeg, 64, 64)[2..]);
                bytes
            },
            ANY,
        ),
        bomb(
            "JPEG of 60,000 profile parts",
            {
                let mut bytes = vec![0xff, 0xd8];
                let part = b"\xff\xe2\0\x10ICC_PROFILE\0\x01\xff";
                bytes.extend(part.repeat(60_000));
                bytes.extend(&encoded(ImageFormat::Jpeg, 64, 64)[2..]);
                bytes
            },
            ANY,
        ),
        bomb(
            "JPEG of fill bytes",
            {
                let mut bytes = vec![0xff, 0xd8];
                bytes.resize(4 << 20, 0xff);
                bytes
            },
            BROKEN,
        ),
    ];
    for (name, exif) in exif_loops() {
        use image::ImageEncoder;
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::jpeg::JpegEncoder::new(&mut bytes);
        encoder.set_exif_metadata(exif.clone()).unwrap();
        encoder
            .write_image(&[9; 64 * 64 * 3], 64, 64, image::ExtendedColorType::Rgb8)
            .unwrap();
        bombs.push(bomb(format!("JPEG, {name}"), bytes, GOOD));
        let chunk = png_chunk(b"eXIf", &exif);
        bombs.push(bomb(
            format!("PNG, {name}"),
            small(&[chunk, idat.clone()]),
            GOOD,
        ));
    }
    bombs
}

pub(super) fn others() -> Vec<Bomb> {
    let types: [(&str, &[u8]); 22] = [
        ("SVG", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>"),
        (
            "SVG with entities",
            b"<?xml version=\"1.0\"?><!DOCTYPE svg [<!ENTITY a \"aaaa\">]><svg/>",
        ),
        ("SVGZ", b"\x1f\x8b\x08\0\0\0\0\0"),
        ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        ("AVIF", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1"),
        ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 "),
        ("JPEG 2000 codestream", b"\xff\x4f\xff\x51\0\x29"),
        ("JPEG XL", b"\xff\x0a\0\0\0\0"),
        ("TIFF, little end first", b"II*\0\x08\0\0\0\0\0"),
        ("TIFF, big end first", b"MM\0*\0\0\0\x08\0\0"),
        ("BigTIFF", b"II+\0\x08\0\0\0"),
        ("ICO", b"\0\0\x01\0\x01\0\x10\x10\0\0"),
        ("PSD", b"8BPS\0\x01\0\0\0\0\0\0"),
        ("OpenEXR", b"\x76\x2f\x31\x01\x02\0\0\0"),
        ("Radiance", b"#?RADIANCE\n"),
        ("PNM", b"P6 99999 99999 255\n"),
        ("DDS", b"DDS \x7c\0\0\0"),
        ("QOI", b"qoif\0\0\xff\xff\0\0\xff\xff\x03\0"),
        ("farbfeld", b"farbfeld\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("PDF", b"%PDF-1.7\n"),
        ("ZIP", b"PK\x03\x04\x14\0"),
        ("a page", b"<!doctype html><script>1</script>"),
    ];
    let mut bombs: Vec<Bomb> = types
        .into_iter()
        .map(|(name, bytes)| bomb(name, bytes.to_vec(), TYPE))
        .collect();
    let page: &[u8] = b"<html><script>alert(1)</script>";
    for (name, format) in FORMATS {
        let whole = encoded(format, 40, 40);
        // A page behind an image is an image; an image behind a page is none.
        bombs.push(bomb(
            format!("{name}, then a page"),
            [&whole[..], page].concat(),
            GOOD,
        ));
        bombs.push(bomb(
            format!("a page, then {name}"),
            [page, &whole[..]].concat(),
            TYPE,
        ));
        bombs.push(bomb(format!("{name} of 1x1"), encoded(format, 1, 1), GOOD));
        bombs.push(bomb(
            format!("{name} of 1x200"),
            encoded(format, 1, 200),
            GOOD,
        ));
        bombs.push(bomb(
            format!("{name} of 1x201"),
            encoded(format, 1, 201),
            STRIP,
        ));
        bombs.push(bomb(
            format!("{name} of 2000x10"),
            encoded(format, 2000, 10),
            GOOD,
        ));
    }
    let other = |bytes: &[u8], name: &str| bomb(name, bytes.to_vec(), ANY);
    bombs.push(other(b"GIF89a/*<html>*/=1;", "GIF that is a script"));
    bombs.push(other(b"BM<html><body onload=x>", "BMP that is a page"));
    bombs.push(other(b"\x89PNG\r\n\x1a\n", "PNG's signature alone"));
    bombs.push(other(b"\xff\xd8\xff\xe0", "JPEG's first marker alone"));
    bombs
}

/// Less usual pixels, which are images all the same.
pub(super) fn pixels() -> Vec<Bomb> {
    let gray = image::ImageBuffer::from_pixel(50, 40, image::Luma([0x1234_u16]));
    let rgb = image::ImageBuffer::from_pixel(50, 40, image::Rgb([0x1234_u16, 9, 0xffff]));
    let rgba = image::ImageBuffer::from_pixel(50, 40, image::Rgba([0x1234_u16, 9, 0xffff, 77]));
    let gray_alpha = image::ImageBuffer::from_pixel(50, 40, image::LumaA([9_u8, 77]));
    let clear = image::ImageBuffer::from_pixel(50, 40, image::Rgba([1_u8, 2, 3, 0]));
    let png_of = |image| write(image, ImageFormat::Png);
    let palette = png_chunk(b"PLTE", &[255, 0, 0, 0, 255, 0]);
    let transparency = png_chunk(b"tRNS", &[0, 128]);
    let idat = png_chunk(b"IDAT", &zlib_of_zeros(1));
    let zeros = vec![0; 16];
    vec![
        bomb(
            "16 bits, grey",
            png_of(DynamicImage::ImageLuma16(gray)),
            GOOD,
        ),
        bomb("16 bits", png_of(DynamicImage::ImageRgb16(rgb)), GOOD),
        bomb(
            "16 bits with alpha",
            png_of(DynamicImage::ImageRgba16(rgba)),
            GOOD,
        ),
        bomb(
            "grey with alpha",
            png_of(DynamicImage::ImageLumaA8(gray_alpha)),
            GOOD,
        ),
        bomb(
            "all transparent",
            png_of(DynamicImage::ImageRgba8(clear.clone())),
            GOOD,
        ),
        bomb(
            "WebP with alpha",
            write(DynamicImage::ImageRgba8(clear), ImageFormat::WebP),
            GOOD,
        ),
        bomb(
            "a palette of one bit",
            png(8, 8, 1, 3, &[palette.clone(), transparency, idat.clone()]),
            GOOD,
        ),
        bomb(
            "a palette of eight bits",
            png(8, 8, 8, 3, &[palette, idat.clone()]),
            GOOD,
        ),
        bomb("one bit, grey", png(8, 8, 1, 0, &[idat]), GOOD),
        bomb(
            "CMYK",
            Jpeg::frame(0xc0, 32, 32, 4)
                .scan(&[1, 2, 3, 4], [0, 63, 0], &zeros)
                .end(),
            GOOD,
        ),
        bomb(
            "grey JPEG",
            Jpeg::frame(0xc0, 32, 32, 1)
                .scan(&[1], [0, 63, 0], &zeros)
                .end(),
            GOOD,
        ),
        bomb(
            "a JPEG of two components",
            Jpeg::frame(0xc0, 32, 32, 2)
                .scan(&[1, 2], [0, 63, 0], &zeros)
                .end(),
            ANY,
        ),
        bomb("components one by one", baseline_scans(64, 64, 1), GOOD),
        bomb("progressive", progressive(64, 64, 3), GOOD),
    ]
}
