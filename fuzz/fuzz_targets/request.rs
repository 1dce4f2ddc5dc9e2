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
            let sampling = &request.sampling;
            assert!(
                sampling
                    .temperature
                    .is_none_or(|t| (0.0..=2.0).contains(&t))
            );
            assert!(sampling.top_p.is_none_or(|p| (0.0..=1.0).contains(&p)));
            assert!(sampling.max_tokens != Some(0) && sampling.stop.len() <= 4);
            assert!((1..=16).contains(&request.answers));
        }
        Err(error) => assert!(!error.message.is_empty() && error.message.len() < 4_096),
    }
});
