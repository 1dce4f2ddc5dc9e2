//! Fetched images are fetched again only when their server wants it, and never for another caller.

mod site;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use porthole::{
    config::ImagesConfig,
    media::{ImageCeiling, MediaError, MediaLoader, budget::ImageGeometry, fetch::FetchError},
    metrics::Metrics,
    openai::message::{Detail, ImageUrl},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::helpers::{config, data_url, png};
use site::{GEOMETRY, load, loader, serve};

#[tokio::test]
async fn what_may_be_used_again_is_not_fetched_again() {
    let red = png(64, 64, [255, 0, 0]);
    let (base, site) = serve(&[
        ("/fresh", 200, "cache-control: max-age=60\r\n", red.clone()),
        (
            "/private",
            200,
            "cache-control: private, max-age=60\r\n",
            red.clone(),
        ),
        (
            "/expires",
            200,
            "date: Fri, 02 Jan 2026 03:04:05 GMT\r\nexpires: Fri, 02 Jan 2026 04:04:05 GMT\r\n",
            red.clone(),
        ),
        (
            "/no-store",
            200,
            "cache-control: no-store, max-age=60\r\netag: \"v1\"\r\n",
            red.clone(),
        ),
        ("/silent", 200, "", red.clone()),
        (
            "/old",
            200,
            "cache-control: max-age=60\r\nage: 60\r\n",
            red.clone(),
        ),
        (
            "/vary",
            200,
            "cache-control: max-age=60\r\nvary: *\r\n",
            red.clone(),
        ),
        ("/temporary", 302, "location: /fresh\r\n", Vec::new()),
        ("/permanent", 308, "location: /fresh\r\n", Vec::new()),
    ])
    .await;
    let (loader, metrics) = loader(|_| {});
    let mut sums = Vec::new();
    for (path, expected) in [
        ("/fresh", 1),
        ("/private", 1),
        ("/expires", 1),
        ("/no-store", 3),
        ("/silent", 3),
        ("/old", 3),
        ("/vary", 3),
        // A temporary redirect is asked each time, a permanent one is kept.
        ("/temporary", 3),
        ("/permanent", 1),
    ] {
        for _ in 0..3 {
            sums.push(load(&loader, "a", &format!("{base}{path}")).await.unwrap());
        }
        assert_eq!(site.requests(path), expected, "{path}");
    }
    assert!(sums.iter().all(|sum| *sum == sums[0]));
    assert!(metrics.image_cache_bytes.get() > 4 * red.len() as i64);
    // A fragment is no other image; a query is.
    load(&loader, "a", &format!("{base}/fresh#x"))
        .await
        .unwrap();
    assert_eq!(site.requests("/fresh"), 1 + 3 + 1);
    let heads = site.heads.lock().unwrap();
    for head in heads.iter().map(|head| head.to_ascii_lowercase()) {
        assert!(head.contains("accept-encoding: identity"), "{head}");
        assert!(head.contains("user-agent: porthole/"), "{head}");
        assert!(
            !head.contains("cookie") && !head.contains("referer"),
            "{head}"
        );
        assert!(!head.contains("if-"), "{head}");
    }
}

#[tokio::test]
async fn what_is_not_fresh_is_asked_for_by_its_validators() {
    let (base, site) = serve(&[
        (
            "/always",
            200,
            "cache-control: no-cache\r\netag: \"v1\"\r\n",
            png(64, 64, [1; 3]),
        ),
        ("/etag", 200, "etag: \"v1\"\r\n", png(64, 64, [2; 3])),
        ("/moved", 302, "location: /etag\r\n", Vec::new()),
    ])
    .await;
    let (loader, metrics) = loader(|_| {});
    for path in ["/always", "/etag", "/moved"] {
        let url = format!("{base}{path}");
        let first = load(&loader, "a", &url).await.unwrap();
        for _ in 0..2 {
            assert_eq!(load(&loader, "a", &url).await.unwrap(), first);
        }
        assert_eq!(site.requests(path), 3, "{path}");
    }
    let text = metrics.encode();
    assert!(
        text.contains("porthole_image_fetches_total{source=\"revalidated\"} 6"),
        "{text}"
    );
    assert!(
        text.contains("porthole_image_fetches_total{source=\"network\"} 3"),
        "{text}"
    );
}

#[tokio::test]
async fn nothing_is_shared_between_callers() {
    let (base, site) = serve(&[(
        "/a",
        200,
        "cache-control: public, max-age=60\r\netag: \"v1\"\r\n",
        png(64, 64, [3; 3]),
    )])
    .await;
    let (loader, _) = loader(|_| {});
    let url = format!("{base}/a");
    for _ in 0..3 {
        for owner in ["a", "b", "c"] {
            load(&loader, owner, &url).await.unwrap();
        }
    }
    assert_eq!(site.requests("/a"), 3);
    assert!(
        !site
            .heads
            .lock()
            .unwrap()
            .iter()
            .any(|head| head.contains("if-none-match"))
    );
}

#[tokio::test]
async fn requests_at_once_share_one_fetch_and_outlive_who_began_it() {
    let (base, site) = serve(&[
        ("/a", 200, "", png(64, 64, [4; 3])),
        ("/missing", 404, "", Vec::new()),
    ])
    .await;
    let (loader, _) = loader(|limits| limits.cache_bytes = 0);
    let url = format!("{base}/a");
    let mut loads: Vec<_> = (0..50)
        .map(|_| Box::pin(load(&loader, "a", &url)))
        .collect();
    // Who began it gives up after its first step.
    assert!(futures::poll!(&mut loads[0]).is_pending());
    drop(loads.remove(0));
    let found = futures::future::join_all(loads).await;
    assert!(found.iter().all(Result::is_ok));
    assert!(site.requests("/a") <= 2, "{}", site.requests("/a"));
    // Without a cache the next one fetches, and failures are shared but not kept.
    let before = site.requests("/a");
    load(&loader, "a", &url).await.unwrap();
    assert_eq!(site.requests("/a"), before + 1);
    for round in 1..3 {
        let missing = format!("{base}/missing");
        let loads = (0..10).map(|_| load(&loader, "a", &missing));
        for result in futures::future::join_all(loads).await {
            assert!(matches!(
                result,
                Err(MediaError::Fetch(FetchError::Status(404)))
            ));
        }
        assert_eq!(site.requests("/missing"), round);
    }
}

#[tokio::test]
async fn only_images_are_kept_and_no_more_than_there_is_room_for() {
    let noise = |seed: u32| {
        let mut state = seed;
        let image = image::RgbImage::from_fn(100, 100, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            image::Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
        });
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    };
    let paths = ["/0", "/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8", "/9"];
    let mut answers: Vec<_> = (1..)
        .zip(paths)
        .map(|(seed, path)| (path, 200, "cache-control: max-age=60\r\n", noise(seed)))
        .collect();
    answers.push((
        "/page",
        200,
        "cache-control: max-age=60\r\n",
        b"<html>".to_vec(),
    ));
    let (base, site) = serve(&answers).await;
    let (loader, metrics) = loader(|limits| limits.cache_bytes = 100_000);
    for path in paths {
        load(&loader, "a", &format!("{base}{path}")).await.unwrap();
        assert!(metrics.image_cache_bytes.get() <= 100_000);
    }
    assert!(metrics.image_cache_bytes.get() > 30_000);
    load(&loader, "a", &format!("{base}/9")).await.unwrap();
    assert_eq!(site.requests("/9"), 1, "the newest is kept");
    load(&loader, "a", &format!("{base}/0")).await.unwrap();
    assert_eq!(site.requests("/0"), 2, "the oldest has gone");
    for _ in 0..2 {
        let page = load(&loader, "a", &format!("{base}/page")).await;
        assert!(matches!(page, Err(MediaError::Image(_))));
    }
    assert_eq!(site.requests("/page"), 2);
}

#[tokio::test]
async fn a_callers_ceiling_lowers_pixels_and_count() {
    let (loader, _) = loader(|_| {});
    let url = Bytes::from(data_url(&png(1600, 1600, [5; 3])));
    let image = |detail| ImageUrl {
        url: url.clone(),
        detail,
        param: "x".into(),
    };
    let ceiling = ImageCeiling {
        max_pixels: Some(128 * 128),
        max_images: Some(3),
    };
    let images = vec![image(Detail::Low), image(Detail::Auto), image(Detail::High)];
    let encoded = loader.fetch("a", images, GEOMETRY, ceiling).await.unwrap();
    assert!(encoded.iter().all(|image| image.target == (128, 128)));
    assert!(
        encoded
            .iter()
            .all(|image| image.len() > 100 && !image.is_empty())
    );
    let hex = encoded[0].sha256_hex();
    assert_eq!(hex.len(), 64);
    assert_eq!(
        u8::from_str_radix(&hex[..2], 16).unwrap(),
        encoded[0].sha256()[0]
    );
    let decoded = loader.decode(encoded).await.unwrap();
    assert!(
        decoded
            .images
            .iter()
            .all(|image| image.dimensions() == (128, 128))
    );
    assert_eq!(decoded.hold.bytes(), 3 * 128 * 128 * 3);
    let none = ImageCeiling {
        max_images: Some(0),
        ..ceiling
    };
    let refused = loader
        .fetch("a", vec![image(Detail::Low)], GEOMETRY, none)
        .await;
    assert!(matches!(
        refused.unwrap_err().error,
        MediaError::TooMany { got: 1, max: 0 }
    ));
    assert!(
        loader
            .fetch("a", Vec::new(), GEOMETRY, none)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(loader.decode(Vec::new()).await.unwrap().hold.bytes(), 0);
}

#[tokio::test]
async fn decoded_pixels_wait_for_room_and_give_it_back() {
    let (loader, metrics) = loader(|limits| limits.max_decoded_bytes = 4 << 20);
    let url = Bytes::from(data_url(&png(1000, 1000, [6; 3])));
    let encoded = async || {
        let image = ImageUrl {
            url: url.clone(),
            detail: Detail::High,
            param: "x".into(),
        };
        let ceiling = ImageCeiling::default();
        loader
            .fetch("a", vec![image], GEOMETRY, ceiling)
            .await
            .unwrap()
    };
    // Each holds 992 * 992 * 3 bytes, some 2.8 MiB, and more than that while it is decoded.
    let first = loader.decode(encoded().await).await.unwrap();
    assert_eq!(first.hold.bytes(), metrics.image_decoded_bytes.get() as u64);
    let mut second = Box::pin(loader.decode(encoded().await));
    assert!(futures::poll!(&mut second).is_pending());
    assert_eq!(first.hold.bytes(), metrics.image_decoded_bytes.get() as u64);
    drop(first);
    let second = second.await.unwrap();
    assert_eq!(second.images[0].dimensions(), (992, 992));
    drop(second);
    assert_eq!(metrics.image_decoded_bytes.get(), 0);
    // One that is given up while it is decoded gives back what it had.
    for _ in 0..20 {
        let mut given_up = Box::pin(loader.decode(encoded().await));
        let _ = futures::poll!(&mut given_up);
    }
    let last = loader.decode(encoded().await).await.unwrap();
    assert_eq!(last.hold.bytes(), metrics.image_decoded_bytes.get() as u64);
}
