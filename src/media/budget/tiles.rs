//! LLaVA-NeXT's rule.
//!
//! The engine takes the grid of tiles that shows an image largest, resizes the image into it, fills
//! it up, and leaves out the tokens of what it filled up. It reckons in single precision, and so
//! does this: the counts must agree. transformers prefers a smaller grid for an image that the
//! larger one would only enlarge; the engine does not, and no size that it is given changes that.

/// Most grids that a model may have; the published ones have five.
const MAX_GRIDS: usize = 8;

/// A whole image and tiles of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiles {
    /// Side of a tile in pixels.
    side: u32,
    /// Side of the square of pixels that becomes one token.
    patch: u32,
    /// Widths and heights in pixels that tiles may be laid out to; unused ones are 0.
    grids: [(u32, u32); MAX_GRIDS],
}

impl Tiles {
    /// Tiles of `side` pixels in patches of `patch`, laid out to one of `grids` (width, height).
    ///
    /// # Errors
    /// Sizes that are no multiples of each other, no grid, or more than eight.
    pub fn new(side: u32, patch: u32, grids: &[(u32, u32)]) -> Result<Self, String> {
        if patch == 0 || side == 0 || !side.is_multiple_of(patch) {
            return Err(format!("tiles of {side} pixels in patches of {patch}"));
        }
        let of_tiles = |length: u32| length > 0 && length.is_multiple_of(side);
        if let Some(grid) = grids.iter().find(|g| !of_tiles(g.0) || !of_tiles(g.1)) {
            return Err(format!("a grid of {grid:?} in tiles of {side} pixels"));
        }
        if grids.is_empty() || grids.len() > MAX_GRIDS {
            return Err(format!("{} grids", grids.len()));
        }
        let mut tiles = Self {
            side,
            patch,
            grids: [(0, 0); MAX_GRIDS],
        };
        for (place, grid) in tiles.grids.iter_mut().zip(grids) {
            *place = *grid;
        }
        Ok(tiles)
    }

    pub(super) fn target(&self, width: u32, height: u32) -> (u32, u32) {
        let (grid_w, grid_h) = self.grid((width, height));
        let (scale_w, scale_h) = (
            f64::from(grid_w) / f64::from(width),
            f64::from(grid_h) / f64::from(height),
        );
        let fitted = |round: fn(f64) -> f64| {
            let side = |length: u32, scale: f64, most: u32| {
                (round(f64::from(length) * scale) as u32).clamp(1, most)
            };
            if scale_w < scale_h {
                (grid_w, side(height, scale_w, grid_h))
            } else {
                (side(width, scale_h, grid_w), grid_h)
            }
        };
        // The reference rounds up. A row of patches hangs on it now and then, which would then be
        // one that the image at its own size does not have.
        let wanted = self.tokens((width, height));
        let up = fitted(f64::ceil);
        [up, fitted(f64::floor)]
            .into_iter()
            .find(|size| self.tokens(*size) == wanted)
            .unwrap_or(up)
    }

    pub(super) fn tokens(&self, size: (u32, u32)) -> usize {
        let (grid_w, grid_h) = self.grid(size);
        let (w, h) = unpadded((grid_w / self.patch, grid_h / self.patch), size);
        let whole = (self.side / self.patch) as usize;
        // Each row of patches ends with a token of its own.
        whole * whole + (w as usize + 1) * h as usize
    }

    /// The grid that shows an image largest, and of those the one with the least to fill up.
    fn grid(&self, (width, height): (u32, u32)) -> (u32, u32) {
        let (w, h) = (width as f32, height as f32);
        let mut best = ((0, 0), 0, u32::MAX);
        for (grid_w, grid_h) in self.grids.into_iter().filter(|grid| grid.0 > 0) {
            let scale = (grid_w as f32 / w).min(grid_h as f32 / h);
            let shown = ((w * scale) as u32 * (h * scale) as u32).min(grid_w * grid_h);
            let wasted = grid_w * grid_h - shown;
            if shown > best.1 || (shown == best.1 && wasted < best.2) {
                best = ((grid_w, grid_h), shown, wasted);
            }
        }
        best.0
    }
}

/// The patches of a grid that show something of an image of this size.
fn unpadded((grid_w, grid_h): (u32, u32), (width, height): (u32, u32)) -> (u32, u32) {
    let (w, h) = (width as f32, height as f32);
    if w / h > grid_w as f32 / grid_h as f32 {
        let shown = (h * (grid_w as f32 / w)).floor() as u32;
        (grid_w, grid_h - (grid_h - shown.min(grid_h)) / 2 * 2)
    } else {
        let shown = (w * (grid_h as f32 / h)).floor() as u32;
        (grid_w - (grid_w - shown.min(grid_w)) / 2 * 2, grid_h)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llava_next() -> Tiles {
        let grids = [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)];
        Tiles::new(336, 14, &grids).unwrap()
    }

    /// Resized and counted by transformers' `LlavaNextProcessor`, for images that no grid enlarges.
    #[test]
    fn large_images_cost_what_the_reference_counts() {
        for (size, target, tokens) in [
            ((672, 672), (672, 672), 2928),
            ((900, 675), (672, 504), 2340),
            ((801, 600), (672, 504), 2340),
            ((1920, 1080), (672, 378), 1948),
            ((1000, 3000), (336, 1008), 2376),
            ((4032, 3024), (672, 504), 2340),
            ((2500, 700), (1008, 283), 2036),
            ((1013, 997), (672, 662), 2928),
        ] {
            let ours = llava_next().target(size.0, size.1);
            assert_eq!(ours, target, "{size:?}");
            assert_eq!(llava_next().tokens(ours), tokens, "{size:?}");
        }
    }

    #[test]
    fn the_engine_resizes_no_target_again() {
        for width in (1..3000_u32).step_by(17) {
            for height in (width.div_ceil(200)..3000.min(width * 200)).step_by(41) {
                let (w, h) = llava_next().target(width, height);
                let (grid_w, grid_h) = llava_next().grid((w, h));
                let fills = (w == grid_w && h <= grid_h) || (h == grid_h && w <= grid_w);
                assert!(fills, "{width}x{height} -> {w}x{h} in {grid_w}x{grid_h}");
            }
        }
    }

    #[test]
    fn grids_that_make_no_sense_are_refused() {
        assert!(Tiles::new(336, 14, &[]).is_err());
        assert!(Tiles::new(336, 14, &[(336, 500)]).is_err());
        assert!(Tiles::new(336, 13, &[(336, 336)]).is_err());
        assert!(Tiles::new(336, 14, &[(336, 336); MAX_GRIDS + 1]).is_err());
    }
}
