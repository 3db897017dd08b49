//! The HTTP side of the server: takes connections, counts each request, lets it meet its faults and hands it
//! to the S3 service. Every answer carries the store's time.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use jiff::fmt::rfc2822::DateTimePrinter;
use s3s::dto::StreamingBlob;
use s3s::service::S3Service;
use s3s::{Body, HttpError};

use super::body_check::check_body;
use super::call::Call;
use super::faults::{Effect, MetFault};
use super::operations::MetFaults;
use super::{Shared, simulated};
use crate::http_connections;

type Answer = Result<Response<Body>, HttpError>;

/// Where the counts and the check of a simulated registry are to be had: no bucket has this name.
const STATE_PATH: &str = "/-/state";

/// Takes requests for one S3 service.
pub(super) struct Front {
    pub service: S3Service,
    pub shared: Arc<Shared>,
}

impl Front {
    /// Takes connections for ever.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let service = service_fn(move |request| Arc::clone(&self).answer(request));
        http_connections::serve(listener, service).await
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        if head.uri.path() == STATE_PATH && self.shared.content.simulated().is_some() {
            // A pass over all blobs: seconds, where there are many.
            let state = tokio::task::spawn_blocking(move || simulated::state(&self.shared)).await;
            let state = state.map_err(|error| HttpError::new(error.into()))?;
            return Ok(document(StatusCode::OK, "application/json", state));
        }
        let body = body
            .collect()
            .await
            .map_err(|error| HttpError::new(error.into()))?
            .to_bytes();
        // In a task of its own: what has arrived is executed also if the client goes away meanwhile.
        let answer = tokio::spawn(self.execute(head, body)).await;
        answer.map_err(|error| HttpError::new(error.into()))?
    }

    async fn execute(self: Arc<Self>, mut head: Parts, body: Bytes) -> Answer {
        let call = Call::of(&head, &body);
        self.shared.recorder.record(&call);
        let mut faults = self.shared.faults.meet(&call);
        if let Some(fault) = self.shared.chance.meet() {
            self.shared.recorder.record_faulty();
            faults.push(fault);
        }
        self.shared.options.latency.wait(&self.shared.chance).await;
        if let Some(limiter) = &self.shared.limiter
            && !limiter.admits(&call)
        {
            self.shared.recorder.record_throttled();
            let document = error_document("SlowDown", "Please reduce your request rate.");
            let response = self::document(StatusCode::SERVICE_UNAVAILABLE, "application/xml", document);
            return Ok(self.with_date(response));
        }
        for fault in &faults {
            if let Some(answer) = instead_of(&fault.effect).await {
                return answer.map(|response| self.with_date(response));
            }
        }
        let response = match check_body(call.operation, &head.headers, &body) {
            Ok(()) if let Some(response) = simulated::answer(&self.shared, &head, &body, &call, &faults) => {
                response
            }
            Ok(()) => {
                if !self.shared.options.check_credentials {
                    head.headers.remove(AUTHORIZATION);
                }
                head.extensions.insert(MetFaults(faults.clone()));
                self.service
                    .call(Request::from_parts(head, Body::from(body)))
                    .await?
            }
            Err(error) => error
                .to_http_response()
                .map_err(|error| HttpError::new(error.into()))?,
        };
        let response = spoil(response, &faults).await?;
        Ok(self.with_date(response))
    }

    fn with_date(&self, mut response: Response<Body>) -> Response<Body> {
        let now = self.shared.content.now();
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok();
        if let Some(date) = date.and_then(|date| HeaderValue::try_from(date).ok()) {
            response.headers_mut().insert(DATE, date);
        }
        response
    }
}

/// Does what a fault does before the operation; returns the answer if the fault gives one in its place.
async fn instead_of(effect: &Effect) -> Option<Answer> {
    match effect {
        Effect::Status(status, code) => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Some(Ok(document(
                status,
                "application/xml",
                error_document(code, "a scripted fault"),
            )))
        }
        Effect::ErrorDocument200 => Some(Ok(document(
            StatusCode::OK,
            "application/xml",
            error_document("InternalError", "a scripted fault"),
        ))),
        Effect::Html200 => {
            let page = "<!DOCTYPE html>\n<html><body><h1>Please log in</h1></body></html>\n".to_owned();
            Some(Ok(document(StatusCode::OK, "text/html", page)))
        }
        Effect::DelayBefore(time) => {
            tokio::time::sleep(*time).await;
            None
        }
        Effect::Hang => std::future::pending().await,
        Effect::DropConnection => Some(Err(broken())),
        _ => None,
    }
}

/// Does what the faults do to an answer after the operation.
async fn spoil(mut response: Response<Body>, faults: &[MetFault]) -> Answer {
    for fault in faults {
        match fault.effect {
            Effect::DelayAfter(time) => tokio::time::sleep(time).await,
            Effect::DropAfter => return Err(broken()),
            Effect::CutBody(sent) => response = cut(response, sent).await?,
            _ => {}
        }
    }
    Ok(response)
}

async fn cut(response: Response<Body>, sent: usize) -> Answer {
    let (mut head, body) = response.into_parts();
    let whole = BodyExt::collect(body).await.map_err(HttpError::new)?.to_bytes();
    head.headers
        .insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let beginning = stream::iter([Ok(whole.slice(..sent.min(whole.len())))]);
    let end = stream::once(async {
        // hyper forgets what it has not yet sent when a body fails: give it the time to send.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(io::Error::other("cut by a fault"))
    });
    Ok(Response::from_parts(
        head,
        Body::from(StreamingBlob::wrap(beginning.chain(end))),
    ))
}

pub(super) fn document(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(super) fn error_document(code: &str, message: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>{code}</Code><Message>{message}</Message></Error>"
    )
}

/// Makes hyper close the connection without an answer.
fn broken() -> HttpError {
    HttpError::new(io::Error::other("dropped by a fault").into())
}
