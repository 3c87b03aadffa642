use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

const CLASSES: [Class; 6] =
    [Class::Away, Class::Lost, Class::Throttled, Class::Rejected, Class::Local, Class::Configuration];

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Obtained at 1,000,000 s with this life.
fn life(lives: Option<u64>, again_in: Option<u64>) -> Life {
    Life {
        obtained: at(1_000_000),
        begins: at(1_000_000),
        ends: lives.map(|lives| at(1_000_000 + lives)),
        again_in: again_in.map(secs),
    }
}

fn setback(failures: u32, class: Class) -> Setback {
    Setback { failures, class, retry_after: None }
}

fn class() -> impl Strategy<Value = Class> {
    prop::sample::select(CLASSES.to_vec())
}

proptest! {
    #[test]
    fn nothing_is_tried_twice_within_a_second_whatever_the_numbers(
        lives in any::<Option<u32>>(), again in any::<Option<u64>>(), elapsed in any::<u32>(), failures in any::<u32>(),
        class in class(), retry_after in any::<Option<u64>>(), has_failed in any::<bool>(), jitter in 0.0..1.0_f64,
    ) {
        let life = life(lives.map(u64::from), again);
        let setback = Setback { failures, class, retry_after: retry_after.map(secs) };
        let wait = next(Some(&life), has_failed.then_some(&setback), life.begins + secs(elapsed.into()), jitter);
        prop_assert!(wait.is_none_or(|wait| wait >= MIN_GAP));
    }

    #[test]
    fn a_healthy_life_is_renewed_at_two_thirds_more_or_less(lives in 2_u64..100_000_000, jitter in 0.0..1.0_f64) {
        let life = life(Some(lives), None);
        let wait = next(Some(&life), None, life.begins, jitter).unwrap().as_secs_f64() / secs(lives).as_secs_f64();
        prop_assert!((0.5999..0.7334).contains(&wait), "{wait}");
    }

    #[test]
    fn no_wait_after_a_failure_goes_past_the_end(
        lives in 10_u64..100_000_000, left in 0.0..1.0_f64, failures in 1_u32..100, class in class(),
        retry_after in any::<Option<u32>>(), jitter in 0.0..1.0_f64,
    ) {
        let life = life(Some(lives), None);
        let now = life.ends.unwrap() - secs(lives).mul_f64(left);
        let setback = Setback { failures, class, retry_after: retry_after.map(|after| secs(after.into())) };
        let wait = next(Some(&life), Some(&setback), now, jitter).unwrap();
        let left = secs(lives).mul_f64(left);
        if left > class.floor() {
            prop_assert!(wait <= left);
        }
    }

    #[test]
    fn the_nearer_the_end_the_sooner_the_next_try(
        lives in 10_u64..100_000_000, left in 0.0..1.0_f64, nearer in 0.0..1.0_f64, failures in 1_u32..100, class in class(),
        jitter in 0.0..1.0_f64,
    ) {
        let life = life(Some(lives), None);
        let wait = |left: f64| {
            let now = life.ends.unwrap() - secs(lives).mul_f64(left);
            next(Some(&life), Some(&setback(failures, class)), now, jitter).unwrap()
        };
        // Past the end the waits are spread above the floor.
        if secs(lives).mul_f64(left * nearer) >= MIN_GAP {
            prop_assert!(wait(left * nearer) <= wait(left));
        }
    }

    #[test]
    fn with_nothing_valid_an_outage_is_tried_every_five_seconds_at_least(
        lives in prop::option::of(1_u64..1000), failures in any::<u32>(), jitter in 0.0..1.0_f64,
    ) {
        let held = lives.map(|lives| life(Some(lives), None));
        let wait = next(held.as_ref(), Some(&setback(failures, Class::Away)), at(1_002_000), jitter).unwrap();
        prop_assert!((MIN_GAP..=secs(5)).contains(&wait));
    }

    #[test]
    fn what_changes_by_itself_is_not_looked_at_before(again in 0_u64..1_000_000, jitter in 0.0..1.0_f64) {
        let life = life(None, Some(again));
        let wait = next(Some(&life), None, life.obtained, jitter).unwrap();
        prop_assert!(wait >= secs(again) && wait <= secs(again.max(1) + 2));
    }
}

#[test]
fn a_store_that_refuses_is_asked_after_five_minutes_then_ever_less_often() {
    let life = life(None, Some(60));
    let wait = |failures| next(Some(&life), Some(&setback(failures, Class::Configuration)), life.begins, 0.5);
    let waits: Vec<_> = (1..7).map(|failures| wait(failures).unwrap().as_secs() / 60).collect();
    assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
}

#[test]
fn an_outage_is_backed_off_from_to_five_minutes_and_the_jitter_is_full() {
    let life = life(None, Some(60));
    let wait =
        |failures, jitter| next(Some(&life), Some(&setback(failures, Class::Away)), life.begins, jitter);
    assert_eq!(wait(1, 0.0), Some(secs(1)));
    assert!(wait(1, 0.999).unwrap() < secs(2));
    assert_eq!(wait(50, 0.0), Some(secs(1)));
    assert!(wait(50, 0.999).unwrap() > secs(295));
    assert!(wait(50, 0.999).unwrap() <= secs(300));
}

#[test]
fn a_store_that_says_when_is_asked_then_but_once_more_before_the_end() {
    let says = |after| Setback { failures: 9, class: Class::Throttled, retry_after: Some(secs(after)) };
    let life = life(Some(3000), None);
    assert_eq!(next(Some(&life), Some(&says(30)), life.begins, 0.0), Some(secs(30)));
    assert_eq!(next(Some(&life), Some(&says(2900)), life.begins, 0.0), Some(secs(1500)));
    assert_eq!(next(None, Some(&says(2900)), life.begins, 0.0), Some(secs(2900)));
    assert_eq!(next(None, Some(&says(1_000_000)), life.begins, 0.0), Some(RETRY_AFTER_MOST));
}

#[test]
fn what_has_no_end_and_need_not_be_looked_at_waits_to_be_woken() {
    assert_eq!(next(Some(&life(None, None)), None, at(1_000_000), 0.5), None);
}
