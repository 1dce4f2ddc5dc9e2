//! The one place that maps an error to a status code and to OpenAI's error shape.
//!
//! An error has words for the client and, where it is the server's fault, a cause for the log; it is
//! logged once, here, where it becomes a response.

mod doors;

use std::time::Duration;

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};

use crate::{
    admission::Full,
    auth::{AuthError, jwt::MintError},
    engine::EngineError,
    limits::Exceeded,
    media::{MediaError, Refused, fetch::FetchError, image::ImageError},
    openai::{
        InvalidRequest,
        response::{ErrorBody, ErrorObject},
    },
};

use doors::{auth_message, limit_message, shown_auth, shown_limit, shown_mint};

/// Seconds after which a client may try again when the server is full or the engine is away.
const RETRY_SOON: u64 = 1;
/// The same while the model loads.
const RETRY_LOADING: u64 = 5;

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
    /// A model cannot be loaded or brought back.
    #[error("The model is lost; this server must be replaced.")]
    Lost,
    /// The server is ending.
    #[error("The server is shutting down; please try again.")]
    ShuttingDown,
    /// All places are taken.
    #[error("The server is overloaded; please try again.")]
    Overloaded,
    /// There is no room in the queue in front of the engine.
    #[error("The server is overloaded; please try again in {} seconds.", .0.retry_after)]
    QueueFull(Full),
    /// The caller is not let in.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The caller has had its share.
    #[error(transparent)]
    Limited(#[from] Exceeded),
    /// No token is minted.
    #[error("No token is minted: {0}.")]
    Mint(#[from] MintError),
}

impl From<Full> for ApiError {
    fn from(full: Full) -> Self {
        Self::QueueFull(full)
    }
}

/// The error's code, left in the response's extensions for the audit log.
#[derive(Debug, Clone, Copy)]
pub struct ErrorCode(pub &'static str);

/// How an error looks outside.
struct Shown {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    param: Option<String>,
    message: String,
    retry: Retry,
}

/// Whether and when to try again.
#[derive(Debug, Clone, Copy)]
enum Retry {
    /// The status says enough.
    Unsaid,
    /// After this time.
    After(Duration),
    /// After this time, as said in so many words: another server answers then.
    Elsewhere(Duration),
    /// Not by itself: it would wait too long, or in vain.
    Never(Option<Duration>),
}

impl ApiError {
    fn shown(&self) -> Shown {
        let (status, kind, code, retry) = match self {
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
            Self::Engine(error) => shown_engine(error),
            Self::NotReady(_) => unavailable("model_not_ready", RETRY_LOADING),
            Self::Lost => unavailable("model_lost", RETRY_LOADING),
            Self::ShuttingDown => {
                let again = Retry::Elsewhere(Duration::from_secs(RETRY_SOON));
                server(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", again)
            }
            Self::Overloaded => unavailable("overloaded", RETRY_SOON),
            Self::QueueFull(full) => unavailable("overloaded", full.retry_after),
            Self::Auth(error) => shown_auth(error),
            Self::Limited(exceeded) => shown_limit(exceeded),
            Self::Mint(error) => shown_mint(error),
        };
        Shown {
            status,
            kind,
            code,
            param: self.param(),
            message: self.message(),
            retry,
        }
    }

    /// A word for programs, and for the audit log.
    pub fn code(&self) -> &'static str {
        self.shown().code
    }

    fn param(&self) -> Option<String> {
        match self {
            Self::Invalid(error) => error.param.clone(),
            Self::Image(refused) => Some(refused.param.clone()),
            Self::ModelNotFound(_) => Some("model".into()),
            Self::Engine(EngineError::ContextLengthExceeded { .. }) => Some("messages".into()),
            Self::Engine(EngineError::Refused { param, .. }) => Some(param.to_string()),
            Self::Mint(MintError::Exceeds(field) | MintError::Invalid(field)) => {
                Some((*field).into())
            }
            Self::Engine(_)
            | Self::ContentType
            | Self::BodyTooLarge(_)
            | Self::BodyTimeout(_)
            | Self::BodyBroken
            | Self::RouteNotFound(_)
            | Self::MethodNotAllowed(_)
            | Self::NotReady(_)
            | Self::Lost
            | Self::ShuttingDown
            | Self::Overloaded
            | Self::QueueFull(_)
            | Self::Auth(_)
            | Self::Limited(_)
            | Self::Mint(
                MintError::NotAllowed | MintError::Expired | MintError::TooLong | MintError::Failed,
            ) => None,
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
            Self::Engine(EngineError::Refused { message, .. }) => message.clone(),
            Self::Engine(EngineError::InvalidInput(_)) => {
                "The model cannot process these messages.".into()
            }
            Self::Engine(EngineError::Unavailable(_)) => {
                "The model is temporarily unavailable; please try again.".into()
            }
            Self::Engine(EngineError::Failed(_)) => {
                "The model failed while processing your request.".into()
            }
            Self::Auth(error) => auth_message(error).into(),
            Self::Limited(exceeded) => limit_message(exceeded),
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
            | Self::Lost
            | Self::ShuttingDown
            | Self::Overloaded
            | Self::QueueFull(_)
            | Self::Mint(_) => self.to_string(),
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
            should_retry: matches!(shown.retry, Retry::Elsewhere(_)).then_some(true),
        };
        serde_json::to_string(&ErrorBody { error }).unwrap_or_default()
    }
}

type Row = (StatusCode, &'static str, &'static str, Retry);

fn invalid(status: StatusCode, code: &'static str) -> Row {
    (status, "invalid_request_error", code, Retry::Unsaid)
}

fn server(status: StatusCode, code: &'static str, retry: Retry) -> Row {
    (status, "server_error", code, retry)
}

fn unavailable(code: &'static str, seconds: u64) -> Row {
    let retry = Retry::After(Duration::from_secs(seconds));
    server(StatusCode::SERVICE_UNAVAILABLE, code, retry)
}

fn forbidden(code: &'static str) -> Row {
    let never = Retry::Unsaid;
    (StatusCode::FORBIDDEN, "permission_error", code, never)
}

fn shown_engine(error: &EngineError) -> Row {
    match error {
        EngineError::ContextLengthExceeded { .. } => {
            invalid(StatusCode::BAD_REQUEST, "context_length_exceeded")
        }
        EngineError::Refused { code, .. } => invalid(StatusCode::BAD_REQUEST, code),
        EngineError::InvalidInput(_) => invalid(StatusCode::BAD_REQUEST, "invalid_prompt"),
        EngineError::Unavailable(_) => unavailable("engine_unavailable", RETRY_SOON),
        EngineError::Failed(_) => server(
            StatusCode::INTERNAL_SERVER_ERROR,
            "engine_failed",
            Retry::Unsaid,
        ),
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
            | FetchError::Encoding
            | FetchError::Interrupted
            | FetchError::Timeout(_)
            | FetchError::Redirects(_),
        ) => (StatusCode::BAD_REQUEST, "image_fetch_failed"),
        MediaError::Image(ImageError::Unsupported) => {
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_image_type")
        }
        MediaError::Image(ImageError::Broken | ImageError::TooManyScans(_)) => {
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
        let after = match shown.retry {
            Retry::Unsaid => None,
            Retry::After(after) => Some(after),
            Retry::Elsewhere(after) => {
                response.insert_header(("x-should-retry", "true"));
                Some(after)
            }
            Retry::Never(after) => {
                response.insert_header(("x-should-retry", "false"));
                after
            }
        };
        if let Some(after) = after {
            // Rounded up: who comes back then shall not come too early.
            let millis = after.as_micros().div_ceil(1000);
            response.insert_header((header::RETRY_AFTER, millis.div_ceil(1000).to_string()));
            response.insert_header(("retry-after-ms", millis.to_string()));
        }
        if shown.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"porthole\""));
        }
        response.extensions_mut().insert(ErrorCode(shown.code));
        response.body(self.to_json())
    }
}
