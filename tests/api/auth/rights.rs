//! What a key allows, and from where.

use super::*;

#[tokio::test]
async fn a_caller_sees_exactly_its_models() {
    let guarded = guarded_with(|config| config.model.aliases = vec!["alias".into()]);
    let with = |models: &[&str]| Rights {
        models: Some(models.iter().map(ToString::to_string).collect()),
        ..Rights::default()
    };
    for (name, models, seen) in [
        ("all", vec!["demo"], vec!["demo", "alias"]),
        ("alias", vec!["alias"], vec!["alias"]),
        ("other", vec!["other"], vec![]),
    ] {
        let key = guarded.key(name, &with(&models)).await;
        let (_, json) = body(guarded.get(key.expose(), "/v1/models").await).await;
        let listed: Vec<_> = json["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["id"].as_str().unwrap())
            .collect();
        assert_eq!(listed, seen);
        for model in ["demo", "alias"] {
            let expected = if seen.contains(&model) { 200 } else { 404 };
            let mut ask = user("hello");
            ask["model"] = json!(model);
            let (status, json) = body(guarded.chat(key.expose(), &ask).await).await;
            assert_eq!(status, expected, "{name} {model} {json}");
            assert_eq!(
                guarded
                    .get(key.expose(), &format!("/v1/models/{model}"))
                    .await
                    .status(),
                expected
            );
        }
    }
    // A model that is not there and one that is not for this caller look alike.
    let key = guarded.key("none", &with(&[])).await;
    let mut answers = Vec::new();
    for model in ["demo", "nope"] {
        let (_, json) = body(
            guarded
                .get(key.expose(), &format!("/v1/models/{model}"))
                .await,
        )
        .await;
        answers.push(json.to_string().replace(model, "M"));
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn a_key_bound_to_a_network_or_an_origin_works_only_from_there() {
    let guarded = guarded_with(|config| {
        config.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()]
    });
    let rights = Rights {
        networks: vec!["203.0.113.0/24".parse().unwrap()],
        origins: vec!["https://app.example.com".into()],
        ..Rights::default()
    };
    let key = guarded.keys.create("bound", None, &rights).unwrap();
    let probe = guarded.key("probe", &Rights::default()).await;
    let url = format!("{}/v1/models", guarded.server.base);
    for (client, origin, expected) in [
        ("203.0.113.7", Some("https://app.example.com"), 200),
        ("203.0.114.7", Some("https://app.example.com"), 403),
        ("203.0.113.7", Some("https://evil.example.com"), 403),
        ("203.0.113.7", Some("https://app.example.com.evil.com"), 403),
        ("203.0.113.7", Some("null"), 403),
        ("203.0.113.7", None, 403),
    ] {
        let mut request = guarded
            .server
            .client
            .get(&url)
            .bearer_auth(key.expose())
            .header("x-forwarded-for", client);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let (status, json) = body(request.send().await.unwrap()).await;
        assert_eq!(status, expected, "{client} {origin:?} {json}");
        if status == 403 {
            assert_eq!(json["error"]["code"], "not_from_here");
            assert_eq!(json["error"]["type"], "permission_error");
        }
    }
    assert_eq!(
        guarded.get(probe.expose(), "/v1/models").await.status(),
        200
    );
}

#[tokio::test]
async fn a_key_can_lower_what_an_image_may_cost() {
    let guarded = guarded();
    let image = data_url(&png(1600, 1600, [50; 3]));
    let small = Rights {
        max_image_pixels: Some(256 * 256),
        max_images: Some(1),
        ..Rights::default()
    };
    let key = guarded.key("small", &small).await;
    let (status, json) = body(guarded.chat(key.expose(), &about(&image, "x")).await).await;
    assert_eq!(status, 200, "{json}");
    assert_eq!(
        guarded.engine.asked.lock().unwrap()[0].images[0].dimensions(),
        (256, 256)
    );
    let mut two = about(&image, "x");
    let part = two["messages"][0]["content"][0].clone();
    two["messages"][0]["content"]
        .as_array_mut()
        .unwrap()
        .push(part);
    let (status, json) = body(guarded.chat(key.expose(), &two).await).await;
    assert_eq!(
        (status, json["error"]["code"].as_str()),
        (400, Some("too_many_images"))
    );
    let none = Rights {
        max_images: Some(0),
        ..Rights::default()
    };
    let text_only = guarded.key("text", &none).await;
    assert_eq!(
        guarded
            .chat(text_only.expose(), &about(&image, "x"))
            .await
            .status(),
        400
    );
    assert_eq!(
        guarded.chat(text_only.expose(), &user("x")).await.status(),
        200
    );
}
