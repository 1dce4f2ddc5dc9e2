//! Any body is a request or an error that names its fault; never a panic.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use porthole::openai::request::ChatCompletionRequest;

fuzz_target!(|body: &[u8]| {
    let body = Bytes::copy_from_slice(body);
    match ChatCompletionRequest::parse(&body) {
        Ok(request) => {
            assert!(!request.messages.is_empty());
            assert!(request.temperature.is_none_or(|t| (0.0..=2.0).contains(&t)));
            assert!(request.top_p.is_none_or(|p| (0.0..=1.0).contains(&p)));
            assert!(request.max_tokens != Some(0) && request.stop.len() <= 4);
        }
        Err(error) => assert!(!error.message.is_empty() && error.message.len() < 4_096),
    }
});
