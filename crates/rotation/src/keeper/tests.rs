use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;
use secrets::Cause;
use tokio::task::JoinSet;

use super::*;
use crate::Rejection;
use crate::script::{Note, Notes, Recorder, Scripted, away, clock, failed, second, start};

type Answer = Result<Obtained<u64>, SourceError>;

/// A keeper that runs in this runtime.
struct Run {
    notes: Notes,
    wake: watch::Sender<u64>,
    superseded: Arc<AtomicBool>,
    in_use: Arc<AtomicBool>,
    progress: watch::Receiver<Progress>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Run {
    fn new(script: impl FnMut(usize, SystemTime) -> Answer + Send + 'static) -> Self {
        Self::with_clock(clock(), script)
    }

    fn with_clock(clock: Clock, script: impl FnMut(usize, SystemTime) -> Answer + Send + 'static) -> Self {
        let (notes, wake) = (Notes::default(), watch::Sender::new(0));
        let (superseded, in_use) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let source = Scripted {
            script,
            notes: notes.clone(),
            clock: Arc::clone(&clock),
            superseded: Arc::clone(&superseded),
        };
        let in_use_too = Arc::clone(&in_use);
        let in_use_now = move || in_use_too.load(Ordering::Relaxed);
        let sink = Recorder { notes: notes.clone(), clock: Arc::clone(&clock), in_use: in_use_now };
        let keeper = Keeper::new(source, clock, wake.subscribe());
        let (progress, stop) = (keeper.progress(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper.run(sink, stop.clone()));
        Self { notes, wake, superseded, in_use, progress, stop, tasks }
    }

    async fn stopped(mut self) -> Notes {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
        self.notes
    }

    /// The gaps between the tries.
    fn gaps(&self) -> Vec<f64> {
        self.notes.times(Note::Asked).windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// Material whose value is the call, with a life of so many seconds from now.
fn new(call: usize, now: SystemTime, lives: u64) -> Answer {
    Ok(Obtained::New(call as u64, life(now, Some(lives), None)))
}

fn life(now: SystemTime, lives: Option<u64>, again_in: Option<u64>) -> Life {
    Life {
        obtained: now,
        begins: now,
        ends: lives.map(|lives| now + Duration::from_secs(lives)),
        again_in: again_in.map(Duration::from_secs),
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_life_of_twenty_seconds_is_renewed_ten_times_before_it_ends() {
    let run = Run::new(|call, now| new(call, now, 20));
    pass(150).await;
    assert!(run.notes.published().len() > 10, "{:?}", run.notes.published());
    assert!(run.gaps().iter().all(|gap| (11.9..15.0).contains(gap)), "{:?}", run.gaps());
}

#[tokio::test(start_paused = true)]
async fn what_is_unchanged_is_not_published_again() {
    let run = Run::new(|call, now| match call {
        1 => Ok(Obtained::New(7, life(now, None, Some(60)))),
        _ => Ok(Obtained::Unchanged(life(now, None, Some(60)))),
    });
    pass(620).await;
    assert_eq!(run.notes.published(), [7]);
    assert_eq!(run.notes.times(Note::Confirmed).len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_fails_its_check_never_replaces_what_serves() {
    let run = Run::new(|call, now| match call {
        1 => new(call, now, 600),
        _ => Err(Rejection::EndsEarlier.into()),
    });
    pass(3600).await;
    assert_eq!(run.notes.published(), [1]);
    let progress = run.progress.borrow().clone();
    assert_eq!(progress.renewals, 1);
    assert_eq!(progress.last_error.unwrap().word, "rejected");
    // Held on to after its end too: whoever serves it judges the time.
    assert_eq!(progress.held.unwrap().ends, Some(start() + Duration::from_secs(600)));
}

#[tokio::test(start_paused = true)]
async fn tries_go_on_for_ever_and_faster_near_the_end_and_after_it() {
    let run = Run::new(|call, now| if call == 1 { new(call, now, 3 * 3600) } else { Err(away()) });
    pass(3 * 3600 + 600).await;
    let tries = run.notes.times(Note::Asked);
    let within = |from: f64, to: f64| tries.iter().filter(|at| (from..to).contains(*at)).count();
    let end = 3.0 * 3600.0;
    assert!(within(end - 1200.0, end - 600.0) < 30, "six at the full backoff");
    assert!(within(end - 60.0, end) > 6);
    assert!(within(end, end + 600.0) > 100, "every five seconds at least");
    assert!(run.gaps().iter().all(|gap| *gap >= 1.0));
}

#[tokio::test(start_paused = true)]
async fn the_first_success_after_hours_comes_within_five_seconds_of_the_store() {
    for lives in [30, 3600, 24 * 3600] {
        let is_away = Arc::new(AtomicBool::new(false));
        let away_now = Arc::clone(&is_away);
        let run =
            Run::new(
                move |call, now| {
                    if away_now.load(Ordering::Relaxed) { Err(away()) } else { new(call, now, lives) }
                },
            );
        pass(lives / 2).await;
        is_away.store(true, Ordering::Relaxed);
        pass(lives.max(7200)).await;
        let before = run.notes.published().len();
        assert!(run.progress.borrow().failures > 0);
        is_away.store(false, Ordering::Relaxed);
        run.wake.send_modify(|wakes| *wakes += 1);
        pass(5).await;
        assert!(run.notes.published().len() > before);
        assert_eq!(run.progress.borrow().failures, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_came_back_a_moment_too_early_is_tried_again_soon() {
    let ready = Arc::new(AtomicBool::new(false));
    let is_ready = Arc::clone(&ready);
    let run = Run::new(move |call, now| match call {
        1 => new(call, now, 24 * 3600),
        _ if is_ready.load(Ordering::Relaxed) => new(call, now, 24 * 3600),
        _ => Err(away()),
    });
    pass(20 * 3600).await;
    run.wake.send_modify(|wakes| *wakes += 1);
    pass(3).await;
    ready.store(true, Ordering::Relaxed);
    pass(5).await;
    assert_eq!(run.notes.published().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_store_is_tried_a_few_times_in_an_hour() {
    let run = Run::new(|call, now| match call {
        1 => new(call, now, 1_000_000),
        _ => Err(failed(Cause::Denied("pki/sign/edge".to_owned()))),
    });
    pass(800_000).await;
    let before = run.notes.times(Note::Asked).len();
    pass(3600).await;
    assert!((1..=2).contains(&(run.notes.times(Note::Asked).len() - before)));
    assert!(run.progress.borrow().last_error.as_ref().unwrap().is_configuration);
}

#[tokio::test(start_paused = true)]
async fn a_wake_renews_nothing_that_is_healthy_but_looks_at_what_is_looked_at() {
    let certificate = Run::new(|call, now| new(call, now, 3600));
    let value = Run::new(|call, now| Ok(Obtained::New(call as u64, life(now, None, Some(3600)))));
    pass(10).await;
    certificate.wake.send_modify(|wakes| *wakes += 1);
    value.wake.send_modify(|wakes| *wakes += 1);
    pass(5).await;
    assert_eq!(certificate.notes.published(), [1]);
    assert_eq!(value.notes.published(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_flaps_is_asked_once_a_second_at_most() {
    let run = Run::new(|_, _| Err(away()));
    for _ in 0..3000 {
        run.wake.send_modify(|wakes| *wakes += 1);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(run.gaps().len() > 20);
    assert!(run.gaps().iter().all(|gap| *gap >= 1.0));
}

#[tokio::test(start_paused = true)]
async fn what_is_superseded_is_replaced_now_and_not_in_a_loop() {
    let run = Run::new(|call, now| new(call, now, 3600));
    pass(100).await;
    run.superseded.store(true, Ordering::Relaxed);
    run.wake.send_modify(|wakes| *wakes += 1);
    pass(3).await;
    assert!(run.notes.published().len() > 1);
    assert!(run.gaps().iter().all(|gap| *gap >= 1.0));
}

#[tokio::test(start_paused = true)]
async fn the_former_is_retired_when_nobody_uses_it() {
    let run = Run::new(|call, now| new(call, now, 300));
    run.in_use.store(true, Ordering::Relaxed);
    pass(260).await;
    assert_eq!(run.notes.published(), [1, 2]);
    assert!(run.notes.times(Note::Retired).is_empty());
    run.in_use.store(false, Ordering::Relaxed);
    pass(2).await;
    assert_eq!(run.notes.times(Note::Retired).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_former_is_retired_after_five_minutes_whoever_uses_it() {
    let run = Run::new(|call, now| new(call, now, 3600));
    run.in_use.store(true, Ordering::Relaxed);
    pass(2800).await;
    let replaced = run.notes.times(Note::Published(2))[0];
    pass(250).await;
    let retired = run.notes.times(Note::Retired);
    assert_eq!(retired.len(), 1);
    assert!((300.0..302.0).contains(&(retired[0] - replaced)), "{}", retired[0] - replaced);
}

#[tokio::test(start_paused = true)]
async fn what_a_job_holds_is_given_back_when_it_stops() {
    let run = Run::new(|call, now| new(call, now, 3600));
    pass(10).await;
    let notes = run.stopped().await;
    assert_eq!(notes.all().last().unwrap().1, Note::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_first_try_before_the_run_counts() {
    let (notes, clock) = (Notes::default(), clock());
    let source = Scripted {
        script: |call, now| new(call, now, 3600),
        notes: notes.clone(),
        clock: Arc::clone(&clock),
        superseded: Arc::default(),
    };
    let wake = watch::Sender::new(0);
    let mut keeper = Keeper::new(source, Arc::clone(&clock), wake.subscribe());
    assert_eq!(keeper.prepare().await.unwrap(), 1);
    let (stop, sink) = (CancellationToken::new(), Recorder { notes: notes.clone(), clock, in_use: || false });
    let mut tasks = JoinSet::new();
    tasks.spawn(keeper.run(sink, stop.clone()));
    pass(1000).await;
    assert_eq!(notes.times(Note::Asked).len(), 1);
    pass(2000).await;
    assert_eq!(notes.published(), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_renews_when_it_wakes_up_and_a_clock_set_back_stops_nothing() {
    let jump = Arc::new(AtomicU64::new(1_000_000));
    let (jumped, real) = (Arc::clone(&jump), clock());
    let wall: Clock = Arc::new(move || real() + Duration::from_secs(jumped.load(Ordering::Relaxed)));
    let run = Run::with_clock(wall, |call, now| new(call, now, 86_400));
    pass(10).await;
    jump.store(1_070_000, Ordering::Relaxed);
    pass(31).await;
    assert_eq!(run.notes.published(), [1, 2]);
    jump.store(0, Ordering::Relaxed);
    pass(70_000).await;
    assert_eq!(run.notes.published(), [1, 2, 3]);
}

/// A source that never answers.
struct Stuck(Notes);

impl Source for Stuck {
    type Material = u64;

    async fn obtain(&mut self, _held: Option<&Life>, _now: SystemTime) -> Answer {
        std::future::pending().await
    }

    async fn close(&mut self) {
        self.0.add(start(), Note::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_try_that_hangs_does_not_keep_a_job_from_stopping() {
    let (notes, clock, wake) = (Notes::default(), clock(), watch::Sender::new(0));
    let keeper = Keeper::new(Stuck(notes.clone()), Arc::clone(&clock), wake.subscribe());
    let sink = Recorder { notes: notes.clone(), clock: Arc::clone(&clock), in_use: || false };
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(keeper.run(sink, stop.clone()));
    pass(100).await;
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
    assert!(second(clock()) < 111.0);
    assert_eq!(notes.times(Note::Closed).len(), 1);
}

/// Seventy-two hours of a store that goes away now and then, for at most `longest`, as drawn from `seed`: the tries of a job whose
/// material lives for `lives` seconds, for how many seconds the store was away, and the gaps in what was served.
async fn seventy_two_hours(seed: u64, lives: u64, longest: u64) -> (usize, u64, Vec<f64>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let is_away = Arc::new(AtomicBool::new(false));
    let away_now = Arc::clone(&is_away);
    let run = Run::new(
        move |call, now| {
            if away_now.load(Ordering::Relaxed) { Err(away()) } else { new(call, now, lives) }
        },
    );
    let (mut passed, mut away_for) = (0, 0);
    while passed < 72 * 3600 {
        let (up, down) = (random.u64(longest..longest * 5), random.u64(1..longest));
        pass(up).await;
        is_away.store(true, Ordering::Relaxed);
        pass(down).await;
        is_away.store(false, Ordering::Relaxed);
        run.wake.send_modify(|wakes| *wakes += 1);
        passed += up + down;
        away_for += down;
    }
    assert!(run.gaps().iter().all(|gap| *gap >= 1.0));
    let published: Vec<f64> = run
        .notes
        .all()
        .into_iter()
        .filter(|(_, note)| matches!(note, Note::Published(_)))
        .map(|(at, _)| at)
        .collect();
    let gaps = published.windows(2).map(|pair| pair[1] - pair[0] - lives as f64).filter(|gap| *gap > 0.0);
    (run.gaps().len() + 1, away_for, gaps.collect())
}

#[test]
fn seventy_two_hours_of_outages_leave_no_gap_and_few_calls() {
    proptest!(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() },
        |(seed in any::<u64>(), lives in prop::sample::select(vec![60_u64, 600, 3600, 4 * 3600, 24 * 3600]))| {
        fastrand::seed(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        // An outage of a fifth of the life is survived even if it begins just when the renewal is due.
        let (tries, away_for, gaps) = runtime.block_on(seventy_two_hours(seed, lives, lives / 5));
        prop_assert!(gaps.is_empty(), "{gaps:?}");
        let renewals = 72 * 3600 / (lives * 6 / 10) + 1;
        // A long outage is asked after every 150 s on average (full jitter of five minutes).
        let most = renewals * 25 + away_for / 100;
        prop_assert!(tries as u64 <= most, "{tries} tries for {renewals} renewals, {away_for} s away");
    });
}
