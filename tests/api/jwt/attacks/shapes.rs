//! Tokens of strange shapes, and signatures that are none.

use super::*;

pub fn structures() -> Vec<Attack> {
    let token = good();
    let [head, body, signature] = parts(&token);
    let key = private("rsa");
    let rsa = |header: &str, payload: &str| signed_text(header, payload, &key, Algorithm::RS256);
    let plain = r#"{"alg":"RS256"}"#;
    let text = claims(RSA).to_string();
    let mut longer = token.clone();
    longer.extend(std::iter::repeat_n('A', MAX_TOKEN_BYTES + 1 - token.len()));
    let mut not_utf8 = claims(RSA).to_string().into_bytes();
    not_utf8[10] = 0xff;
    let signed_bytes = format!("{}.{}", encode(plain), encode(not_utf8));
    let not_utf8 =
        jsonwebtoken::crypto::sign(signed_bytes.as_bytes(), &key, Algorithm::RS256).unwrap();
    let last = if signature.ends_with('A') {
        'B'
    } else {
        char::from(signature.as_bytes()[signature.len() - 1] + 1)
    };
    let stray = format!("{head}.{body}.{}{last}", &signature[..signature.len() - 1]);
    let mut attacks = vec![
        (
            "five parts",
            format!("{head}.{body}.{signature}.{body}.{signature}"),
            JwtError::Encrypted,
        ),
        ("four empty separators", "....".into(), JwtError::Encrypted),
        (
            "64 KB",
            format!("{token}{}", "A".repeat(65536)),
            JwtError::TooLong,
        ),
        ("a byte too many", longer, JwtError::TooLong),
        (
            "not UTF-8",
            format!("{signed_bytes}.{not_utf8}"),
            JwtError::Malformed,
        ),
        ("stray bits in the signature", stray, JwtError::Malformed),
        (
            "JSON serialization",
            json!({"payload": body, "protected": head, "signature": signature}).to_string(),
            JwtError::Malformed,
        ),
        (
            "alg twice",
            rsa(r#"{"alg":"none","alg":"RS256"}"#, &text),
            JwtError::Malformed,
        ),
        (
            "kid twice",
            rsa(r#"{"alg":"RS256","kid":"a","kid":"b"}"#, &text),
            JwtError::Malformed,
        ),
        (
            "a name twice, once escaped",
            rsa(r#"{"alg":"RS256","\u0061lg":"RS256"}"#, &text),
            JwtError::Malformed,
        ),
        (
            "a header that is an array",
            rsa(r#"["RS256"]"#, &text),
            JwtError::Malformed,
        ),
        (
            "a header that is a text",
            rsa(r#""RS256""#, &text),
            JwtError::Malformed,
        ),
        (
            "a header with a tail",
            rsa(r#"{"alg":"RS256"}{}"#, &text),
            JwtError::Malformed,
        ),
        (
            "a header with a comma too many",
            rsa(r#"{"alg":"RS256",}"#, &text),
            JwtError::Malformed,
        ),
        ("an empty header", rsa("{}", &text), JwtError::Algorithm),
        (
            "exp twice",
            rsa(plain, &text.replacen('{', r#"{"exp":1,"#, 1)),
            JwtError::Malformed,
        ),
        (
            "a name twice further in",
            rsa(
                plain,
                &text.replacen('{', r#"{"porthole":{"models":[],"models":["a"]},"#, 1),
            ),
            JwtError::Malformed,
        ),
        (
            "a payload that is an array",
            rsa(plain, "[]"),
            JwtError::Malformed,
        ),
        (
            "a payload that is null",
            rsa(plain, "null"),
            JwtError::Malformed,
        ),
        ("an empty payload", rsa(plain, ""), JwtError::Malformed),
        (
            "a payload with a tail",
            rsa(plain, &format!("{text} x")),
            JwtError::Malformed,
        ),
        (
            "a byte order mark",
            rsa(plain, &format!("\u{feff}{text}")),
            JwtError::Malformed,
        ),
        (
            "a lone surrogate",
            rsa(plain, &text.replace("ada", r"\ud800")),
            JwtError::Malformed,
        ),
        (
            "deep nesting",
            rsa(
                plain,
                &text.replacen(
                    '{',
                    &format!(r#"{{"a":{}{},"#, "[".repeat(200), "]".repeat(200)),
                    1,
                ),
            ),
            JwtError::Malformed,
        ),
        (
            "a token inside a token",
            rsa(plain, &format!("\"{token}\"")),
            JwtError::Malformed,
        ),
    ];
    for text in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        format!("{head}.{body}"),
        head.clone(),
        format!("{token}."),
        format!(".{token}"),
        format!("{head}..{signature}"),
        format!(".{body}.{signature}"),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("{head}. {body}.{signature}"),
        format!("{head}\r\n.{body}.{signature}"),
        format!("{head}=.{body}.{signature}"),
        format!("{head}.{body}=.{signature}"),
        format!("{token}=="),
        format!("{head}.{body}.{signature}+/"),
        format!("Bearer {token}"),
        format!("{token}\0"),
        format!("{head}.{body}.é"),
        format!("\"{token}\""),
        format!("{head}%2E{body}%2E{signature}"),
    ] {
        attacks.push(("a shape that is none", text, JwtError::Malformed));
    }
    attacks
}

pub fn signatures() -> Vec<Attack> {
    let [head, body, signature] = parts(&good());
    let other = parts(&header(json!({"kid": "x"})))[2].clone();
    let elsewhere = encode(merged(claims(RSA), json!({"sub": "admin"})).to_string());
    let [ec_head, ec_body, ec_signature] =
        parts(&with_kid("p256", Algorithm::ES256, "k", &claims(EC)));
    let raw = base64_simd::URL_SAFE_NO_PAD
        .decode_to_vec(&ec_signature)
        .unwrap();
    let integer = |bytes: &[u8]| [&[2, 33, 0], bytes].concat();
    let der = [vec![0x30, 70], integer(&raw[..32]), integer(&raw[32..])].concat();
    let ec = |bytes: &[u8]| format!("{ec_head}.{ec_body}.{}", encode(bytes));
    let by_other = |issuer: &str| {
        signed(
            &json!({"alg": "RS256"}),
            &claims(issuer),
            &private("rsa_other"),
            Algorithm::RS256,
        )
    };
    let cases = [
        ("no signature", format!("{head}.{body}.")),
        (
            "half a signature",
            format!(
                "{head}.{body}.{}",
                &signature[..signature.len() / 2 / 4 * 4]
            ),
        ),
        (
            "a signature of zeros",
            format!("{head}.{body}.{}", encode([0; 256])),
        ),
        (
            "the signature of another token",
            format!("{head}.{body}.{other}"),
        ),
        ("another payload", format!("{head}.{elsewhere}.{signature}")),
        ("another key", by_other(RSA)),
        (
            "an issuer's key under another issuer's name",
            signed(
                &json!({"alg": "RS256"}),
                &claims(RSA_OTHER),
                &private("rsa"),
                Algorithm::RS256,
            ),
        ),
        ("r and s of zero (CVE-2022-21449)", ec(&[0; 64])),
        ("an ECDSA signature in DER", ec(&der)),
        (
            "an ECDSA signature that is too long",
            ec(&[raw.as_slice(), &[0]].concat()),
        ),
        ("an empty ECDSA signature", ec(&[])),
        (
            "this server's name with an issuer's secret",
            hs256(&merged(claims("porthole"), json!({"aud": "porthole"}))),
        ),
    ];
    cases
        .into_iter()
        .map(|(name, token)| (name, token, JwtError::Signature))
        .collect()
}
