//! How many images requests have, and of what size.

use std::str::FromStr;

use rand::Rng;

/// Shares of requests by their number of images: `0:0.5,1:0.4,2:0.1`.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageMix(Vec<(usize, f64)>);

/// Images that one request may be asked to have. More makes bodies that no server takes.
const MOST_IMAGES: usize = 64;

impl ImageMix {
    /// Number of images and share of the requests, which sum up to one.
    pub fn shares(&self) -> &[(usize, f64)] {
        &self.0
    }

    /// Whether some request has an image.
    pub fn has_images(&self) -> bool {
        self.0.iter().any(|(count, _)| *count > 0)
    }

    /// The number of images of the next request.
    pub fn draw(&self, random: &mut impl Rng) -> usize {
        let mut at: f64 = random.random();
        for (count, share) in &self.0 {
            if at < *share {
                return *count;
            }
            at -= share;
        }
        // Shares may sum up to a little less than one.
        self.0.last().map_or(0, |(count, _)| *count)
    }
}

impl FromStr for ImageMix {
    type Err = String;

    /// Weights need not sum up to one. A number alone is every request's.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix: Vec<(usize, f64)> = Vec::new();
        for entry in text.split(',') {
            let (count, weight) = entry.split_once(':').unwrap_or((entry, "1"));
            let count: usize = count
                .trim()
                .parse()
                .map_err(|_| format!("{count:?} is no number of images"))?;
            let weight: f64 = weight
                .trim()
                .parse()
                .map_err(|_| format!("{weight:?} is no share"))?;
            if count > MOST_IMAGES {
                return Err(format!("at most {MOST_IMAGES} images in one request"));
            }
            if !(weight.is_finite() && weight > 0.0) {
                return Err(format!("the share {weight} is not positive"));
            }
            if mix.iter().any(|(other, _)| *other == count) {
                return Err(format!("{count} images stand there twice"));
            }
            mix.push((count, weight));
        }
        let sum: f64 = mix.iter().map(|(_, weight)| weight).sum();
        if !sum.is_finite() {
            return Err("the shares are too large".into());
        }
        for (_, weight) in &mut mix {
            *weight /= sum;
        }
        Ok(Self(mix))
    }
}

/// Width and height of an image, in pixels: `640x480`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImageSize {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

/// The longest side of an image, pixels.
const LONGEST_SIDE: u32 = 16_384;

impl FromStr for ImageSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| text.trim().parse().ok();
        let sides = text.split_once('x');
        let sides = sides.and_then(|(width, height)| Some((side(width)?, side(height)?)));
        let Some((width, height)) = sides else {
            return Err(format!("{text:?} is no size such as 640x480"));
        };
        if [width, height]
            .iter()
            .any(|side| !(1..=LONGEST_SIDE).contains(side))
        {
            return Err(format!("sides are from 1 to {LONGEST_SIDE} pixels"));
        }
        Ok(Self { width, height })
    }
}

impl std::fmt::Display for ImageSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn weights_become_shares() {
        let mix: ImageMix = "0:5, 1:4,2:1".parse().unwrap();
        assert_eq!(mix.shares(), [(0, 0.5), (1, 0.4), (2, 0.1)]);
        assert!(mix.has_images());
        assert_eq!("3".parse::<ImageMix>().unwrap().shares(), [(3, 1.0)]);
        assert!(!"0".parse::<ImageMix>().unwrap().has_images());
    }

    #[test]
    fn draws_follow_the_shares() {
        let mix: ImageMix = "0:0.5,1:0.4,2:0.1".parse().unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut seen = [0u32; 3];
        for _ in 0..100_000 {
            seen[mix.draw(&mut random)] += 1;
        }
        for (seen, (_, share)) in seen.iter().zip(mix.shares()) {
            assert!((f64::from(*seen) / 1e5 - share).abs() < 0.01, "{seen}");
        }
    }

    #[test]
    fn what_is_no_mix_is_said() {
        for (text, reason) in [
            ("", "no number of images"),
            ("a:1", "no number of images"),
            ("-1:1", "no number of images"),
            ("1:x", "no share"),
            ("1:0", "not positive"),
            ("1:NaN", "not positive"),
            ("1:inf", "not positive"),
            ("1:0.5,1:0.5", "twice"),
            ("65:1", "at most 64"),
            ("0:1e308,1:1e308", "too large"),
        ] {
            let said = text.parse::<ImageMix>().unwrap_err();
            assert!(said.contains(reason), "{text}: {said}");
        }
    }

    #[test]
    fn sizes_are_read_or_refused() {
        let size: ImageSize = "640x480".parse().unwrap();
        assert_eq!((size.width, size.height), (640, 480));
        assert_eq!(size.to_string(), "640x480");
        for text in ["640", "640x", "x", "0x5", "5x0", "20000x5", "-4x4", "4x4x4"] {
            assert!(text.parse::<ImageSize>().is_err(), "{text}");
        }
    }
}
