use super::*;

fn pem() -> String {
    rcgen::KeyPair::generate().unwrap().serialize_pem()
}

fn shown(keys: &Keys) -> Vec<String> {
    let set: serde_json::Value = serde_json::from_slice(&keys.shown().load().unwrap()).unwrap();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn id(pem: &str) -> String {
    SigningKey::from_pem(pem).unwrap().public().id().to_owned()
}

#[test]
fn a_key_that_was_replaced_is_shown_until_the_last_of_its_tokens_has_ended() {
    let (keys, now) = (Keys::new(None, None), wall_clock());
    let (first, second) = (pem(), pem());
    assert!(keys.shown().load().is_none(), "without a key there is no set that somebody could keep");
    keys.publish_pem(&first, now).unwrap();
    keys.publish_pem(&second, now).unwrap();
    let both = shown(&keys);
    assert!(both.contains(&id(&first)) && both.contains(&id(&second)), "{both:?}");
    assert_eq!(keys.signing().load().unwrap().public().id(), id(&second));
    keys.look(now + SHOWN_ON - Duration::from_secs(1));
    assert_eq!(shown(&keys).len(), 2);
    keys.look(now + SHOWN_ON);
    assert_eq!(shown(&keys), [id(&second)]);
}

#[test]
fn what_is_no_key_leaves_the_former() {
    let keys = Keys::new(None, None);
    let first = pem();
    keys.publish_pem(&first, wall_clock()).unwrap();
    let error = keys.publish_pem("s3cret", wall_clock()).unwrap_err();
    assert!(!error.contains("s3cret"));
    assert_eq!(
        (shown(&keys), keys.signing().load().unwrap().public().id()),
        (vec![id(&first)], id(&first).as_str())
    );
}

#[test]
fn the_same_key_again_stands_once() {
    let keys = Keys::new(None, None);
    let first = pem();
    keys.publish_pem(&first, wall_clock()).unwrap();
    keys.publish_pem(&first, wall_clock()).unwrap();
    assert_eq!(shown(&keys), [id(&first)]);
}

#[test]
fn of_a_key_that_stays_in_its_store_exactly_what_it_lists_is_shown() {
    let keys = Keys::new(Some(1), None);
    let public = |pem: &str| SigningKey::from_pem(pem).unwrap().public().clone();
    let (first, second) = (pem(), pem());
    keys.publish_versions(vec![(1, public(&first)), (2, public(&second))], wall_clock());
    assert_eq!(shown(&keys).len(), 2);
    assert_eq!(keys.newest().unwrap().0, 2);
    assert!(keys.signing().load().is_none());
    keys.publish_versions(vec![(2, public(&second))], wall_clock());
    assert_eq!(shown(&keys), [id(&second)]);
}

#[test]
fn what_another_signer_showed_is_shown_on() {
    let former = Keys::new(None, None);
    let (first, second) = (pem(), pem());
    former.publish_pem(&first, wall_clock()).unwrap();
    let keys = Keys::new(None, Some(&former));
    keys.publish_pem(&second, wall_clock()).unwrap();
    assert_eq!(shown(&keys).len(), 2);
}
