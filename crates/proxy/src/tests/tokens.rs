//! Tokens in the place of the caller's credential.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;

use identity::Principal;
use identity::jwks::{KeySet, KeyStore, KeyWriter};
use identity::jwt::{Algorithm, Issuer};
use identity::mint::{Claims, PublicKey, SigningKey, jwks_json};
use tls::SlotWriter;

use super::*;
use crate::authenticate::{TokenIssuer, Wanted};
use crate::token::{Minter, RemoteSigner, SharedTokens, Signer, Signing};

const TTL: Duration = Duration::from_secs(60);

pub(super) fn key() -> SigningKey {
    SigningKey::from_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap()
}

fn issuer(name: &str, audience: &str) -> Issuer {
    Issuer {
        name: name.to_owned(),
        issuer: format!("https://{name}.test"),
        audiences: vec![audience.to_owned()],
        algorithms: vec![Algorithm::ES256],
        skew: Duration::from_secs(60),
        types: vec!["at+jwt".to_owned()],
        roles: None,
        scopes: Some("scope".to_owned()),
        claims: Vec::new(),
        max_token_bytes: 8192,
    }
}

/// Callers with tokens of an identity provider.
pub(super) struct Callers {
    pub(super) key: SigningKey,
    pub(super) authenticate: Authenticate,
    pub(super) keys: KeyWriter,
}

impl Callers {
    pub(super) fn new() -> Self {
        let key = key();
        let (keys, writer) = KeyStore::new("idp", Duration::MAX, Duration::ZERO);
        let set = KeySet::parse(jwks_json([key.public()]).as_bytes()).unwrap();
        writer.publish(set, UNIX_EPOCH + Duration::from_secs(START));
        let issuer = Arc::new(TokenIssuer { issuer: issuer("idp", "gateway"), keys, configuration: 1 });
        let authenticate =
            Authenticate::Proofs { wanted: Wanted::Any, issuers: vec![issuer], trusts: Vec::new() };
        Self { key, authenticate, keys: writer }
    }

    /// The field of somebody whose token lives for so many seconds from the start.
    pub(super) fn field(&self, subject: &str, life: u64) -> String {
        let claims = Claims {
            issuer: "https://idp.test",
            audience: "gateway",
            subject,
            scope: "everything",
            issued: UNIX_EPOCH + Duration::from_secs(START),
            expires: UNIX_EPOCH + Duration::from_secs(START + life),
            id: subject,
        };
        format!("Authorization: Bearer {}\r\n", self.key.sign(&claims).unwrap())
    }
}

fn minter(signer: Signer) -> Arc<Minter> {
    Arc::new(Minter {
        name: "internal".into(),
        configuration: 1,
        issuer: "https://gw.test".into(),
        ttl: TTL,
        signer,
        series: Metrics::new(1).token("internal"),
    })
}

fn local(key: &SigningKey) -> Arc<Minter> {
    let mut writer = SlotWriter::empty();
    writer.publish(Arc::new(key.clone()));
    minter(Signer::Local(writer.reader()))
}

/// What the upstream reads from the token that it got.
fn read(sent: &Sent, key: &PublicKey, now: SystemTime) -> (Arc<Principal>, u64) {
    let token = sent.field("authorization").unwrap().strip_prefix("Bearer ").unwrap();
    let keys = KeySet::parse(jwks_json([key]).as_bytes()).unwrap();
    let mut upstream = issuer("gw", "orders");
    upstream.skew = Duration::ZERO;
    let verified = upstream.verify(token, &keys, now).unwrap();
    let expires = verified.expires.duration_since(UNIX_EPOCH).unwrap().as_secs();
    (verified.principal, expires - START)
}

const POLICY: &str = r#"
    permit(principal, action in Action::"read", resource);
    permit(principal is Jwt, action == Action::"grant", resource == Scope::"orders.read");
    permit(principal == Jwt::"https://idp.test#boss", action == Action::"grant", resource);"#;

fn scene(callers: &Callers, minter: &Arc<Minter>) -> Scene {
    Scene {
        authenticate: callers.authenticate.clone(),
        policy: POLICY,
        scopes: &["orders.read", "orders.write"],
        token: Some(minter.clone()),
        ..Scene::default()
    }
}

#[test]
fn the_upstream_gets_who_calls_with_what_policy_grants_and_not_the_callers_token() {
    let (callers, key) = (Callers::new(), key());
    let rig = Rig::start(&scene(&callers, &local(&key)));
    let field = callers.field("alice", 3600);
    let sent = rig.sent(&field);
    let theirs = field.split_whitespace().last().unwrap();
    assert!(!sent.head.contains(theirs), "the caller's credential ends here");
    let (principal, ends) = read(&sent, key.public(), rig.now());
    assert_eq!(principal.id.subject(), "jwt:https://idp.test#alice");
    assert_eq!(principal.scopes, ["orders.read"], "not what the caller's own token says");
    assert_eq!(ends, 60);
    let boss = read(&rig.sent(&callers.field("boss", 3600)), key.public(), rig.now()).0;
    assert_eq!(boss.scopes, ["orders.read", "orders.write"]);
}

#[test]
fn anonymous_is_a_subject_too_where_policy_lets_it_in() {
    let key = key();
    let scene = Scene { token: Some(local(&key)), ..Scene::default() };
    let rig = Rig::start(&scene);
    let sent = rig.sent("Authorization: Bearer whatever\r\n");
    let (principal, ends) = read(&sent, key.public(), rig.now());
    assert_eq!((principal.id.subject(), ends), ("anonymous", 60));
    assert!(principal.scopes.is_empty());
    rig.republish(&Scene { policy: "", ..scene });
    assert!(rig.ask("").starts_with("HTTP/1.1 403"));
}

#[test]
fn a_token_never_outlives_the_callers_proof() {
    let (callers, key) = (Callers::new(), key());
    let rig = Rig::start(&scene(&callers, &local(&key)));
    let short = read(&rig.sent(&callers.field("alice", 20)), key.public(), rig.now()).1;
    assert_eq!(short, 20, "although clocks are allowed a minute");
    let long = callers.field("alice", 3600);
    rig.pass(Duration::from_secs(15));
    assert_eq!(read(&rig.sent(&long), key.public(), rig.now()).1, 75);
    let again = read(&rig.sent(&callers.field("alice", 20)), key.public(), rig.now()).1;
    assert_eq!(again, 20, "what is kept for another proof of the same caller is too long");
    rig.pass(Duration::from_secs(10));
    let answer = rig.ask(&callers.field("alice", 20));
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("TOKEN_EXPIRED"), "{answer}");
}

#[test]
fn a_token_is_handed_out_again_until_a_quarter_of_its_life_is_left() {
    let (callers, key) = (Callers::new(), key());
    let minter = local(&key);
    let rig = Rig::start(&scene(&callers, &minter));
    let field = callers.field("alice", 3600);
    let token = |rig: &Rig| rig.sent(&field).field("authorization").unwrap().to_owned();
    let first = token(&rig);
    rig.pass(Duration::from_secs(44));
    assert_eq!(token(&rig), first);
    rig.pass(Duration::from_secs(2));
    let second = token(&rig);
    assert_ne!(second, first);
    let other = rig.sent(&callers.field("bob", 3600));
    assert_ne!(other.field("authorization").unwrap(), second);
}

#[test]
fn other_policies_or_scopes_are_another_token() {
    let (callers, key) = (Callers::new(), key());
    let minter = local(&key);
    let rig = Rig::start(&scene(&callers, &minter));
    let field = callers.field("alice", 3600);
    let first = rig.sent(&field);
    rig.republish(&scene(&callers, &minter));
    let same = rig.sent(&field);
    assert_eq!(same.field("authorization"), first.field("authorization"), "the same policies, loaded again");
    rig.republish(&Scene {
        policy: r#"permit(principal, action in Action::"read", resource);"#,
        ..scene(&callers, &minter)
    });
    let none = rig.sent(&field);
    assert!(read(&none, key.public(), rig.now()).0.scopes.is_empty());
}

#[test]
fn without_a_key_there_is_no_token_and_no_request() {
    let scene =
        Scene { token: Some(minter(Signer::Local(SlotWriter::empty().reader()))), ..Scene::default() };
    let rig = Rig::start(&scene);
    let answer = rig.ask("");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("TOKEN_SIGNING_UNAVAILABLE"), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
}

/// A signer elsewhere: it is away, hangs, or signs when it is let to.
#[derive(Debug)]
struct Elsewhere {
    key: SigningKey,
    asked: AtomicUsize,
    is_away: AtomicBool,
    gate: tokio::sync::Semaphore,
}

#[derive(Debug)]
struct Remote(Arc<Elsewhere>);

impl RemoteSigner for Remote {
    fn sign(&self, claims: String) -> Signing {
        let elsewhere = self.0.clone();
        elsewhere.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let _open = elsewhere.gate.acquire().await.ok()?;
            if elsewhere.is_away.load(Ordering::SeqCst) {
                return None;
            }
            let other: serde_json::Value = serde_json::from_str(&claims).ok()?;
            let time = |name: &str| UNIX_EPOCH + Duration::from_secs(other[name].as_u64().unwrap());
            let claims = Claims {
                issuer: other["iss"].as_str()?,
                audience: other["aud"].as_str()?,
                subject: other["sub"].as_str()?,
                scope: other["scope"].as_str().unwrap_or_default(),
                issued: time("iat"),
                expires: time("exp"),
                id: other["jti"].as_str()?,
            };
            elsewhere.key.sign(&claims).ok()
        })
    }
}

fn elsewhere(places: usize) -> (Arc<Elsewhere>, Arc<Minter>) {
    let elsewhere = Arc::new(Elsewhere {
        key: key(),
        asked: AtomicUsize::new(0),
        is_away: AtomicBool::new(false),
        gate: tokio::sync::Semaphore::new(places),
    });
    let minter = minter(Signer::Remote(Arc::new(Remote(elsewhere.clone())), SharedTokens::default()));
    (elsewhere, minter)
}

#[test]
fn while_the_signer_is_away_whoever_holds_a_token_goes_on_and_a_new_caller_waits() {
    let callers = Callers::new();
    let (signer, minter) = elsewhere(1);
    let rig = Rig::start(&scene(&callers, &minter));
    let alice = callers.field("alice", 3600);
    let first = rig.sent(&alice);
    assert_eq!(read(&first, signer.key.public(), rig.now()).1, 60);

    signer.is_away.store(true, Ordering::SeqCst);
    let answer = rig.ask(&callers.field("bob", 3600));
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("TOKEN_SIGNING_UNAVAILABLE"), "{answer}");
    rig.pass(Duration::from_secs(59));
    assert_eq!(
        rig.sent(&alice).field("authorization"),
        first.field("authorization"),
        "to the end of its life"
    );
    rig.pass(Duration::from_secs(1));
    assert!(rig.ask(&alice).starts_with("HTTP/1.1 503"), "and no longer");

    signer.is_away.store(false, Ordering::SeqCst);
    assert_eq!(read(&rig.sent(&alice), signer.key.public(), rig.now()).1, 120);
}

#[test]
fn the_next_token_is_made_while_the_former_still_serves() {
    let callers = Callers::new();
    let (signer, minter) = elsewhere(1);
    let rig = Rig::start(&scene(&callers, &minter));
    let alice = callers.field("alice", 3600);
    let first = rig.sent(&alice).field("authorization").unwrap().to_owned();
    rig.pass(Duration::from_secs(50));
    assert_eq!(rig.sent(&alice).field("authorization"), Some(first.as_str()), "nobody waits");
    eventually(|| rig.sent(&alice).field("authorization") != Some(first.as_str()));
    assert_eq!(signer.asked.load(Ordering::SeqCst), 2);
}

#[test]
fn requests_of_one_caller_wait_for_one_signature() {
    let callers = Callers::new();
    let (signer, minter) = elsewhere(0);
    let rig = Rig::start(&scene(&callers, &minter));
    let alice = callers.field("alice", 3600);
    thread::scope(|scope| {
        let (begun, wait) = sync_channel(8);
        for _ in 0..8 {
            let (rig, alice, begun) = (&rig, &alice, begun.clone());
            scope.spawn(move || {
                begun.send(()).unwrap();
                assert!(rig.ask(alice).starts_with("HTTP/1.1 200"));
            });
        }
        (0..8).for_each(|_| wait.recv_timeout(PATIENCE).unwrap());
        eventually(|| rig.counts("portcullis_requests_in_flight 8"));
        signer.gate.add_permits(1);
    });
    assert_eq!(signer.asked.load(Ordering::SeqCst), 1);
    let tokens: std::collections::HashSet<_> =
        (0..8).map(|_| rig.upstream.next().field("authorization").unwrap().to_owned()).collect();
    assert_eq!(tokens.len(), 1);
}

#[test]
fn a_signer_that_hangs_costs_two_seconds_and_leaves_nothing_behind() {
    let callers = Callers::new();
    let (signer, minter) = elsewhere(0);
    let rig = Rig::start(&scene(&callers, &minter));
    let alice = callers.field("alice", 3600);
    let began = std::time::Instant::now();
    let answer = rig.ask(&alice);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(began.elapsed() >= crate::token::DEADLINE && began.elapsed() < crate::token::DEADLINE * 3);
    // A client that leaves while it waits takes nothing away from those who come.
    let mut gone = TcpStream::connect(rig.address).unwrap();
    gone.write_all(format!("GET /x HTTP/1.1\r\nHost: gw.test\r\n{alice}\r\n").as_bytes()).unwrap();
    eventually(|| signer.asked.load(Ordering::SeqCst) == 2);
    drop(gone);
    signer.gate.add_permits(1);
    assert_eq!(read(&rig.sent(&alice), signer.key.public(), rig.now()).1, 60);
}

#[test]
fn a_client_that_asks_and_leaves_again_and_again_costs_one_signature() {
    let callers = Callers::new();
    let (signer, minter) = elsewhere(0);
    let rig = Rig::start(&scene(&callers, &minter));
    let alice = callers.field("alice", 3600);
    for _ in 0..4 {
        let mut gone = TcpStream::connect(rig.address).unwrap();
        gone.write_all(format!("GET /x HTTP/1.1\r\nHost: gw.test\r\n{alice}\r\n").as_bytes()).unwrap();
        eventually(|| rig.counts("portcullis_requests_in_flight 1"));
        drop(gone);
        eventually(|| rig.counts("portcullis_requests_in_flight 0"));
    }
    signer.gate.add_permits(1);
    assert_eq!(read(&rig.sent(&alice), signer.key.public(), rig.now()).1, 60);
    assert_eq!(signer.asked.load(Ordering::SeqCst), 1);
}
