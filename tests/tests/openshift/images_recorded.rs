//! `hardprune images` against the recorded runs of `oc adm prune images`: the same lines, exit status, requests and results,
//! except where `docs/openshift-differences.md` says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hardprune_tests::cluster::Cluster;
use hardprune_tests::kubernetes_api::{KubernetesApi, TOKEN, kubeconfig};
use hardprune_tests::openshift_fixtures::{Case, Recorded, Scenery};
use hardprune_tests::openshift_registry::RegistryFault;
use hardprune_tests::program::{Finished, Hardprune};
use hardprune_tests::real_cluster::RealCluster;
use hardprune_tests::scripted_http::Reply;
use serde_json::{Value, json};

use crate::images_scene::Scene;

/// Where we keep what `oc` deletes (`docs/openshift-differences.md`, "A child that is used keeps its index").
struct Difference {
    case: &'static str,
    run: &'static str,
    /// Lines and requests that name one of these are not ours: images that stay, and their blobs.
    stays: &'static [&'static str],
    /// Lines of theirs, and ours.
    instead: &'static [(&'static str, &'static str)],
    /// The image stream that keeps more.
    stream: &'static str,
}

/// An index, its two children, and their layers and configs.
const USED_INDEX: &[&str] = &[
    "sha256:5ce4e00992fb81d9baf2e40fedc0bff8589f9095984fd87f876075211f4aaf46",
    "sha256:9aef774f61db2ba550a41f019c66486789029700c60537605b0e1be175fa3380",
    "sha256:f313f782c3a971f43655200921d3e0ca833aaa408c856ccc546ce4cf4e0e25de",
    "sha256:0ff03a6424a7586165e021540aad07c282a2c7a28f3db74a60c79c87ef985983",
    "sha256:461e479295181b4ab30246eacc0d4b2ee8fede612c22854c43c8de631334ee20",
    "sha256:9080675fcb611b8b723708552082ae5f9095404fbe64c6e1e3b9017b5c698715",
    "sha256:a2ebef20ab5cc6a10ace311b1250dba2e8eb2b45917afb93d9638e4c39704e71",
];
const FOUR_ITEMS: (&str, &str) = (
    "Deleting 5 items from image stream ns/multi",
    "Deleting 4 items from image stream ns/multi",
);
const WITH_BLOBS: &[(&str, &str)] = &[
    FOUR_ITEMS,
    (
        "deleted 13 image object(s), deleted 5 image stream tag item(s), updated 1 image stream(s), deleted 5 manifest link(s), deleted 27 blob(s)",
        "deleted 10 image object(s), deleted 4 image stream tag item(s), updated 1 image stream(s), deleted 4 manifest link(s), deleted 20 blob(s)",
    ),
];

const fn on_multiarch(run: &'static str, instead: &'static [(&'static str, &'static str)]) -> Difference {
    Difference {
        case: "multiarch",
        run,
        stays: USED_INDEX,
        instead,
        stream: "ImageStream/ns/multi",
    }
}

const DIFFERENCES: &[Difference] = &[
    on_multiarch("all-false", WITH_BLOBS),
    on_multiarch("confirm", WITH_BLOBS),
    on_multiarch("dry", WITH_BLOBS),
    on_multiarch(
        "keep0",
        &[
            (
                "Deleting 7 items from image stream ns/multi",
                "Deleting 6 items from image stream ns/multi",
            ),
            (
                "deleted 20 image object(s), deleted 8 image stream tag item(s), updated 2 image stream(s), deleted 2 layer link(s), deleted 8 manifest link(s), deleted 44 blob(s)",
                "deleted 17 image object(s), deleted 7 image stream tag item(s), updated 2 image stream(s), deleted 2 layer link(s), deleted 7 manifest link(s), deleted 37 blob(s)",
            ),
        ],
    ),
    on_multiarch(
        "noregistry",
        &[
            FOUR_ITEMS,
            (
                "deleted 13 image object(s), deleted 5 image stream tag item(s)",
                "deleted 10 image object(s), deleted 4 image stream tag item(s)",
            ),
        ],
    ),
    // The index stays, so the registry refuses to unlink its child: one manifest link less besides the index's own.
    Difference {
        case: "random-a",
        run: "keep0-young0",
        stays: &[
            "sha256:942aad68850dec0c4e12aeff93948fe726a98709d520e450f67774cf5320bd89 in repository ns3/st2",
        ],
        instead: &[
            (
                "Deleting 15 items from image stream ns3/st2",
                "Deleting 14 items from image stream ns3/st2",
            ),
            (
                "deleted 107 image stream tag item(s)",
                "deleted 106 image stream tag item(s)",
            ),
            ("deleted 87 manifest link(s)", "deleted 85 manifest link(s)"),
        ],
        stream: "ImageStream/ns3/st2",
    },
];

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
    difference: Option<&'static Difference>,
}

fn play<C: Cluster>(cluster: &Arc<C>, name: &str, case: &Case, run: &str) -> Result<Played> {
    let description = &case.description["runs"][run];
    let recorded = case.recorded(run)?;
    let scene = Scene::on(Arc::clone(cluster), case, faults(description)?)?;
    let files_before = scene.registry.files();
    let before = scene.api.objects()?;
    let url = match description["api_port"].as_u64() {
        Some(port) => format!("http://127.0.0.1:{port}"),
        None => scene.api.url(),
    };
    let token = description["no_token"].is_null().then_some(TOKEN);
    let config = kubeconfig(scene.home.path(), &url, token)?;
    let program = Hardprune::new()?.with("KUBECONFIG", &config);
    let mut arguments = vec!["images".to_owned()];
    for argument in &recorded.arguments {
        arguments.push(scene.scenery.fill(argument)?);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let finished = program.run(&arguments)?;
    let Scene {
        api,
        registry,
        scenery,
        ..
    } = scene;
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
        after: api.objects()?,
        files_before,
        files_after: registry.files(),
        mutations,
        difference: DIFFERENCES
            .iter()
            .find(|difference| (difference.case, difference.run) == (name, run)),
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
        let mut expected = self.scenery.fill(&self.recorded.stdout)?;
        if let Some(difference) = self.difference {
            for (theirs, ours) in difference.instead {
                ensure!(expected.contains(theirs), "{theirs:?} was not recorded");
                expected = expected.replace(theirs, ours);
            }
            expected = expected
                .lines()
                .filter(|line| !self.stays(line))
                .map(|line| format!("{line}\n"))
                .collect();
        }
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
        let mut sent = self.mutations.clone();
        if let Some(difference) = self.difference {
            // Of the stream that keeps more, `check_objects` looks at what was written.
            let name = difference.stream.rsplit('/').next().unwrap_or_default();
            let is_its_status = |request: &String| request.contains(&format!("imagestreams/{name}/status"));
            expected.retain(|request| !self.stays(request) && !is_its_status(request));
            sent.retain(|request| !is_its_status(request));
        }
        expected.sort_unstable();
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
        let mut deleted = sorted(&expected["deleted"]);
        deleted.retain(|id| !self.stays(id));
        ensure!(gone == deleted.iter().collect::<Vec<_>>(), "deleted: {gone:?}");
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
        let mut expected = expected["changed"].clone();
        let mut changed = json!(changed);
        if let Some(difference) = self.difference {
            let of_stream = |changed: &mut Value| changed.as_object_mut()?.remove(difference.stream);
            of_stream(&mut changed);
            if let Some(theirs) = of_stream(&mut expected) {
                let ours = &self.after[difference.stream];
                ensure!(items(ours) == items(&theirs) + 1, "{ours} instead of {theirs}");
            }
        }
        ensure!(changed == expected, "changed: {changed}");
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
        let mut expected: Vec<_> = expected.into_iter().filter(|path| !path.ends_with('/')).collect();
        if let Some(difference) = self.difference {
            // Of random-a: the index's own link, and that of the child that the registry would not unlink.
            let repository = difference.stream.trim_start_matches("ImageStream/");
            let links = format!("repositories/{repository}/_manifests/");
            let stays = |path: &str| {
                let blob = difference
                    .stays
                    .iter()
                    .any(|digest| path.contains(digest.trim_start_matches("sha256:")));
                blob || (path.starts_with(&links) && !gone.contains(&path))
            };
            expected.retain(|path| !stays(path));
        }
        similar("removed file", &expected, &gone)
    }

    /// Whether a line, a request or an id is about something that stays with us.
    fn stays(&self, text: &str) -> bool {
        let stays = self.difference.map_or(&[][..], |difference| difference.stays);
        stays.iter().any(|stays| text.contains(stays))
    }
}

fn sorted(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// How many revisions a stream has.
fn items(stream: &Value) -> usize {
    let tags = stream["status"]["tags"].as_array().into_iter().flatten();
    tags.filter_map(|tag| Some(tag["items"].as_array()?.len())).sum()
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

/// On the in-memory API always, and on a real cluster where the environment wants it.
fn all_runs(name: &str) -> Result<()> {
    all_runs_on(KubernetesApi::start(Vec::new())?, name)?;
    match RealCluster::of_environment()? {
        Some(cluster) => all_runs_on(cluster, name).context("on the real cluster"),
        None => Ok(()),
    }
}

pub fn all_runs_on(cluster: impl Cluster, name: &str) -> Result<()> {
    let case = Case::load(name)?;
    let cluster = Arc::new(cluster);
    let mut failed = Vec::new();
    for run in case.runs() {
        if let Err(error) = play(&cluster, name, &case, &run).and_then(|played| played.check()) {
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
    indexes: "multiarch",
    references_of_pods: "pod-refs",
    random: "random-a",
    faults_of_the_registry: "registry-faults",
    shared_blobs: "shared-blobs",
    size_limits: "size-limit",
    usage: "usage",
    young: "young",
}
