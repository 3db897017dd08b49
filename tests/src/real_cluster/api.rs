//! Asks the API of a real cluster.

use anyhow::{Context, Result, bail};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// Who asks. Cheap to clone.
#[derive(Clone)]
pub(super) struct Api(pub Client);

impl Api {
    /// Sends a request, whose answer may be a refusal. Returns the HTTP status and the document.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(
                body.map(ToString::to_string).unwrap_or_default().into_bytes(),
            ))?;
        let answer = self.0.send(request).await;
        let answer = answer.with_context(|| format!("{method} {path}"))?;
        let status = answer.status().as_u16();
        let text = answer.into_body().collect_bytes().await?;
        // What no handler knows is answered in plain text.
        Ok((status, serde_json::from_slice(&text).unwrap_or_default()))
    }

    /// Sends a request that must be granted.
    pub async fn must(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        match self.ask(method.clone(), path, body).await? {
            (200..300, document) => Ok(document),
            (status, document) => bail!("{method} {path}: {status} {}", document["message"]),
        }
    }

    /// `None` where there is no such thing.
    pub async fn get(&self, path: &str) -> Result<Option<Value>> {
        match self.ask(Method::GET, path, None).await? {
            (404, _) => Ok(None),
            (200, document) => Ok(Some(document)),
            (status, document) => bail!("GET {path}: {status} {}", document["message"]),
        }
    }

    /// Deletes without grace and without leaving to controllers what must happen first; says whether it was there.
    pub async fn delete(&self, path: &str) -> Result<bool> {
        let options = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "propagationPolicy": "Background",
        });
        match self.ask(Method::DELETE, path, Some(&options)).await? {
            (404, _) => Ok(false),
            (200..300, _) => Ok(true),
            (status, document) => bail!("DELETE {path}: {status} {}", document["message"]),
        }
    }
}
