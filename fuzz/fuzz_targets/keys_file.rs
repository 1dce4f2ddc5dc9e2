//! Any text is a keys file or a list of what is wrong with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use porthole::auth::{api_key::Hasher, keys_file::KeySet};

fuzz_target!(|text: &str| {
    if let Err(problems) = KeySet::parse(text, &Hasher::default()) {
        assert!(!problems.is_empty());
    }
});
