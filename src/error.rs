//! The one place that maps an error to a status code and to OpenAI's error shape.
//!
//! An error has words for the client and, where it is the server's fault, a cause for the log; it is
//! logged once, here, where it becomes a response.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};

use crate::{
    engine::EngineError,
    media::{MediaError, Refused, fetch::FetchError, image::ImageError},
    openai::{
        InvalidRequest,
        response::{ErrorBody, ErrorObject},
    },
};

/// Seconds after which a client may try again when the server is full or the engine is away.
const RETRY_SOON: u32 = 1;
/// The same while the model loads.
const RETRY_LOADING: u32 = 5;

/// Everything that can go wrong with a request.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The body does not say what it must.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The body is not declared as JSON.
    #[error("The Content-Type must be application/json.")]
    ContentType,
    /// The body is larger than allowed.
    #[error("The request body is larger than {0} bytes.")]
    BodyTooLarge(usize),
    /// The body did not arrive in time.
    #[error("The request body did not arrive within {0} seconds.")]
    BodyTimeout(u64),
    /// The body broke off.
    #[error("The request body could not be read.")]
    BodyBroken,
    /// No such model here.
    #[error("The model '{0}' does not exist or you do not have access to it.")]
    ModelNotFound(String),
    /// No such route.
    #[error("Unknown request URL: {0}.")]
    RouteNotFound(String),
    /// The route has no such method.
    #[error("The method {0} is not allowed for this URL.")]
    MethodNotAllowed(String),
    /// An image was refused.
    #[error("Invalid image at '{}': {}.", .0.param, .0.error)]
    Image(#[from] Refused),
    /// The engine has no answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The model is not loaded yet, or could not be.
    #[error("The model is not ready: {0}.")]
    NotReady(String),
    /// All places are taken.
    #[error("The server is overloaded; please try again.")]
    Overloaded,
}

/// How an error looks outside.
struct Shown {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    param: Option<String>,
    message: String,
    retry_after: Option<u32>,
}

impl ApiError {
    fn shown(&self) -> Shown {
        let invalid = |status, code| (status, "invalid_request_error", code, None);
        let server = |status, code, retry| (status, "server_error", code, retry);
        let (status, kind, code, retry_after) = match self {
            Self::Invalid(error) => invalid(StatusCode::BAD_REQUEST, error.code),
            Self::ContentType => invalid(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_content_type",
            ),
            Self::BodyTooLarge(_) => invalid(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large"),
            Self::BodyTimeout(_) => invalid(StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            Self::BodyBroken => invalid(StatusCode::BAD_REQUEST, "invalid_body"),
            Self::ModelNotFound(_) => invalid(StatusCode::NOT_FOUND, "model_not_found"),
            Self::RouteNotFound(_) => invalid(StatusCode::NOT_FOUND, "unknown_url"),
            Self::MethodNotAllowed(_) => {
                invalid(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed")
            }
            Self::Image(refused) => {
                let (status, code) = shown_media(&refused.error);
                invalid(status, code)
            }
            Self::Engine(error) => match error {
                EngineError::ContextLengthExceeded { .. } => {
                    invalid(StatusCode::BAD_REQUEST, "context_length_exceeded")
                }
                EngineError::InvalidInput(_) => invalid(StatusCode::BAD_REQUEST, "invalid_prompt"),
                EngineError::Unavailable(_) => server(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "engine_unavailable",
                    Some(RETRY_SOON),
                ),
                EngineError::Failed(_) => {
                    server(StatusCode::INTERNAL_SERVER_ERROR, "engine_failed", None)
                }
            },
            Self::NotReady(_) => server(
                StatusCode::SERVICE_UNAVAILABLE,
                "model_not_ready",
                Some(RETRY_LOADING),
            ),
            Self::Overloaded => server(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                Some(RETRY_SOON),
            ),
        };
        Shown {
            status,
            kind,
            code,
            param: self.param(),
            message: self.message(),
            retry_after,
        }
    }

    fn param(&self) -> Option<String> {
        match self {
            Self::Invalid(error) => error.param.clone(),
            Self::Image(refused) => Some(refused.param.clone()),
            Self::ModelNotFound(_) => Some("model".into()),
            Self::Engine(EngineError::ContextLengthExceeded { .. }) => Some("messages".into()),
            Self::Engine(_)
            | Self::ContentType
            | Self::BodyTooLarge(_)
            | Self::BodyTimeout(_)
            | Self::BodyBroken
            | Self::RouteNotFound(_)
            | Self::MethodNotAllowed(_)
            | Self::NotReady(_)
            | Self::Overloaded => None,
        }
    }

    /// Words for the client; what happened inside stays inside.
    fn message(&self) -> String {
        match self {
            Self::Engine(EngineError::ContextLengthExceeded {
                prompt,
                context,
                at_least,
            }) => format!(
                "This model's maximum context length is {context} tokens, and at least one must be left for the \
                 answer. However, your messages resulted in {}{prompt} tokens. Please reduce the length of the messages.",
                if *at_least { "at least " } else { "" }
            ),
            Self::Engine(EngineError::InvalidInput(_)) => {
                "The model cannot process these messages.".into()
            }
            Self::Engine(EngineError::Unavailable(_)) => {
                "The model is temporarily unavailable; please try again.".into()
            }
            Self::Engine(EngineError::Failed(_)) => {
                "The model failed while processing your request.".into()
            }
            Self::Invalid(_)
            | Self::ContentType
            | Self::BodyTooLarge(_)
            | Self::BodyTimeout(_)
            | Self::BodyBroken
            | Self::ModelNotFound(_)
            | Self::RouteNotFound(_)
            | Self::MethodNotAllowed(_)
            | Self::Image(_)
            | Self::NotReady(_)
            | Self::Overloaded => self.to_string(),
        }
    }

    /// The error as the body of a response, or as the last event of a stream. Logs a failure.
    pub fn to_json(&self) -> String {
        let shown = self.shown();
        // A 503 says when to come again; polls of /ready would fill the log with it.
        if shown.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(code = shown.code, cause = %self, "a request failed");
        }
        let error = ErrorObject {
            message: &shown.message,
            kind: shown.kind,
            param: shown.param.as_deref(),
            code: Some(shown.code),
        };
        serde_json::to_string(&ErrorBody { error }).unwrap_or_default()
    }
}

fn shown_media(error: &MediaError) -> (StatusCode, &'static str) {
    match error {
        MediaError::Url(_) | MediaError::Fetch(FetchError::Url(_)) => {
            (StatusCode::BAD_REQUEST, "invalid_image_url")
        }
        MediaError::Base64 => (StatusCode::BAD_REQUEST, "invalid_base64"),
        MediaError::TooMany { .. } => (StatusCode::BAD_REQUEST, "too_many_images"),
        MediaError::TooLarge(_) | MediaError::Fetch(FetchError::TooLarge(_)) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "image_too_large")
        }
        MediaError::Fetch(
            FetchError::Unreachable
            | FetchError::Status(_)
            | FetchError::Timeout(_)
            | FetchError::Redirects(_),
        ) => (StatusCode::BAD_REQUEST, "image_fetch_failed"),
        MediaError::Image(ImageError::Unsupported) => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_image_type")
        }
        MediaError::Image(ImageError::Broken) => {
            (StatusCode::UNPROCESSABLE_ENTITY, "invalid_image")
        }
        MediaError::Image(ImageError::TooManyPixels { .. }) => {
            (StatusCode::PAYLOAD_TOO_LARGE, "image_too_large")
        }
        MediaError::Image(ImageError::AspectRatio { .. }) => {
            (StatusCode::BAD_REQUEST, "invalid_image_aspect_ratio")
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.shown().status
    }

    fn error_response(&self) -> HttpResponse {
        let shown = self.shown();
        let mut response = HttpResponse::build(shown.status);
        response.content_type("application/json");
        if let Some(seconds) = shown.retry_after {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
            response.insert_header(("retry-after-ms", (seconds * 1000).to_string()));
        }
        response.body(self.to_json())
    }
}
