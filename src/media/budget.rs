//! Which size an image gets, and how many tokens that costs.
//!
//! Each architecture has a rule of its own, read from its files when it is loaded. What comes out
//! of a rule is left alone by the engine's own resize as far as the engine allows: ours is the one
//! that equals the reference, and the engine's panics on sizes it dislikes.

mod patches;
mod tiles;

use std::borrow::Cow;

pub use patches::Patches;
pub use tiles::Tiles;

/// The longest side of an image that Idefics3 takes, whatever its configuration says.
const IDEFICS3_LONGEST: u32 = 4096;

/// How a model cuts images into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageGeometry {
    /// Qwen2-VL, Qwen2.5-VL and Qwen3-VL: near the image's own size, a token for each patch.
    Patches(Patches),
    /// LLaVA 1.5: as large as fits into a square, which the engine fills up.
    Padded {
        /// Side of the square in pixels.
        side: u32,
        /// Tokens of every image.
        tokens: usize,
    },
    /// LLaVA-NeXT: the whole image, and tiles of it, in a grid that suits its shape.
    Tiles(Tiles),
    /// Idefics3 without splitting: enlarged or shrunk, then squeezed into a square by the engine.
    Squeezed {
        /// Longer side in pixels.
        longest: u32,
        /// Tokens of every image, without the three that the engine writes around them.
        tokens: usize,
    },
    /// Gemma 3: stretched into a square.
    Square {
        /// Side of the square in pixels.
        side: u32,
        /// Tokens of every image, without the two that open and close it.
        tokens: usize,
    },
}

impl ImageGeometry {
    /// Patches of `factor` times `factor` pixels, and images of `min_pixels` to `max_pixels`.
    pub const fn patches(factor: u32, min_pixels: u64, max_pixels: u64) -> Self {
        Self::Patches(Patches {
            factor,
            min_pixels,
            max_pixels,
            max_images: None,
        })
    }

    /// Width and height to resize an image to. Where more pixels cost more tokens, it has at most
    /// `budget` of them, as far as the model's own limits allow that.
    pub fn target(&self, width: u32, height: u32, budget: u64) -> (u32, u32) {
        let (width, height) = (width.max(1), height.max(1));
        match self {
            Self::Patches(patches) => patches.target(width, height, budget),
            Self::Padded { side, .. } => fit(width, height, *side),
            Self::Tiles(tiles) => tiles.target(width, height),
            Self::Squeezed { longest, .. } => even(width, height, *longest),
            Self::Square { side, .. } => (*side, *side),
        }
    }

    /// Tokens of an image of this size, as [`Self::target`] gives it, which stand in place of its
    /// one placeholder in [`Self::written`].
    pub fn tokens(&self, size: (u32, u32)) -> usize {
        match self {
            Self::Patches(patches) => patches.tokens(size),
            Self::Padded { tokens, .. } => *tokens,
            Self::Tiles(tiles) => tiles.tokens(size),
            Self::Squeezed { tokens, .. } => tokens + 3,
            Self::Square { tokens, .. } => tokens + 2,
        }
    }

    /// A rendered prompt with the text that the engine writes around each image. It does so by
    /// itself: this is for counting tokens, because that text and its neighbours may become one
    /// token.
    pub fn written<'a>(&self, rendered: &'a str) -> Cow<'a, str> {
        const GEMMA: &str = "<start_of_image>";
        match self {
            Self::Square { .. } if rendered.contains(GEMMA) => {
                Cow::Owned(rendered.replace(GEMMA, &format!("\n\n{GEMMA}\n\n")))
            }
            Self::Square { .. }
            | Self::Patches(_)
            | Self::Padded { .. }
            | Self::Tiles(_)
            | Self::Squeezed { .. } => Cow::Borrowed(rendered),
        }
    }

    /// Most images in one request that the engine gets right; `None` where it has no such limit.
    pub fn max_images(&self) -> Option<usize> {
        match self {
            Self::Patches(patches) => patches.max_images,
            // It panics on a second one.
            Self::Padded { .. } | Self::Tiles(_) => Some(1),
            Self::Squeezed { .. } | Self::Square { .. } => None,
        }
    }

    /// Whether the engine lays an image over a background, so that an alpha channel would show. All
    /// others drop it before they look at pixels.
    pub fn shows_alpha(&self) -> bool {
        match self {
            Self::Padded { .. } | Self::Tiles(_) => true,
            Self::Patches(_) | Self::Squeezed { .. } | Self::Square { .. } => false,
        }
    }
}

/// The largest size of an image's shape that fits into a square.
fn fit(width: u32, height: u32, side: u32) -> (u32, u32) {
    let long = f64::from(width.max(height));
    let scaled = |length: u32| ((f64::from(length) * f64::from(side) / long).round() as u32).max(1);
    (scaled(width), scaled(height))
}

/// Idefics3's own rule: the longer side is given, the shorter one is cut to a whole number and made
/// even.
fn even(width: u32, height: u32, longest: u32) -> (u32, u32) {
    let longest = longest.min(IDEFICS3_LONGEST);
    let aspect = f64::from(width) / f64::from(height);
    let short = |length: f64| (length as u32).next_multiple_of(2).max(2);
    if width >= height {
        (longest, short(f64::from(longest) / aspect))
    } else {
        (short(f64::from(longest) * aspect), longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAVA: ImageGeometry = ImageGeometry::Padded {
        side: 336,
        tokens: 576,
    };
    const IDEFICS3: ImageGeometry = ImageGeometry::Squeezed {
        longest: 1456,
        tokens: 169,
    };
    const GEMMA3: ImageGeometry = ImageGeometry::Square {
        side: 896,
        tokens: 256,
    };

    #[test]
    fn llava_gets_the_image_in_its_shape() {
        assert_eq!(LLAVA.target(336, 336, 1), (336, 336));
        assert_eq!(LLAVA.target(672, 504, 1), (336, 252));
        assert_eq!(LLAVA.target(100, 300, 1), (112, 336));
        assert_eq!(LLAVA.target(4000, 20, 1), (336, 2));
        assert_eq!(LLAVA.target(9000, 1, 1), (336, 1));
        assert_eq!(LLAVA.tokens((336, 252)), 576);
    }

    /// The second size of each pair is that of transformers' `get_resize_output_image_size`.
    #[test]
    fn idefics3_gets_what_its_processor_gives() {
        for (size, expected) in [
            ((640, 480), (1456, 1092)),
            ((300, 500), (874, 1456)),
            ((1000, 333), (1456, 484)),
            ((777, 1111), (1018, 1456)),
            ((3000, 1999), (1456, 970)),
            ((1456, 1092), (1456, 1092)),
            ((200, 1), (1456, 8)),
            ((1, 1), (1456, 1456)),
        ] {
            assert_eq!(IDEFICS3.target(size.0, size.1, 1), expected, "{size:?}");
        }
    }

    /// The engine's rule (mistral.rs 0.8.1, `resize_output_size_rescale_to_max_len`).
    fn engine_idefics3(width: u32, height: u32, longest: u32) -> (u32, u32) {
        let aspect = width as f32 / height as f32;
        if width >= height {
            let height = (longest as f32 / aspect).round() as u32;
            (longest, height.next_multiple_of(2))
        } else {
            let width = (longest as f32 * aspect).round() as u32;
            (width.next_multiple_of(2), longest)
        }
    }

    #[test]
    fn the_engine_leaves_the_sizes_of_idefics3_alone() {
        for width in (1..4000).step_by(7) {
            for height in (1..4000).step_by(131) {
                let (w, h) = IDEFICS3.target(width, height, 1);
                assert_eq!(engine_idefics3(w, h, 1456), (w, h), "{width}x{height}");
            }
        }
    }

    #[test]
    fn gemma_gets_a_square_whatever_the_budget() {
        assert_eq!(GEMMA3.target(4000, 10, 1), (896, 896));
        assert_eq!(GEMMA3.tokens((896, 896)), 258);
        assert_eq!(
            GEMMA3.written("user\n<start_of_image>Which?"),
            "user\n\n\n<start_of_image>\n\nWhich?"
        );
        assert_eq!(LLAVA.written("<image>\nWhich?"), "<image>\nWhich?");
    }

    #[test]
    fn llava_alone_shows_alpha() {
        assert!(LLAVA.shows_alpha());
        assert!(!IDEFICS3.shows_alpha() && !GEMMA3.shows_alpha());
    }

    #[test]
    fn some_take_one_image() {
        assert_eq!(LLAVA.max_images(), Some(1));
        assert_eq!(IDEFICS3.max_images(), None);
        assert_eq!(ImageGeometry::patches(32, 1, 2).max_images(), None);
    }
}
