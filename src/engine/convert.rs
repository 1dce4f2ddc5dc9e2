//! Our request to mistral.rs's, and its words to ours.

use either::Either;
use image::{DynamicImage, RgbImage, RgbaImage};
use indexmap::IndexMap;
use mistralrs::{MessageContent, ModelGenerationDefaults, SamplingParams as EngineParams};

use super::{
    FinishReason, Part, Role, SamplingParams, Turn, lane::Cohort, neutralize::Neutralizer,
};

/// Messages as the engine takes them.
pub(super) struct Prompt {
    pub(super) messages: Vec<IndexMap<String, MessageContent>>,
    /// Sizes of the images.
    pub(super) cohort: Cohort,
    /// Bytes of text in all.
    pub(super) text_bytes: usize,
}

/// Converts the turns. Text is neutralised; texts side by side are joined first, since that is what
/// the chat template does.
pub(super) fn prompt(turns: Vec<Turn>, neutralizer: &Neutralizer) -> Prompt {
    let mut prompt = Prompt {
        messages: Vec::new(),
        cohort: Vec::new(),
        text_bytes: 0,
    };
    for turn in turns {
        let mut content: Vec<IndexMap<String, serde_json::Value>> = Vec::new();
        let mut text = String::new();
        let flush = |text: &mut String, content: &mut Vec<_>, bytes: &mut usize| {
            if !text.is_empty() {
                let safe = neutralizer.apply(std::mem::take(text));
                *bytes += safe.len();
                content.push(IndexMap::from([
                    ("type".to_string(), "text".into()),
                    ("text".to_string(), serde_json::Value::String(safe)),
                ]));
            }
        };
        for part in turn.parts {
            match part {
                Part::Text(piece) if text.is_empty() => text = piece,
                Part::Text(piece) => text.push_str(&piece),
                Part::Image(size) => {
                    flush(&mut text, &mut content, &mut prompt.text_bytes);
                    content.push(IndexMap::from([("type".to_string(), "image".into())]));
                    prompt.cohort.push(size);
                }
            }
        }
        flush(&mut text, &mut content, &mut prompt.text_bytes);
        let role = match turn.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        prompt.messages.push(IndexMap::from([
            ("role".to_string(), Either::Left(role.to_string())),
            ("content".to_string(), Either::Right(content)),
        ]));
    }
    prompt
}

/// Images as the engine takes them.
pub(super) fn images(images: &[RgbImage], salt: u64) -> Vec<DynamicImage> {
    let marked = |image| DynamicImage::ImageRgba8(marked(image, salt));
    images.iter().map(marked).collect()
}

/// The image with a mark in an alpha channel that the engine drops before it looks at pixels.
///
/// mistral.rs 0.8.1 keeps what its vision encoder made of an image under a 64-bit hash, with a
/// fixed key, of the image's bytes alone: a white 64x128 and a white 128x64 image are one to it.
/// The mark carries the size, and a secret of this process so that no client can make two images
/// collide; the pixels stay exactly what they were.
fn marked(image: &RgbImage, salt: u64) -> RgbaImage {
    let (width, height) = image.dimensions();
    let mut mark = [0_u8; 16];
    mark[..8].copy_from_slice(&salt.to_le_bytes());
    mark[8..12].copy_from_slice(&width.to_le_bytes());
    mark[12..].copy_from_slice(&height.to_le_bytes());
    let mut rgba = Vec::with_capacity(width as usize * height as usize * 4);
    for (pixel, alpha) in image.as_raw().chunks_exact(3).zip(mark.iter().cycle()) {
        rgba.extend_from_slice(&[pixel[0], pixel[1], pixel[2], *alpha]);
    }
    RgbaImage::from_raw(width, height, rgba).unwrap_or_default()
}

/// Sampling as the engine takes it. Stop sequences are ours, see [`super::stop`].
pub(super) fn sampling(
    params: &SamplingParams,
    defaults: Option<&ModelGenerationDefaults>,
    max_tokens: usize,
) -> EngineParams {
    let defaults = defaults.cloned().unwrap_or_default();
    let greedy_by_default = defaults.do_sample == Some(false);
    let temperature = params.temperature.unwrap_or(match defaults.temperature {
        _ if greedy_by_default => 0.0,
        Some(temperature) => temperature,
        None => 1.0,
    });
    EngineParams {
        // The engine takes `None` for 1.0 and 0 for greedy.
        temperature: Some(temperature),
        top_k: defaults.top_k.filter(|k| *k > 0),
        top_p: params.top_p.or(defaults.top_p),
        min_p: defaults.min_p,
        top_n_logprobs: 0,
        frequency_penalty: None,
        presence_penalty: None,
        repetition_penalty: defaults.repetition_penalty,
        stop_toks: None,
        max_len: Some(max_tokens),
        logits_bias: None,
        n_choices: 1,
        dry_params: None,
    }
}

/// Why the engine says a sequence ended.
pub(super) fn finish_reason(word: &str) -> FinishReason {
    match word {
        "length" => FinishReason::Length,
        _ => FinishReason::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_leaves_pixels_alone_and_tells_shapes_apart() {
        let white = |w, h| RgbImage::from_pixel(w, h, image::Rgb([255; 3]));
        let (tall, wide) = (marked(&white(64, 128), 7), marked(&white(128, 64), 7));
        assert_ne!(tall.as_raw(), wide.as_raw());
        assert_ne!(tall.as_raw(), marked(&white(64, 128), 8).as_raw());
        assert_eq!(tall.as_raw(), marked(&white(64, 128), 7).as_raw());
        assert_eq!(DynamicImage::ImageRgba8(tall).to_rgb8(), white(64, 128));
    }

    #[test]
    fn a_token_split_over_two_parts_is_seen() {
        let neutralizer = Neutralizer::new(["<|image_pad|>"]).unwrap();
        let parts = vec![
            Part::Image((32, 32)),
            Part::Text("a <|image".into()),
            Part::Text("_pad|> b".into()),
        ];
        let prompt = prompt(
            vec![Turn {
                role: Role::User,
                parts,
            }],
            &neutralizer,
        );
        let Either::Right(content) = &prompt.messages[0]["content"] else {
            panic!()
        };
        assert_eq!(content.len(), 2);
        assert!(
            !content[1]["text"]
                .as_str()
                .unwrap()
                .contains("<|image_pad|>")
        );
        assert_eq!(prompt.cohort, [(32, 32)]);
    }
}
