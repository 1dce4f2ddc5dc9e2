//! The keys file: TOML, one `[[key]]` table for each key.
//!
//! ```toml
//! [[key]]
//! name = "partner"
//! hash = "sha256:9f86d0..."
//! created = "2026-11-24T12:00:00Z"
//! expires = "2027-11-24T12:00:00Z"   # absent: never
//! models = ["qwen3-vl-8b"]           # these and what follows: see `caller::Rights`
//! limits = { requests_per_minute = 60 }
//! ```
//!
//! Two tables may have one name: while a key is being rotated, the old and the new one are one
//! caller.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::api_key::{Hasher, KeyHash};
use crate::caller::{Caller, Rights};

/// The file's content.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysFile {
    /// The keys.
    #[serde(default)]
    pub key: Vec<KeyEntry>,
}

/// One key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyEntry {
    /// Its name, for people, logs and metrics.
    pub name: String,
    /// What remains of the key itself.
    pub hash: String,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// When it ends; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Whether it was revoked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// What it may do.
    #[serde(flatten)]
    pub rights: RightsTable,
}

/// [`Rights`] beside other fields. serde cannot refuse unknown fields of a flattened struct, so
/// they are taken as a table first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RightsTable(pub toml::Table);

/// A name that is safe in logs, metrics and paths.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@'))
}

/// A key that may be recognised.
#[derive(Debug)]
pub struct Key {
    /// What it is recognised by.
    pub hash: KeyHash,
    /// When it ends.
    pub expires: Option<SystemTime>,
    /// Who uses it.
    pub caller: Arc<Caller>,
}

impl Key {
    /// Whether it can be used now.
    pub fn is_alive(&self) -> bool {
        self.expires.is_none_or(|end| SystemTime::now() < end)
    }
}

/// All keys that are not revoked.
#[derive(Debug, Default)]
pub struct KeySet {
    by_bucket: HashMap<u64, Vec<Arc<Key>>>,
    by_name: HashMap<String, Vec<Arc<Key>>>,
}

impl KeySet {
    /// Reads the text of a keys file.
    ///
    /// # Errors
    /// Every problem, a line each. One is enough: a file that is half right is not used by halves.
    pub fn parse(text: &str, hasher: &Hasher) -> Result<Self, Vec<String>> {
        let file: KeysFile =
            toml::from_str(text).map_err(|e| vec![e.to_string().trim_end().to_string()])?;
        let mut set = Self::default();
        let mut problems = Vec::new();
        let mut hashes = HashSet::new();
        for entry in file.key {
            let name = entry.name.clone();
            if !hashes.insert(entry.hash.clone()) {
                problems.push(format!("{name}: the same hash stands there twice"));
            }
            match entry.read(hasher) {
                Ok(Some(key)) => set.insert(key),
                Ok(None) => {}
                Err(problem) => problems.push(format!("{name}: {problem}")),
            }
        }
        if problems.is_empty() {
            Ok(set)
        } else {
            Err(problems)
        }
    }

    /// Adds a key.
    pub fn insert(&mut self, key: Key) {
        let key = Arc::new(key);
        let name = key.caller.label.clone();
        self.by_bucket
            .entry(key.hash.bucket())
            .or_default()
            .push(key.clone());
        self.by_name.entry(name).or_default().push(key);
    }

    /// The key with this hash, expired or not.
    pub fn find(&self, hash: &KeyHash) -> Option<&Arc<Key>> {
        let bucket = self.by_bucket.get(&hash.bucket())?;
        bucket.iter().find(|key| key.hash == *hash)
    }

    /// The keys of a name.
    pub fn named(&self, name: &str) -> &[Arc<Key>] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

impl KeyEntry {
    /// `None` for one that is revoked.
    fn read(self, hasher: &Hasher) -> Result<Option<Key>, String> {
        if !is_name(&self.name) {
            return Err("a name has 1 to 64 letters, digits, and -_.@".into());
        }
        let hash: KeyHash = self.hash.parse().map_err(|e| format!("hash {e}"))?;
        let rights = self.rights.read()?;
        if self.disabled {
            return Ok(None);
        }
        if !hasher.knows(&hash) {
            return Err(
                "it was hashed with auth.key_pepper set otherwise than now (hmac-sha256 with one, sha256 without)"
                    .into(),
            );
        }
        let caller = Caller {
            id: format!("key:{}", self.name),
            key: Some(self.name.clone()),
            label: self.name,
            rights,
            ..Caller::anonymous()
        };
        Ok(Some(Key {
            hash,
            expires: self.expires.map(SystemTime::from),
            caller: Arc::new(caller),
        }))
    }
}

impl RightsTable {
    fn read(&self) -> Result<Rights, String> {
        let rights: Rights = self
            .0
            .clone()
            .try_into()
            .map_err(|e: toml::de::Error| e.to_string().trim_end().replace('\n', " "))?;
        Ok(rights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Role;

    fn hash(key: &str) -> String {
        Hasher::default().hash(key).to_string()
    }

    fn find(set: &KeySet, key: &str) -> Option<Arc<Key>> {
        set.find(&Hasher::default().hash(key)).cloned()
    }

    #[test]
    fn every_field_is_read() {
        let text = format!(
            r#"[[key]]
name = "partner"
hash = "{}"
created = "2026-01-01T00:00:00Z"
expires = "2999-01-01T00:00:00Z"
models = ["a", "b"]
origins = ["https://app.example.com"]
networks = ["10.0.0.0/8", "2001:db8::/32"]
roles = ["mint_tokens", "priority"]
max_image_pixels = 1000
max_images = 2
limits = {{ requests_per_minute = 60, tokens_per_month = 1000000 }}
model_limits = {{ a = {{ tokens_per_minute = 5 }} }}
[[key]]
name = "gone"
hash = "{}"
disabled = true
"#,
            hash("one"),
            hash("two")
        );
        let set = KeySet::parse(&text, &Hasher::default()).unwrap();
        let key = find(&set, "one").unwrap();
        assert!(key.is_alive());
        let rights = &key.caller.rights;
        assert_eq!(key.caller.id, "key:partner");
        assert!(key.caller.may_use("a") && !key.caller.may_use("c"));
        assert!(key.caller.has(Role::Priority) && key.caller.has(Role::MintTokens));
        assert_eq!(rights.networks.len(), 2);
        assert_eq!(
            (rights.max_image_pixels, rights.max_images),
            (Some(1000), Some(2))
        );
        assert_eq!(rights.limits.requests_per_minute, Some(60));
        assert_eq!(rights.model_limits["a"].tokens_per_minute, Some(5));
        assert!(find(&set, "two").is_none());
        assert!(find(&set, "three").is_none());
    }

    #[test]
    fn a_file_with_a_problem_is_not_used_at_all() {
        let good = format!("[[key]]\nname = 'a'\nhash = '{}'\n", hash("a"));
        for (bad, word) in [
            ("[[key]]\nname = 'b'\n".to_string(), "hash"),
            (
                "[[key]]\nname = 'b'\nhash = 'md5:1'\n".to_string(),
                "sha256",
            ),
            (
                format!("[[key]]\nname = 'b c'\nhash = '{}'\n", hash("b")),
                "letters",
            ),
            (
                format!("[[key]]\nname = 'b'\nhash = '{}'\n", hash("a")),
                "twice",
            ),
            (
                format!("[[key]]\nname = 'b'\nhash = '{}'\nlimit = 1\n", hash("b")),
                "limit",
            ),
            (
                format!(
                    "[[key]]\nname = 'b'\nhash = '{}'\nroles = ['root']\n",
                    hash("b")
                ),
                "root",
            ),
            (
                format!(
                    "[[key]]\nname = 'b'\nhash = '{}'\nexpires = 'soon'\n",
                    hash("b")
                ),
                "expires",
            ),
            (
                format!(
                    "[[key]]\nname = 'b'\nhash = '{}'\nlimits = {{ rpm = 1 }}\n",
                    hash("b")
                ),
                "rpm",
            ),
            (
                format!(
                    "[[key]]\nname = 'b'\nhash = '{}'\nnetworks = ['10.0.0.0/99']\n",
                    hash("b")
                ),
                "network",
            ),
            (
                format!(
                    "[[key]]\nname = 'b'\nhash = '{}'\n",
                    Hasher::new("p".into()).hash("b")
                ),
                "pepper",
            ),
            ("[[kye]]\n".to_string(), "kye"),
            ("[[key]\n".to_string(), "TOML"),
        ] {
            let problems = KeySet::parse(&format!("{good}{bad}"), &Hasher::default()).unwrap_err();
            let all = problems.join("\n");
            assert!(all.contains(word), "{word} is missing from: {all}");
        }
        assert!(KeySet::parse("", &Hasher::default()).unwrap().is_empty());
    }

    #[test]
    fn an_expired_key_is_found_dead() {
        let text = format!(
            "[[key]]\nname = 'a'\nhash = '{}'\nexpires = '2020-01-01T00:00:00Z'\n",
            hash("a")
        );
        let set = KeySet::parse(&text, &Hasher::default()).unwrap();
        assert!(!find(&set, "a").unwrap().is_alive());
    }
}
