//! The one-way dependencies of the source, held by looking at it.

use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            files.extend(sources(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

/// `word` appears only in files whose path begins with one of `allowed`.
fn only_in(word: &str, allowed: &[&str]) {
    for file in sources(Path::new("src")) {
        let path = file.to_str().unwrap();
        if allowed.iter().any(|allowed| path.starts_with(allowed)) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let used = text
            .lines()
            .find(|line| line.contains(word) && !line.trim_start().starts_with("//"));
        assert!(used.is_none(), "{path} names {word}: {used:?}");
    }
}

#[test]
fn dependencies_point_one_way() {
    only_in(
        "actix_web::",
        &[
            "src/startup",
            "src/routes",
            "src/middleware",
            "src/sse",
            "src/error",
            "src/main",
        ],
    );
    only_in("actix_http::", &["src/startup"]);
    only_in("mistralrs::", &["src/engine/mistral", "src/engine/convert"]);
    only_in("StatusCode::", &["src/error", "src/media/fetch"]);
    only_in("std::env::", &["src/config", "src/main"]);
    // Before any thread runs, the allocator is set up.
    only_in("unsafe ", &["src/main.rs"]);
}

#[test]
fn files_stay_readable() {
    for file in sources(Path::new("src")) {
        let lines = std::fs::read_to_string(&file).map_or(0, |text| text.lines().count());
        assert!(lines <= 420, "{} has {lines} lines", file.display());
    }
}
