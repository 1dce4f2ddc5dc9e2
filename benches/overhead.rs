//! What Porthole adds to the work itself, as ratios of two sides measured in one run: after a
//! warm-up both take turns, A B A B, and each figure is the median of the rounds with its spread.
//!
//! From the repository's root: `cargo bench --bench overhead`, or with some of `image`, `http` and
//! `model` after `--`. Figures from a busy machine are worth only as much as their spread is narrow.

mod overhead {
    pub(crate) mod client;
    pub(crate) mod http;
    pub(crate) mod images;
    pub(crate) mod model;
    pub(crate) mod servers;
}

use std::time::Duration;

/// Rounds of each side.
const ROUNDS: usize = 7;

fn main() {
    // Cargo adds flags of its own.
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
    servers::start_log();
    if wanted("image") {
        images::run();
    }
    if wanted("http") {
        http::run();
    }
    if wanted("model") {
        model::run();
    }
    println!("\nAgain: cargo bench --bench overhead");
}

use overhead::{http, images, model, servers};

fn title(text: &str) {
    println!("\n{text}");
    println!("{:<52} {:>10} {:<3} (min .. max)", "", "median", "");
}

/// One line of the table; `note` says what is aimed for.
fn row(name: &str, mut values: Vec<f64>, unit: &str, note: &str) {
    values.sort_by(f64::total_cmp);
    let (min, median, max) = (
        values[0],
        values[values.len() / 2],
        values[values.len() - 1],
    );
    // Three figures are enough, and more than the machine can repeat.
    let digits = match median.abs() {
        0.0..10.0 => 3,
        10.0..1000.0 => 1,
        _ => 0,
    };
    println!("{name:<52} {median:>10.digits$} {unit:<3} ({min:.digits$} .. {max:.digits$}) {note}");
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
