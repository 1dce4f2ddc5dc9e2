//! Requests whose bounds or target two HTTP parsers could see differently. actix-http refuses most
//! of them before they come here (RFC 9112, sections 6 and 11.2); these are the rest.

use std::{net::Ipv6Addr, rc::Rc};

use actix_web::{
    dev::ServiceRequest,
    http::{
        ConnectionType, Method,
        header::{
            CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
        },
        uri::Scheme,
    },
};

use crate::connections::Connection;

/// Why a request must not be served, if so; the connection then has to be closed.
pub(super) fn refusal(
    request: &ServiceRequest,
    connection: Option<&Rc<Connection>>,
) -> Option<&'static str> {
    let headers = request.headers();
    if connection.is_some_and(|connection| connection.is_closing()) {
        // Pipelined behind one that ended the connection (RFC 9112, section 9.6).
        Some("The connection was ended by an earlier request.")
    } else if headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING) {
        Some("Content-Length and Transfer-Encoding exclude each other.")
    } else if is_upgrade(headers) && headers.contains_key(CONTENT_LENGTH) {
        // actix-http would take all that follows for the body.
        Some("A request to change the protocol cannot have a body.")
    } else if headers.keys().any(resembles_framing) {
        Some("A header resembles Content-Length or Transfer-Encoding.")
    } else if headers.get(HOST).is_some_and(|host| !is_host(host)) {
        Some("The Host header is not a host.")
    } else if !is_target(request) {
        Some("The request target is not one of this server's.")
    } else {
        None
    }
}

/// Whether the client lets the connection end with this request.
pub(super) fn is_last(request: &ServiceRequest) -> bool {
    request.head().connection_type() == ConnectionType::Close
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    let websocket = |value: &HeaderValue| {
        value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"websocket")
    };
    headers.get_all(UPGRADE).any(websocket)
}

/// Some servers take `_` for `-` in names.
fn resembles_framing(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.contains('_')
        && [CONTENT_LENGTH, TRANSFER_ENCODING, HOST]
            .iter()
            .any(|framing| name.replace('_', "-") == framing.as_str())
}

/// A host with a port or without; empty is allowed (RFC 9112, section 3.2).
fn is_host(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str().map(|text| text.trim_matches([' ', '\t'])) else {
        return false;
    };
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let (host_is_fine, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address.parse::<Ipv6Addr>().is_ok(), rest),
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (name.bytes().all(is_name), port)
        }
    };
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    host_is_fine && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// A path, an absolute URL of ours, or `*` for OPTIONS.
fn is_target(request: &ServiceRequest) -> bool {
    let uri = request.uri();
    match (uri.scheme(), uri.authority()) {
        (None, None) => uri.path().starts_with('/') || request.method() == Method::OPTIONS,
        (Some(scheme), Some(authority)) => {
            (*scheme == Scheme::HTTP || *scheme == Scheme::HTTPS)
                && !authority.as_str().contains('@')
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}
