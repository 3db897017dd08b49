//! Tasks, reports and requests that were made up.

use hardprune_tests::content::digest_of;
use hardprune_tests::fleet::wait_until;
use hardprune_tests::nats_client::TASKS;
use hardprune_tests::scene::report_of;
use serde_json::{Value, json};

use super::{
    NOBODY, check_nothing_went, document, far_future, file, fleet, held_at, name, task, wait_until_taken,
    with,
};

#[test]
fn tasks_that_were_made_up_delete_nothing() {
    let (fleet, attacker) = fleet();
    let worker = fleet.worker().unwrap();
    let (coordinator, run) = held_at(&fleet, "after-lock-allows", &["--delete-untagged"]);
    let plan = document(&fleet, "/plan.json");
    let before: Vec<_> = std::fs::read_dir(fleet.scene.folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let (unlinks, dangling) = (
        plan["unlink"].as_array().unwrap(),
        plan["dangling"].as_array().unwrap(),
    );
    assert!(!unlinks.is_empty() && !dangling.is_empty(), "{plan}");
    // R6: what is not due yet.
    let shards = plan["shards"].as_array().unwrap();
    let sweeps = shards
        .iter()
        .map(|shard| format!("sweep-{}", name(&shard["scope"]["shard"])));
    let links = (unlinks.len()..unlinks.len() + dangling.len()).map(|place| format!("unlink-{place:06}"));
    let due_later: Vec<String> = sweeps.chain(links).collect();
    for id in &due_later {
        for kind in ["sweep", "unlink"] {
            attacker
                .send_task(&run, &task(&fleet, &run, id, json!({"kind": kind})))
                .unwrap();
        }
    }
    // What no plan has, and what is no name.
    for id in [
        "sweep-zz",
        "unlink-999999",
        "sweep-",
        "mark-000001",
        "../../escaped",
        "a/b",
        "",
        "sweep-00/../../x",
    ] {
        attacker
            .send_task(&run, &task(&fleet, &run, id, json!({"kind": "sweep"})))
            .unwrap();
    }
    // Other epochs, and stores that the worker was not started with.
    let sweep = task(&fleet, &run, &due_later[0], json!({"kind": "sweep"}));
    for epoch in [0, 2, 4_000_000_000_u32] {
        attacker
            .send_task(&run, &with(sweep.clone(), "/epoch/number", json!(epoch)))
            .unwrap();
    }
    attacker
        .send_task(&run, &with(sweep.clone(), "/epoch/run", json!(NOBODY)))
        .unwrap();
    let elsewhere = with(sweep.clone(), "/registry", json!("s3://of-others"));
    attacker.send_task(&run, &elsewhere).unwrap();
    attacker
        .send_task(&run, &with(sweep, "/state", json!("/tmp")))
        .unwrap();
    // What is no task.
    let subject = format!("hardprune.tasks.{run}.sweep.odd");
    for garbage in [
        &b"garbage"[..],
        b"",
        b"{}",
        b"[1,2,3]",
        b"\xff\xfe",
        b"{\"version\":1}",
    ] {
        attacker.send(&subject, garbage.to_vec()).unwrap();
    }
    attacker.send(&subject, vec![b'['; 900_000]).unwrap();
    attacker
        .send_task(
            &run,
            &task(&fleet, &run, &"a".repeat(900_000), json!({"kind": "sweep"})),
        )
        .unwrap();
    // The two on other stores come back again and again.
    wait_until_taken(&attacker, &run, 2);
    worker.wait_for_line("is not due").unwrap();
    worker.wait_for_line("has no task").unwrap();
    check_nothing_went(&fleet);
    let after: Vec<_> = std::fs::read_dir(fleet.scene.folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(after.len(), before.len(), "{after:?}");
    coordinator.release().unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.scene.check_intact().unwrap();
    fleet.scene.check_accounts(&report).unwrap();
    assert_eq!(
        report["blobs"]["deleted"],
        fleet.scene.orphans_and_untagged().len()
    );
    assert!(fleet.scene.state_files("escaped").unwrap().is_empty());
}

#[test]
fn marks_with_other_ranges_and_rules_are_not_believed() {
    let (fleet, attacker) = fleet();
    let mut coordinator = fleet.start_delete("", &[]).unwrap();
    wait_until("mark tasks", || {
        attacker
            .subjects(TASKS, "hardprune.tasks.*.mark.>")
            .is_ok_and(|tasks| tasks.len() > 2)
    })
    .unwrap();
    let run = attacker.run().unwrap();
    let subjects = attacker.subjects(TASKS, "hardprune.tasks.*.mark.>").unwrap();
    let real: Vec<Value> = subjects
        .iter()
        .map(|subject| attacker.last(TASKS, subject).unwrap().unwrap())
        .collect();
    // Instead of the real ones, which are gone: ranges without repositories, and rules by which nothing is young.
    attacker.purge(TASKS, "hardprune.tasks.>").unwrap();
    for task in real {
        let nowhere = json!({"after": null, "to": "docker/registry/v2/repositories/!"});
        attacker
            .send_task(&run, &with(task.clone(), "/work/range", nowhere))
            .unwrap();
        let rules = with(task, "/work/rules/cutoff", far_future());
        attacker
            .send_task(&run, &with(rules, "/work/rules/delete_untagged", json!(true)))
            .unwrap();
    }
    let _worker = fleet.worker().unwrap();
    coordinator.wait_for_line("a report is not believed").unwrap();
    coordinator.wait_for_line("it is sent again").unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
}

#[test]
fn plans_with_other_filters_and_cutoffs_are_not_believed() {
    let (fleet, attacker) = fleet();
    let _worker = fleet.worker().unwrap();
    let (coordinator, run) = held_at(&fleet, "after-seal", &[]);
    let mark = document(&fleet, "/mark.json");
    let filters = mark["filters"].as_array().unwrap();
    for (place, filter) in filters.iter().enumerate() {
        let other = &filters[(place + 1) % filters.len()];
        let shard = name(&filter["shard"]);
        let plan = task(
            &fleet,
            &run,
            &format!("plan-{shard}"),
            json!({
                "kind": "plan", "scope": {"shard": filter["shard"]}, "filter": filter["filter"], "cutoff": far_future(), "reviewed": null,
            }),
        );
        // By these all that is young would go, or all that another filter does not know.
        attacker.send_task(&run, &plan).unwrap();
        attacker
            .send_task(&run, &with(plan.clone(), "/work/filter", other["filter"].clone()))
            .unwrap();
        attacker
            .send_task(&run, &with(plan, "/work/filter", Value::Null))
            .unwrap();
    }
    coordinator.release().unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
}

#[test]
fn reports_that_were_made_up_are_not_believed() {
    let (fleet, attacker) = fleet();
    let worker = fleet.worker().unwrap();
    let (mut coordinator, run) = held_at(&fleet, "after-seal", &[]);
    worker.kill().unwrap();
    let of_mark = file(
        &fleet.scene.state_files("/reports/mark-000001").unwrap()[0],
        &fleet,
    );
    let record = file(&fleet.scene.state_files("/run.json").unwrap()[0], &fleet);
    coordinator.release().unwrap();
    wait_until("plan tasks", || {
        attacker
            .subjects(TASKS, "hardprune.tasks.*.plan.>")
            .is_ok_and(|tasks| tasks.len() > 2)
    })
    .unwrap();
    for subject in attacker.subjects(TASKS, "hardprune.tasks.*.plan.>").unwrap() {
        let id = subject.split('.').next_back().unwrap();
        let found = |file: &Value| json!({"found": file});
        for (attempt, result) in [
            ("1", found(&of_mark)),
            ("2", found(&record)),
            (
                "3",
                found(&with(of_mark.clone(), "/sha256", json!(digest_of(b"other")))),
            ),
            (
                "4",
                found(&with(
                    of_mark.clone(),
                    "/key",
                    json!(format!("hardprune/runs/{run}/1/reports/none.json")),
                )),
            ),
            (
                "5",
                found(&with(of_mark.clone(), "/key", json!("../../../../etc/passwd"))),
            ),
            (
                "6",
                found(&with(
                    of_mark.clone(),
                    "/key",
                    json!(format!("hardprune/runs/{run}/1/reports/../mark.json")),
                )),
            ),
            ("7", json!({"failed": "it was not me\n\u{1b}[31m"})),
            ("7", json!({"failed": "it was not me"})),
        ] {
            attacker.send_report(&run, id, attempt, &result).unwrap();
        }
        attacker
            .send(&format!("hardprune.reports.{run}.{id}"), "garbage")
            .unwrap();
    }
    for line in [
        "is not in",
        "it is of another task with this id",
        "has changed",
        "a task failed",
        "cannot be read",
    ] {
        coordinator.wait_for_line(line).unwrap();
    }
    let _worker = fleet.worker().unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
}

#[test]
fn failures_that_were_made_up_end_a_run_that_deletes_nothing() {
    let (fleet, attacker) = fleet();
    let coordinator = fleet.start_delete("", &[]).unwrap();
    wait_until("mark tasks", || {
        attacker
            .subjects(TASKS, "hardprune.tasks.*.mark.>")
            .is_ok_and(|tasks| !tasks.is_empty())
    })
    .unwrap();
    let run = attacker.run().unwrap();
    for attempt in 0..5 {
        let failed = json!({"failed": "made up"});
        attacker
            .send_report(&run, "mark-000001", &attempt.to_string(), &failed)
            .unwrap();
    }
    let finished = coordinator.finish().unwrap();
    assert_eq!(finished.status, 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("made up"), "{}", finished.stderr);
    check_nothing_went(&fleet);
    let _worker = fleet.worker().unwrap();
    let report = fleet.delete(0, &[]).unwrap();
    fleet.check_finished(&report).unwrap();
}

#[test]
fn requests_that_were_made_up_do_not_end_the_coordinator() {
    let (fleet, attacker) = fleet();
    let mut coordinator = fleet.start_delete("", &[]).unwrap();
    wait_until("mark tasks", || {
        attacker
            .subjects(TASKS, "hardprune.tasks.*.mark.>")
            .is_ok_and(|tasks| !tasks.is_empty())
    })
    .unwrap();
    let run = attacker.run().unwrap();
    for attempt in ["1", "2"] {
        let most = u64::MAX;
        let report = json!({
            "version": 1, "epoch": {"run": run, "number": 1}, "task": "mark-000001", "attempt": attempt, "worker": "nobody",
            "requests": {"list": most, "get": most, "head": most, "put": most, "copy": most, "delete": most},
            "result": {"failed": "made up"},
        });
        attacker
            .send_json(&format!("hardprune.reports.{run}.mark-000001"), &report)
            .unwrap();
    }
    attacker
        .send(&format!("hardprune.reports.{run}.mark-000001"), "garbage")
        .unwrap();
    coordinator.wait_for_line("cannot be read").unwrap();
    let _worker = fleet.worker().unwrap();
    let report = report_of(&coordinator.finish().unwrap(), 0).unwrap();
    fleet.check_finished(&report).unwrap();
}
