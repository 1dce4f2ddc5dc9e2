//! What this server offers, as an OpenAPI 3.1 document. Bounds and words come from the parsers'
//! own constants.

mod answers;
mod chat;
mod messages;
mod requests;
mod responses;
mod schema;

use serde_json::{Map, Value, json};

use schema::reference;

/// The document.
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Porthole",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "A vision-language model behind OpenAI's API.",
            "description": "Fields of requests that are null are taken as left out. A field that cannot change \
                the answer is accepted and named in the 'x-porthole-ignored' header of the answer.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }],
        "paths": paths(),
        "components": {
            "securitySchemes": { "bearer": {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key, a token of this server, or one of a trusted issuer.",
            } },
            "schemas": schemas(),
        },
    })
}

fn schemas() -> Value {
    let parts = [
        chat::schemas(),
        messages::schemas(),
        requests::schemas(),
        responses::schemas(),
        answers::schemas(),
    ];
    let schemas = parts.into_iter().flatten();
    let schemas: Map<String, Value> = schemas
        .map(|(name, schema)| (name.into(), schema))
        .collect();
    schemas.into()
}

/// What any request can meet: a listener that refuses it, doors, limits.
const DOORS: &[u16] = &[400, 401, 403, 429, 503];
/// What a request with a body can meet besides.
const BODY: &[u16] = &[408, 413, 415, 500];
/// What one that asks a model can meet besides.
const MODEL: &[u16] = &[404, 422];

fn paths() -> Value {
    let model = [DOORS, BODY, MODEL].concat();
    let body = [DOORS, BODY].concat();
    let named = [DOORS, &[404]].concat();
    let post = |summary, request, answer, events, statuses: &[u16]| json!({ "post": operation(summary, Some(request), &[answer, events], statuses, &[]) });
    let get = |summary, answer, statuses: &[u16], parameters: &[&str]| json!({ "get": operation(summary, None, &[answer], statuses, parameters) });
    let mut predict = operation(
        "Answers images and texts as one turn of a user.",
        Some("PredictRequest"),
        &["Prediction"],
        &model,
        &["model"],
    );
    predict["operationId"] = "predict".into();
    json!({
        "/v1/chat/completions": post(
            "Answers a conversation.",
            "ChatCompletionRequest", "ChatCompletion", "ChatCompletionChunk", &model,
        ),
        "/v1/responses": post(
            "Answers a conversation that the client keeps; nothing is stored.",
            "ResponsesRequest", "Response", "ResponseEvent", &model,
        ),
        "/v1/completions": post(
            "Continues texts as they are.",
            "CompletionRequest", "Completion", "Completion", &model,
        ),
        "/v1/models/{model}:predict": { "post": predict },
        "/v1/tokens": { "post": operation(
            "Mints a short-lived token for a frontend.",
            Some("TokenRequest"), &["Token"], &body, &[],
        ) },
        "/v1/models": get("Lists the models.", "ModelList", DOORS, &[]),
        "/v1/models/{model}": get("Tells of one model.", "Model", &named, &["model"]),
        "/health": open(get("Whether the process lives.", "Health", &[400], &[])),
        "/ready": open(get("Whether requests are answered.", "Ready", &[400, 503], &[])),
        "/openapi.json": open(get("This document.", "OpenApi", &[400], &[])),
    })
}

/// A path without a credential.
fn open(mut path: Value) -> Value {
    path["get"]["security"] = json!([]);
    path
}

/// `answers` are the schemas of the JSON answer and, where it can be one, of an event of the stream.
fn operation(
    summary: &str,
    request: Option<&str>,
    answers: &[&str],
    statuses: &[u16],
    parameters: &[&str],
) -> Value {
    let mut content = Map::new();
    if let Some(answer) = answers.first() {
        content.insert(
            "application/json".into(),
            json!({ "schema": reference(answer) }),
        );
    }
    if let Some(event) = answers.get(1) {
        let description =
            format!("Server-sent events, each with a {event}, or with an Error as the last.");
        let end = json!({ "const": "[DONE]" });
        let json = json!({
            "contentMediaType": "application/json",
            "contentSchema": { "anyOf": [reference(event), reference("Error")] },
        });
        let data = json!({ "type": "string", "anyOf": [end, json] });
        // Of one event, as OpenAPI has it for streams of events.
        let schema = json!({
            "type": "object",
            "description": description,
            "required": ["data"],
            "properties": { "event": { "type": "string" }, "data": data },
        });
        content.insert("text/event-stream".into(), json!({ "schema": schema }));
    }
    let mut responses = Map::new();
    responses.insert(
        "200".into(),
        json!({ "description": "The answer.", "content": content }),
    );
    for status in statuses {
        responses.insert(status.to_string(), refusal(*status));
    }
    let mut operation = json!({ "summary": summary, "responses": responses });
    if let Some(request) = request {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": reference(request) } },
        });
    }
    if !parameters.is_empty() {
        let parameter = |name: &&str| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } });
        operation["parameters"] = parameters.iter().map(parameter).collect();
    }
    operation
}

fn refusal(status: u16) -> Value {
    let description = match status {
        400 => "The request says what it must not, or not what it must.",
        401 => "There is no credential, or a bad one.",
        403 => "The credential does not allow this.",
        404 => "There is no such model for this caller.",
        408 => "The body was too slow.",
        413 => "The body or an image is too large.",
        415 => "The body is not JSON, or an image of no supported type.",
        422 => "An image is broken.",
        429 => "A limit is exceeded; see 'retry-after' and the 'x-ratelimit-*' headers.",
        503 => "The model is not there or the server is full; see 'retry-after'.",
        _ => "The server failed.",
    };
    let content = json!({ "application/json": { "schema": reference("Error") } });
    json!({ "description": description, "content": content })
}
