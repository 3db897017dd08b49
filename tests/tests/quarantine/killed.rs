//! Killed at the worst moments: moves, restores and purges go on where they were, and nothing is lost or counted twice.

use anyhow::{Context, Result, ensure};
use hardprune_tests::generate::Shape;
use hardprune_tests::scene::{KILLED, Scene, number};

use crate::scene::{
    UNTAGGED, check_quarantined, check_restored, everywhere, of, purge, quarantine, quarantined, registry_of,
    restore,
};

fn killed_moving(failpoint: &str, times_before: usize) -> Result<()> {
    for scene in everywhere()? {
        let before = registry_of(&scene)?;
        let failpoints = format!("{failpoint}={times_before}*off->return");
        let killed = scene.run_with(&failpoints, &scene.delete(&UNTAGGED))?;
        ensure!(killed.status == KILLED, "it was not killed: {killed:?}");
        scene.check_intact()?;
        wait_for_lock(&scene)?;
        let report = scene.report(0, &scene.resume())?;
        ensure!(report["outcome"] == "completed", "{report}");
        scene.check_intact()?;
        check_quarantined(&scene, &report)?;
        restore(&scene, &scene.run_id()?, &[])?;
        check_restored(&scene, &before)?;
    }
    Ok(())
}

/// On S3 only the time says that the owner of a lock is dead: the server's clock goes on by that.
fn wait_for_lock(scene: &Scene) -> Result<()> {
    if let Ok(server) = scene.server() {
        server.advance_clock(std::time::Duration::from_secs(120));
    }
    Ok(())
}

#[test]
fn while_it_moves() {
    for failpoint in [
        "journal-after-start",
        "quarantine-copied",
        "delete-before-request",
        "delete-after-request",
        "journal-before-end",
    ] {
        for times_before in [0, 5] {
            killed_moving(failpoint, times_before)
                .with_context(|| format!("killed at {failpoint} after {times_before} times"))
                .unwrap();
        }
    }
    killed_moving("after-lock-allows", 0).unwrap();
    killed_moving("after-report", 0).unwrap();
}

#[test]
fn while_it_restores() {
    for failpoint in ["put-back-copied", "put-back-before-copies-go"] {
        for scene in everywhere().unwrap() {
            let before = registry_of(&scene).unwrap();
            let (run, _) = quarantine(&scene, &[]).unwrap();
            let names = scene.store_names();
            let arguments = of(&names, &["restore", &run]);
            let killed = scene
                .run_with(&format!("{failpoint}=return"), &arguments)
                .unwrap();
            assert_eq!(killed.status, KILLED, "{failpoint}: {killed:?}");
            scene.check_intact().unwrap();
            wait_for_lock(&scene).unwrap();
            restore(&scene, &run, &[]).unwrap();
            check_restored(&scene, &before).unwrap();
        }
    }
}

#[test]
fn while_it_purges() {
    for failpoint in [
        "after-lock-allows",
        "journal-after-start",
        "delete-before-request",
        "delete-after-request",
        "after-sweep",
        "after-report",
    ] {
        for scene in everywhere().unwrap() {
            let (run, report) = quarantine(&scene, &[]).unwrap();
            let before = registry_of(&scene).unwrap();
            let names = scene.store_names();
            let arguments = of(&names, &["purge", &run, "--assume-read-only"]);
            let killed = scene
                .run_with(&format!("{failpoint}=return"), &arguments)
                .unwrap();
            assert_eq!(killed.status, KILLED, "{failpoint}: {killed:?}");
            wait_for_lock(&scene).unwrap();
            let purged = purge(&scene, 0, &["--resume", "auto"]).unwrap();
            for (freed, moved) in [
                ("/bytes/freed", "/bytes/quarantined"),
                ("/blobs/deleted", "/blobs/quarantined"),
            ] {
                assert_eq!(
                    number(&purged, freed).unwrap(),
                    number(&report, moved).unwrap(),
                    "{failpoint}: {freed}: {purged}"
                );
            }
            assert!(quarantined(&scene).unwrap().is_empty(), "{failpoint}");
            assert_eq!(registry_of(&scene).unwrap(), before);
            scene.check_intact().unwrap();
        }
    }
}

/// A store that refuses a delete keeps the key in its place, and no copy beside it.
#[test]
fn what_cannot_be_deleted_has_no_copy() {
    use hardprune_tests::s3_server::{Effect, Fault, Operation, S3Options};
    let scene = Scene::on_s3(&Shape::small(5), S3Options::default()).unwrap();
    let digest = scene.truth.orphans.keys().next().unwrap().clone();
    let key = hardprune_tests::storage_writer::blob_key(&digest);
    scene.server().unwrap().faults().add(
        Fault::on(
            Operation::DeleteObjects,
            Effect::KeyError {
                code: "AccessDenied",
                message: "not this one",
            },
        )
        .of_keys_with(key.clone())
        .times(1),
    );
    let report = scene.report(5, &scene.delete(&UNTAGGED)).unwrap();
    assert_eq!(number(&report, "/blobs/failed").unwrap(), 1, "{report}");
    check_quarantined(&scene, &report).unwrap();
    assert!(scene.storage().get(&key).unwrap().is_some());
}

/// Workers of other processes keep what they delete, too, whichever of them is killed.
#[test]
fn over_nats_while_workers_die() {
    use hardprune_tests::fleet::Fleet;
    use hardprune_tests::s3_server::S3Options;
    let shape = Shape {
        orphans: 300,
        ..Shape::small(5)
    };
    let fleet = Fleet::of(Scene::on_s3(&shape, S3Options::default()).unwrap()).unwrap();
    let before = registry_of(&fleet.scene).unwrap();
    let url = fleet.nats.url();
    let mut dying: Vec<_> = ["quarantine-copied=return", "delete-after-request=return"]
        .iter()
        .map(|failpoints| fleet.worker_with(&url, failpoints, &[]).unwrap())
        .collect();
    let options = fleet.options(&url, &UNTAGGED);
    let arguments = fleet.scene.delete(&options);
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| fleet.scene.report(0, &arguments));
        for worker in &mut dying {
            // It has no exit status, for a signal ended it.
            assert!(worker.wait().is_err());
        }
        let _workers = fleet.workers(2).unwrap();
        run.join().unwrap()
    });
    let report = run.unwrap();
    fleet.scene.check_intact().unwrap();
    check_quarantined(&fleet.scene, &report).unwrap();
    restore(&fleet.scene, report["run"].as_str().unwrap(), &[]).unwrap();
    check_restored(&fleet.scene, &before).unwrap();
}
