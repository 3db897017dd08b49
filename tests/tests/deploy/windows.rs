//! A run ends with its window: it is not started late, not tried again, and stopped before what would outlast it is killed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hardprune_common::lock::LEASE;
use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec};

use crate::manifests::{objects, strictly};
use crate::pods::pods;

fn cron_jobs() -> Result<Vec<(String, CronJobSpec)>> {
    let mut found = Vec::new();
    for object in objects("deploy/kubernetes/base")? {
        if object.kind == "CronJob" {
            let cron_job: CronJob = strictly(&object.value)?;
            found.push((object.name, cron_job.spec.context("no spec")?));
        }
    }
    Ok(found)
}

fn fits(cron_job: &CronJobSpec) -> Result<()> {
    ensure!(
        cron_job.concurrency_policy.as_deref() == Some("Forbid"),
        "runs side by side"
    );
    ensure!(
        cron_job
            .starting_deadline_seconds
            .is_some_and(|seconds| seconds <= 900),
        "starts however late"
    );
    ensure!(
        cron_job.time_zone.is_some(),
        "in whatever zone the controller has"
    );
    let job = cron_job.job_template.spec.as_ref().context("no spec")?;
    // Of any status, 4 above all: a retry could delete after the window.
    ensure!(job.backoff_limit == Some(0), "is tried again");
    let pod = job.template.spec.as_ref().context("no spec")?;
    ensure!(pod.restart_policy.as_deref() == Some("Never"), "is started again");
    let arguments = pod.containers[0].args.iter().flatten();
    let longest = arguments
        .filter_map(|argument| argument.strip_prefix("--max-duration="))
        .next()
        .context("no --max-duration")?;
    let longest: SignedDuration = longest.parse()?;
    let deadline =
        SignedDuration::from_secs(job.active_deadline_seconds.context("no activeDeadlineSeconds")?);
    ensure!(longest < deadline, "the Job ends before the run would");
    ensure!(
        deadline - longest <= SignedDuration::from_mins(30),
        "the Job outlasts the run by far"
    );
    Ok(())
}

#[test]
fn runs_end_with_their_window() {
    let cron_jobs = cron_jobs().unwrap();
    assert_eq!(cron_jobs.len(), 2);
    for (name, cron_job) in cron_jobs {
        let fits = fits(&cron_job);
        assert!(fits.is_ok(), "{name}: {fits:?}");
    }
}

#[test]
fn nothing_is_deleted_before_somebody_says_so() {
    for (name, cron_job) in cron_jobs().unwrap() {
        assert_eq!(cron_job.suspend, Some(name == "hardprune-delete"), "{name}");
    }
}

#[test]
fn there_is_time_to_drain() {
    for pod in pods().unwrap() {
        let grace = pod
            .template
            .spec
            .and_then(|spec| spec.termination_grace_period_seconds)
            .unwrap();
        // No delete request outlasts the lease that it is sent under; its outcome is journaled after it.
        let grace = Duration::from_secs(u64::try_from(grace).unwrap());
        assert!(grace > LEASE, "{}", pod.name);
    }
}
