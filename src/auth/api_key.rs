//! API keys: `pk-` and 32 random bytes in base64url, kept only as a hash.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::Secret;

/// What every key begins with.
pub const PREFIX: &str = "pk-";
const RANDOM_BYTES: usize = 32;

/// A new key.
///
/// # Errors
/// The system has no randomness.
pub fn generate() -> Result<Secret, getrandom::Error> {
    let mut bytes = [0_u8; RANDOM_BYTES];
    getrandom::fill(&mut bytes)?;
    let text = base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes);
    Ok(Secret::from(format!("{PREFIX}{text}").as_str()))
}

/// How a key is hashed before it is kept or looked up.
#[derive(Debug, Clone, Default)]
pub struct Hasher {
    pepper: Secret,
}

/// A hashed key; comparing two takes the same time whatever they are.
#[derive(Debug, Clone, Copy)]
pub struct KeyHash {
    peppered: bool,
    digest: [u8; 32],
}

impl Hasher {
    /// SHA-256, or HMAC-SHA-256 with a pepper that is not empty. A key has 256 random bits, so that
    /// neither needs to be slow.
    pub fn new(pepper: Secret) -> Self {
        Self { pepper }
    }

    /// The hash of a key.
    pub fn hash(&self, key: &str) -> KeyHash {
        let peppered = !self.pepper.is_empty();
        let digest = if peppered {
            match Hmac::<Sha256>::new_from_slice(self.pepper.expose().as_bytes()) {
                Ok(mac) => mac
                    .chain_update(key.as_bytes())
                    .finalize()
                    .into_bytes()
                    .into(),
                Err(_) => unreachable!("HMAC takes a secret of any length"),
            }
        } else {
            Sha256::digest(key.as_bytes()).into()
        };
        KeyHash { peppered, digest }
    }

    /// Whether keys hashed like `hash` can be recognised.
    pub fn knows(&self, hash: &KeyHash) -> bool {
        hash.peppered != self.pepper.is_empty()
    }
}

impl KeyHash {
    /// The first bytes of the hash, to look it up by. They say nothing of the key: to choose them
    /// one would have to choose SHA-256's output.
    pub fn bucket(&self) -> u64 {
        u64::from_le_bytes(self.digest[..8].try_into().unwrap_or_default())
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.peppered == other.peppered && bool::from(self.digest.ct_eq(&other.digest))
    }
}

impl std::fmt::Display for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.peppered {
            "hmac-sha256:"
        } else {
            "sha256:"
        })?;
        self.digest
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for KeyHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (peppered, hex) = match text.split_once(':') {
            Some(("sha256", hex)) => (false, hex),
            Some(("hmac-sha256", hex)) => (true, hex),
            _ => return Err("must begin with sha256: or hmac-sha256:".into()),
        };
        let mut digest = [0; 32];
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("must have 64 hexadecimal digits".into());
        }
        for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).map_err(|e| e.to_string())?;
        }
        Ok(Self { peppered, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_256_random_bits() {
        let (a, b) = (generate().unwrap(), generate().unwrap());
        assert_ne!(a, b);
        let random = a.expose().strip_prefix(PREFIX).unwrap();
        let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(random).unwrap();
        assert_eq!(bytes.len(), RANDOM_BYTES);
        assert_eq!(format!("{a:?}"), "\"***\"");
    }

    #[test]
    fn hashes_are_the_standard_ones_and_survive_their_text() {
        // Test vectors of FIPS 180-2 and RFC 4231.
        let plain = Hasher::default().hash("abc");
        assert_eq!(
            plain.to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let peppered = Hasher::new("Jefe".into()).hash("what do ya want for nothing?");
        assert_eq!(
            peppered.to_string(),
            "hmac-sha256:5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        for hash in [plain, peppered] {
            assert!(hash.to_string().parse::<KeyHash>().unwrap() == hash);
        }
        assert!(plain != peppered);
        for bad in [
            "",
            "abc",
            "md5:00",
            "sha256:00",
            "sha256:zz",
            &format!("sha256:{}", "é".repeat(32)),
        ] {
            assert!(bad.parse::<KeyHash>().is_err(), "{bad}");
        }
    }
}
