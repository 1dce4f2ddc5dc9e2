//! The listener's guard, around every request: what may not be served is refused, and every answer
//! has the headers that browsers need.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::{
    Error,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::ConnectionType,
    middleware::Next,
    web::{Bytes, Data},
};

use super::{cors, framing, headers};
use crate::{
    connections::{Connection, Serving},
    error::ApiError,
    openai::InvalidRequest,
    state::AppState,
};

/// Refuses ambiguous requests, with the end of their connection, and completes the headers of
/// every answer. Stands outside of CORS, whose refusals it puts into the one error shape.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let connection = request.conn_data::<Rc<Connection>>().cloned();
    let serving = connection.as_ref().map(Connection::serve);
    let tls = request
        .app_data::<Data<AppState>>()
        .is_some_and(|state| !state.config.server.tls_certificate.as_os_str().is_empty());

    let refusal = framing::refusal(&request, connection.as_ref());
    if let Some(connection) = &connection
        && (refusal.is_some() || framing::is_last(&request))
    {
        connection.close();
    }
    let mut response = match refusal {
        Some(reason) => refuse(request, reason),
        None => cors::explain(next.call(request).await?.map_into_boxed_body()),
    };
    headers::add(response.headers_mut(), tls);
    Ok(response.map_body(|_, body| match body.size() {
        BodySize::None | BodySize::Sized(0) => body,
        BodySize::Sized(_) | BodySize::Stream => BoxBody::new(Held {
            body,
            _serving: serving,
        }),
    }))
}

fn refuse(request: ServiceRequest, reason: &str) -> ServiceResponse<BoxBody> {
    let mut response = request.error_response(ApiError::Invalid(InvalidRequest {
        message: reason.into(),
        param: None,
        code: "invalid_request",
    }));
    let head = response.response_mut().head_mut();
    head.set_connection_type(ConnectionType::Close);
    response
}

/// A body whose request is being served until it has been sent.
struct Held {
    body: BoxBody,
    _serving: Option<Serving>,
}

impl MessageBody for Held {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }
}
