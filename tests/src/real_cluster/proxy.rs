//! Stands between `hardprune` and a real cluster: masks what goes either way, and records requests as the in-memory API does.
//!
//! Plain HTTP with the tests' bearer token on this side; on the other the cluster's own address, certificates and credentials.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::{AsyncBufReadExt, TryStreamExt};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use kube::client::Body as Sent;
use serde_json::Value;

use super::api::Api;
use super::mask::Mask;
use crate::http_connections;
use crate::kubernetes_api::answer::failure_status;
use crate::kubernetes_api::{self, TOKEN};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What the proxy knows.
pub(super) struct Proxy {
    pub api: Api,
    pub mask: Mask,
    requests: Mutex<Vec<kubernetes_api::Request>>,
}

impl Proxy {
    pub fn of(api: Api, mask: Mask) -> Self {
        Self {
            api,
            mask,
            requests: Mutex::default(),
        }
    }

    /// All requests in the order in which they were answered. Watches are there when they begin.
    pub fn requests(&self) -> MutexGuard<'_, Vec<kubernetes_api::Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes connections for ever.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let service = service_fn(move |request| Arc::clone(&self).respond(request));
        http_connections::serve(listener, service).await
    }

    async fn respond(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let asked = head.uri.path_and_query().map_or("/", |asked| asked.as_str());
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let token = head
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let answer = if token.and_then(|token| token.strip_prefix("Bearer ")) == Some(TOKEN) {
            let content_type = head.headers.get(CONTENT_TYPE);
            let sent = self.onward(&head.method, asked, content_type, &body);
            self.api
                .0
                .send(sent.map_err(io::Error::other)?)
                .await
                .map_err(io::Error::other)?
        } else {
            let status = failure_status(401, "Unauthorized", "Unauthorized");
            let refusal = Response::builder().status(401);
            refusal
                .body(Sent::from(status.to_string().into_bytes()))
                .map_err(io::Error::other)?
        };
        let status = answer.status();
        self.requests().push(kubernetes_api::Request {
            method: head.method.as_str().to_owned(),
            path: asked.to_owned(),
            body,
            status: status.as_u16(),
        });
        let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
        let is_watch = query
            .into_iter()
            .any(|(name, value)| name == "watch" && matches!(&*value, "true" | "1"));
        let body = if is_watch && status.is_success() {
            self.events(answer.into_body())
        } else {
            let text = answer
                .into_body()
                .collect_bytes()
                .await
                .map_err(io::Error::other)?;
            Full::from(self.shown(&text))
                .map_err(|never| match never {})
                .boxed_unsync()
        };
        let response = Response::builder()
            .status(status)
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        response.map_err(io::Error::other)
    }

    /// The request that the cluster gets.
    fn onward(
        &self,
        method: &http::Method,
        asked: &str,
        content_type: Option<&http::HeaderValue>,
        body: &Value,
    ) -> http::Result<Request<Sent>> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.mask.path(asked))
            .header(ACCEPT, "application/json");
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        let mut body = body.clone();
        self.mask.hide(&mut body);
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        request.body(Sent::from(text.into_bytes()))
    }

    fn shown(&self, text: &[u8]) -> Bytes {
        match serde_json::from_slice::<Value>(text) {
            Ok(mut document) => {
                self.mask.show(&mut document);
                document.to_string().into()
            }
            // What no handler knows is answered in plain text.
            Err(_) => Bytes::copy_from_slice(text),
        }
    }

    /// A line each.
    fn events(self: Arc<Self>, body: Sent) -> Body {
        let lines = body
            .into_data_stream()
            .map_err(io::Error::other)
            .into_async_read()
            .lines();
        let events = lines.map_ok(move |line| {
            let mut event = self.shown(line.as_bytes()).to_vec();
            event.push(b'\n');
            Frame::data(Bytes::from(event))
        });
        BodyExt::boxed_unsync(StreamBody::new(events))
    }
}
