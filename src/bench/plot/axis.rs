//! Axes whose ticks are round numbers.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

/// About so many ticks.
const TICKS: f64 = 5.0;

/// Labels nearer to each other than this share of an axis would touch.
const NEAR: f64 = 0.06;

/// How values lie on an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    log: bool,
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Axis {
    /// From zero to a round number that is `high` or more.
    pub fn linear(high: f64) -> Self {
        let high = if high > 0.0 { high } else { 1.0 };
        let step = round_up(high / TICKS);
        let steps = (high / step - 1e-9).ceil();
        let ticks = (0..=steps as u32).map(|i| f64::from(i) * step);
        Self {
            log: false,
            range: 0.0..steps * step,
            ticks: ticks.collect(),
        }
    }

    /// From zero to `high` exactly, so that a curve fills it.
    pub fn exact(high: f64) -> Self {
        let mut axis = Self::linear(high);
        if high > 0.0 {
            let step = round_up(high / (2.0 * TICKS));
            let ticks = (0..).map(|i| f64::from(i) * step);
            axis.ticks = ticks.take_while(|tick| *tick <= high).collect();
            axis.range.end = high;
        }
        axis
    }

    /// Logarithmic; both ends are positive.
    pub fn log(low: f64, high: f64) -> Self {
        // An axis needs some length.
        let (low, high) = (low, high.max(low * 1.5));
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let inside = |factors: &[f64]| -> Vec<f64> {
            let ticks = decades
                .clone()
                .flat_map(|decade| factors.iter().map(move |f| f * 10f64.powi(decade)));
            let inside = low * 0.999..=high * 1.001;
            ticks.filter(|tick| inside.contains(tick)).collect()
        };
        let fine = inside(&[1.0, 2.0, 5.0]);
        let ticks = if fine.len() as f64 > TICKS + 2.0 {
            inside(&[1.0])
        } else {
            fine
        };
        Self {
            log: true,
            range: low..high,
            ticks,
        }
    }

    /// Of latencies: logarithmic where they lie too far apart to be seen side by side.
    pub fn spread(low: f64, typical: f64, high: f64) -> Self {
        if low > 0.0 && (high > 8.0 * typical || typical > 8.0 * low) {
            Self::log(low, high)
        } else {
            Self::linear(high)
        }
    }

    /// Logarithmic, with a tick at each of these positive values as far as there is room.
    pub fn levels(values: &[f64]) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let ends = values.first().copied().zip(values.last().copied());
        let (low, high) = ends.unwrap_or((1.0, 1.0));
        // Room at both sides.
        let margin = (high / low).powf(0.06).max(1.1);
        let mut axis = Self {
            log: true,
            range: low / margin..high * margin,
            ticks: Vec::new(),
        };
        let (start, end) = (axis.range.start.log10(), axis.range.end.log10());
        for value in values {
            let far = |tick: &f64| (value / tick).log10() >= NEAR * (end - start);
            if axis.ticks.last().is_none_or(far) {
                axis.ticks.push(value);
            }
        }
        axis
    }

    /// What the axis is called when it shows this.
    pub fn name(&self, of: &str) -> String {
        let scale = if self.log { " (logarithmic)" } else { "" };
        format!("{of}{scale}")
    }

    /// Where a value lies on the axis's own scale. What is below a logarithmic axis lies at its
    /// start.
    fn at(&self, value: f64) -> f64 {
        if self.log {
            value.max(self.range.start).log10()
        } else {
            value
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let (start, end) = (self.at(self.range.start), self.at(self.range.end));
        let share = (self.at(*value) - start) / (end - start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Between the ticks there are no light lines.
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        short(*value)
    }
}

/// 1, 2, 2.5 or 5 times a power of ten, and no less than `value`.
fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0, 10.0];
    let enough = |factor: &f64| factor * power >= value * 0.999_999;
    factors.into_iter().find(enough).unwrap_or(10.0) * power
}

/// The unit of times up to `high` ms, and what divides them.
pub fn unit(high: f64) -> (&'static str, f64) {
    if high >= 10_000.0 {
        ("s", 1e3)
    } else {
        ("ms", 1.0)
    }
}

/// A number without needless digits.
pub fn short(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 10_000.0 {
        return format!("{}k", short(value / 1e3));
    }
    let decimals = match magnitude {
        m if m >= 100.0 => 0,
        m if m >= 10.0 => 1,
        m if m >= 1.0 => 2,
        m if m >= 0.1 => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        let text = text.trim_end_matches('0').trim_end_matches('.');
        return if text == "-0" { "0" } else { text }.to_string();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        for (high, top, ticks) in [
            (98.0, 100.0, 6),
            (1.0, 1.0, 6),
            (0.0, 1.0, 6),
            (730.0, 800.0, 5),
        ] {
            let axis = Axis::linear(high);
            assert!((axis.range.end - top).abs() < 1e-9, "{high}: {axis:?}");
            assert_eq!(axis.ticks.len(), ticks, "{axis:?}");
        }
        assert_eq!(
            Axis::log(3.0, 400.0).ticks,
            [5.0, 10.0, 20.0, 50.0, 100.0, 200.0]
        );
        assert_eq!(Axis::log(0.5, 2e4).ticks, [1.0, 10.0, 100.0, 1e3, 1e4]);
        assert_eq!(Axis::exact(30.2).range, 0.0..30.2);
    }

    #[test]
    fn latencies_far_apart_get_a_logarithmic_axis() {
        assert!(!Axis::spread(5.0, 6.0, 9.0).log);
        assert!(Axis::spread(5.0, 6.0, 900.0).log);
        // Zero is on no logarithmic axis.
        assert!(!Axis::spread(0.0, 6.0, 900.0).log);
    }

    #[test]
    fn levels_have_their_own_ticks_where_there_is_room() {
        assert_eq!(Axis::levels(&[32.0, 1.0, 8.0]).ticks, [1.0, 8.0, 32.0]);
        assert_eq!(Axis::levels(&[1.0, 100.0, 101.0]).ticks, [1.0, 100.0]);
        assert_eq!(Axis::levels(&[4.0]).ticks, [4.0]);
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (2.5, "2.5"),
            (40.0, "40"),
            (1500.0, "1500"),
            (25_000.0, "25k"),
            (-0.0, "0"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
