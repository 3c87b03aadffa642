//! Streams end with what they were permitted by, and only with that.

use std::io::{Read as _, Write as _};

use identity::deny::{Denied, DenyEntry, DenyError, DenyList};
use identity::jwks::KeySet;
use identity::mint::{PublicKey, jwks_json};

use super::tokens::{Callers, key};
use super::*;

/// A stream that has begun: its head and half of its body have come.
struct Stream {
    stream: TcpStream,
    so_far: String,
}

impl Stream {
    fn begin(rig: &Rig, fields: &str) -> Self {
        let mut stream = TcpStream::connect(rig.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /slow HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n{fields}\r\n").unwrap();
        let (mut so_far, mut piece) = (Vec::new(), [0; 1024]);
        while !so_far.ends_with(b"\r\n\r\nhel") {
            let count = stream.read(&mut piece).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&so_far));
            so_far.extend_from_slice(&piece[..count]);
        }
        let so_far = String::from_utf8(so_far).unwrap();
        assert!(so_far.starts_with("HTTP/1.1 200"), "{so_far}");
        Self { stream, so_far }
    }

    /// What comes until the connection ends.
    fn rest(mut self) -> String {
        // A cut connection may end with a reset.
        let _ = self.stream.read_to_string(&mut self.so_far);
        self.so_far.rsplit("\r\n\r\n").next().unwrap().to_owned()
    }
}

fn scene(callers: &Callers, policy: &'static str) -> Scene {
    Scene { authenticate: callers.authenticate.clone(), policy, ..Scene::default() }
}

const EVERYBODY: &str = "permit(principal, action, resource);";

fn entry(denied: Result<Denied, DenyError>) -> DenyEntry {
    DenyEntry::new(denied.unwrap(), None, None).unwrap()
}

fn ended(rig: &Rig, why: &str) -> bool {
    rig.counts(&format!("portcullis_leases_ended_total{{why=\"{why}\"}} 1"))
}

#[test]
fn a_stream_that_the_policies_permit_no_longer_ends_and_another_lives_on() {
    let callers = Callers::new();
    let rig = Rig::start(&scene(&callers, EVERYBODY));
    let alice = Stream::begin(&rig, &callers.field("alice", 600));
    let bob = Stream::begin(&rig, &callers.field("bob", 600));
    rig.republish(&scene(&callers, r#"permit(principal == Jwt::"https://idp.test#bob", action, resource);"#));
    assert_eq!(alice.rest(), "hel");
    assert!(ended(&rig, "policy"));
    // The upstream waits for both; alice's half of the answer has nowhere to go.
    rig.upstream.go_on.send(()).unwrap();
    rig.upstream.go_on.send(()).unwrap();
    assert_eq!(bob.rest(), "hello\n");
}

#[test]
fn a_stream_ends_with_its_route_and_with_another_one_in_its_place() {
    let rig = Rig::start(&Scene::default());
    let stream = Stream::begin(&rig, "");
    rig.republish(&Scene { name: "other", ..Scene::default() });
    assert_eq!(stream.rest(), "hel");
    assert!(ended(&rig, "route"));
}

#[test]
fn a_stream_ends_when_its_route_asks_for_proof() {
    let rig = Rig::start(&Scene::default());
    let stream = Stream::begin(&rig, "");
    rig.republish(&scene(&Callers::new(), EVERYBODY));
    assert_eq!(stream.rest(), "hel");
    assert!(ended(&rig, "proof"));
}

#[test]
fn a_stream_ends_with_the_key_of_its_token_and_not_with_another() {
    let callers = Callers::new();
    let mut rig = Rig::start(&scene(&callers, EVERYBODY));
    let token = Stream::begin(&rig, &callers.field("alice", 600));
    let canary = Stream::begin(&rig, &callers.field("canary", 600));
    let now = rig.now();
    let publish = |keys: &[&PublicKey]| {
        let set = KeySet::parse(jwks_json(keys.iter().copied()).as_bytes()).unwrap();
        callers.keys.publish(set, now);
    };
    let other = key();
    publish(&[callers.key.public(), other.public()]);
    rig.deny.publish(Arc::new(DenyList::new(&[entry(Denied::token("canary", None))])));
    assert_eq!(canary.rest(), "hel");
    assert!(!ended(&rig, "proof"), "all have been looked at by now, and the key is still there");
    publish(&[other.public()]);
    assert_eq!(token.rest(), "hel");
    assert!(ended(&rig, "proof"));
}

#[test]
fn whoever_is_denied_gets_no_further_on_open_streams_and_in_caches() {
    let callers = Callers::new();
    let mut rig = Rig::start(&scene(&callers, EVERYBODY));
    let (alice, bob, carol) =
        (callers.field("alice", 600), callers.field("bob", 600), callers.field("carol", 600));
    let streams = [&alice, &bob, &carol].map(|field| Stream::begin(&rig, field));
    let entries = [Denied::principal("jwt:https://idp.test#alice"), Denied::token("bob", None)].map(entry);
    rig.deny.publish(Arc::new(DenyList::new(&entries)));
    // Their tokens are in the cache of verified ones.
    let answer = rig.ask(&alice);
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("PRINCIPAL_DENIED"), "{answer}");
    let answer = rig.ask(&bob);
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("TOKEN_REVOKED"), "{answer}");
    assert!(answer.contains("www-authenticate: Bearer error=\"invalid_token\""), "{answer}");
    let [of_alice, of_bob, of_carol] = streams;
    assert_eq!((of_alice.rest().as_str(), of_bob.rest().as_str()), ("hel", "hel"));
    assert!(rig.counts("portcullis_leases_ended_total{why=\"denied\"} 2"));
    for _ in 0..3 {
        rig.upstream.go_on.send(()).unwrap();
    }
    assert_eq!(of_carol.rest(), "hello\n");
    rig.deny.withdraw();
    assert!(rig.ask(&alice).starts_with("HTTP/1.1 200"), "nobody is denied any more");
}
