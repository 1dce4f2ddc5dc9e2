//! Images made to hurt: each is an image or a clear 4xx, in bounded time and memory, without a word
//! of a decoder.

mod files;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use image::{DynamicImage, ImageFormat};
use serde_json::Value;

use super::{
    fake_engine::fake_server,
    helpers::{TestServer, about, data_url},
};
use files::*;

/// Longest that a bomb may take; they are sent beside other tests, and on any machine.
const TIME: Duration = Duration::from_secs(10);
/// Statuses of an answer: the image, or what is wrong with it.
const REFUSED: &[u16] = &[400, 413, 415, 422];
const ANY: &[u16] = &[200, 400, 413, 415, 422];
const BROKEN: &[u16] = &[422];
const LARGE: &[u16] = &[413];
const TYPE: &[u16] = &[415];
const GOOD: &[u16] = &[200];
const STRIP: &[u16] = &[400];

struct Bomb {
    name: String,
    bytes: Vec<u8>,
    statuses: &'static [u16],
}

fn bomb(name: impl Into<String>, bytes: Vec<u8>, statuses: &'static [u16]) -> Bomb {
    Bomb {
        name: name.into(),
        bytes,
        statuses,
    }
}

fn headers() -> Vec<Bomb> {
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

fn contents() -> Vec<Bomb> {
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

fn others() -> Vec<Bomb> {
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
fn pixels() -> Vec<Bomb> {
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

const FORMATS: [(&str, ImageFormat); 5] = [
    ("PNG", ImageFormat::Png),
    ("JPEG", ImageFormat::Jpeg),
    ("WebP", ImageFormat::WebP),
    ("GIF", ImageFormat::Gif),
    ("BMP", ImageFormat::Bmp),
];

/// Sends one and checks its answer; the time it took.
async fn check(server: &TestServer, bomb: &Bomb) -> Duration {
    check_within(TIME, server, bomb).await
}

async fn check_within(limit: Duration, server: &TestServer, bomb: &Bomb) -> Duration {
    let started = Instant::now();
    let (status, json) = server.ask(&about(&data_url(&bomb.bytes), "x")).await;
    let elapsed = started.elapsed();
    let name = &bomb.name;
    assert!(bomb.statuses.contains(&status), "{name}: {status} {json}");
    assert!(elapsed < limit, "{name} took {elapsed:?}");
    if status != 200 {
        check_words(name, &json);
    }
    elapsed
}

/// Only the words of this server, never a decoder's.
fn check_words(name: &str, json: &Value) {
    const OURS: [&str; 5] = [
        "the data is not a PNG, JPEG, WebP, GIF or BMP image.",
        "the image is damaged or incomplete and cannot be decoded.",
        "pixels are allowed.",
        "times the shorter.",
        "scans, too many for its size.",
    ];
    let message = json["error"]["message"].as_str().unwrap();
    assert!(
        OURS.iter().any(|ours| message.ends_with(ours)),
        "{name}: {message}"
    );
}

#[tokio::test]
async fn an_image_cut_at_every_64th_byte_is_answered_or_refused() {
    let (server, engine) = fake_server();
    let mut cuts = Vec::new();
    for (name, format) in FORMATS {
        let whole = encoded(format, 90, 70);
        for end in (0..whole.len()).step_by(64).skip(1) {
            // GIF and BMP have no end that could be missed; the others must notice.
            let statuses = match format {
                ImageFormat::Png | ImageFormat::Jpeg => REFUSED,
                _ => ANY,
            };
            // The last chunk of a PNG is empty, and its pixels are whole before it.
            let statuses = if whole.len() - end <= 16 {
                ANY
            } else {
                statuses
            };
            cuts.push(bomb(
                format!("{name} cut at {end}"),
                whole[..end].to_vec(),
                statuses,
            ));
        }
    }
    assert!(cuts.len() > 300, "only {}", cuts.len());
    stream::iter(&cuts)
        .for_each_concurrent(8, |cut| async {
            check(&server, cut).await;
        })
        .await;
    assert!(engine.times_asked() < cuts.len());
}

const ALONE: &str = "PORTHOLE_TEST_ALONE";

/// Bytes of memory that this process has had at most, by the kernel.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        << 10
}

/// In a process of its own, since the other tests take memory too.
#[tokio::test]
async fn every_bomb_is_answered_or_refused_in_no_more_memory_than_an_image_may_take() {
    if std::env::var_os(ALONE).is_none() {
        let test =
            "bombs::every_bomb_is_answered_or_refused_in_no_more_memory_than_an_image_may_take";
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", test, "--nocapture"]).env(ALONE, "1");
        let output = tokio::task::spawn_blocking(move || child.output()).await;
        let output = output.unwrap().unwrap();
        println!("{}", String::from_utf8_lossy(&output.stdout));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        return;
    }
    let (server, _) = fake_server();
    let all = [headers(), contents(), others(), pixels()];
    let bombs: Vec<Bomb> = all.into_iter().flatten().collect();
    assert!(bombs.len() >= 60, "only {}", bombs.len());
    let before = most_memory();
    let (mut peak, mut slowest) = (before, (Duration::ZERO, ""));
    for bomb in &bombs {
        slowest = slowest.max((check(&server, bomb).await, bomb.name.as_str()));
        let now = most_memory();
        if now > peak + (8 << 20) {
            println!("{}: {} MiB", bomb.name, (now - before) >> 20);
        }
        peak = now;
    }
    println!("{} bombs, the slowest {slowest:?}", bombs.len());
    assert!(peak - before < 256 << 20, "{} MiB", (peak - before) >> 20);
}
