//! Who asks, and what they may: the one shape that an API key and a token both become.

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Whoever sent a request, as its credential says.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    /// What limits are counted under: `key:NAME`, or `jwt:ISSUER#SUBJECT`. Two credentials with
    /// the same id share their limits.
    pub id: String,
    /// Name for logs and metric labels; bounded by the configuration: a key's name, or an issuer's.
    pub label: String,
    /// The key behind a minted token, or the key itself: when it is revoked, so is the caller.
    pub key: Option<String>,
    /// The key that minted the token; its share is charged too.
    pub parent: Option<Arc<Caller>>,
    /// What the caller may do.
    pub rights: Rights,
}

/// What a caller may do. The same fields stand in the keys file and in a token's claims; an absent
/// one restricts nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rights {
    /// Names of the models that may be asked; absent for all, empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// Origins (`https://app.example.com`) that a browser may send the credential from. With any
    /// listed, a request that names another origin, or none, is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// Networks in CIDR notation that the credential may be used from; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// What else the caller may do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<Role>,
    /// Pixels that the model sees of one image, whatever its `detail` asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_image_pixels: Option<u64>,
    /// Images in one request; 0 for text alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_images: Option<usize>,
    /// The caller's share over all models.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// The caller's share of single models, by the model's name; counted beside `limits`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub model_limits: BTreeMap<String, Limits>,
}

/// What a caller may do beyond asking models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Mint short-lived tokens for frontends at `/v1/tokens`.
    MintTokens,
    /// Go before others with `service_tier: "priority"`.
    Priority,
}

/// A share. An absent field falls back to the configuration's, and where that is absent too, is not
/// limited; 0 lifts the configuration's limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests a minute, refused ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens a minute, of prompts and answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Requests inside at once, streams included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent_requests: Option<u64>,
    /// Pixels a minute that the model sees, after resizing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pixels_per_minute: Option<u64>,
    /// Tokens a day (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Tokens a calendar month (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_month: Option<u64>,
    /// Tokens in the life of the credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_total: Option<u64>,
}

impl Limits {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These limits, and the configuration's where they say nothing; no field is 0 any more.
    #[must_use]
    pub fn or(&self, default: &Self) -> Self {
        let pick = |own: Option<u64>, default: Option<u64>| own.or(default).filter(|n| *n > 0);
        Self {
            requests_per_minute: pick(self.requests_per_minute, default.requests_per_minute),
            tokens_per_minute: pick(self.tokens_per_minute, default.tokens_per_minute),
            concurrent_requests: pick(self.concurrent_requests, default.concurrent_requests),
            image_pixels_per_minute: pick(
                self.image_pixels_per_minute,
                default.image_pixels_per_minute,
            ),
            tokens_per_day: pick(self.tokens_per_day, default.tokens_per_day),
            tokens_per_month: pick(self.tokens_per_month, default.tokens_per_month),
            tokens_total: pick(self.tokens_total, default.tokens_total),
        }
    }
}

impl Caller {
    /// The caller where `auth.enabled = false`: everybody is one, and may do everything.
    pub fn anonymous() -> Self {
        Self {
            id: "anonymous".into(),
            label: "anonymous".into(),
            key: None,
            parent: None,
            rights: Rights::default(),
        }
    }

    /// Whose share it is in the end: that of the key that minted the token, or the caller's own. A
    /// key must not become many callers by minting many tokens.
    pub fn root(&self) -> &str {
        self.parent.as_ref().map_or(&self.id, |key| &key.id)
    }

    /// The caller, and the key that minted its token, if one did: both bind it.
    pub fn and_parent(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.parent.as_deref())
    }

    /// Whether the caller may ask a model.
    pub fn may_use(&self, model: &str) -> bool {
        self.and_parent().all(|caller| {
            let models = caller.rights.models.as_ref();
            models.is_none_or(|models| models.iter().any(|name| name == model))
        })
    }

    /// The lower of a right that is a number.
    pub fn min_right<T: Ord>(&self, right: impl Fn(&Rights) -> Option<T>) -> Option<T> {
        self.and_parent()
            .filter_map(|caller| right(&caller.rights))
            .min()
    }

    /// Whether the caller has a role.
    pub fn has(&self, role: Role) -> bool {
        self.rights.roles.contains(&role)
    }
}
