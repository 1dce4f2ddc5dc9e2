//! `[telemetry]`: where traces go.

use serde::{Deserialize, Serialize};

/// `[telemetry]`: where traces go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Base URL of an OpenTelemetry collector (`http://host:4317`); empty for no traces.
    pub otlp_endpoint: String,
    /// How the collector is spoken to.
    pub otlp_protocol: OtlpProtocol,
    /// The name that traces have as `service.name`.
    pub service_name: String,
    /// Part of the requests that are traced, from 0 to 1, where the client's `traceparent` does not
    /// say whether to.
    pub sample_ratio: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            otlp_endpoint: String::new(),
            otlp_protocol: OtlpProtocol::Grpc,
            service_name: "porthole".into(),
            sample_ratio: 1.0,
        }
    }
}

/// How an OpenTelemetry collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    /// gRPC, by custom on port 4317.
    Grpc,
    /// Protocol buffers in HTTP requests to `/v1/traces`, by custom on port 4318.
    Http,
}

impl TelemetryConfig {
    /// What cannot be.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            found.push("telemetry.sample_ratio: is not between 0 and 1".to_string());
        }
        if self.service_name.is_empty() {
            found.push("telemetry.service_name: is empty".to_string());
        }
        let good = |url: url::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        if !self.otlp_endpoint.is_empty() && !url::Url::parse(&self.otlp_endpoint).is_ok_and(good) {
            found.push(
                "telemetry.otlp_endpoint: is not a URL such as http://collector:4317".to_string(),
            );
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_told() {
        assert!(TelemetryConfig::default().problems().is_empty());
        let bad = TelemetryConfig {
            otlp_endpoint: "collector:4317".into(),
            service_name: String::new(),
            sample_ratio: f64::NAN,
            ..TelemetryConfig::default()
        };
        assert_eq!(bad.problems().len(), 3);
        for endpoint in ["http://a:4317", "https://a.example.com/otlp"] {
            let good = TelemetryConfig {
                otlp_endpoint: endpoint.into(),
                ..TelemetryConfig::default()
            };
            assert!(good.problems().is_empty(), "{endpoint}");
        }
    }
}
