//! The vectors of C2SP/wycheproof for JSON Web Signature and Key.

use std::path::PathBuf;

use base64_simd::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use porthole::auth::jwt::{KeySet, check_signature};
use serde_json::{Map, Value, json};

/// Valid by the vectors, refused here.
const REFUSED: [(&str, &[u64], &str); 4] = [
    (
        "signature",
        &[346, 350],
        "the key says PS256 and the token PS384: the key decides",
    ),
    ("signature", &[347, 351], "P-521 is not supported"),
    (
        "signature",
        &[372, 373],
        "a character outside of base64url (RFC 7515 2) is not skipped",
    ),
    (
        "key",
        &[2],
        "a set holds public keys alone: its secrets are left out",
    ),
];

/// Invalid by the vectors, accepted here.
const ACCEPTED: [(&str, &[u64], &str); 1] = [(
    "signature",
    &[367, 370],
    "letter for letter the token of the valid vector 357",
)];

fn vectors(name: &str) -> Option<Value> {
    let folder =
        std::env::var_os("PORTHOLE_CORPORA").map_or("../shared/corpora".into(), PathBuf::from);
    let path = folder.join(format!("jose/json_web_{name}_test.json"));
    let Ok(text) = std::fs::read(&path) else {
        eprintln!(
            "LEFT OUT: the JOSE vectors, for {} is not there; PORTHOLE_CORPORA names the folder",
            path.display()
        );
        return None;
    };
    Some(serde_json::from_slice(&text).unwrap())
}

/// A configured secret, or a set of the public halves.
fn keys_of(group: &Value) -> Option<KeySet> {
    let key = group.get("public").unwrap_or(&group["private"]);
    let keys: Vec<Value> = match key.get("keys") {
        Some(keys) => keys.as_array().unwrap().clone(),
        None => vec![key.clone()],
    };
    if let [only] = keys.as_slice()
        && only["kty"] == "oct"
    {
        let secret = URL_SAFE_NO_PAD
            .decode_to_vec(only["k"].as_str().unwrap())
            .unwrap();
        let algorithm: Algorithm = only["alg"].as_str().unwrap().parse().ok()?;
        return KeySet::secret(&secret, &[algorithm]).ok();
    }
    let public: Vec<Map<String, Value>> = keys
        .iter()
        .map(|key| {
            let mut key = key.as_object().unwrap().clone();
            key.retain(|name, _| !["d", "p", "q", "dp", "dq", "qi"].contains(&name.as_str()));
            key
        })
        .collect();
    let set = json!({"keys": public}).to_string();
    Some(KeySet::jwks(set.as_bytes(), &[]).unwrap().0)
}

fn run(name: &str, expected: usize) {
    let Some(vectors) = vectors(name) else {
        return;
    };
    let listed = |list: &[(&str, &[u64], &str)], id: u64| {
        list.iter()
            .any(|(file, ids, _)| *file == name && ids.contains(&id))
    };
    let (mut count, mut valid) = (0, 0);
    let mut wrong = Vec::new();
    for group in vectors["testGroups"].as_array().unwrap() {
        let keys = keys_of(group);
        for test in group["tests"].as_array().unwrap() {
            let id = test["tcId"].as_u64().unwrap();
            let token = match &test["jws"] {
                Value::String(token) => token.clone(),
                other => other.to_string(),
            };
            let accepted = keys
                .as_ref()
                .is_some_and(|keys| check_signature(&token, keys).is_ok());
            let should = match test["result"].as_str().unwrap() {
                "valid" => !listed(&REFUSED, id),
                "invalid" => listed(&ACCEPTED, id),
                other => panic!("{other}"),
            };
            if accepted != should {
                wrong.push(format!("{id} {}: accepted {accepted}", test["comment"]));
            }
            count += 1;
            valid += usize::from(accepted);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(count, expected, "vectors in the file");
    eprintln!("{name}: {count} vectors, {valid} accepted");
}

#[test]
fn the_vectors_for_json_web_signature_are_judged_as_they_say() {
    run("signature", 401);
}

#[test]
fn the_vectors_for_json_web_key_are_judged_as_they_say() {
    run("key", 26);
}
