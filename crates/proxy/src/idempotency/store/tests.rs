//! What is remembered, what is told apart, and that it stays within its bounds.

use identity::PrincipalKind;

use super::*;

const TTL: Duration = Duration::from_secs(60);

fn store(entries: usize, bytes: usize) -> Arc<Store> {
    Store::new(StoreBounds { ttl: TTL, entries, bytes, body: 1024 })
}

fn key(subject: &str, key: &str) -> Key {
    Key {
        principal: PrincipalId::new(PrincipalKind::Jwt, "https://id.example.com", subject),
        key: key.into(),
    }
}

fn kept(body: &str) -> Arc<Kept> {
    Arc::new(Kept {
        status: StatusCode::CREATED,
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    })
}

fn first(store: &Arc<Store>, key: &Key, digest: u128, now: Instant) -> Claim {
    match store.look(key, digest, now) {
        Found::First(claim) => claim,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_request_is_done_and_the_same_again_gets_its_answer() {
    let (store, alice, now) = (store(100, 10_000), key("alice", "k"), Instant::now());
    let claim = first(&store, &alice, 1, now);
    assert!(matches!(store.look(&alice, 1, now), Found::Busy));
    assert!(matches!(store.look(&alice, 2, now), Found::Other), "another request");
    claim.answered(kept("done"), now);
    let Found::Answered(again) = store.look(&alice, 1, now) else { panic!() };
    assert_eq!(again.body, "done");
    assert!(matches!(store.look(&alice, 2, now), Found::Other));
    first(&store, &key("bob", "k"), 1, now).answered(kept("bob's"), now);
    let Found::Answered(again) = store.look(&alice, 1, now) else { panic!() };
    assert_eq!(again.body, "done", "somebody else's key is another one");
}

#[test]
fn a_request_that_comes_to_nothing_frees_its_key_and_one_that_is_too_long_does_not() {
    let (store, alice, now) = (store(100, 10_000), key("alice", "k"), Instant::now());
    drop(first(&store, &alice, 1, now));
    first(&store, &alice, 2, now).not_kept(now);
    assert!(matches!(store.look(&alice, 2, now), Found::NotKept));
    assert!(matches!(store.look(&alice, 1, now), Found::Other));
}

#[test]
fn a_key_ends_with_its_time_and_a_late_answer_is_not_that_of_the_next() {
    let (store, alice, now) = (store(100, 10_000), key("alice", "k"), Instant::now());
    first(&store, &alice, 1, now).answered(kept("first"), now);
    assert!(matches!(store.look(&alice, 1, now + TTL - Duration::from_millis(1)), Found::Answered(_)));
    let later = now + TTL;
    let second = first(&store, &alice, 2, later);
    drop(second);
    let third = first(&store, &alice, 3, later);
    assert!(matches!(store.look(&alice, 3, later), Found::Busy));
    third.answered(kept("third"), later);
    let Found::Answered(again) = store.look(&alice, 3, later + TTL / 2) else { panic!() };
    assert_eq!(again.body, "third");
}

#[test]
fn what_runs_is_never_forgotten_for_something_new() {
    let (store, now) = (store(SHARDS, 10_000), Instant::now());
    let mut claims = Vec::new();
    let mut full = 0;
    for n in 0..200 {
        match store.look(&key("alice", &n.to_string()), 1, now) {
            Found::First(claim) => claims.push((n, claim)),
            Found::Full => full += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((claims.len(), full), (SHARDS, 200 - SHARDS), "one in each shard");
    assert_eq!(store.evicted(), 0);
    for (n, _) in &claims {
        assert!(matches!(store.look(&key("alice", &n.to_string()), 1, now), Found::Busy));
    }
}

proptest::proptest! {
    #[test]
    fn bounds_hold_whatever_comes(
        steps in proptest::collection::vec((0..40_u32, 0..300_usize, 0..3_u8, 0..40_u64), 1..200),
    ) {
        let (entries, bytes) = (2 * SHARDS, 400 * SHARDS);
        let (store, mut now) = (store(entries, bytes), Instant::now());
        let mut running = Vec::new();
        for (name, size, what, pause) in steps {
            now += Duration::from_secs(pause);
            if let Found::First(claim) = store.look(&key("alice", &name.to_string()), 1, now) {
                match what {
                    0 => claim.answered(kept(&"x".repeat(size)), now),
                    1 => claim.not_kept(now),
                    _ => running.push(claim),
                }
            }
            if running.len() > 5 {
                running.remove(0);
            }
            for shard in &store.shards {
                let shard = shard.lock().unwrap();
                let held: usize = shard.entries.values().map(|entry| entry.state.bytes()).sum();
                proptest::prop_assert_eq!(held, shard.bytes);
                proptest::prop_assert!(shard.bytes <= bytes / SHARDS && shard.entries.len() <= entries / SHARDS);
            }
        }
    }
}
