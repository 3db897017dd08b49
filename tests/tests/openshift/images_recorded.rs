//! `hardprune images` against the recorded runs of `oc adm prune images`: the same lines, exit status, requests and results,
//! except where `docs/openshift-differences.md` says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hardprune_tests::kubernetes_api::{KubernetesApi, kubeconfig};
use hardprune_tests::openshift_fixtures::{Case, Recorded, Scenery};
use hardprune_tests::openshift_registry::{OpenshiftRegistry, RegistryFault};
use hardprune_tests::program::{Finished, Hardprune};
use hardprune_tests::scripted_http::Reply;
use serde_json::{Value, json};

/// All that a run came to.
struct Played {
    finished: Finished,
    recorded: Recorded,
    scenery: Scenery,
    before: BTreeMap<String, Value>,
    after: BTreeMap<String, Value>,
    files_before: BTreeMap<String, String>,
    files_after: BTreeMap<String, String>,
    mutations: Vec<String>,
}

fn play(case: &Case, run: &str) -> Result<Played> {
    let description = &case.description["runs"][run];
    let recorded = case.recorded(run)?;
    let files_before = case.storage()?;
    let home = tempfile::tempdir()?;
    // The registry's address stands in the objects, and the API's token opens the registry.
    let api = Arc::new(KubernetesApi::start(Vec::new())?);
    let registry = OpenshiftRegistry::start(files_before.clone(), Arc::clone(&api), faults(description)?)?;
    let scenery = Scenery::now(&registry.host());
    for object in case.objects(&scenery)? {
        api.put(object)?;
    }
    let before = api.objects();
    let url = match description["api_port"].as_u64() {
        Some(port) => format!("http://127.0.0.1:{port}"),
        None => api.url(),
    };
    let token = description["no_token"].is_null().then(|| api.token());
    let config = kubeconfig(home.path(), &url, token)?;
    let program = Hardprune::new()?.with("KUBECONFIG", &config);
    let mut arguments = vec!["images".to_owned()];
    for argument in &recorded.arguments {
        arguments.push(scenery.fill(argument)?);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let finished = program.run(&arguments)?;
    let mut mutations = Vec::new();
    for request in api.mutations() {
        mutations.push(mutation("api", &request.method, &request.path, request.body));
    }
    for asked in registry.asked().iter().filter(|asked| asked.method != "GET") {
        mutations.push(mutation("registry", &asked.method, &asked.path, Value::Null));
    }
    Ok(Played {
        finished,
        recorded,
        scenery,
        before,
        after: api.objects(),
        files_before,
        files_after: registry.files(),
        mutations,
    })
}

fn faults(description: &Value) -> Result<Vec<RegistryFault>> {
    let mut faults = Vec::new();
    for fault in description["faults"].as_array().into_iter().flatten() {
        ensure!(fault["to"] == "registry", "a fault of the API: {fault}");
        let text = |name: &str| fault[name].as_str();
        let status = fault["status"]
            .as_u64()
            .and_then(|status| u16::try_from(status).ok());
        let body = text("body").unwrap_or(r#"{"errors":[{"code":"UNKNOWN","message":"injected"}]}"#);
        let reply = match text("action") {
            Some("close") => Reply::Close,
            Some("status") => Reply::new(status.context("no status")?, &[], body),
            other => anyhow::bail!("no such fault: {other:?}"),
        };
        let method = text("method").context("no method")?;
        faults.push(RegistryFault::on(method, text("path").context("no path")?, reply));
    }
    Ok(faults)
}

fn mutation(to: &str, method: &str, path: &str, mut body: Value) -> String {
    forget_versions(&mut body);
    format!("{to} {method} {path} {body}")
}

fn forget_versions(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for name in ["uid", "resourceVersion", "managedFields"] {
            metadata.remove(name);
        }
    }
}

/// Lines of standard output, without the one that only we have.
fn lines(stdout: &str) -> Vec<&str> {
    let mut lines: Vec<_> = stdout.lines().filter(|line| !line.contains("at most ")).collect();
    lines.sort_unstable();
    lines
}

impl Played {
    fn check(&self) -> Result<()> {
        self.check_output()?;
        self.check_requests()?;
        self.check_objects()?;
        self.check_storage()
    }

    fn check_output(&self) -> Result<()> {
        let expected = self.scenery.fill(&self.recorded.stdout)?;
        similar("line", &lines(&expected), &lines(&self.finished.stdout))?;
        ensure!(
            self.finished.status == self.recorded.status,
            "exit status {} instead of {}: {}",
            self.finished.status,
            self.recorded.status,
            self.finished.stderr
        );
        let freed = self
            .finished
            .stdout
            .lines()
            .filter(|line| line.contains("at most "))
            .count();
        let summaries = expected
            .lines()
            .filter(|line| line.starts_with("Summary: "))
            .count();
        ensure!(
            freed == summaries,
            "a line about bytes after each summary:\n{}",
            self.finished.stdout
        );
        Ok(())
    }

    fn check_requests(&self) -> Result<()> {
        let Some(requests) = &self.recorded.requests else {
            return Ok(());
        };
        let mut expected = Vec::new();
        for request in requests.iter().filter(|request| request["method"] != "GET") {
            let request: Value = serde_json::from_str(&self.scenery.fill(&request.to_string())?)?;
            let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
            let body = request["body"].clone();
            expected.push(mutation(&text("to"), &text("method"), &text("path"), body));
        }
        expected.sort_unstable();
        let mut sent = self.mutations.clone();
        sent.sort_unstable();
        similar("request", &expected, &sent)
    }

    fn check_objects(&self) -> Result<()> {
        let after: Value = serde_json::from_str(&self.scenery.fill(&self.recorded.after.to_string())?)?;
        let expected = &after["objects"];
        let gone: Vec<_> = self
            .before
            .keys()
            .filter(|id| !self.after.contains_key(*id))
            .collect();
        ensure!(json!(gone) == sorted(&expected["deleted"]), "deleted: {gone:?}");
        let mut changed = BTreeMap::new();
        for (id, object) in &self.after {
            let mut object = object.clone();
            forget_versions(&mut object);
            let mut before = self.before.get(id).cloned().unwrap_or_default();
            forget_versions(&mut before);
            if object != before {
                changed.insert(id, object);
            }
        }
        ensure!(
            json!(changed) == expected["changed"],
            "changed: {}",
            json!(changed)
        );
        Ok(())
    }

    fn check_storage(&self) -> Result<()> {
        let expected = &self.recorded.after["storage"];
        let gone = self
            .files_before
            .keys()
            .filter(|path| !self.files_after.contains_key(*path));
        let gone: Vec<_> = gone.map(String::as_str).collect();
        let expected: Vec<_> = expected["removed"].as_array().into_iter().flatten().collect();
        let expected: BTreeSet<_> = expected.into_iter().filter_map(Value::as_str).collect();
        // Folders that are empty are nothing that this registry knows.
        let expected: Vec<_> = expected.into_iter().filter(|path| !path.ends_with('/')).collect();
        similar("removed file", &expected, &gone)
    }
}

fn sorted(list: &Value) -> Value {
    let list: BTreeSet<_> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    json!(list)
}

fn similar<T: AsRef<str>, U: AsRef<str>>(what: &str, expected: &[T], found: &[U]) -> Result<()> {
    let expected: Vec<&str> = expected.iter().map(AsRef::as_ref).collect();
    let found: Vec<&str> = found.iter().map(AsRef::as_ref).collect();
    let missing: Vec<_> = expected.iter().filter(|text| !found.contains(text)).collect();
    let more: Vec<_> = found.iter().filter(|text| !expected.contains(text)).collect();
    ensure!(
        expected == found,
        "each {what}: missing {missing:#?}, more than expected {more:#?}"
    );
    Ok(())
}

fn all_runs(name: &str) -> Result<()> {
    let case = Case::load(name)?;
    let mut failed = Vec::new();
    for run in case.runs() {
        if let Err(error) = play(&case, &run).and_then(|played| played.check()) {
            failed.push(format!("{name}/{run}: {error:#}"));
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

macro_rules! cases {
    ($($name:ident: $case:literal),* $(,)?) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                all_runs($case)
            }
        )*
    };
}

cases! {
    bad_references: "bad-refs",
    history: "history",
    managed: "managed",
    namespaces: "namespaces",
    multiarch: "multiarch",
    references_of_pods: "pod-refs",
    random: "random-a",
    faults_of_the_registry: "registry-faults",
    shared_blobs: "shared-blobs",
    size_limits: "size-limit",
    usage: "usage",
    young: "young",
}
