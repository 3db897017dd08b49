use super::*;

/// A registry of 100 blobs, 10 bytes each, of which 40 would go.
fn usual() -> Totals {
    Totals {
        repositories: 3,
        manifests: 10,
        references: 60,
        must_be_present: 60,
        present: 60,
        by_chance: 0,
        there: Amount {
            blobs: 100,
            bytes: 1_000,
        },
        going: Amount {
            blobs: 40,
            bytes: 400,
        },
        gone_before: Amount::default(),
        planned: Planned::default(),
    }
}

fn refusing(totals: &Totals, limits: &GuardLimits) -> Vec<Guard> {
    refusals(totals, limits)
        .iter()
        .map(|refusal| refusal.guard)
        .collect()
}

#[test]
fn a_usual_registry_is_not_refused() {
    assert_eq!(refusing(&usual(), &GuardLimits::default()), []);
    assert_eq!(refusing(&Totals::default(), &GuardLimits::default()), []);
}

#[test]
fn a_registry_without_references_is_refused_unless_nothing_would_go() {
    let mut totals = Totals {
        references: 0,
        must_be_present: 0,
        present: 0,
        ..usual()
    };
    assert_eq!(refusing(&totals, &GuardLimits::default()), [Guard::NoReferences]);
    let accepted = GuardLimits {
        accept_no_references: true,
        ..GuardLimits::default()
    };
    assert_eq!(refusing(&totals, &accepted), []);
    totals.going = Amount::default();
    assert_eq!(refusing(&totals, &GuardLimits::default()), []);
    totals.planned.links.revision = 1;
    assert_eq!(refusing(&totals, &GuardLimits::default()), [Guard::NoReferences]);
}

#[test]
fn enough_of_the_references_must_have_a_blob() {
    let with = |present, by_chance| Totals {
        present,
        by_chance,
        ..usual()
    };
    assert_eq!(refusing(&with(57, 0), &GuardLimits::default()), []);
    assert_eq!(
        refusing(&with(56, 0), &GuardLimits::default()),
        [Guard::MinPresent]
    );
    let message = &refusals(&with(50, 7), &GuardLimits::default())[0].message;
    assert!(
        message.contains("50 of 60") && message.contains("83.33 %") && message.contains("without 7"),
        "{message}"
    );
    let lower = GuardLimits {
        min_present: Percent::whole(93),
        ..GuardLimits::default()
    };
    assert_eq!(refusing(&with(56, 0), &lower), []);
}

#[test]
fn no_more_than_half_may_go_by_blobs_or_by_bytes() {
    let with = |blobs, bytes| Totals {
        going: Amount { blobs, bytes },
        ..usual()
    };
    let limits = GuardLimits::default();
    assert_eq!(refusing(&with(50, 500), &limits), []);
    assert_eq!(refusing(&with(51, 500), &limits), [Guard::MaxDeletePercent]);
    assert_eq!(refusing(&with(50, 501), &limits), [Guard::MaxDeletePercent]);
    assert_eq!(refusing(&with(51, 501), &limits).len(), 2);
    let all = GuardLimits {
        max_delete_percent: Percent::whole(100),
        ..limits
    };
    assert_eq!(refusing(&with(100, 1_000), &all), []);
}

#[test]
fn limits_in_numbers_are_for_the_whole_run() {
    let limits = |blobs, bytes| GuardLimits {
        max_delete_blobs: blobs,
        max_delete_bytes: bytes,
        ..GuardLimits::default()
    };
    assert_eq!(refusing(&usual(), &limits(Some(40), Some(400))), []);
    assert_eq!(
        refusing(&usual(), &limits(Some(39), Some(399))),
        [Guard::MaxDeleteBlobs, Guard::MaxDeleteBytes]
    );
    // A run that was stopped after 30 blobs, of 130.
    let resumed = Totals {
        gone_before: Amount {
            blobs: 30,
            bytes: 300,
        },
        ..usual()
    };
    assert_eq!(
        refusing(&resumed, &limits(Some(70), Some(700))),
        [Guard::MaxDeletePercent, Guard::MaxDeletePercent]
    );
    assert_eq!(
        refusing(&resumed, &limits(Some(69), None)),
        [
            Guard::MaxDeletePercent,
            Guard::MaxDeletePercent,
            Guard::MaxDeleteBlobs
        ]
    );
    let message = &refusals(&resumed, &GuardLimits::default())[0].message;
    assert!(
        message.contains("70 of 130") && message.contains("30 blobs, 300 B"),
        "{message}"
    );
}
