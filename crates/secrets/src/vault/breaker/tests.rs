//! What opens the breaker, what the prober does, who may ask.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const THROTTLED: Cause = Cause::Throttled { retry_after: Some(SECOND) };

#[test]
fn one_failure_of_a_request_makes_the_prober_look_and_three_open() {
    let (breaker, now) = (Breaker::new(), Instant::now());
    assert_eq!(breaker.next_probe(None, now, 0.5), Probe::Idle(None));
    breaker.report(Some(&Cause::Timeout), now, 0.5);
    assert_eq!(breaker.check(now), Ok(()));
    assert_eq!(breaker.next_probe(None, now, 0.5), Probe::At(now));
    breaker.report(Some(&Cause::Timeout), now, 0.5);
    breaker.report(None, now, 0.5);
    breaker.report(Some(&Cause::Timeout), now, 0.5);
    breaker.report(Some(&Cause::Timeout), now, 0.5);
    assert_eq!(breaker.check(now), Ok(()), "an answer in between starts the count anew");
    breaker.report(Some(&Cause::Answer("x")), now, 0.5);
    assert_eq!(breaker.check(now), Err(Cause::Away(Box::new(Cause::Answer("x")))));
}

#[test]
fn a_refusal_is_an_answer() {
    let (breaker, now) = (Breaker::new(), Instant::now());
    for _ in 0..10 {
        breaker.report(Some(&Cause::Refused("no".to_owned())), now, 0.5);
    }
    assert_eq!((breaker.check(now), breaker.failure(now)), (Ok(()), None));
}

#[test]
fn probes_are_a_second_or_two_apart_at_first_and_never_more_than_two_and_a_half() {
    let (breaker, now) = (Breaker::new(), Instant::now());
    breaker.report(Some(&Cause::Sealed), now, 0.5);
    assert_eq!(breaker.next_probe(None, now, 0.5), Probe::At(now));
    assert_eq!(breaker.next_probe(Some(now), now, 0.25), Probe::At(now + SECOND.mul_f64(1.25)));
    let later = now + 60 * SECOND;
    assert_eq!(breaker.next_probe(Some(later), later, 1.0), Probe::At(later + SECOND.mul_f64(2.5)));
    assert!(breaker.probed(Ok(()), later));
    assert_eq!(breaker.next_probe(Some(later), later, 0.5), Probe::Idle(None));
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_halve_how_many_ask_at_a_time_and_answers_bring_it_back() {
    let breaker = Breaker::new();
    let turns = async |breaker: &'_ Breaker| {
        let mut held = Vec::new();
        while let Ok(Ok(turn)) = tokio::time::timeout(SECOND, breaker.turn()).await {
            held.push(turn);
        }
        held.len()
    };
    assert_eq!(turns(&breaker).await, 16);
    for expected in [8, 4, 2, 1, 1] {
        breaker.report(Some(&THROTTLED), Instant::now(), 0.5);
        assert!(matches!(breaker.turn().await, Err(Cause::Throttled { .. })));
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(turns(&breaker).await, expected);
    }
    for _ in 0..200 {
        breaker.report(None, Instant::now(), 0.5);
    }
    assert_eq!(turns(&breaker).await, 16);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_given_back_goes_to_one_that_waits() {
    let breaker = Breaker::new();
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(breaker.turn().await.unwrap());
    }
    let (waiting, ()) = tokio::join!(tokio::time::timeout(SECOND, breaker.turn()), async {
        tokio::task::yield_now().await;
        held.pop();
    });
    assert!(waiting.is_ok_and(|turn| turn.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_turn_is_told_when_the_cluster_goes_away() {
    let breaker = Breaker::new();
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(breaker.turn().await.unwrap());
    }
    let all = async { tokio::join!(breaker.turn(), breaker.turn()) };
    let (told, ()) = tokio::join!(tokio::time::timeout(SECOND, all), async {
        tokio::task::yield_now().await;
        breaker.report(Some(&Cause::Sealed), Instant::now(), 0.5);
        held.pop();
    });
    let (one, two) = told.unwrap();
    assert!(one.is_err() && two.is_err());
}

#[test]
fn a_drill_hides_what_is_known_and_leaves_it_as_it_was() {
    let (breaker, now) = (Breaker::new(), Instant::now());
    breaker.cut(60 * SECOND, now);
    assert_eq!(breaker.check(now), Err(Cause::Drill));
    assert_eq!(breaker.next_probe(None, now, 0.5), Probe::Idle(Some(now + 60 * SECOND)));
    let later = now + 61 * SECOND;
    assert_eq!((breaker.check(later), breaker.failure(later)), (Ok(()), None));
    let before = *breaker.returned().borrow();
    assert_eq!(breaker.next_probe(None, later, 0.5), Probe::Idle(None));
    assert_eq!(*breaker.returned().borrow(), before + 1, "its end is a return");
}
