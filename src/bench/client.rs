//! Asking a server, and timing what it says.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{
    Response,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde_json::Value;
use tokio::time::timeout;
use url::Url;

use super::{
    answer::{Answer, Failure, plain},
    plan::Target,
    sse::Parser,
};

/// A whole answer may be no longer, bytes.
const LONGEST_ANSWER: usize = 64 << 20;

/// After `[DONE]` a stream may stay open so long before its connection is given up.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who asks.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    chat: Url,
    models: Url,
    timeout: Duration,
    stream: bool,
}

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Introduction {
    /// Its `Server` header.
    pub server: Option<String>,
    /// The models that it lists.
    pub models: Vec<String>,
}

impl Client {
    /// A client with connections of its own.
    ///
    /// # Errors
    /// In words: a key that no header can hold, or a URL that nothing can be put after.
    pub fn new(target: &Target, stream: bool) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        if let Some(key) = &target.key {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose()))
                .map_err(|_| "the API key has characters that no header can hold")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let http = reqwest::Client::builder()
            // What is measured is the server, not what stands between by the environment's wish.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .default_headers(headers)
            .tls_danger_accept_invalid_certs(target.insecure)
            // A connection made anew for want of an idle one would be measured too.
            .pool_max_idle_per_host(usize::MAX)
            .build()
            .map_err(|e| causes(&e))?;
        Ok(Self {
            http,
            chat: beneath(&target.url, &["chat", "completions"])?,
            models: beneath(&target.url, &["models"])?,
            timeout: target.timeout,
            stream,
        })
    }

    /// Asks for the list of models.
    ///
    /// # Errors
    /// It does not come.
    pub async fn introduce(&self) -> Result<Introduction, Failure> {
        let request = self.http.get(self.models.clone()).timeout(self.timeout);
        let response = request.send().await.map_err(unreachable)?;
        let server = response.headers().get("server");
        let server = server.map(|s| plain(&String::from_utf8_lossy(s.as_bytes()), 100));
        let response = accepted(response).await?;
        let list: Value = serde_json::from_slice(&whole(response).await?).unwrap_or_default();
        let models = list["data"].as_array().into_iter().flatten();
        let models = models.filter_map(|model| Some(model["id"].as_str()?.to_string()));
        Ok(Introduction {
            server,
            models: models.collect(),
        })
    }

    /// Asks, and times the answer from `start` on.
    ///
    /// # Errors
    /// No good answer came in time.
    pub async fn ask(&self, body: Bytes, start: Instant) -> Result<Answer, Failure> {
        let answer = timeout(self.timeout, self.answer(body, start)).await;
        answer.unwrap_or_else(|_| {
            let said = format!("no whole answer within {} s", self.timeout.as_secs_f64());
            Err(Failure::new("timeout", said))
        })
    }

    async fn answer(&self, body: Bytes, start: Instant) -> Result<Answer, Failure> {
        let json = HeaderValue::from_static("application/json");
        let request = self.http.post(self.chat.clone());
        let request = request.header(CONTENT_TYPE, json).body(body);
        let response = accepted(request.send().await.map_err(unreachable)?).await?;
        if !self.stream {
            let body = whole(response).await?;
            return Answer::whole(&body, start.elapsed());
        }
        let kind = response.headers().get(CONTENT_TYPE);
        let kind = kind.map_or("", |kind| kind.to_str().unwrap_or(""));
        if !kind.starts_with("text/event-stream") {
            let said = format!("a stream was asked for, and what came is {kind:?}");
            return Err(Failure::new("bad_answer", said));
        }
        streamed(response, start).await
    }
}

async fn streamed(mut response: Response, start: Instant) -> Result<Answer, Failure> {
    let mut parser = Parser::default();
    let mut events = Vec::new();
    let mut answer = Answer::default();
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        let now = start.elapsed();
        let fed = parser.feed(&piece, &mut events);
        fed.map_err(|e| Failure::new("bad_event", e.to_string()))?;
        for event in events.drain(..) {
            if answer.take(&event, now)? {
                // Only a connection whose answer is read to its end is used again.
                let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
                let _ = timeout(PATIENCE, rest).await;
                return answer.ended(now);
            }
        }
    }
    let now = start.elapsed();
    if let Some(event) = parser.end() {
        answer.take(&event, now)?;
    }
    answer.ended(now)
}

/// The response, if it is one of success.
async fn accepted(response: Response) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = whole(response).await.unwrap_or_default();
    let at = format!("http_{}", status.as_u16());
    let mut failure = Failure::described(&at, &String::from_utf8_lossy(&body));
    if failure.message.is_empty() {
        failure.message = status.to_string();
    }
    Err(failure)
}

async fn whole(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        if body.len() + piece.len() > LONGEST_ANSWER {
            return Err(Failure::new("bad_answer", "it is too long"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn unreachable(error: reqwest::Error) -> Failure {
    let kind = if error.is_connect() {
        "connect"
    } else if error.is_timeout() {
        "timeout"
    } else {
        "send"
    };
    Failure::new(kind, causes(&error))
}

fn broken(error: reqwest::Error) -> Failure {
    Failure::new("connection_lost", causes(&error))
}

/// What happened, down to its cause, without the URL, which is the same for all.
fn causes(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    if causes.is_empty() {
        return error.to_string();
    }
    causes.join(": ")
}

fn beneath(base: &Url, path: &[&str]) -> Result<Url, String> {
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| format!("{base} is no base of an API"))?
        .pop_if_empty()
        .extend(path);
    Ok(url)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_beneath_the_base_with_and_without_a_slash() {
        for base in ["http://h:1/v1", "http://h:1/v1/"] {
            let url = beneath(&base.parse().unwrap(), &["chat", "completions"]);
            assert_eq!(url.unwrap().as_str(), "http://h:1/v1/chat/completions");
        }
        assert!(beneath(&"data:x".parse().unwrap(), &["models"]).is_err());
    }
}
