//! What a header may say to deceive.

use super::*;

pub fn algorithms() -> Vec<Attack> {
    use Algorithm::{ES256, HS256, HS384, HS512, PS256, RS256};
    let rsa_pem = pem("rsa.public");
    let public = EncodingKey::from_secret(&rsa_pem);
    let body: String = String::from_utf8(rsa_pem.clone()).unwrap();
    let body: String = body.lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64_simd::STANDARD.decode_to_vec(body).unwrap();
    let der = EncodingKey::from_secret(&der);
    let empty = EncodingKey::from_secret(b"");
    let signature = parts(&good())[2].clone();
    let mut attacks: Vec<Attack> = [
        ("none", ""),
        ("None", ""),
        ("NONE", ""),
        ("NoNe", ""),
        ("none ", ""),
        ("none", "AAAA"),
        ("nOnE", signature.as_str()),
        ("", ""),
    ]
    .iter()
    .map(|(name, signature)| {
        (
            "no algorithm at all",
            unsigned(name, signature),
            JwtError::Algorithm,
        )
    })
    .collect();
    for name in [
        "rs256", "RS256 ", "RS1", "HS257", "ES512", "ES256K", "dir", "RSA-OAEP", "A128KW",
    ] {
        attacks.push((
            "an unknown algorithm",
            header(json!({"alg": name})),
            JwtError::Algorithm,
        ));
    }
    for value in [
        json!(null),
        json!(256),
        json!(["RS256"]),
        json!({"RS256": true}),
    ] {
        attacks.push((
            "an algorithm that is no text",
            header(json!({"alg": value})),
            JwtError::Algorithm,
        ));
    }
    let no_alg = signed_text(
        r#"{"typ":"JWT"}"#,
        &claims(RSA).to_string(),
        &private("rsa"),
        RS256,
    );
    let rsa = claims(RSA);
    attacks.extend([
        ("no alg", no_alg, JwtError::Algorithm),
        (
            "HS256 with the public PEM",
            says("HS256", &rsa, &public, HS256),
            JwtError::Algorithm,
        ),
        (
            "HS384 with the public PEM",
            says("HS384", &rsa, &public, HS384),
            JwtError::Algorithm,
        ),
        (
            "HS512 with the public PEM",
            says("HS512", &rsa, &public, HS512),
            JwtError::Algorithm,
        ),
        (
            "HS256 with the public DER",
            says("HS256", &rsa, &der, HS256),
            JwtError::Algorithm,
        ),
        (
            "HS256 with an empty secret",
            says("HS256", &rsa, &empty, HS256),
            JwtError::Algorithm,
        ),
        (
            "HS256 with an empty secret where it is one",
            says("HS256", &claims(HS), &empty, HS256),
            JwtError::Signature,
        ),
        (
            "HS256 with the EC PEM",
            says(
                "HS256",
                &claims(EC),
                &EncodingKey::from_secret(&pem("p256.public")),
                HS256,
            ),
            JwtError::Algorithm,
        ),
        (
            "RS256 said, HS256 done",
            says("RS256", &rsa, &public, HS256),
            JwtError::Signature,
        ),
        (
            "ES256 for an RSA key",
            says("ES256", &rsa, &private("p256"), ES256),
            JwtError::Algorithm,
        ),
        (
            "EdDSA for an RSA key",
            says("EdDSA", &rsa, &private("ed25519"), Algorithm::EdDSA),
            JwtError::Algorithm,
        ),
        (
            "RS256 for a secret",
            says("RS256", &claims(HS), &private("rsa"), RS256),
            JwtError::Algorithm,
        ),
        (
            "ES384 for a P-256 key",
            says("ES384", &claims(EC), &private("p384"), Algorithm::ES384),
            JwtError::Algorithm,
        ),
        (
            "PS256 where RS256 alone is allowed",
            says("PS256", &claims(ONLY_RS256), &private("rsa"), PS256),
            JwtError::Algorithm,
        ),
        (
            "PS256 said, RS256 done",
            says("PS256", &rsa, &private("rsa"), RS256),
            JwtError::Signature,
        ),
    ]);
    attacks
}

pub fn headers() -> Vec<Attack> {
    let own = jwk("rsa_other", Algorithm::RS256, "rsa");
    let with_own = |patch: Value| {
        let header = merged(json!({"alg": "RS256"}), patch);
        signed(
            &header,
            &claims(RSA),
            &private("rsa_other"),
            Algorithm::RS256,
        )
    };
    let mut attacks = vec![
        (
            "an embedded jwk",
            with_own(json!({"jwk": own})),
            JwtError::Signature,
        ),
        (
            "jku",
            with_own(json!({"jku": "https://evil.example/jwks"})),
            JwtError::Signature,
        ),
        (
            "x5u",
            with_own(json!({"x5u": "https://evil.example/pem"})),
            JwtError::Signature,
        ),
        (
            "x5c",
            with_own(json!({"x5c": ["AAAA"]})),
            JwtError::Signature,
        ),
        ("zip", header(json!({"zip": "DEF"})), JwtError::Compressed),
        (
            "enc",
            header(json!({"enc": "A128GCM"})),
            JwtError::Encrypted,
        ),
    ];
    for crit in [
        json!(["exp"]),
        json!([]),
        json!(["b64"]),
        json!(null),
        json!("b64"),
    ] {
        attacks.push(("crit", header(json!({"crit": crit})), JwtError::Critical));
    }
    for b64 in [json!(false), json!("false"), json!(null), json!(0)] {
        attacks.push(("b64", header(json!({"b64": b64})), JwtError::Critical));
    }
    for cty in [
        json!("JWT"),
        json!("jwt"),
        json!("application/jwt"),
        json!(1),
    ] {
        attacks.push(("nested", header(json!({"cty": cty})), JwtError::Nested));
    }
    for typ in [
        json!("JWE"),
        json!("secevent+jwt"),
        json!("dpop+jwt"),
        json!("JWT "),
        json!(""),
        json!(null),
        json!(["JWT"]),
    ] {
        attacks.push(("typ", header(json!({"typ": typ})), JwtError::Type));
    }
    let kid = |kid: Value| {
        let header = json!({"alg": "RS256", "kid": kid});
        signed(&header, &claims(SET), &private("rsa"), Algorithm::RS256)
    };
    for name in [
        "../../../../dev/null",
        "/proc/sys/kernel/randomize_va_space",
        "' OR '1'='1",
        "x' UNION SELECT 'secret",
        "https://evil.example/jwks",
        "known\0",
        "KNOWN",
        " known",
        "known ",
        "*",
        "|whoami",
        "",
        "0",
    ] {
        attacks.push(("kid", kid(json!(name)), JwtError::UnknownKey));
    }
    attacks.push((
        "kid of 4 KB",
        kid(json!("k".repeat(4096))),
        JwtError::UnknownKey,
    ));
    for value in [json!(null), json!(1), json!(["known"]), json!({"known": 1})] {
        attacks.push(("kid that is no text", kid(value), JwtError::Malformed));
    }
    attacks
}
