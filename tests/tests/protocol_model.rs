//! Models of the protocol, each checked over all its states: while every rule is kept nothing goes wrong, and where one is
//! switched off the checker finds what it is for. docs/protocol-model.md says what is modelled, and what is not.

#[path = "protocol_model/accounting.rs"]
mod accounting;
#[path = "protocol_model/check.rs"]
mod check;
#[path = "protocol_model/deletion.rs"]
mod deletion;
#[path = "protocol_model/order.rs"]
mod order;

/// No live blob goes missing.
mod live_blobs {
    use super::check::{find_failure, hold_everywhere};
    use super::deletion::{Deletion, NO_LIVE_BLOB_IS_MISSING, Rules};

    fn is_lost_where(rules: Rules) {
        find_failure(Deletion { rules }, NO_LIVE_BLOB_IS_MISSING);
    }

    #[test]
    fn stay_while_every_rule_is_kept() {
        hold_everywhere(Deletion { rules: Rules::ALL });
    }

    #[test]
    fn r1_are_lost_where_references_are_ignored() {
        is_lost_where(Rules {
            r1_references_are_kept: false,
            ..Rules::ALL
        });
    }

    #[test]
    fn r2_are_lost_where_an_old_plan_is_carried_out() {
        is_lost_where(Rules {
            r2_plans_are_traced: false,
            ..Rules::ALL
        });
    }

    #[test]
    fn r5_are_lost_where_a_claimant_does_not_wait() {
        is_lost_where(Rules {
            r5_claimants_wait: false,
            ..Rules::ALL
        });
    }

    #[test]
    fn r5_are_lost_where_the_claim_is_not_looked_at_again() {
        is_lost_where(Rules {
            r5_claims_are_looked_at_again: false,
            ..Rules::ALL
        });
    }

    #[test]
    fn r5_are_lost_where_a_batch_of_a_later_claim_is_settled() {
        is_lost_where(Rules {
            r5_only_predecessors_are_settled: false,
            ..Rules::ALL
        });
    }

    #[test]
    fn r10_are_lost_where_a_request_outlasts_the_lease() {
        is_lost_where(Rules {
            r10_requests_end_in_time: false,
            ..Rules::ALL
        });
    }

    #[test]
    fn r11_are_lost_where_a_resumed_run_does_not_mark_anew() {
        is_lost_where(Rules {
            r11_epochs_mark_anew: false,
            ..Rules::ALL
        });
    }

    #[test]
    fn r11_are_lost_where_read_only_is_lifted_too_early() {
        is_lost_where(Rules {
            r11_read_only_is_held: false,
            ..Rules::ALL
        });
    }

    #[test]
    fn r11_are_lost_where_silence_is_not_waited_for() {
        is_lost_where(Rules {
            r11_silence_is_waited_for: false,
            ..Rules::ALL
        });
    }

    #[test]
    fn r11_are_lost_where_a_lapsed_lock_is_written() {
        is_lost_where(Rules {
            r11_lapsed_lock_is_not_written: false,
            ..Rules::ALL
        });
    }

    #[test]
    fn r11_are_lost_where_the_lock_of_another_is_removed() {
        is_lost_where(Rules {
            r11_lapsed_lock_is_not_removed: false,
            ..Rules::ALL
        });
    }
}

/// Freed bytes are exact (R5).
mod freed_bytes {
    use super::accounting::{Accounting, Bounds, FREED_IS_EXACT, NEVER_TOO_MUCH, Rules};
    use super::check::{find_failure, hold_everywhere};

    fn are_wrong_where(rules: Rules, bounds: Bounds, property: &'static str) {
        find_failure(Accounting { rules, bounds }, property);
    }

    #[test]
    fn are_exact_whoever_has_a_task() {
        hold_everywhere(Accounting {
            rules: Rules::ALL,
            bounds: Bounds::ONE_TASK,
        });
    }

    #[test]
    fn are_exact_whoever_has_the_lock() {
        hold_everywhere(Accounting {
            rules: Rules::ALL,
            bounds: Bounds::TWO_RUNS,
        });
    }

    #[test]
    fn are_wrong_where_starts_are_not_journaled() {
        let rules = Rules {
            starts_are_journaled: false,
            ..Rules::ALL
        };
        are_wrong_where(rules, Bounds::ONE_TASK, FREED_IS_EXACT);
    }

    #[test]
    fn are_wrong_where_the_claim_is_not_looked_at_again() {
        let rules = Rules {
            claims_are_looked_at_again: false,
            ..Rules::ALL
        };
        are_wrong_where(rules, Bounds::ONE_TASK, FREED_IS_EXACT);
    }

    #[test]
    fn are_wrong_where_a_claimant_does_not_wait() {
        let rules = Rules {
            claimants_wait: false,
            ..Rules::ALL
        };
        are_wrong_where(rules, Bounds::ONE_TASK, FREED_IS_EXACT);
    }

    #[test]
    fn are_wrong_where_a_claimant_does_not_settle() {
        let rules = Rules {
            open_batches_are_settled: false,
            ..Rules::ALL
        };
        are_wrong_where(rules, Bounds::ONE_TASK, FREED_IS_EXACT);
    }

    #[test]
    fn are_wrong_where_a_batch_of_a_later_claim_is_settled() {
        let rules = Rules {
            only_predecessors_are_settled: false,
            ..Rules::ALL
        };
        are_wrong_where(rules, Bounds::ONE_TASK, FREED_IS_EXACT);
    }

    #[test]
    fn are_wrong_where_a_late_end_is_written_over_a_settled_one() {
        let rules = Rules {
            settled_is_not_written_over: false,
            ..Rules::ALL
        };
        are_wrong_where(rules, Bounds::ONE_TASK, FREED_IS_EXACT);
        are_wrong_where(rules, Bounds::TWO_RUNS, FREED_IS_EXACT);
    }

    #[test]
    fn are_wrong_where_reports_are_summed() {
        let rules = Rules {
            journals_are_united: false,
            ..Rules::ALL
        };
        are_wrong_where(rules, Bounds::ONE_TASK, FREED_IS_EXACT);
    }

    #[test]
    fn are_too_many_where_it_is_asked_who_deleted_before_the_look() {
        let rules = Rules {
            looks_come_before_questions: false,
            ..Rules::ALL
        };
        are_wrong_where(rules, Bounds::TWO_RUNS, NEVER_TOO_MUCH);
    }

    #[test]
    fn are_too_many_where_only_runs_are_compared() {
        let rules = Rules {
            epochs_are_compared: false,
            ..Rules::ALL
        };
        are_wrong_where(rules, Bounds::TWO_RUNS, NEVER_TOO_MUCH);
    }

    #[test]
    fn are_wrong_where_the_books_of_the_last_delete_stay_open() {
        let rules = Rules {
            last_delete_is_settled: false,
            ..Rules::ALL
        };
        are_wrong_where(rules, Bounds::TWO_RUNS, FREED_IS_EXACT);
    }
}

/// What is served is whole at any moment, and leftovers go (R6).
mod order_of_removals {
    use super::check::{find_failure, hold_everywhere};
    use super::order::{NOTHING_IS_LEFT, Order, Rules, SERVED_IS_WHOLE};

    fn breaks_where(rules: Rules) {
        find_failure(Order { rules }, SERVED_IS_WHOLE);
        find_failure(Order { rules }, NOTHING_IS_LEFT);
    }

    #[test]
    fn holds_while_every_rule_is_kept() {
        hold_everywhere(Order { rules: Rules::ALL });
    }

    #[test]
    fn r6_breaks_where_workers_do_what_is_not_due() {
        breaks_where(Rules {
            workers_look_at_the_stage: false,
            ..Rules::ALL
        });
    }

    #[test]
    fn r6_breaks_where_blobs_do_not_wait_for_links() {
        breaks_where(Rules {
            stages_wait: false,
            ..Rules::ALL
        });
    }

    #[test]
    fn r6_breaks_where_a_link_that_cannot_go_holds_nothing_back() {
        breaks_where(Rules {
            links_hold_blobs_back: false,
            ..Rules::ALL
        });
    }
}
