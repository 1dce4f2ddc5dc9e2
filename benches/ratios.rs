//! What Porthole costs, as ratios measured side by side in one run: A B A B, medians and spread.
//!
//! `make bench`, from the repository's root, on a machine that does nothing else.

mod ratios {
    pub(crate) mod door;
    pub(crate) mod http;
    pub(crate) mod images;
    pub(crate) mod model;
    pub(crate) mod null_engine;
}

use std::time::Duration;

/// Rounds of each side.
const ROUNDS: usize = 7;

/// Median, least and greatest.
fn summary(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (
        values[values.len() / 2],
        values[0],
        values[values.len() - 1],
    )
}

fn row(name: &str, values: Vec<f64>, unit: &str) -> f64 {
    let (median, least, greatest) = summary(values);
    println!("{name:<58} {median:>10.3} {unit:<8} ({least:.3} .. {greatest:.3})");
    median
}

fn ratio(name: &str, pairs: &[(f64, f64)], aim: &str) {
    let (median, least, greatest) = summary(pairs.iter().map(|(a, b)| a / b).collect());
    println!(
        "{name:<58} {median:>10.3} {:<8} ({least:.3} .. {greatest:.3})  {aim}",
        "x"
    );
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn main() {
    println!(
        "{:<58} {:>10} {:<8} (least .. greatest of {ROUNDS} rounds)",
        "", "median", ""
    );
    ratios::images::run();
    ratios::http::run();
    ratios::door::run();
    ratios::model::run();
}
