//! Loading: files to a running engine, and what the gateway must know of them.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
};

use mistralrs::{
    AutoDeviceMapParams, DefaultSchedulerMethod, Device, DeviceMapSetting, MemoryGpuConfig,
    ModelDType, ModelGenerationDefaults, PagedAttentionConfig, PagedCacheType, SchedulerConfig,
    TokenSource, best_device,
    core::{
        DeviceMapMetadata, GGUFLoaderBuilder, GGUFSpecificConfig, IsqOrganization, Loader,
        MistralRs, MistralRsBuilder, MultimodalLoaderBuilder, MultimodalSpecificConfig, Pipeline,
    },
    parse_isq_value,
};
use tokenizers::Tokenizer;
use tokio::sync::Mutex;

use super::{
    geometry::read_geometry,
    grammar::{CallTokens, Grammars},
    template::{ChatTemplate, PASS_THROUGH},
};
use crate::{
    config::{Device as DeviceChoice, Dtype, ModelConfig},
    engine::{ModelInfo, Reasoning, neutralize::Neutralizer},
    media::budget::ImageGeometry,
};

/// What closes a turn in the templates of the models that are served.
const TURN_ENDS: [&str; 5] = [
    "<|im_end|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<|end|>",
    "<|eot_id|>",
];

/// Names that the engine's image processors give a meaning of their own, beside the tokenizer's.
const ENGINE_PLACEHOLDERS: [&str; 10] = [
    "<image>",
    "<fake_token_around_image>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
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
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) template: Option<ChatTemplate>,
    pub(super) grammars: Grammars,
    pub(super) calls: Option<CallTokens>,
    pub(super) thoughts: Option<(u32, u32)>,
    pub(super) ends: Arc<[u32]>,
    pub(super) never: Arc<[u32]>,
    pub(super) on_cpu: bool,
}

/// A device that a replica is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU by its number.
    Cuda(usize),
}

impl Place {
    /// From its name in `model.devices`: `cpu`, `cuda:1`.
    ///
    /// # Errors
    /// In words for the operator.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        let number = name.strip_prefix("cuda:").and_then(|n| n.parse().ok());
        match (name, number) {
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(number)) => Ok(Self::Cuda(number)),
            (_, None) => Err(format!(
                "model.devices: {name:?} is neither \"cpu\" nor such as \"cuda:0\""
            )),
        }
    }

    fn device(self) -> Result<Device, String> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => Device::new_cuda(number)
                .map_err(|e| format!("model.devices: cuda:{number} cannot be used: {e}")),
        }
    }
}

/// Loads the model on a thread of its own.
pub(super) async fn load(config: &ModelConfig, place: Option<Place>) -> Result<Loaded, String> {
    let blocking = config.clone();
    let (pipeline, on_cpu) = tokio::task::spawn_blocking(move || load_pipeline(&blocking, place))
        .await
        .map_err(|e| format!("loading the model panicked: {e}"))??;
    let files = files(&config.id)?;
    let locked = pipeline.lock().await;
    let tokenizer = locked.tokenizer().ok_or("the model has no tokenizer")?;
    let metadata = locked.get_metadata();
    let defaults = locked.generation_defaults();
    let template = read_template(files.folder(), &*locked)?;
    drop(locked);

    let vocabulary = tokenizer.get_vocab_size(true);
    let has = |text: &str| {
        template
            .as_ref()
            .is_some_and(|template| template.mentions(text))
    };
    let pair = |open: &str, close: &str| {
        Some((tokenizer.token_to_id(open)?, tokenizer.token_to_id(close)?))
    };
    let calls = pair("<tool_call>", "</tool_call>").filter(|_| has("<tool_call>"));
    let calls = calls.map(|(open, close)| CallTokens { open, close });
    let thoughts = pair("<think>", "</think>").filter(|_| has("<think>") || has("</think>"));
    let reasoning = match thoughts {
        None => Reasoning::Never,
        Some(_) if has("enable_thinking") => Reasoning::Optional,
        Some(_) => Reasoning::Always,
    };
    let tokens = metadata.tok_env().ok_or("the model has no token table")?;
    let grammars = Grammars::new(&tokens, calls)?;
    let context_length = match config.context_length {
        0 => metadata.max_seq_len,
        wanted => wanted.min(metadata.max_seq_len),
    };
    let info = ModelInfo {
        geometry: files.geometry()?,
        context_length,
        vocabulary,
        fingerprint: fingerprint(config, files.folder()),
        tools: calls.is_some(),
        reasoning,
    };
    Ok(Loaded {
        runner: start(pipeline, config).await?,
        info,
        defaults,
        neutralizer: neutralizer(&tokenizer)?,
        ends: ends(&metadata.eos_tok, &tokenizer, &has),
        never: ENGINE_PLACEHOLDERS
            .iter()
            .filter_map(|text| tokenizer.token_to_id(text))
            .collect(),
        tokenizer,
        template,
        grammars,
        calls,
        thoughts,
        on_cpu,
    })
}

fn neutralizer(tokenizer: &Tokenizer) -> Result<Neutralizer, String> {
    let special = tokenizer
        .get_added_tokens_decoder()
        .into_values()
        // Also those that are shown, such as <tool_call> and <think>: the model obeys them.
        .filter(|token| token.special || token.content.starts_with('<'))
        .map(|token| token.content)
        .chain(ENGINE_PLACEHOLDERS.map(String::from));
    Neutralizer::new(special).map_err(|e| e.to_string())
}

/// The engine's own tokens that end an answer, and those that close a turn in the chat template
/// (the engine looks for these in its template, which is ours and empty of them).
fn ends(known: &[u32], tokenizer: &Tokenizer, has: &dyn Fn(&str) -> bool) -> Arc<[u32]> {
    let closing = TURN_ENDS.iter().filter(|text| has(text));
    let closing = closing.filter_map(|text| tokenizer.token_to_id(text));
    let mut ends: Vec<u32> = known.iter().copied().chain(closing).collect();
    ends.sort_unstable();
    ends.dedup();
    ends.into()
}

async fn start(pipeline: LoadedPipeline, config: &ModelConfig) -> Result<Arc<MistralRs>, String> {
    let at_once = config.max_batch_size.max(8);
    // Where its pages were asked for and can be had.
    let pages = pipeline.lock().await.get_metadata().cache_config.clone();
    let scheduler = match pages {
        Some(config) => SchedulerConfig::PagedAttentionMeta {
            max_num_seqs: at_once,
            config,
        },
        None => SchedulerConfig::DefaultScheduler {
            method: DefaultSchedulerMethod::Fixed(
                at_once.try_into().map_err(|_| "max_batch_size is 0")?,
            ),
        },
    };
    // Its prefix cache mixes concurrent sequences.
    Ok(MistralRsBuilder::new(pipeline, scheduler, false, None)
        .with_no_prefix_cache(true)
        .with_prefix_cache_n(0)
        .build()
        .await)
}

/// Where a model's files are.
enum Files {
    /// A folder as the hub has it, of a model that sees images.
    Folder(PathBuf),
    /// One GGUF file, in this folder, of a model that reads text.
    Gguf(PathBuf),
}

impl Files {
    fn folder(&self) -> &Path {
        match self {
            Self::Folder(folder) | Self::Gguf(folder) => folder,
        }
    }

    fn geometry(&self) -> Result<Option<ImageGeometry>, String> {
        match self {
            Self::Folder(folder) => read_geometry(folder),
            Self::Gguf(_) => Ok(None),
        }
    }
}

fn files(id: &str) -> Result<Files, String> {
    let path = Path::new(id);
    if is_gguf(path) {
        let folder = path.parent().unwrap_or(Path::new(".")).to_path_buf();
        return Ok(Files::Gguf(folder));
    }
    model_folder(id)
        .map(Files::Folder)
        .ok_or_else(|| format!("the files of {id} are not where they were loaded from"))
}

fn is_gguf(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "gguf")
}

fn read_template(folder: &Path, pipeline: &dyn Pipeline) -> Result<Option<ChatTemplate>, String> {
    let engine = pipeline.get_chat_template();
    let of_engine = || {
        let template = engine.as_ref()?.chat_template.as_ref()?;
        template.0.as_ref().left().cloned()
    };
    let source = ChatTemplate::source(folder).or_else(of_engine);
    let token = |token: Option<String>| token.unwrap_or_default();
    let bos = token(engine.as_ref().and_then(|template| template.bos_tok()));
    let eos = token(engine.as_ref().and_then(|template| template.eos_tok()));
    source
        .map(|source| ChatTemplate::new(&source, bos, eos))
        .transpose()
}

type LoadedPipeline = Arc<Mutex<dyn Pipeline + Send + Sync>>;

fn load_pipeline(
    config: &ModelConfig,
    place: Option<Place>,
) -> Result<(LoadedPipeline, bool), String> {
    let device = device(config, place)?;
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
    // The engine reads it while it loads.
    let pass_through = tempfile::Builder::new()
        .prefix("porthole-")
        .suffix(".jinja")
        .tempfile()
        .and_then(|file| std::fs::write(file.path(), PASS_THROUGH).map(|()| file))
        .map_err(|e| format!("a temporary file: {e}"))?;
    let loader = loader(&config.id, pass_through.path());
    let mapping = match place {
        // All of it there: else the engine spreads it over all devices it finds.
        Some(_) => DeviceMapSetting::Map(DeviceMapMetadata::dummy()),
        None if is_gguf(Path::new(&config.id)) => {
            DeviceMapSetting::Auto(AutoDeviceMapParams::default_text())
        }
        None => DeviceMapSetting::Auto(AutoDeviceMapParams::default_multimodal()),
    };
    let pipeline = loader
        .load_model_from_hf(
            None,
            TokenSource::CacheToken,
            &dtype,
            &device,
            false,
            mapping,
            quantization,
            pages(config, &device)?,
        )
        .map_err(|e| format!("{e:#}"))?;
    Ok((pipeline, device.is_cpu()))
}

fn device(config: &ModelConfig, place: Option<Place>) -> Result<Device, String> {
    if let Some(place) = place {
        return place.device();
    }
    let wanted = config.device;
    let device = best_device(wanted == DeviceChoice::Cpu).map_err(|e| format!("no device: {e}"))?;
    if wanted == DeviceChoice::Cuda && !device.is_cuda() {
        return Err("model.device is \"cuda\", but this build or machine has no CUDA".into());
    }
    Ok(device)
}

/// The keys and values in pages, where they are asked for.
fn pages(config: &ModelConfig, device: &Device) -> Result<Option<PagedAttentionConfig>, String> {
    if !config.paged_attention {
        return Ok(None);
    }
    if !device.is_cuda() {
        return Err("model.paged_attention is for CUDA only".into());
    }
    let memory = MemoryGpuConfig::Utilization(config.gpu_memory_utilization);
    PagedAttentionConfig::new(None, memory, PagedCacheType::Auto)
        .map(Some)
        .map_err(|e| format!("model.paged_attention: {e}"))
}

fn loader(id: &str, pass_through: &Path) -> Box<dyn Loader> {
    let path = Path::new(id);
    if is_gguf(path) {
        let folder = path.parent().unwrap_or(Path::new("."));
        let file = path.file_name().unwrap_or_default();
        let builder = GGUFLoaderBuilder::new(
            None,
            None,
            folder.to_string_lossy().into_owned(),
            vec![file.to_string_lossy().into_owned()],
            GGUFSpecificConfig { topology: None },
            false,
            None,
        );
        return builder.build();
    }
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
    let template = Some(pass_through.to_string_lossy().into_owned());
    MultimodalLoaderBuilder::new(specific, None, None, Some(id.to_string()), template).build(None)
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
