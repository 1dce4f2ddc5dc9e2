//! What happens around every request: an id, an audit record, metrics, and the doors.
//!
//! Guards answer `Ok(error_response)`: an `Err` would pass by the bookkeeping further out.

pub mod cors;
mod framing;
pub mod guard;
mod headers;

use std::{sync::Arc, time::Instant};

use actix_web::{
    Error, HttpMessage, ResponseError,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        ConnectionType,
        header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, ORIGIN},
    },
    middleware::Next,
    web::Data,
};
use tracing::{Instrument, field::Empty};

use crate::{
    audit::Record,
    auth::{AuthError, Session, Source},
    client_address::client_address,
    error::{ApiError, ErrorCode},
    lifecycle::Phase,
    limits::{Snapshot, Window},
    sse::Audited,
    state::AppState,
    trace::{Incoming, RequestTrace},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Gives the request an id, unless it brings a sane one, and counts, times and logs it.
pub async fn record(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<Audited>, Error> {
    let started = Instant::now();
    let id = request_id(&request);
    let state = request.app_data::<Data<AppState>>().cloned();
    let open = |state: &Data<AppState>| state.audit.open(|| incoming(request.headers()));
    let record = state.as_ref().map(open);
    let trace = record.as_ref().and_then(|record| record.trace());
    // At the level of errors, so that no filter takes the id from the lines that it lets through.
    let span = tracing::error_span!(
        "request",
        request_id = id.to_str().unwrap_or_default(),
        trace_id = Empty
    );
    if let Some(trace) = trace {
        span.record("trace_id", trace.id());
    }
    let traceparent = trace.map(RequestTrace::traceparent);
    if let (Some(state), Some(record)) = (&state, &record) {
        let client = client_of(&request, state);
        record.note(|fields| {
            fields.request_id = id.to_str().unwrap_or_default().to_string();
            fields.client = client;
            fields.method = request.method().to_string();
        });
        request.extensions_mut().insert(record.clone());
    }
    let mut response = next.call(request).instrument(span.clone()).await?;

    let elapsed = started.elapsed();
    let status = response.status().as_u16();
    let pattern = response.request().match_pattern();
    let route = pattern.unwrap_or_else(|| "unknown".into());
    if let (Some(state), Some(record)) = (&state, &record) {
        let code = response.response().extensions().get::<ErrorCode>().copied();
        record.note(|fields| {
            fields.status = status;
            fields.route.clone_from(&route);
            fields.error = code.map(|ErrorCode(code)| code);
        });
        state.metrics.answered(route, status, elapsed.as_secs_f64());
    }
    if state
        .as_ref()
        .is_some_and(|state| state.lifecycle.phase() > Phase::Serving)
    {
        // The next request on this connection would meet a server that has gone.
        let head = response.response_mut().head_mut();
        head.set_connection_type(ConnectionType::Close);
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(PROCESSING_MS, HeaderValue::from(elapsed.as_millis() as u64));
    if let Some(Ok(traceparent)) = traceparent.map(HeaderValue::try_from) {
        headers.insert(TRACEPARENT, traceparent);
    }
    Ok(response.map_body(|_, body| Audited::new(body.boxed(), record, span)))
}

/// The trace that a request belongs to. Two that contradict each other are none.
fn incoming(headers: &HeaderMap) -> Incoming {
    let text = |value: &HeaderValue| value.to_str().map(str::to_string).ok();
    let mut parents = headers.get_all(TRACEPARENT);
    let parent = parents.next().and_then(text);
    let states: Vec<_> = headers.get_all(TRACESTATE).filter_map(text).collect();
    Incoming {
        traceparent: parent.filter(|_| parents.next().is_none()),
        tracestate: (!states.is_empty()).then(|| states.join(",")),
    }
}

/// Lets in who has a good credential; the body is still unread.
pub async fn authenticate(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let Some(state) = request.app_data::<Data<AppState>>().cloned() else {
        return refuse(request, &AuthError::Missing.into());
    };
    match session(&request, &state).await {
        Ok(session) => {
            let record = request.extensions().get::<Arc<Record>>().cloned();
            if let Some(record) = record {
                record.note(|fields| {
                    fields.caller = Some(session.caller.id.clone());
                    fields.key.clone_from(&session.caller.key);
                });
            }
            request.extensions_mut().insert(session);
            let response = next.call(request).await?;
            Ok(response.map_into_left_body())
        }
        Err(error) => refuse(request, &error.into()),
    }
}

async fn session(request: &ServiceRequest, state: &AppState) -> Result<Session, AuthError> {
    let mut credentials = request.headers().get_all(AUTHORIZATION);
    let credential = credentials.next();
    if credentials.next().is_some() {
        return Err(AuthError::Invalid("several_credentials"));
    }
    let text = |value: &HeaderValue| value.to_str().map(str::to_string);
    let credential = credential.map(text).transpose();
    let credential = credential.map_err(|_| AuthError::Invalid("not_ascii"))?;
    let address = client_of(request, state).ok_or(AuthError::NotFromHere("no_address"))?;
    let origin = request.headers().get(ORIGIN).and_then(|o| o.to_str().ok());
    let source = Source { address, origin };
    state.auth.authenticate(credential.as_deref(), source).await
}

/// Counts the request against its caller's limits, and tells them on every answer.
pub async fn limit(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let state = request.app_data::<Data<AppState>>().cloned();
    let session = request.extensions().get::<Session>().cloned();
    let (Some(state), Some(session)) = (state, session) else {
        return refuse(request, &AuthError::Missing.into());
    };
    match state.limiter.enter(&session.caller).await {
        Ok(entry) => {
            let entry = Arc::new(entry);
            request.extensions_mut().insert(entry.clone());
            let mut response = next.call(request).await?;
            tell(&entry.snapshot(), response.headers_mut());
            Ok(response.map_into_left_body())
        }
        Err(exceeded) => {
            let snapshot = exceeded.snapshot;
            let mut response = refuse(request, &exceeded.into())?;
            tell(&snapshot, response.headers_mut());
            Ok(response)
        }
    }
}

fn refuse<B>(
    request: ServiceRequest,
    error: &ApiError,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let response = error.error_response();
    Ok(request.into_response(response).map_into_right_body())
}

fn client_of(request: &ServiceRequest, state: &AppState) -> Option<std::net::IpAddr> {
    let peer = request.peer_addr()?.ip();
    let forwarded = request.headers().get_all(FORWARDED_FOR);
    let forwarded = forwarded.filter_map(|value| value.to_str().ok());
    let trusted = &state.config.server.trusted_proxies;
    Some(client_address(peer, forwarded, trusted))
}

/// Writes OpenAI's `x-ratelimit-*` headers.
fn tell(snapshot: &Snapshot, headers: &mut HeaderMap) {
    let mut write = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    if let Some(Window {
        limit,
        remaining,
        reset,
    }) = snapshot.requests
    {
        write("x-ratelimit-limit-requests", limit.to_string());
        write("x-ratelimit-remaining-requests", remaining.to_string());
        write("x-ratelimit-reset-requests", short(reset));
    }
    if let Some(Window {
        limit,
        remaining,
        reset,
    }) = snapshot.tokens
    {
        write("x-ratelimit-limit-tokens", limit.to_string());
        write("x-ratelimit-remaining-tokens", remaining.to_string());
        write("x-ratelimit-reset-tokens", short(reset));
    }
}

/// A time as OpenAI writes it: `120ms`, `7s`, `6m0s`. Rounded up, so that it is true.
pub(crate) fn short(time: std::time::Duration) -> String {
    let millis = time.as_micros().div_ceil(1000);
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let seconds = millis.div_ceil(1000);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

fn request_id(request: &ServiceRequest) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=128).contains(&bytes.len())
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    request
        .headers()
        .get(REQUEST_ID)
        .filter(sane)
        .cloned()
        .unwrap_or_else(|| {
            let id = format!("req_{}", uuid::Uuid::new_v4().simple());
            HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("req"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_short_and_never_too_short() {
        for (micros, expected) in [
            (0, "0ms"),
            (1, "1ms"),
            (120_000, "120ms"),
            (999_500, "1s"),
            (1_000_001, "2s"),
            (360_000_000, "6m0s"),
            (3_661_000_000, "1h1m1s"),
        ] {
            assert_eq!(short(Duration::from_micros(micros)), expected);
        }
    }
}
