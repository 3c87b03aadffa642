use std::sync::Arc;
use std::time::Duration;

use super::super::{Health, PoolKey};
use super::*;

const EJECTION: Ejection = Ejection { failures: 1, time: Duration::from_secs(10) };

/// Of which half may be out.
fn endpoints(count: usize, now: Instant) -> EndpointSet {
    let endpoint = |place| Endpoint {
        name: format!("host-{place}:1").into(),
        host: format!("host-{place}").into(),
        port: 1,
        addresses: Vec::new(),
        tls: None,
        pool: PoolKey::new(place),
        health: Arc::new(Health::new(now)),
    };
    EndpointSet::new((0..count as u64).map(endpoint).collect(), 50)
}

fn choice(balance: &Balance, turn: usize, now: Instant) -> Choice<'_> {
    Choice { balance, slow_start: None, turn, key: None, now }
}

/// How often each of them is chosen in 1,000 turns.
fn chosen(endpoints: &EndpointSet, balance: &Balance, now: Instant) -> Vec<usize> {
    let mut counts = vec![0; endpoints.len()];
    for turn in 0..1000 {
        counts[choose(endpoints, &choice(balance, turn, now), 0).unwrap()] += 1;
    }
    counts
}

#[test]
fn round_robin_gives_each_usable_endpoint_the_same() {
    let now = Instant::now();
    let (endpoints, balance) = (endpoints(5, now), Balance::RoundRobin);
    assert_eq!(chosen(&endpoints, &balance, now), [200; 5]);
    endpoints[1].health.failed(&EJECTION, now);
    assert_eq!(chosen(&endpoints, &balance, now), [250, 0, 250, 250, 250]);
    assert_eq!(chosen(&endpoints, &balance, now + EJECTION.time), [200; 5]);
}

#[test]
fn below_the_floor_all_are_used() {
    let now = Instant::now();
    let (endpoints, balance) = (endpoints(4, now), Balance::RoundRobin);
    for failed in &endpoints[..2] {
        failed.health.failed(&EJECTION, now);
    }
    assert_eq!(chosen(&endpoints, &balance, now), [0, 0, 500, 500]);
    endpoints[2].health.failed(&EJECTION, now);
    assert_eq!(chosen(&endpoints, &balance, now), [250; 4]);
}

#[test]
fn a_further_try_takes_a_usable_endpoint_first_and_none_twice() {
    let now = Instant::now();
    let endpoints = endpoints(3, now);
    endpoints[0].health.failed(&EJECTION, now);
    endpoints[1].health.failed(&EJECTION, now);
    for turn in 0..10 {
        let next = |tried| choose(&endpoints, &choice(&Balance::RoundRobin, turn, now), tried);
        assert_eq!(next(bit(0)), Some(2), "the usable one, though too few are");
        assert_eq!(next(bit(0) | bit(2)), Some(1), "better an ejected one than none");
        assert_eq!(next(bit(0) | bit(1) | bit(2)), None);
    }
}

#[test]
fn a_slow_endpoint_is_rarely_the_least_loaded() {
    let now = Instant::now();
    let (endpoints, balance) = (endpoints(3, now), Balance::LeastLoaded);
    let even = chosen(&endpoints, &balance, now);
    assert!(even.iter().all(|count| *count > 0), "{even:?}");
    endpoints[0].health.took(Duration::from_secs(1), now);
    assert_eq!(chosen(&endpoints, &balance, now)[0], 0, "of any two the other one is quicker");
    for _ in 0..100 {
        endpoints[1].health.begin();
        endpoints[2].health.begin();
    }
    assert!(chosen(&endpoints, &balance, now)[0] > 500, "until the others have too much to do");
}

#[test]
fn two_and_one_usable_endpoints_are_enough_for_the_least_loaded() {
    let now = Instant::now();
    let (endpoints, balance) = (endpoints(2, now), Balance::LeastLoaded);
    endpoints[0].health.took(Duration::from_secs(1), now);
    assert_eq!(chosen(&endpoints, &balance, now), [0, 1000]);
    endpoints[1].health.failed(&EJECTION, now);
    assert_eq!(chosen(&endpoints, &balance, now), [1000, 0]);
}

/// Where 10,000 keys go.
fn homes(endpoints: &EndpointSet, now: Instant, slow_start: Option<Duration>) -> Vec<usize> {
    let balance = Balance::ConsistentHash(HashKey::Address);
    let home = |key: u64| {
        let choice = Choice { balance: &balance, slow_start, turn: 0, key: Some(scattered(key)), now };
        choose(endpoints, &choice, 0).unwrap()
    };
    (0..10_000).map(home).collect()
}

#[test]
fn keys_spread_evenly_and_only_those_of_an_endpoint_that_leaves_move() {
    let now = Instant::now();
    let endpoints = endpoints(5, now);
    let before = homes(&endpoints, now, None);
    for place in 0..5 {
        let count = before.iter().filter(|home| **home == place).count();
        assert!((1_850..2_150).contains(&count), "{place} has {count}");
    }
    assert_eq!(before, homes(&endpoints, now, None), "the same key goes to the same one");
    endpoints[2].health.failed(&EJECTION, now);
    let after = homes(&endpoints, now, None);
    for (before, after) in before.iter().zip(&after) {
        assert!(*after != 2 && (before == after || *before == 2));
    }
    assert_eq!(before, homes(&endpoints, now + EJECTION.time, None), "and they come back");
}

#[test]
fn a_key_that_must_go_elsewhere_always_goes_to_the_same_other_one() {
    let now = Instant::now();
    let (endpoints, balance) = (endpoints(5, now), Balance::ConsistentHash(HashKey::Address));
    let choice = |key| Choice { balance: &balance, slow_start: None, turn: 0, key, now };
    for key in 0..100 {
        let first = choose(&endpoints, &choice(Some(key)), 0).unwrap();
        let second = choose(&endpoints, &choice(Some(key)), bit(first)).unwrap();
        assert_ne!(first, second);
        assert_eq!(choose(&endpoints, &choice(Some(key)), bit(first)), Some(second));
    }
    let turns: Vec<_> =
        (0..5).map(|turn| choose(&endpoints, &Choice { turn, ..choice(None) }, 0).unwrap()).collect();
    assert_eq!(turns, [0, 1, 2, 3, 4], "without a key each has its turn");
}

#[test]
fn an_endpoint_that_comes_takes_a_growing_share() {
    let now = Instant::now();
    let time = Duration::from_secs(30);
    let mut all: Vec<Endpoint> = endpoints(4, now).to_vec();
    all[3].health = Arc::new(Health::joining(now));
    let endpoints = EndpointSet::new(all, 50);
    for balance in [Balance::RoundRobin, Balance::LeastLoaded, Balance::ConsistentHash(HashKey::Address)] {
        let share = |seconds| {
            let now = now + Duration::from_secs(seconds);
            let is_it = |turn| {
                let key = Some(scattered(turn as u64));
                let choice = Choice { balance: &balance, slow_start: Some(time), turn, key, now };
                choose(&endpoints, &choice, 0) == Some(3)
            };
            (0..10_000).filter(|turn| is_it(*turn)).count()
        };
        let shares = [0, 10, 20, 30].map(share);
        assert!(shares.is_sorted(), "{balance:?}: {shares:?}");
        assert!(shares[0] < 500 && shares[3] > 2_000, "{balance:?}: {shares:?}");
    }
}
