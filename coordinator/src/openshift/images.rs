//! `images`: prunes images and image streams by what the cluster uses, as `oc adm prune images` does, word for word.
//!
//! Everything is listed, a graph is made of it (`graph`, `uses`), and pure functions decide (`rules`, `plan_stream`,
//! `plan_images`); then streams lose what goes (`prune_streams`), and images nothing names any longer go (`prune_images`).

mod arguments;
mod blob_sizes;
mod go_values;
pub mod graph;
pub mod image_reference;
mod late;
mod limits;
mod list_cluster;
mod output;
pub mod plan_images;
pub mod plan_stream;
mod prune_images;
mod prune_streams;
mod registry_client;
mod registry_host;
pub mod rules;
mod run;
pub mod uses;
mod why;

use std::sync::Arc;
use std::time::Duration;

pub use self::arguments::{ImagesArgs, ImagesCommand, usage_message};

use hardprune_common::failpoint;
use hardprune_worker::process::stop_on_signal;
use tokio_util::sync::CancellationToken;

use self::arguments::{PruneArgs, RulesArgs};
use self::graph::{Graph, GraphError};
use self::late::Late;
use self::list_cluster::list_cluster;
use self::output::Output;
use self::registry_client::{RegistryClient, Way};
use self::registry_host::registry_host;
use self::rules::Rules;
use self::run::Run;
use crate::error::RunError;
use crate::exit_status::ExitStatus;
use crate::openshift::cluster::Cluster;
use crate::openshift::image_pruner::ImagePruner;
use crate::openshift::list_objects::ApiError;

/// A job of the operator's that runs is waited for so long, and looked at so often.
const PRUNER_TIMEOUT: Duration = Duration::from_secs(600);
const PRUNER_PAUSE: Duration = Duration::from_secs(2);

/// Prunes images, or says why one stays. What goes wrong is said here, in `oc`'s words.
///
/// # Errors
///
/// A standard output that cannot be written to.
pub async fn images(args: ImagesArgs) -> Result<ExitStatus, RunError> {
    let result = match args.command {
        Some(ImagesCommand::Why(args)) => why::why(&args).await,
        None => prune(&args.rules, &args.prune).await,
    };
    match result {
        Ok(()) => Ok(ExitStatus::Done),
        Err(Failure::Output(error)) => Err(error),
        Err(Failure::Said(lines)) => {
            match lines.as_slice() {
                [line] => eprintln!("error: {}", crate::human::printable_lines(line)),
                lines => lines
                    .iter()
                    .for_each(|line| eprintln!("{}", crate::human::printable_lines(line))),
            }
            Ok(ExitStatus::Failed)
        }
        Err(Failure::Refused { reason, message }) => {
            eprintln!("Error from server ({reason}): {message}");
            Ok(ExitStatus::Failed)
        }
        Err(Failure::NoServer(server)) => {
            eprintln!(
                "The connection to the server {server} was refused - did you specify the right host or port?"
            );
            Ok(ExitStatus::Failed)
        }
    }
}

/// Why a run failed.
enum Failure {
    /// What is told.
    Said(Vec<String>),
    /// What the cluster says of a list.
    Refused {
        /// A word for it.
        reason: String,
        /// What it said.
        message: String,
    },
    /// Nobody listens where the cluster should be.
    NoServer(String),
    /// Standard output.
    Output(RunError),
}

impl Failure {
    fn said(problem: impl ToString) -> Self {
        Self::Said(vec![problem.to_string()])
    }
}

async fn prune(rules: &RulesArgs, args: &PruneArgs) -> Result<(), Failure> {
    let cluster = Arc::new(Cluster::find(&rules.cluster).await.map_err(Failure::said)?);
    if cluster.token().is_none() {
        return Err(Failure::said("you must use a client config with a token"));
    }
    let asked = rules.rules().map_err(Failure::said)?;
    args.validate().map_err(Failure::said)?;
    let stop =
        stop_on_signal(|| eprintln!("stops when what was begun has ended; a second signal ends it at once"))
            .map_err(|error| Failure::said(format!("signals cannot be listened for: {error}")))?;
    if !(args.confirm && args.suspend_image_pruner) {
        return prune_cluster(cluster, (rules, asked), args, stop).await;
    }
    let pruner = ImagePruner::of(cluster.client.clone(), (PRUNER_TIMEOUT, PRUNER_PAUSE));
    let suspended = pruner.suspend(&stop).await.map_err(Failure::said);
    failpoint::here("image-pruner-suspended").await;
    let pruned = match suspended {
        Ok(()) => prune_cluster(cluster, (rules, asked), args, stop).await,
        Err(failure) => Err(failure),
    };
    match (pruned, pruner.put_back().await) {
        (pruned, Ok(())) => pruned,
        (Ok(()), Err(error)) => Err(Failure::said(error)),
        (Err(failure), Err(error)) => {
            eprintln!("{}", crate::human::printable_lines(&error.to_string()));
            Err(failure)
        }
    }
}

/// Lists the cluster, decides, and carries it out.
async fn prune_cluster(
    cluster: Arc<Cluster>,
    (rules, asked): (&RulesArgs, Rules),
    args: &PruneArgs,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let namespace = namespace(rules, &cluster);
    let ages = asked.ages();
    let output = Output::default();
    let listed = tokio::select! {
        listed = list_cluster(&cluster.client, namespace.as_deref(), |line| output.problem(line)) => listed,
        () = stop.cancelled() => return Err(Failure::said("stopped by a signal: nothing was changed")),
    };
    let (lists, versions) = listed.map_err(|error| failed_list(&cluster, &error))?;
    let mut registry = None;
    if args.confirm && args.prune_registry {
        let host = match args.registry_url.as_str() {
            "" => registry_host(&lists).map_err(|problem| {
                Failure::said(format!("unable to find the remote registry host: {problem}"))
            })?,
            host => host.to_owned(),
        };
        let way = Way {
            host: &host,
            authority: &args.certificate_authority,
            force_insecure: args.force_insecure,
            is_chosen: !args.registry_url.is_empty(),
        };
        let connected = RegistryClient::connect(Arc::clone(&cluster), way).await;
        registry = Some(connected.map_err(Failure::said)?);
    }
    let graph = Graph::of(lists, &ages, rules.ignore_invalid_refs).map_err(|error| no_graph(&error))?;
    let graph = Arc::new(graph);
    let late = Late::new(Arc::clone(&graph), ages);
    // A dry run deletes nothing that anything could still need.
    let _watches = args
        .confirm
        .then(|| late.watch(&cluster.client, namespace.as_deref(), &versions));
    let run = Run {
        cluster,
        registry,
        namespace,
        graph,
        late,
        rules: asked,
        ages,
        confirm: args.confirm,
        prune_registry: args.prune_registry,
        ignore_invalid_refs: rules.ignore_invalid_refs,
        workers: args.workers(),
        output,
        stop: stop.clone(),
    };
    if !run.confirm {
        eprintln!("Dry run enabled - no modifications will be made. Add --confirm to remove images");
    }
    if !run.prune_registry {
        run.output
            .line("Only API objects will be removed.  No modifications to the image registry will be made.");
    }
    let after = prune_streams::prune_streams(&run).await;
    let mut problems = after.problems;
    if run.namespace.is_none() && !stop.is_cancelled() {
        problems.extend(prune_images::prune_images(&run, &after.streams).await);
    }
    if stop.is_cancelled() {
        problems.push("stopped by a signal: the rest is as it was; run it again to go on".to_owned());
    }
    run.output.finish(!run.confirm).map_err(Failure::Output)?;
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Failure::Said(problems)),
    }
}

/// The namespace that was asked for. Empty means that of the kubeconfig's context.
fn namespace(rules: &RulesArgs, cluster: &Cluster) -> Option<String> {
    let asked = rules.namespace.as_deref()?;
    let namespace = if asked.is_empty() {
        &cluster.default_namespace
    } else {
        asked
    };
    Some(namespace.to_owned())
}

fn failed_list(cluster: &Cluster, error: &ApiError) -> Failure {
    match error {
        ApiError::Unreachable => Failure::NoServer(cluster.server.clone()),
        ApiError::Refused { reason, message, .. } if !reason.is_empty() => Failure::Refused {
            reason: reason.clone(),
            message: message.clone(),
        },
        error => Failure::said(error),
    }
}

/// Says why there is no graph.
fn no_graph(error: &GraphError) -> Failure {
    eprintln!("Failed to build graph!");
    match error {
        GraphError::Metadata(problem) => eprintln!("{}", crate::human::printable(problem)),
        GraphError::References(bad) => {
            eprintln!("\nThe following objects have invalid references:\n");
            for reference in bad {
                eprintln!("  {}", crate::human::printable(&reference.to_string()));
            }
            eprintln!("\nEither fix the references or delete the objects to make the pruner proceed.");
        }
    }
    Failure::said("failed to build graph - no changes made")
}
