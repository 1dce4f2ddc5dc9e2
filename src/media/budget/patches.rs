//! Qwen's rule.
//!
//! It is `smart_resize` of transformers' Qwen2-VL image processor, followed to the letter (Python
//! rounds halves to even). What comes out is also left alone by the engine's own resize, which
//! panics on sizes it dislikes: sides of at least one factor, an aspect ratio of at most 200, an
//! area within the model's limits.

/// Longest side over shortest side that the engine accepts.
const ENGINE_MAX_ASPECT: u64 = 200;

/// A token for each square of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patches {
    /// Side of the square of pixels that becomes one token: patch size times merge size.
    pub factor: u32,
    /// Fewest pixels the model takes.
    pub min_pixels: u64,
    /// Most pixels the model takes.
    pub max_pixels: u64,
    /// Most images in one request that the engine gets right; `None` where it has no such limit.
    pub max_images: Option<usize>,
}

impl Patches {
    /// Width and height to resize an image to, with at most `budget` pixels where the model's own
    /// limits allow that.
    pub(super) fn target(&self, width: u32, height: u32, budget: u64) -> (u32, u32) {
        let max_pixels = budget.min(self.max_pixels).max(self.min_pixels);
        let factor = f64::from(self.factor);
        let (w, h) = (f64::from(width), f64::from(height));
        let mut cap = max_pixels;
        let mut target_w = (w / factor).round_ties_even() * factor;
        let mut target_h = (h / factor).round_ties_even() * factor;
        if target_w * target_h > max_pixels as f64 {
            let beta = (w * h / max_pixels as f64).sqrt();
            target_w = ((w / beta / factor).floor() * factor).max(factor);
            target_h = ((h / beta / factor).floor() * factor).max(factor);
        }
        // Also where a budget close to the model's minimum was rounded down below it: the engine
        // would enlarge such an image, so the minimum wins over the budget.
        if target_w * target_h < self.min_pixels as f64 {
            let beta = (self.min_pixels as f64 / (w * h)).sqrt();
            target_w = (w * beta / factor).ceil() * factor;
            target_h = (h * beta / factor).ceil() * factor;
            cap = self.max_pixels;
        }
        let (target_w, target_h) = (target_w as u64, target_h as u64);
        if target_w >= target_h {
            self.tame(target_w, target_h, cap)
        } else {
            let (long, short) = self.tame(target_h, target_w, cap);
            (short, long)
        }
    }

    /// Shortens the long side where the rule, on strips, leaves the limits of the engine.
    fn tame(&self, long: u64, short: u64, max_pixels: u64) -> (u32, u32) {
        let factor = u64::from(self.factor);
        let short = short.max(factor);
        let by_area = max_pixels.max(self.min_pixels) / short / factor * factor;
        let long = long
            .min(short * ENGINE_MAX_ASPECT)
            .min(by_area.max(short))
            .max(short);
        (
            u32::try_from(long).unwrap_or(u32::MAX),
            u32::try_from(short).unwrap_or(u32::MAX),
        )
    }

    /// Tokens of an image of this size, as [`Self::target`] gives it.
    pub(super) fn tokens(&self, (width, height): (u32, u32)) -> usize {
        (width / self.factor) as usize * (height / self.factor) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMO: Patches = Patches {
        factor: 32,
        min_pixels: 16_384,
        max_pixels: 65_536,
        max_images: None,
    };
    const QWEN3_VL: Patches = Patches {
        factor: 32,
        min_pixels: 65_536,
        max_pixels: 16_777_216,
        max_images: None,
    };
    const QWEN2_5_VL: Patches = Patches {
        factor: 28,
        min_pixels: 3_136,
        max_pixels: 12_845_056,
        max_images: None,
    };

    /// The engine's rule (mistral.rs 0.8.1, `Qwen3VLImageProcessor::smart_resize`), with `None`
    /// where it panics.
    fn engine(g: &Patches, w: u32, h: u32) -> Option<(u32, u32)> {
        let (w, h, f) = (w as usize, h as usize, g.factor as usize);
        if h < f || w < f || w.max(h) as f64 / w.min(h) as f64 > 200.0 {
            return None;
        }
        let mut hb = (h as f64 / f as f64).round() as usize * f;
        let mut wb = (w as f64 / f as f64).round() as usize * f;
        if (hb * wb) as u64 > g.max_pixels {
            let beta = ((h * w) as f64 / g.max_pixels as f64).sqrt();
            hb = (h as f64 / beta / f as f64).floor() as usize * f;
            wb = (w as f64 / beta / f as f64).floor() as usize * f;
        } else if ((hb * wb) as u64) < g.min_pixels {
            let beta = (g.min_pixels as f64 / (h * w) as f64).sqrt();
            hb = (h as f64 * beta / f as f64).ceil() as usize * f;
            wb = (w as f64 * beta / f as f64).ceil() as usize * f;
        }
        Some((wb as u32, hb as u32))
    }

    #[test]
    fn the_engine_leaves_every_target_alone() {
        let mut seed = 1_u64;
        let mut next = |max: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            1 + (seed >> 33) % max
        };
        for geometry in [DEMO, QWEN3_VL, QWEN2_5_VL] {
            for round in 0..60_000 {
                let w = next([50, 700, 20_000][round % 3]) as u32;
                // Strips too: the ratio is limited to 200 before this rule is asked.
                let h = next(u64::from(w) * 3).clamp(u64::from(w.div_ceil(200)), u64::from(w) * 200)
                    as u32;
                let budget = [1, 262_144, 1 << 20, 1 << 24][round % 4];
                let (tw, th) = geometry.target(w, h, budget);
                assert_eq!(
                    engine(&geometry, tw, th),
                    Some((tw, th)),
                    "{w}x{h} -> {tw}x{th}, {geometry:?}"
                );
            }
        }
    }

    /// What transformers' `smart_resize` gives.
    #[test]
    fn sizes_and_tokens_are_those_of_the_reference() {
        for (size, expected, tokens) in [
            ((224, 168), (224, 168), 48),
            ((200, 150), (196, 140), 35),
            ((700, 90), (700, 84), 75),
            ((4032, 3024), (4032, 3024), 15_552),
            ((10, 10), (56, 56), 4),
        ] {
            assert_eq!(QWEN2_5_VL.target(size.0, size.1, u64::MAX), expected);
            assert_eq!(QWEN2_5_VL.tokens(expected), tokens);
        }
    }

    #[test]
    fn halves_go_to_even_as_in_python() {
        // round(80 / 32) = round(2.5) = 2; round(144 / 32) = round(4.5) = 4; round(208/32) = 6
        assert_eq!(QWEN2_5_VL.target(70, 70, 1 << 24), (56, 56));
        let wide = Patches {
            min_pixels: 0,
            ..QWEN3_VL
        };
        assert_eq!(wide.target(144, 208, 1 << 24), (128, 192));
        assert_eq!(wide.target(80, 112, 1 << 24), (64, 128));
    }

    #[test]
    fn detail_budgets_cap_the_area() {
        for (budget, most) in [(262_144, 256), (1 << 20, 1024), (1 << 24, 16_384)] {
            let tokens = QWEN3_VL.tokens(QWEN3_VL.target(4032, 3024, budget));
            assert!(
                tokens <= most && tokens * 10 >= most * 7,
                "{budget}: {tokens}"
            );
        }
    }

    #[test]
    fn one_pixel_and_strips_become_something_the_model_takes() {
        assert_eq!(DEMO.target(1, 1, 1 << 20), (128, 128));
        assert_eq!(DEMO.target(1, 150, 1 << 20).0, 32);
        let (w, h) = QWEN3_VL.target(47, 47 * 199, 1 << 24);
        assert!(h <= w * 200, "{w}x{h}");
    }
}
