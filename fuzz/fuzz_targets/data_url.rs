//! A data URL gives no more bytes than allowed, and only what its base64 says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use porthole::media::data_url;

const MAX: usize = 1 << 12;

fuzz_target!(|url: &[u8]| {
    if data_url::is_data_url(url)
        && let Ok(bytes) = data_url::decode(url, MAX)
    {
        assert!(!bytes.is_empty() && bytes.len() <= MAX);
    }
});
