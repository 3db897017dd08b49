//! What every store does, whichever it is: one suite, for a folder, a bucket, and a folder in a bucket.

#[path = "stores/copying.rs"]
mod copying;
#[path = "stores/copying_on_s3.rs"]
mod copying_on_s3;
#[path = "stores/listing.rs"]
mod listing;
#[path = "stores/listing_ahead.rs"]
mod listing_ahead;
#[path = "stores/opened.rs"]
mod opened;
#[path = "stores/ranges.rs"]
mod ranges;
#[path = "stores/undeleting.rs"]
mod undeleting;
#[path = "stores/writing.rs"]
mod writing;

/// Runs each behaviour on each kind of store.
macro_rules! on_every_store {
    ($($module:ident: $($behaviour:ident),+;)+) => {
        on_every_store!(@kind in_a_folder, $($module: $($behaviour),+;)+);
        on_every_store!(@kind in_a_bucket, $($module: $($behaviour),+;)+);
        on_every_store!(@kind in_a_folder_of_a_bucket, $($module: $($behaviour),+;)+);
    };
    (@kind $kind:ident, $($module:ident: $($behaviour:ident),+;)+) => {
        mod $kind {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    let opened = crate::opened::$kind().unwrap();
                    crate::$module::$behaviour(&opened).await.unwrap();
                }
            )+)+
        }
    };
}

on_every_store! {
    copying: a_copy_has_the_bytes_and_the_source_stays, a_copy_takes_the_place_of_what_is_there, odd_names_are_copied_to_odd_names,
        what_is_not_there_is_not_copied, no_copy_leads_out_of_the_store, a_copy_is_counted_as_one;
    listing: keys_come_in_the_order_of_their_bytes, a_prefix_may_end_inside_a_name, a_range_may_begin_and_end_anywhere,
        a_folder_shows_what_is_directly_in_it, what_is_not_there_is_empty, an_object_is_listed_as_it_is,
        any_range_of_any_keys_is_what_the_model_says, a_glance_and_a_look_show_what_a_list_does;
    writing: no_key_leads_out_of_the_store, a_part_of_an_object_can_be_read, an_empty_object_is_an_object, an_absent_key_is_not_found,
        a_write_replaces_the_whole, a_write_may_be_bound_to_absence, a_write_may_be_bound_to_a_version,
        of_writers_at_once_one_makes_the_object, readers_see_one_write_or_the_other, odd_names_are_names_like_others,
        present_and_absent_keys_are_deleted_and_nothing_else, nothing_is_deleted_once_the_deadline_has_passed, as_many_keys_as_the_limit_go_at_once,
        a_folder_of_that_name_is_no_key, a_store_says_who_and_when_it_is;
}

/// In a bucket a key may begin with a slash. In a folder it would be a path of the machine.
#[tokio::test]
async fn a_folder_has_no_keys_that_begin_at_the_root_of_the_machine() {
    let folder = opened::in_a_folder().unwrap();
    let read = folder.store.get("/etc/hostname", 0, 100).await;
    assert!(read.is_err_and(|error| !error.is_not_found()));
}

/// A folder knows at once whether the owner of a lock lives. Elsewhere there is no such lock.
#[tokio::test]
async fn an_exclusive_lock_excludes_as_long_as_it_is_held() {
    let folder = opened::in_a_folder().unwrap();
    let held = folder.store.lock_exclusively("hardprune/lock").await.unwrap();
    assert!(held.is_some());
    let again = folder.store.lock_exclusively("hardprune/lock").await;
    assert!(
        matches!(
            again,
            Err(hardprune_common::store::StoreError::ConditionNotMet { .. })
        ),
        "{again:?}"
    );
    drop(held);
    assert!(
        folder
            .store
            .lock_exclusively("hardprune/lock")
            .await
            .unwrap()
            .is_some()
    );

    let bucket = opened::in_a_bucket().unwrap();
    assert!(
        bucket
            .store
            .lock_exclusively("hardprune/lock")
            .await
            .unwrap()
            .is_none()
    );
}
