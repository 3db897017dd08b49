//! The tests' own Kubernetes API does what a real one does, where hardprune depends on it.

use anyhow::Result;
use futures::StreamExt;
use hardprune_tests::kubernetes_api::{Effect, Fault, KubernetesApi, TOKEN};
use hardprune_tests::openshift_fixtures::{self, Case, Scenery};
use reqwest::{Client, Method};
use serde_json::{Value, json};

const STREAMS: &str = "/apis/image.openshift.io/v1/namespaces/ns/imagestreams";
const IMAGES: &str = "/apis/image.openshift.io/v1/images";

fn image(name: &str) -> Value {
    json!({"apiVersion": "image.openshift.io/v1", "kind": "Image", "metadata": {"name": name}})
}

fn stream(tags: Value) -> Value {
    json!({
        "apiVersion": "image.openshift.io/v1", "kind": "ImageStream",
        "metadata": {"name": "is", "namespace": "ns"}, "spec": {"a": 1}, "status": {"tags": tags},
    })
}

async fn ask(api: &KubernetesApi, method: Method, path: &str, body: Option<Value>) -> Result<(u16, Value)> {
    let mut request = Client::new()
        .request(method, format!("{}{path}", api.url()))
        .bearer_auth(TOKEN);
    if let Some(body) = body {
        request = request
            .header("content-type", "application/json")
            .body(body.to_string());
    }
    let response = request.send().await?;
    let status = response.status().as_u16();
    Ok((status, serde_json::from_slice(&response.bytes().await?)?))
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().into_iter().flatten();
    items
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect()
}

#[tokio::test]
async fn pages_are_of_one_moment_and_expire() -> Result<()> {
    let api = KubernetesApi::start(["a", "b", "c"].map(image).to_vec())?;
    let (_, first) = ask(&api, Method::GET, &format!("{IMAGES}?limit=2"), None).await?;
    assert_eq!(names(&first), ["a", "b"]);
    let token = first["metadata"]["continue"].as_str().unwrap();
    api.remove("Image/c");
    let (_, second) = ask(
        &api,
        Method::GET,
        &format!("{IMAGES}?limit=2&continue={token}"),
        None,
    )
    .await?;
    assert_eq!(names(&second), ["c"], "of the moment of the first page");
    assert!(second["metadata"]["continue"].is_null());

    api.fault(Fault::on("GET", "continue=", Effect::ExpirePages).times(1));
    let (_, first) = ask(&api, Method::GET, &format!("{IMAGES}?limit=1"), None).await?;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (status, expired) = ask(
        &api,
        Method::GET,
        &format!("{IMAGES}?limit=1&continue={token}"),
        None,
    )
    .await?;
    assert_eq!((status, &expired["reason"]), (410, &json!("Expired")));
    Ok(())
}

#[tokio::test]
async fn a_status_is_written_by_version_and_alone() -> Result<()> {
    let api = KubernetesApi::start(vec![stream(json!([]))])?;
    let (_, mut read) = ask(&api, Method::GET, &format!("{STREAMS}/is"), None).await?;
    api.fault(Fault::on("PUT", "/status$", Effect::Touch).times(1));
    read["status"]["tags"] = json!([{"tag": "x"}]);
    read["spec"]["a"] = json!(2);
    let path = format!("{STREAMS}/is/status");
    let (status, answer) = ask(&api, Method::PUT, &path, Some(read.clone())).await?;
    assert_eq!((status, &answer["reason"]), (409, &json!("Conflict")));
    let (_, fresh) = ask(&api, Method::GET, &format!("{STREAMS}/is"), None).await?;
    read["metadata"]["resourceVersion"] = fresh["metadata"]["resourceVersion"].clone();
    let (status, written) = ask(&api, Method::PUT, &path, Some(read)).await?;
    assert_eq!(status, 200);
    assert_eq!(
        (&written["spec"]["a"], &written["status"]["tags"][0]["tag"]),
        (&json!(1), &json!("x"))
    );
    assert_eq!(api.mutations().len(), 2);
    Ok(())
}

#[tokio::test]
async fn deletes_creates_and_who_may_ask() -> Result<()> {
    let api = KubernetesApi::start(vec![image("a")])?;
    let (status, _) = ask(&api, Method::POST, IMAGES, Some(image("b"))).await?;
    assert_eq!(status, 201);
    let path = format!("{IMAGES}/b");
    let wrong = json!({"preconditions": {"resourceVersion": "77"}});
    assert_eq!(ask(&api, Method::DELETE, &path, Some(wrong)).await?.0, 409);
    assert_eq!(ask(&api, Method::DELETE, &path, None).await?.0, 200);
    assert_eq!(ask(&api, Method::DELETE, &path, None).await?.0, 404);
    assert_eq!(api.objects().keys().collect::<Vec<_>>(), ["Image/a"]);
    let nobody = Client::new().get(format!("{}{IMAGES}", api.url())).send().await?;
    assert_eq!(nobody.status().as_u16(), 401);
    assert_eq!(
        ask(&api, Method::GET, "/apis/what.ever/v1/images", None).await?.0,
        404
    );
    Ok(())
}

#[tokio::test]
async fn a_watch_tells_what_changes() -> Result<()> {
    let api = KubernetesApi::start(vec![image("a")])?;
    let (_, list) = ask(&api, Method::GET, IMAGES, None).await?;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let url = format!("{}{IMAGES}?watch=true&resourceVersion={version}", api.url());
    let response = Client::new().get(url).bearer_auth(TOKEN).send().await?;
    api.put(image("b"))?;
    let mut lines = response.bytes_stream();
    let line = lines.next().await.unwrap()?;
    let event: Value = serde_json::from_slice(&line)?;
    assert_eq!(
        (&event["type"], &event["object"]["metadata"]["name"]),
        (&json!("ADDED"), &json!("b"))
    );
    Ok(())
}

#[test]
fn all_cases_load() -> Result<()> {
    let scenery = Scenery::now("127.0.0.1:5000");
    for name in openshift_fixtures::names()? {
        let case = Case::load(&name)?;
        KubernetesApi::start(case.objects(&scenery)?)?;
        case.storage()?;
        for run in case.runs() {
            case.recorded(&run)?;
        }
    }
    Ok(())
}
