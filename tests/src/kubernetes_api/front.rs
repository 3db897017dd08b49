//! The HTTP side of the server: takes connections, lets each request meet its faults, records it, streams watches.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures::stream;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use serde_json::{Map, Value};

use super::answer::{self, Answer, Call, failure};
use super::faults::Effect;
use super::objects::key;
use super::resources::{self, Target};
use super::{Shared, TOKEN};
use crate::http_connections;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Takes connections for ever.
pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener) -> io::Result<()> {
    let service = service_fn(move |request| respond(Arc::clone(&shared), request));
    http_connections::serve(listener, service).await
}

async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let asked = head.uri.path_and_query().map_or("/", |asked| asked.as_str());
    let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
    let call = Call {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: query
            .map(|(name, value)| (name.into_owned(), Value::from(value)))
            .collect::<Map<_, _>>(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let token = head
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let answer = execute(&shared, &call, asked, token);
    let status = match &answer {
        None => 0,
        Some(Answer::Document(status, _)) => *status,
        Some(Answer::Watch(..)) => 200,
    };
    let request = super::Request {
        method: call.method,
        path: asked.to_owned(),
        body: call.body,
        status,
    };
    shared
        .requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(request);
    let body = match answer {
        None => return Err(io::Error::other("the connection is closed")),
        Some(Answer::Document(_, document)) => Full::from(serde_json::to_vec(&document).unwrap_or_default())
            .map_err(|never| match never {})
            .boxed_unsync(),
        Some(Answer::Watch(target, since)) => watch(shared, target, since),
    };
    let response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json")
        .body(body);
    response.map_err(io::Error::other)
}

/// `None`: the connection is to be closed.
fn execute(shared: &Shared, call: &Call, asked: &str, token: Option<&str>) -> Option<Answer> {
    if token.and_then(|token| token.strip_prefix("Bearer ")) != Some(TOKEN) {
        return Some(failure(401, "Unauthorized", "Unauthorized"));
    }
    let effect = {
        let faults = shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let met = faults.iter().find(|fault| fault.meets(&call.method, asked));
        met.map(|fault| fault.effect.clone())
    };
    let mut objects = shared.objects();
    match effect {
        None => {}
        Some(Effect::Close) => return None,
        Some(Effect::Status(code, message)) => return Some(failure(code, reason(code), &message)),
        Some(Effect::ExpirePages) => objects.expire_pages(),
        Some(Effect::Put(others)) => {
            for object in others {
                objects.put(object).expect("a test puts objects of known kinds");
            }
        }
        Some(effect @ (Effect::Touch | Effect::Delete)) => {
            let target = resources::target(&call.path).expect("a test names an object");
            let key = key(&target);
            match (effect, objects.get(&target).cloned()) {
                (Effect::Touch, Some(object)) => drop(objects.write(key, object)),
                (_, Some(_)) => drop(objects.delete(&key)),
                (_, None) => {}
            }
        }
    }
    let answer = answer::answer(&mut objects, call);
    if let Answer::Document(200 | 201, written) = &answer
        && matches!(call.method.as_str(), "POST" | "PUT" | "PATCH")
    {
        let controllers = shared.controllers.lock().unwrap_or_else(PoisonError::into_inner);
        for made in controllers.0.iter().flat_map(|makes| makes(written)) {
            objects
                .put(made)
                .expect("a controller writes objects of known kinds");
        }
    }
    drop(objects);
    shared.announce();
    Some(answer)
}

fn reason(code: u16) -> &'static str {
    match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    }
}

/// Tells what changes, a line each, until the client goes away.
fn watch(shared: Arc<Shared>, target: Target, since: u64) -> Body {
    let newest = shared.newest.subscribe();
    let lines = stream::unfold(
        (shared, newest, target, since),
        |(shared, mut newest, target, since)| async move {
            loop {
                newest.mark_unchanged();
                let changes = shared.objects().changes_since(since, &target);
                if let Some(last) = changes.last() {
                    let since = last.version;
                    let lines: String = changes
                        .iter()
                        .map(|change| format!("{}\n", change.event))
                        .collect();
                    return Some((
                        Ok(Frame::data(Bytes::from(lines))),
                        (shared, newest, target, since),
                    ));
                }
                newest.changed().await.ok()?;
            }
        },
    );
    BodyExt::boxed_unsync(StreamBody::new(lines))
}
