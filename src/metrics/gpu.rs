//! NVIDIA GPUs by NVML, where its library is there; otherwise nothing, and no error.
//!
//! Reading blocks for some milliseconds, so it is done away from the async threads, and at most
//! once a second.

use std::{
    ffi::OsStr,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nvml_wrapper::Nvml;
use prometheus_client::{
    collector::Collector, encoding::DescriptorEncoder, metrics::MetricType, registry::Unit,
};

/// How long a reading is good for.
const FRESH: Duration = Duration::from_secs(1);

/// The GPUs of this machine.
#[derive(Default)]
pub(super) struct Gpus(Mutex<State>);

#[derive(Default)]
struct State {
    library: Library,
    read: Option<Instant>,
    readings: Vec<Reading>,
}

/// The library, which is looked for once.
#[derive(Default)]
enum Library {
    #[default]
    NotAsked,
    Absent,
    Loaded(Box<Nvml>),
}

/// What is known of one GPU. MIG slices tell no utilization.
#[derive(Debug, Clone)]
struct Reading {
    index: String,
    utilization: Option<f64>,
    memory: Option<(u64, u64)>,
}

impl fmt::Debug for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpus").finish_non_exhaustive()
    }
}

impl Library {
    /// The name without a number comes with development files alone.
    fn load() -> Self {
        let numbered = Nvml::builder()
            .lib_path(OsStr::new("libnvidia-ml.so.1"))
            .init();
        match numbered.or_else(|_| Nvml::init()) {
            Ok(nvml) => Self::Loaded(Box::new(nvml)),
            Err(error) => {
                tracing::debug!(%error, "no GPU metrics: NVML cannot be used");
                Self::Absent
            }
        }
    }

    fn read(&self) -> Vec<Reading> {
        let Self::Loaded(nvml) = self else {
            return Vec::new();
        };
        let reading = |index: u32| {
            let device = nvml.device_by_index(index).ok()?;
            let rates = device.utilization_rates().ok();
            let memory = device.memory_info().ok();
            Some(Reading {
                index: index.to_string(),
                utilization: rates.map(|rates| f64::from(rates.gpu) / 100.0),
                memory: memory.map(|memory| (memory.used, memory.total)),
            })
        };
        let devices = nvml.device_count().unwrap_or(0);
        (0..devices).filter_map(reading).collect()
    }
}

impl Gpus {
    fn readings(&self) -> Vec<Reading> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(state.library, Library::NotAsked) {
            state.library = Library::load();
        }
        if state.read.is_none_or(|read| read.elapsed() >= FRESH) {
            state.readings = state.library.read();
            state.read = Some(Instant::now());
        }
        state.readings.clone()
    }
}

impl Collector for Gpus {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> fmt::Result {
        let readings = self.readings();
        let ratio = Unit::Other("ratio".into());
        let used = |reading: &Reading| reading.memory.map(|(used, _)| used as f64);
        let total = |reading: &Reading| reading.memory.map(|(_, total)| total as f64);
        type Value<'a> = &'a dyn Fn(&Reading) -> Option<f64>;
        let metrics: [(&str, &str, &Unit, Value<'_>); 3] = [
            (
                "gpu_utilization",
                "Part of the last moments in which the GPU computed.",
                &ratio,
                &|reading| reading.utilization,
            ),
            ("gpu_memory_used", "GPU memory in use.", &Unit::Bytes, &used),
            ("gpu_memory_total", "GPU memory.", &Unit::Bytes, &total),
        ];
        for (name, help, unit, value) in metrics {
            let values: Vec<_> = readings
                .iter()
                .filter_map(|reading| Some((&reading.index, value(reading)?)))
                .collect();
            if values.is_empty() {
                continue;
            }
            let mut metric = out.encode_descriptor(name, help, Some(unit), MetricType::Gauge)?;
            for (index, value) in values {
                metric
                    .encode_family(&[("gpu", index.as_str())])?
                    .encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}
