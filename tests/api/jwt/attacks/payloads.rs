//! What claims may say to deceive.

use super::*;

pub fn registered_claims() -> Vec<Attack> {
    let mut attacks = vec![
        ("no iss", without("iss"), JwtError::MissingClaim("iss")),
        ("no aud", without("aud"), JwtError::MissingClaim("aud")),
        ("no exp", without("exp"), JwtError::MissingClaim("exp")),
        ("no sub", without("sub"), JwtError::MissingClaim("sub")),
        (
            "expired",
            claim(json!({"exp": NOW - 31})),
            JwtError::Expired,
        ),
        ("exp of zero", claim(json!({"exp": 0})), JwtError::Expired),
        (
            "not yet valid",
            claim(json!({"nbf": NOW + 31})),
            JwtError::NotYetValid,
        ),
        (
            "issued in the future",
            claim(json!({"iat": NOW + 31})),
            JwtError::IssuedInFuture,
        ),
        ("exp NaN", spelled("exp", "NaN"), JwtError::Malformed),
        (
            "exp Infinity",
            spelled("exp", "Infinity"),
            JwtError::Malformed,
        ),
        ("exp 1e400", spelled("exp", "1e400"), JwtError::Malformed),
        ("exp -1e400", spelled("exp", "-1e400"), JwtError::Malformed),
        (
            "exp in hexadecimal",
            spelled("exp", "0xffffffff"),
            JwtError::Malformed,
        ),
        (
            "exp with a plus",
            spelled("exp", "+9999999999"),
            JwtError::Malformed,
        ),
        (
            "exp 1e300",
            spelled("exp", "1e300"),
            JwtError::ClaimType("exp"),
        ),
        (
            "exp of 30 digits",
            spelled("exp", "999999999999999999999999999999"),
            JwtError::ClaimType("exp"),
        ),
        (
            "exp of u64",
            spelled("exp", "18446744073709551615"),
            JwtError::ClaimType("exp"),
        ),
        ("scope missing", hs256(&claims(SCOPED)), JwtError::Scope),
        (
            "scope of another",
            hs256(&merged(claims(SCOPED), json!({"scope": "chatter"}))),
            JwtError::Scope,
        ),
        (
            "scope in another case",
            hs256(&merged(claims(SCOPED), json!({"scope": "Chat"}))),
            JwtError::Scope,
        ),
        (
            "scope a number",
            hs256(&merged(claims(SCOPED), json!({"scope": 1}))),
            JwtError::ClaimType("scope"),
        ),
        (
            "scope null",
            hs256(&merged(claims(SCOPED), json!({"scope": null}))),
            JwtError::ClaimType("scope"),
        ),
    ];
    for iss in [
        "https://HS.example",
        "https://hs.example/",
        "http://hs.example",
        "hs.example",
        " https://hs.example",
        "https://hs.example\0",
        "https://hs.example.evil.example",
    ] {
        attacks.push(("iss", claim(json!({"iss": iss})), JwtError::Issuer));
    }
    for iss in [json!(null), json!(1), json!([HS]), json!("")] {
        attacks.push((
            "iss",
            claim(json!({"iss": iss})),
            JwtError::ClaimType("iss"),
        ));
    }
    for aud in [
        json!("other"),
        json!("PORTHOLE-API"),
        json!("porthole-api "),
        json!("porthole"),
        json!(""),
        json!([]),
        json!(["a", "b"]),
        json!("porthole-api2"),
    ] {
        attacks.push(("aud", claim(json!({"aud": aud})), JwtError::Audience));
    }
    for aud in [
        json!(null),
        json!(1),
        json!([AUDIENCE, 1]),
        json!([[AUDIENCE]]),
        json!({"aud": AUDIENCE}),
        json!(true),
    ] {
        attacks.push((
            "aud",
            claim(json!({"aud": aud})),
            JwtError::ClaimType("aud"),
        ));
    }
    for name in ["exp", "nbf", "iat"] {
        let known = if name == "exp" {
            "exp"
        } else if name == "nbf" {
            "nbf"
        } else {
            "iat"
        };
        for value in [
            json!("1800000100"),
            json!(-1),
            json!(null),
            json!(true),
            json!([NOW]),
            json!({}),
            json!(-0.5),
        ] {
            attacks.push((
                "a time",
                claim(json!({name: value})),
                JwtError::ClaimType(known),
            ));
        }
    }
    for sub in [
        json!(""),
        json!(1),
        json!(null),
        json!(["ada"]),
        json!("a".repeat(257)),
        json!("a\nb"),
        json!("a\u{0}b"),
    ] {
        attacks.push((
            "sub",
            claim(json!({"sub": sub})),
            JwtError::ClaimType("sub"),
        ));
    }
    attacks
}

pub fn rights() -> Vec<Attack> {
    let cases: [(&'static str, Vec<Value>); 8] = [
        (
            "models",
            vec![
                json!("demo"),
                json!(null),
                json!([1]),
                json!(["a", null]),
                json!({}),
                json!(true),
            ],
        ),
        (
            "origins",
            vec![json!("https://a.example"), json!(null), json!([1])],
        ),
        (
            "networks",
            vec![
                json!("10.0.0.0/8"),
                json!(["anywhere"]),
                json!(["10.0.0.0/33"]),
                json!(null),
            ],
        ),
        (
            "roles",
            vec![
                json!("priority"),
                json!(null),
                json!([1]),
                json!({"mint_tokens": true}),
            ],
        ),
        (
            "max_images",
            vec![json!("1"), json!(-1), json!(1.5), json!(null), json!([])],
        ),
        (
            "max_image_pixels",
            vec![json!("1"), json!(-1), json!(1e30), json!(null)],
        ),
        (
            "limits",
            vec![
                json!([]),
                json!([5]),
                json!(null),
                json!("none"),
                json!({"requests_per_minute": null}),
                json!({"requests_per_minute": -1}),
                json!({"requests_per_minute": "5"}),
                json!({"requests_per_minuet": 5}),
                json!({"tokens_per_day": 1.5}),
            ],
        ),
        (
            "model_limits",
            vec![
                json!([]),
                json!(null),
                json!({"demo": null}),
                json!({"demo": []}),
                json!({"demo": {"nope": 1}}),
                json!({"demo": 5}),
            ],
        ),
    ];
    let mut attacks = Vec::new();
    for (name, values) in cases {
        for value in values {
            let top = claim(json!({name: value}));
            attacks.push((name, top, JwtError::ClaimType(name)));
            let object = claim(json!({"porthole": {name: value}}));
            attacks.push((name, object, JwtError::ClaimType(name)));
        }
    }
    for value in [
        json!(null),
        json!([]),
        json!("models"),
        json!({"model": ["demo"]}),
        json!({"Models": []}),
        json!({"key": "web"}),
    ] {
        attacks.push((
            "porthole",
            claim(json!({"porthole": value})),
            JwtError::ClaimType("porthole"),
        ));
    }
    attacks
}
