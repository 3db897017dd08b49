//! The pace against stores with limits, in time that passes at once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tokio::task::LocalSet;

use super::*;

/// What a store was asked, and refused.
#[derive(Debug, Default, Clone, Copy)]
struct Asked {
    requests: f64,
    refused: f64,
    keys: f64,
}

/// A store that takes so many keys a second in each lane, and after a pause a second's worth at once.
struct Limited {
    limit: f64,
    /// Whether the limit is one for all lanes.
    is_shared: bool,
    lanes: RefCell<HashMap<String, (f64, Instant)>>,
    asked: RefCell<Asked>,
}

impl Limited {
    fn new(limit: f64, is_shared: bool) -> Rc<Self> {
        Rc::new(Self {
            limit,
            is_shared,
            lanes: RefCell::default(),
            asked: RefCell::default(),
        })
    }

    fn takes(&self, lane: &str, keys: f64) -> bool {
        let now = Instant::now();
        let mut lanes = self.lanes.borrow_mut();
        let lane = if self.is_shared { "" } else { lane };
        let (tokens, filled) = lanes.entry(lane.to_owned()).or_insert((self.limit, now));
        *tokens = (*tokens + (now - *filled).as_secs_f64() * self.limit).min(self.limit);
        *filled = now;
        let takes = *tokens >= keys;
        let mut asked = self.asked.borrow_mut();
        asked.requests += 1.0;
        if takes {
            *tokens -= keys;
            asked.keys += keys;
        } else {
            asked.refused += 1.0;
        }
        takes
    }

    /// What was asked since this was looked at last.
    fn take(&self) -> Asked {
        self.asked.take()
    }
}

const LATENCY: Duration = Duration::from_millis(40);
const BACK_OFF: Duration = Duration::from_millis(200);

/// Asks for ever, as many at once as there are loads.
fn ask_for_ever(tasks: &LocalSet, pace: &Arc<Pace>, store: &Rc<Limited>, loads: impl Iterator<Item = Load>) {
    for load in loads {
        let (pace, store) = (Arc::clone(pace), Rc::clone(store));
        tasks.spawn_local(async move {
            loop {
                pace.turn(&load).await;
                let sent = Instant::now();
                tokio::time::sleep(LATENCY.mul_f64(0.5 + rand::random::<f64>())).await;
                if store.takes(&load.lane, f64::from(load.keys)) {
                    pace.succeeded(&load);
                } else {
                    pace.refused(&load, sent);
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        });
    }
}

fn blob(prefix: u8) -> String {
    format!("docker/registry/v2/blobs/sha256/{prefix:02x}/")
}

/// Four batches in flight in each of so many lanes.
fn deletes(lanes: u8, keys: usize) -> impl Iterator<Item = Load> + Clone {
    (0..lanes).flat_map(move |lane| (0..4).map(move |_| Load::of_deletes(&blob(lane), keys, 1)))
}

fn pace() -> Arc<Pace> {
    Arc::new(Pace::default())
}

async fn pass(tasks: &LocalSet, minutes: u64) {
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    tasks.run_until(sleep_until(until)).await;
}

fn assert_holds(asked: Asked, limit: f64, seconds: f64) {
    let held = asked.keys / seconds / limit;
    let refused = asked.refused / asked.requests;
    eprintln!(
        "{:.1} % of the limit held, {:.2} % refused",
        held * 100.0,
        refused * 100.0
    );
    assert!(held >= 0.9, "only {held} of the limit is held");
    assert!(refused < 0.01, "{refused} of the requests are refused");
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_each_prefix_is_held_and_seldom_met() {
    for lanes in [1, 8] {
        let (tasks, pace, store) = (LocalSet::new(), pace(), Limited::new(3500.0, false));
        ask_for_ever(&tasks, &pace, &store, deletes(lanes, 1000));
        pass(&tasks, 20).await;
        assert_holds(store.take(), 3500.0 * f64::from(lanes), 1200.0);
    }
}

/// A short sweep is over before a slow increase has mended a first guess. How good that is depends on how many batches a second's end
/// has let through: so there are several first minutes.
#[tokio::test(start_paused = true)]
async fn a_first_guess_that_is_too_low_is_soon_mended() {
    const STARTS: u8 = 12;
    let mut keys = 0.0;
    for _ in 0..STARTS {
        let (tasks, pace, store) = (LocalSet::new(), pace(), Limited::new(3500.0, false));
        ask_for_ever(&tasks, &pace, &store, deletes(4, 1000));
        pass(&tasks, 1).await;
        let asked = store.take();
        assert!(asked.keys >= 0.9 * 60.0 * 4.0 * 3500.0, "{asked:?}");
        keys += asked.keys;
    }
    let held = keys / (f64::from(STARTS) * 60.0 * 4.0 * 3500.0);
    eprintln!("{:.1} % of the limit held", held * 100.0);
    assert!(held >= 0.95, "only {held} of the limit is held");
}

#[tokio::test(start_paused = true)]
async fn limits_that_nobody_documents_are_found() {
    for (limit, is_shared, lanes) in [(1200.0, false, 4), (20_000.0, false, 4), (3500.0, true, 8)] {
        let (tasks, pace, store) = (LocalSet::new(), pace(), Limited::new(limit, is_shared));
        ask_for_ever(&tasks, &pace, &store, deletes(lanes, 1000));
        pass(&tasks, 6).await;
        store.take();
        pass(&tasks, 12).await;
        let all = if is_shared {
            limit
        } else {
            limit * f64::from(lanes)
        };
        assert_holds(store.take(), all, 720.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_prefix_that_is_begun_knows_what_the_last_one_found_out() {
    let (pace, store) = (pace(), Limited::new(3500.0, false));
    let tasks = LocalSet::new();
    ask_for_ever(&tasks, &pace, &store, deletes(1, 1000));
    pass(&tasks, 5).await;
    drop(tasks);
    store.take();
    for lane in 1..200 {
        let tasks = LocalSet::new();
        let loads = (0..4).map(|_| Load::of_deletes(&blob(lane), 1000, 1));
        ask_for_ever(&tasks, &pace, &store, loads);
        tasks.run_until(tokio::time::sleep(Duration::from_secs(4))).await;
    }
    let asked = store.take();
    assert!(asked.refused / asked.requests < 0.01, "{asked:?}");
    assert!(asked.keys / (199.0 * 4.0) > 0.9 * 3500.0, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn reads_have_one_rate_wherever_they_go() {
    let (tasks, pace, store) = (LocalSet::new(), pace(), Limited::new(600.0, true));
    let reads = (0..64).map(|prefix| Load::of(RequestKind::Get, &blob(prefix)));
    ask_for_ever(&tasks, &pace, &store, reads);
    pass(&tasks, 2).await;
    store.take();
    pass(&tasks, 3).await;
    assert_holds(store.take(), 600.0, 180.0);
}

/// A limit that has risen is found, and one that has fallen is kept.
#[tokio::test(start_paused = true)]
async fn a_limit_that_changes_is_followed() {
    let pace = pace();
    for limit in [3500.0, 14_000.0, 2000.0] {
        let (tasks, store) = (LocalSet::new(), Limited::new(limit, false));
        ask_for_ever(&tasks, &pace, &store, deletes(4, 1000));
        pass(&tasks, 6).await;
        store.take();
        pass(&tasks, 10).await;
        assert_holds(store.take(), 4.0 * limit, 600.0);
    }
}

#[tokio::test(start_paused = true)]
async fn without_refusals_nothing_waits() {
    let pace = pace();
    let began = Instant::now();
    for load in deletes(4, 1000).cycle().take(100_000) {
        pace.turn(&load).await;
        pace.succeeded(&load);
    }
    assert_eq!(Instant::now(), began);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_now_and_then_slows_nothing_down() {
    let pace = pace();
    let load = Load::of(RequestKind::Get, "docker/registry/v2/repositories/a");
    let began = Instant::now();
    for number in 0..100_000 {
        pace.turn(&load).await;
        if number % 500 == 0 {
            pace.refused(&load, Instant::now());
        } else {
            pace.succeeded(&load);
        }
    }
    assert_eq!(Instant::now(), began);
}

/// It is down, and will not be taken for slow when it is back.
#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_everything_is_not_asked_ever_less() {
    let pace = pace();
    let load = Load::of_deletes(&blob(0), 1000, 1);
    for _ in 0..100 {
        pace.turn(&load).await;
        pace.refused(&load, Instant::now());
        tokio::time::sleep(BACK_OFF).await;
    }
    let began = Instant::now();
    for _ in 0..10 {
        pace.turn(&load).await;
        pace.succeeded(&load);
    }
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_ceiling_is_not_exceeded_by_requests_of_all_kinds_together() {
    let pace = pace();
    pace.set_ceiling(Some(50.0));
    let began = Instant::now();
    for number in 0..500_u32 {
        let load = match number % 3 {
            0 => Load::of(RequestKind::List, "docker/"),
            1 => Load::of(RequestKind::Get, &blob(7)),
            _ => Load::of_deletes(&blob(number.to_le_bytes()[0]), 1000, 1),
        };
        pace.turn(&load).await;
    }
    let took = began.elapsed().as_secs_f64();
    assert!((9.9..10.1).contains(&took), "{took}");
    pace.set_ceiling(None);
    let began = Instant::now();
    for _ in 0..500 {
        pace.turn(&Load::of(RequestKind::Get, "x")).await;
    }
    assert!(began.elapsed() < Duration::from_secs(1));
}

/// A lock that is renewed late is lost.
#[tokio::test(start_paused = true)]
async fn own_files_wait_for_nothing_and_count() {
    let pace = pace();
    pace.set_ceiling(Some(1.0));
    let began = Instant::now();
    for _ in 0..10 {
        pace.turn(&Load::of(RequestKind::Put, "hardprune/lock.json"))
            .await;
        pace.turn(&Load::of(RequestKind::Get, "hardprune/lock.json"))
            .await;
    }
    assert_eq!(Instant::now(), began);
    pace.turn(&Load::of(RequestKind::Get, "docker/x")).await;
    assert!(began.elapsed() >= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_for_a_turn_does_not_wait_again() {
    let pace = pace();
    pace.set_ceiling(Some(1.0));
    let load = Load::of_deletes(&blob(0), 100, 10);
    pace.turn(&load).await;
    let began = Instant::now();
    pace.turn(&load.clone().due()).await;
    assert_eq!(Instant::now(), began);
    pace.turn(&load).await;
    assert!(
        began.elapsed() >= Duration::from_secs(10),
        "it stands for ten requests"
    );
}

#[test]
fn lanes_are_prefixes_of_two_digits() {
    let lane = |key: &str| lane_of(key).to_owned();
    assert_eq!(
        lane("docker/registry/v2/blobs/sha256/ab/abc/data"),
        "docker/registry/v2/blobs/sha256/ab"
    );
    assert_eq!(
        lane("docker/registry/v2/blobs/sha512/ab"),
        "docker/registry/v2/blobs/sha512/ab"
    );
    for key in [
        "",
        "docker/registry/v2/blobs/sha256/a",
        "docker/registry/v2/blobs/x",
        "docker/registry/v2/blobs/sha256/a\u{e9}",
    ] {
        assert_eq!(lane(key), "", "{key}");
    }
    assert_eq!(
        lane("docker/registry/v2/repositories/a/_layers/sha256/ab/link"),
        ""
    );
}

#[test]
fn stores_in_one_bucket_share_its_pace() {
    let paces = Paces::default();
    assert!(Arc::ptr_eq(
        &paces.of("http://h/b"),
        &paces.clone().of("http://h/b")
    ));
    assert!(!Arc::ptr_eq(&paces.of("http://h/b"), &paces.of("http://h/c")));
}
