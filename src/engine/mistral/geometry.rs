//! How a model cuts images into tokens, read from its files.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::media::budget::{ImageGeometry, Patches, Tiles};

/// Where images are described; a model without it sees none.
const PREPROCESSOR: &str = "preprocessor_config.json";

/// The geometry of the model in a folder; `None` for one that sees no images.
///
/// # Errors
/// Files that cannot be read or are not understood, and settings with which the engine does not
/// answer rightly or dies; the text says which and what to do.
pub(super) fn read_geometry(folder: &Path) -> Result<Option<ImageGeometry>, String> {
    if !folder.join(PREPROCESSOR).exists() {
        return Ok(None);
    }
    let config = Json::read(folder, "config.json")?;
    let preprocessor = Json::read(folder, PREPROCESSOR)?;
    let architecture = config.text("/architectures/0").unwrap_or_default();
    let geometry = match architecture {
        "Qwen2VLForConditionalGeneration" | "Qwen2_5_VLForConditionalGeneration" => {
            // The engine shows a third image with the pixels of the second.
            patches(&preprocessor, Some(2))
        }
        "Qwen3VLForConditionalGeneration" | "Qwen3VLMoeForConditionalGeneration" => {
            patches(&preprocessor, None)
        }
        "LlavaForConditionalGeneration" => padded(folder, &config, &preprocessor),
        "LlavaNextForConditionalGeneration" => tiles(folder, &config, &preprocessor),
        "Idefics3ForConditionalGeneration" => squeezed(folder, &preprocessor),
        "Gemma3ForConditionalGeneration" => square(folder, &preprocessor),
        other => Err(format!(
            "{}: how {other} cuts images into tokens is not known; without {PREPROCESSOR} the model is served for text",
            config.path.display()
        )),
    };
    geometry.map(Some)
}

/// A file, and its name for complaints.
struct Json {
    path: PathBuf,
    value: Value,
}

impl Json {
    fn read(folder: &Path, name: &str) -> Result<Self, String> {
        let path = folder.join(name);
        let parsed = std::fs::read_to_string(&path)
            .map_err(|e| e.to_string())
            .and_then(|text| serde_json::from_str(&text).map_err(|e| e.to_string()));
        match parsed {
            Ok(value) => Ok(Self { path, value }),
            Err(e) => Err(format!("{}: {e}", path.display())),
        }
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.value.pointer(pointer)?.as_str()
    }

    /// The first of these that is there and positive.
    fn number(&self, pointers: &[&str]) -> Result<u64, String> {
        pointers
            .iter()
            .find_map(|pointer| self.value.pointer(pointer)?.as_u64())
            .filter(|number| *number > 0)
            .ok_or_else(|| self.complaint(&format!("no {}", pointers.join(" or "))))
    }

    fn side(&self, pointers: &[&str]) -> Result<u32, String> {
        let number = self.number(pointers)?;
        u32::try_from(number)
            .map_err(|_| self.complaint(&format!("{} is {number}", pointers.join(" or "))))
    }

    fn is_true(&self, pointer: &str) -> bool {
        self.value.pointer(pointer).and_then(Value::as_bool) == Some(true)
    }

    fn complaint(&self, what: &str) -> String {
        format!("{}: {what}", self.path.display())
    }
}

fn patches(preprocessor: &Json, max_images: Option<usize>) -> Result<ImageGeometry, String> {
    let factor = preprocessor.number(&["/patch_size"])? * preprocessor.number(&["/merge_size"])?;
    Ok(ImageGeometry::Patches(Patches {
        factor: u32::try_from(factor)
            .map_err(|_| preprocessor.complaint("/patch_size is too large"))?,
        min_pixels: preprocessor.number(&["/min_pixels", "/size/shortest_edge"])?,
        max_pixels: preprocessor.number(&["/max_pixels", "/size/longest_edge"])?,
        max_images,
    }))
}

fn padded(folder: &Path, config: &Json, preprocessor: &Json) -> Result<ImageGeometry, String> {
    let (side, patch) = clip(folder, config, preprocessor)?;
    let row = (side / patch) as usize;
    Ok(ImageGeometry::Padded {
        side,
        tokens: row * row,
    })
}

fn tiles(folder: &Path, config: &Json, preprocessor: &Json) -> Result<ImageGeometry, String> {
    let (side, patch) = clip(folder, config, preprocessor)?;
    let grids: Vec<(u32, u32)> =
        serde_json::from_value(config.value["image_grid_pinpoints"].clone())
            .map_err(|e| config.complaint(&format!("/image_grid_pinpoints: {e}")))?;
    Tiles::new(side, patch, &grids)
        .map(ImageGeometry::Tiles)
        .map_err(|e| config.complaint(&format!("/image_grid_pinpoints: {e}")))
}

/// Sides in pixels of what LLaVA's tower sees and of its patches.
fn clip(folder: &Path, config: &Json, preprocessor: &Json) -> Result<(u32, u32), String> {
    let side = config.side(&["/vision_config/image_size"])?;
    let patch = config.side(&["/vision_config/patch_size"])?;
    for pointer in [
        "/size/shortest_edge",
        "/crop_size/height",
        "/crop_size/width",
    ] {
        if preprocessor.side(&[pointer])? != side {
            return Err(preprocessor.complaint(&format!("{pointer} is not {side}")));
        }
    }
    // The engine reads a prompt twice and marks the place of an image with the token 0, which must
    // read as an image the second time.
    let tokenizer = Json::read(folder, "tokenizer.json")?;
    if tokenizer.value.pointer("/model/vocab/<image>") != Some(&Value::from(0)) {
        return Err(tokenizer.complaint(
            "LLaVA needs files made for this engine, or it loses images; docs/models.md tells how",
        ));
    }
    Ok((side, patch))
}

fn squeezed(folder: &Path, preprocessor: &Json) -> Result<ImageGeometry, String> {
    // With splitting, which is its default, the engine panics.
    let splits = preprocessor.value.get("do_image_splitting");
    if splits.and_then(Value::as_bool) != Some(false) {
        return Err(preprocessor.complaint("set do_image_splitting to false"));
    }
    Ok(ImageGeometry::Squeezed {
        longest: preprocessor.side(&["/size/longest_edge"])?,
        tokens: sequence_length(folder, &["/image_seq_len", "/image_seq_length"], 169)?,
    })
}

fn square(folder: &Path, preprocessor: &Json) -> Result<ImageGeometry, String> {
    if preprocessor.is_true("/do_pan_and_scan") {
        return Err(preprocessor.complaint("set do_pan_and_scan to false"));
    }
    let side = preprocessor.side(&["/size/height"])?;
    if preprocessor.side(&["/size/width"])? != side {
        return Err(preprocessor.complaint("/size is no square"));
    }
    Ok(ImageGeometry::Square {
        side,
        tokens: sequence_length(folder, &["/image_seq_length", "/image_seq_len"], 256)?,
    })
}

/// Tokens of an image, which the engine takes from this file or assumes.
fn sequence_length(folder: &Path, pointers: &[&str], default: usize) -> Result<usize, String> {
    const PROCESSOR: &str = "processor_config.json";
    if !folder.join(PROCESSOR).exists() {
        return Ok(default);
    }
    let processor = Json::read(folder, PROCESSOR)?;
    if pointers
        .iter()
        .all(|p| processor.value.pointer(p).is_none())
    {
        return Ok(default);
    }
    Ok(processor.side(pointers)? as usize)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn folder(files: &[(&str, Value)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in files {
            std::fs::write(folder.path().join(name), value.to_string()).unwrap();
        }
        folder
    }

    fn read(files: &[(&str, Value)]) -> Result<Option<ImageGeometry>, String> {
        read_geometry(folder(files).path())
    }

    fn config(architecture: &str) -> (&'static str, Value) {
        let vision = json!({"image_size": 336, "patch_size": 14});
        let value = json!({
            "architectures": [architecture],
            "vision_config": vision,
            "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
        });
        ("config.json", value)
    }

    fn clip_preprocessor() -> (&'static str, Value) {
        let crop = json!({"height": 336, "width": 336});
        (
            PREPROCESSOR,
            json!({"size": {"shortest_edge": 336}, "crop_size": crop}),
        )
    }

    #[test]
    fn a_model_without_images_has_no_geometry() {
        assert_eq!(read(&[config("LlamaForCausalLM")]), Ok(None));
    }

    #[test]
    fn qwen_is_read_from_both_of_its_layouts() {
        let new = json!({"patch_size": 16, "merge_size": 2, "size": {"shortest_edge": 65536, "longest_edge": 16777216}});
        let geometry = read(&[
            config("Qwen3VLForConditionalGeneration"),
            (PREPROCESSOR, new),
        ]);
        assert_eq!(
            geometry,
            Ok(Some(ImageGeometry::patches(32, 65_536, 16_777_216)))
        );
        let old =
            json!({"patch_size": 14, "merge_size": 2, "min_pixels": 3136, "max_pixels": 12845056});
        let geometry = read(&[
            config("Qwen2_5_VLForConditionalGeneration"),
            (PREPROCESSOR, old),
        ]);
        let geometry = geometry.unwrap().unwrap();
        assert_eq!(geometry.max_images(), Some(2));
        assert_eq!(geometry.tokens((224, 168)), 48);
    }

    #[test]
    fn llava_is_served_from_files_made_for_the_engine_alone() {
        let published = ("tokenizer.json", json!({"model": {"vocab": {"<unk>": 0}}}));
        let made = (
            "tokenizer.json",
            json!({"model": {"vocab": {"<image>": 0}}}),
        );
        let llava = config("LlavaForConditionalGeneration");
        let refused = read(&[llava.clone(), clip_preprocessor(), published]);
        assert!(refused.unwrap_err().contains("docs/models.md"));
        let geometry = read(&[llava, clip_preprocessor(), made.clone()]);
        let expected = ImageGeometry::Padded {
            side: 336,
            tokens: 576,
        };
        assert_eq!(geometry, Ok(Some(expected)));
        let next = config("LlavaNextForConditionalGeneration");
        let geometry = read(&[next, clip_preprocessor(), made]).unwrap().unwrap();
        assert_eq!(geometry.tokens((672, 672)), 2928);
    }

    #[test]
    fn idefics3_must_not_split_images() {
        let idefics3 = config("Idefics3ForConditionalGeneration");
        let size = json!({"longest_edge": 1456});
        let published = (
            PREPROCESSOR,
            json!({"size": size, "do_image_splitting": true}),
        );
        assert!(
            read(&[idefics3.clone(), published])
                .unwrap_err()
                .contains("do_image_splitting")
        );
        let whole = (
            PREPROCESSOR,
            json!({"size": size, "do_image_splitting": false}),
        );
        let processor = ("processor_config.json", json!({"image_seq_len": 81}));
        let geometry = read(&[idefics3, whole, processor]);
        assert_eq!(
            geometry,
            Ok(Some(ImageGeometry::Squeezed {
                longest: 1456,
                tokens: 81
            }))
        );
    }

    #[test]
    fn gemma3_is_a_square() {
        let gemma = config("Gemma3ForConditionalGeneration");
        let size = json!({"height": 896, "width": 896});
        let file = (PREPROCESSOR, json!({"size": size, "do_pan_and_scan": null}));
        let geometry = read(&[gemma.clone(), file]);
        assert_eq!(
            geometry,
            Ok(Some(ImageGeometry::Square {
                side: 896,
                tokens: 256
            }))
        );
        let pans = (PREPROCESSOR, json!({"size": size, "do_pan_and_scan": true}));
        assert!(
            read(&[gemma, pans])
                .unwrap_err()
                .contains("do_pan_and_scan")
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let other = config("MllamaForConditionalGeneration");
        let refused = read(&[other, clip_preprocessor()]).unwrap_err();
        assert!(
            refused.contains("MllamaForConditionalGeneration"),
            "{refused}"
        );
    }
}
