//! Loading: files to a running engine, and what the gateway must know of them.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
};

use mistralrs::{
    AutoDeviceMapParams, DefaultSchedulerMethod, DeviceMapSetting, ModelDType,
    ModelGenerationDefaults, SchedulerConfig, TokenSource, best_device,
    core::{
        IsqOrganization, MistralRs, MistralRsBuilder, MultimodalLoaderBuilder,
        MultimodalSpecificConfig, Pipeline,
    },
    parse_isq_value,
};
use tokio::sync::Mutex;

use crate::{
    config::{Device, Dtype, ModelConfig},
    engine::{ModelInfo, neutralize::Neutralizer},
    media::budget::ImageGeometry,
};

/// Names that the engine's image processors give a meaning of their own, beside the tokenizer's.
const ENGINE_PLACEHOLDERS: [&str; 5] = [
    "<|image_pad|>",
    "<|video_pad|>",
    "<|placeholder|>",
    "<|vision_start|>",
    "<|vision_end|>",
];

/// A running engine and what it was found to be.
pub(super) struct Loaded {
    pub(super) runner: Arc<MistralRs>,
    pub(super) info: ModelInfo,
    pub(super) defaults: Option<ModelGenerationDefaults>,
    pub(super) neutralizer: Neutralizer,
    pub(super) tokenizer: TokenCounter,
    pub(super) on_cpu: bool,
}

/// Counts tokens of plain text without asking the engine.
pub(super) struct TokenCounter(Box<dyn Fn(&str) -> usize + Send + Sync>);

impl TokenCounter {
    /// Tokens of the texts, counted until there are clearly more than `enough`. A piece at a time,
    /// since a tokenizer takes far longer on megabytes without a break.
    pub(super) fn at_least<'a>(
        &self,
        texts: impl Iterator<Item = &'a str>,
        enough: usize,
    ) -> usize {
        const PIECE: usize = 16 << 10;
        let mut tokens = 0;
        for mut text in texts {
            while !text.is_empty() && tokens < enough.saturating_mul(2) {
                let end = text.floor_char_boundary(PIECE.min(text.len()));
                let (piece, rest) = text.split_at(end);
                // A cut can make two tokens of one.
                tokens += (self.0)(piece).saturating_sub(1);
                text = rest;
            }
        }
        tokens
    }
}

/// Loads the model on a thread of its own.
pub(super) async fn load(config: &ModelConfig) -> Result<Loaded, String> {
    let blocking = config.clone();
    let (pipeline, on_cpu) = tokio::task::spawn_blocking(move || load_pipeline(&blocking))
        .await
        .map_err(|e| format!("loading the model panicked: {e}"))??;

    let (tokenizer, max_seq_len, defaults) = {
        let pipeline = pipeline.lock().await;
        let tokenizer = pipeline.tokenizer().ok_or("the model has no tokenizer")?;
        if !pipeline
            .get_chat_template()
            .as_ref()
            .is_some_and(|template| template.has_chat_template())
        {
            return Err("the model has no chat template".into());
        }
        (
            tokenizer,
            pipeline.get_metadata().max_seq_len,
            pipeline.generation_defaults(),
        )
    };
    let special: Vec<String> = tokenizer
        .get_added_tokens_decoder()
        .into_values()
        .filter(|token| token.special)
        .map(|token| token.content)
        .chain(ENGINE_PLACEHOLDERS.map(String::from))
        .collect();
    let neutralizer = Neutralizer::new(special).map_err(|e| e.to_string())?;
    let folder = model_folder(&config.id).ok_or_else(|| {
        format!(
            "the files of {} are not where they were loaded from",
            config.id
        )
    })?;
    let context_length = match config.context_length {
        0 => max_seq_len,
        wanted => wanted.min(max_seq_len),
    };
    let info = ModelInfo {
        geometry: read_geometry(&folder)?,
        context_length,
        fingerprint: fingerprint(config, &folder),
    };
    let scheduler = SchedulerConfig::DefaultScheduler {
        method: DefaultSchedulerMethod::Fixed(
            config
                .max_batch_size
                .max(8)
                .try_into()
                .map_err(|_| "max_batch_size is 0")?,
        ),
    };
    // Its prefix cache mixes concurrent sequences.
    let runner = MistralRsBuilder::new(pipeline, scheduler, false, None)
        .with_no_prefix_cache(true)
        .with_prefix_cache_n(0)
        .build()
        .await;
    let count = move |text: &str| {
        tokenizer
            .encode_fast(text, false)
            .map_or(0, |encoding| encoding.len())
    };
    Ok(Loaded {
        runner,
        info,
        defaults,
        neutralizer,
        tokenizer: TokenCounter(Box::new(count)),
        on_cpu,
    })
}

type LoadedPipeline = Arc<Mutex<dyn Pipeline + Send + Sync>>;

fn load_pipeline(config: &ModelConfig) -> Result<(LoadedPipeline, bool), String> {
    let device =
        best_device(config.device == Device::Cpu).map_err(|e| format!("no device: {e}"))?;
    if config.device == Device::Cuda && !device.is_cuda() {
        return Err("model.device is \"cuda\", but this build or machine has no CUDA".into());
    }
    let dtype = match config.dtype {
        // mistral.rs would take bf16 on a CPU too, which has no arithmetic for it.
        Dtype::Auto if device.is_cpu() => ModelDType::F32,
        Dtype::Auto | Dtype::Bf16 => ModelDType::BF16,
        Dtype::F32 => ModelDType::F32,
        Dtype::F16 => ModelDType::F16,
    };
    let quantization = match config.quantization.as_str() {
        "" => None,
        name => Some(
            parse_isq_value(name, Some(&device)).map_err(|e| format!("model.quantization: {e}"))?,
        ),
    };
    let specific = MultimodalSpecificConfig {
        topology: None,
        write_uqff: None,
        from_uqff: None,
        max_edge: None,
        imatrix: None,
        calibration_file: None,
        hf_cache_path: None,
        matformer_config_path: None,
        matformer_slice_name: None,
        organization: IsqOrganization::Default,
    };
    let loader = MultimodalLoaderBuilder::new(specific, None, None, Some(config.id.clone()), None)
        .build(None);
    let pipeline = loader
        .load_model_from_hf(
            None,
            TokenSource::CacheToken,
            &dtype,
            &device,
            false,
            DeviceMapSetting::Auto(AutoDeviceMapParams::default_multimodal()),
            quantization,
            None,
        )
        .map_err(|e| format!("{e:#}"))?;
    Ok((pipeline, device.is_cpu()))
}

/// The folder of a model: itself, or the snapshot that the hub's cache holds of it.
fn model_folder(id: &str) -> Option<PathBuf> {
    if Path::new(id).is_dir() {
        return Some(PathBuf::from(id));
    }
    let repo =
        mistralrs::core::hf_hub_cache_dir()?.join(format!("models--{}", id.replace('/', "--")));
    let commit = std::fs::read_to_string(repo.join("refs/main")).ok()?;
    Some(repo.join("snapshots").join(commit.trim()))
}

fn read_geometry(folder: &Path) -> Result<ImageGeometry, String> {
    let path = folder.join("preprocessor_config.json");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let number = |name: &str, in_size: &str| {
        json.get(name)
            .or_else(|| json.get("size")?.get(in_size))
            .and_then(serde_json::Value::as_u64)
    };
    let need = |name: &str, value: Option<u64>| {
        value
            .filter(|n| *n > 0)
            .ok_or_else(|| format!("{}: no {name}", path.display()))
    };
    let factor = need("patch_size", number("patch_size", ""))?
        * need("merge_size", number("merge_size", ""))?;
    Ok(ImageGeometry {
        factor: u32::try_from(factor)
            .map_err(|_| format!("{}: patch_size is too large", path.display()))?,
        min_pixels: need("min_pixels", number("min_pixels", "shortest_edge"))?,
        max_pixels: need("max_pixels", number("max_pixels", "longest_edge"))?,
    })
}

/// Changes with the build, the arithmetic and the weights' files.
fn fingerprint(config: &ModelConfig, folder: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    (
        env!("CARGO_PKG_VERSION"),
        &config.quantization,
        format!("{:?}", config.dtype),
    )
        .hash(&mut hasher);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    for file in files {
        (
            file.file_name(),
            file.metadata().map(|m| m.len()).unwrap_or(0),
        )
            .hash(&mut hasher);
        if file.extension().is_some_and(|e| e == "json") {
            std::fs::read(&file).unwrap_or_default().hash(&mut hasher);
        }
    }
    format!("fp_{:016x}", hasher.finish())
}
