//! Key sets as issuers publish them, and as they should not; the store under a clock that the test drives.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

use super::{KeySet, KeySetError, KeyStore, KeyWriter, Refetch};
use crate::jwt::Algorithm;
use crate::jwt::tests::{SigningKey, key_set};

const COOLDOWN: Duration = Duration::from_secs(30);
const WAIT: Duration = Duration::from_secs(2);
const OCT: &str = r#"{"kid":"h","kty":"oct","k":"AAAA"}"#;
const RSA_2048: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

fn parse(keys: &[String]) -> Result<KeySet, KeySetError> {
    KeySet::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes())
}

fn reason(key: &str) -> &'static str {
    let set = key_set(&[key.to_owned(), SigningKey::es256().jwk(r#""kid":"good""#)]);
    assert_eq!(set.len(), 1, "{key}");
    set.skipped()[0].reason
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn some_keys() -> KeySet {
    key_set(&[SigningKey::es256().jwk(r#""kid":"a""#)])
}

fn store() -> (KeyStore, KeyWriter) {
    KeyStore::new("test", Duration::from_secs(3600), COOLDOWN)
}

#[test]
fn keys_that_must_not_verify_are_skipped_with_the_reason() {
    let ec = SigningKey::es256();
    let short = SigningKey::generate(Algorithm::ES384, &PKCS_ECDSA_P384_SHA384).jwk(r#""kid":"a""#);
    let cases = [
        (OCT.to_owned(), "symmetric keys are never used"),
        (ec.jwk(r#""kid":"a","use":"enc""#), "use is not sig"),
        (ec.jwk(r#""kid":"a","use":1"#), "use is not sig"),
        (ec.jwk(r#""kid":"a","key_ops":["sign"]"#), "key_ops lacks verify"),
        (ec.jwk(r#""kid":"a","key_ops":"verify""#), "key_ops lacks verify"),
        (ec.jwk(r#""kid":"a","alg":"ES384""#), "alg is no signature algorithm of this key"),
        (ec.jwk(r#""kid":"a","alg":"HS256""#), "alg is no signature algorithm of this key"),
        (ec.jwk(r#""kid":"a","d":"AAAA""#), "private key is published"),
        (ec.jwk(r#""kid":"""#), "kid cannot be used"),
        (ec.jwk(r#""kid":7"#), "kid cannot be used"),
        (short.replace("P-384", "P-256"), "coordinate cannot be read"),
        (short.replace("P-384", "P-521"), "curve is not supported"),
        (r#"{"kty":"OKP","crv":"X25519","x":"AAAA"}"#.to_owned(), "curve is not supported"),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#.to_owned(), "coordinate cannot be read"),
        (r#"{"kty":"AKP"}"#.to_owned(), "kty is not supported"),
        ("{}".to_owned(), "kty is not supported"),
        (rsa(&RSA_2048[..168], "AQAB"), "RSA key is smaller than 2048 or larger than 8192 bits"),
        (rsa(&RSA_2048.repeat(5), "AQAB"), "RSA key is smaller than 2048 or larger than 8192 bits"),
        (rsa("", "AQAB"), "RSA key is smaller than 2048 or larger than 8192 bits"),
        (rsa(RSA_2048, "AQ"), "RSA exponent is refused"),
        (rsa(RSA_2048, "Ag"), "RSA exponent is refused"),
        (rsa(RSA_2048, ""), "RSA exponent is refused"),
        (rsa("+/+/", "AQAB"), "RSA number cannot be read"),
    ];
    for (key, expected) in cases {
        assert_eq!(reason(&key), expected, "{key}");
    }
}

fn rsa(modulus: &str, exponent: &str) -> String {
    format!(r#"{{"kty":"RSA","n":"{modulus}","e":"{exponent}"}}"#)
}

#[test]
fn a_kid_that_stands_twice_names_no_key() {
    let good = SigningKey::es256();
    let set = key_set(&[
        good.jwk(r#""kid":"a""#),
        SigningKey::es256().jwk(r#""kid":"a""#),
        good.jwk(r#""kid":"b""#),
        SigningKey::es256().jwk(r#""kid":"c""#),
        OCT.replace(r#""h""#, r#""c""#),
    ]);
    assert_eq!(set.kids().collect::<Vec<_>>(), ["b"]);
    assert_eq!(set.skipped().len(), 4);
    assert!(set.find(Some("a"), Algorithm::ES256).is_err());
}

#[test]
fn usable_members_pass() {
    let ec = SigningKey::es256();
    let set = key_set(&[
        ec.jwk(r#""kid":"a","use":"sig","alg":"ES256","key_ops":["verify"],"x5c":["x"],"x5t":"y""#),
        rsa(RSA_2048, "AQAB").replacen('{', r#"{"kid":"rsa","#, 1),
        SigningKey::generate(Algorithm::EdDSA, &PKCS_ED25519).jwk(r#""kid":"ed""#),
    ]);
    assert_eq!((set.len(), set.skipped().len()), (3, 0));
    assert!(set.find(Some("a"), Algorithm::ES256).is_ok());
    assert!(set.find(Some("rsa"), Algorithm::PS512).is_ok());
}

#[test]
fn a_set_that_is_too_large_or_none_is_refused_whole() {
    let good = SigningKey::es256().jwk(r#""use":"sig""#);
    assert_eq!(parse(&vec![good.clone(); 257]).unwrap_err(), KeySetError::TooManyKeys);
    assert_eq!(KeySet::parse(&vec![b' '; 1024 * 1024 + 1]).unwrap_err(), KeySetError::TooLarge);
    assert_eq!(parse(&[OCT.into()]).unwrap_err(), KeySetError::NoUsableKey);
    assert_eq!(parse(&[]).unwrap_err(), KeySetError::NoUsableKey);
    assert_eq!(parse(&["1".into()]).unwrap_err(), KeySetError::Shape);
    assert_eq!(KeySet::parse(b"{}").unwrap_err(), KeySetError::Shape);
    assert_eq!(KeySet::parse(b"<html>").unwrap_err(), KeySetError::Json);
    let twice = good.replacen("\"use\"", "\"kty\":\"RSA\",\"use\"", 1);
    assert_eq!(parse(&[twice]).unwrap_err(), KeySetError::Json);
}

#[test]
fn a_thumbprint_stays_while_kid_algorithm_and_key_stay() {
    let key = SigningKey::es256();
    let before = key_set(&[key.jwk(r#""kid":"a""#)]);
    let before = before.find(Some("a"), Algorithm::ES256).unwrap().thumbprint();
    assert!(key_set(&[key.jwk(r#""use":"sig","kid":"a""#), rsa(RSA_2048, "AQAB")]).contains(&before));
    assert!(!key_set(&[key.jwk(r#""kid":"b""#)]).contains(&before));
    assert!(!key_set(&[key.jwk(r#""kid":"a","alg":"ES256""#)]).contains(&before));
    assert!(!key_set(&[SigningKey::es256().jwk(r#""kid":"a""#)]).contains(&before));
}

#[test]
fn an_rsa_modulus_with_zero_bytes_in_front_is_the_same_key() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let padded = [vec![0], URL_SAFE_NO_PAD.decode(RSA_2048).unwrap()].concat();
    let plain = key_set(&[rsa(RSA_2048, "AQAB")]);
    let thumbprint = plain.find(None, Algorithm::RS256).unwrap().thumbprint();
    assert!(key_set(&[rsa(&URL_SAFE_NO_PAD.encode(padded), "AQAB")]).contains(&thumbprint));
}

#[test]
fn keys_are_unavailable_before_the_first_and_when_too_old() {
    let (store, writer) = store();
    writer.failed("connection refused".into(), at(0));
    let error = store.current(at(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "keys of issuer `test` are unavailable: never fetched, last error: connection refused"
    );
    writer.publish(some_keys(), at(10));
    assert_eq!(store.current(at(10)).unwrap().generation, 1);
    assert_eq!(store.current(at(3610)).unwrap().generation, 1);
    assert_eq!(store.current(at(3611)).unwrap_err().reason, "too old");
    // A clock that was set back does not make them old.
    assert!(store.current(at(0)).is_ok());
}

#[test]
fn a_failure_keeps_the_keys_and_shows_in_the_status_until_the_next_success() {
    let (store, writer) = store();
    assert!(store.status(at(0)).is_unavailable);
    writer.publish(some_keys(), at(0));
    writer.failed("timed out".into(), at(5));
    let status = store.status(at(7));
    assert_eq!((status.generation, status.keys, status.age), (1, 1, Some(Duration::from_secs(7))));
    assert_eq!(status.last_error, Some(("timed out".into(), at(5))));
    assert!(!status.is_unavailable);
    writer.publish(some_keys(), at(8));
    assert_eq!(store.status(at(8)).last_error, None);
    assert_eq!(store.generation(), 2);
}

#[tokio::test]
async fn an_unknown_key_of_a_local_file_is_answered_at_once() {
    let (store, writer) = KeyStore::new("file", Duration::MAX, COOLDOWN);
    writer.never_refetches();
    let asked = tokio::time::timeout(Duration::from_millis(500), store.refetched(0, WAIT)).await;
    assert_eq!(asked, Ok(Refetch::TooSoon));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_unknown_keys_ask_for_one_refetch_per_cooldown() {
    let (store, writer) = store();
    writer.publish(some_keys(), at(0));
    let mut fetches = 0;
    let readers = async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let store = store.clone();
            tasks.spawn(async move { store.refetched(1, WAIT).await });
        }
        tasks.join_all().await
    };
    let fetcher = async {
        loop {
            writer.wanted().await;
            fetches += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
            writer.publish(some_keys(), at(1));
        }
    };
    tokio::select! {
        results = readers => assert!(results.iter().all(|result| *result == Refetch::Refreshed)),
        () = fetcher => {}
    }
    assert_eq!(fetches, 1);
    assert_eq!(store.refetched(2, WAIT).await, Refetch::TooSoon);
    tokio::time::advance(COOLDOWN).await;
    assert_eq!(store.refetched(2, WAIT).await, Refetch::TimedOut);
    tokio::time::timeout(Duration::ZERO, writer.wanted()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_saw_an_older_generation_needs_no_refetch() {
    let (store, writer) = store();
    writer.publish(some_keys(), at(0));
    assert_eq!(store.refetched(0, WAIT).await, Refetch::Refreshed);
    tokio::time::timeout(Duration::ZERO, writer.wanted()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_failed_refetch_is_remembered_for_the_cooldown() {
    let (store, writer) = store();
    writer.publish(some_keys(), at(0));
    let (result, ()) = tokio::join!(store.refetched(1, WAIT), async {
        writer.wanted().await;
        writer.failed("refused".into(), at(1));
    });
    assert_eq!(result, Refetch::Failed);
    assert_eq!(store.refetched(1, WAIT).await, Refetch::Failed);
    writer.publish(some_keys(), at(2));
    assert_eq!(store.refetched(2, WAIT).await, Refetch::TooSoon);
}

#[tokio::test(start_paused = true)]
async fn a_slow_refetch_is_joined_and_not_asked_for_again() {
    let (store, writer) = store();
    assert_eq!(store.refetched(0, WAIT).await, Refetch::TimedOut);
    tokio::time::advance(COOLDOWN * 2).await;
    let (result, ()) = tokio::join!(store.refetched(0, WAIT), async {
        writer.wanted().await;
        writer.publish(some_keys(), at(1));
    });
    assert_eq!(result, Refetch::Refreshed);
    tokio::time::timeout(Duration::ZERO, writer.wanted()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_gone_fails_refetches_at_once() {
    let (store, writer) = store();
    writer.publish(some_keys(), at(0));
    let (result, ()) = tokio::join!(store.refetched(1, WAIT), async move {
        writer.wanted().await;
        drop(writer);
    });
    assert_eq!(result, Refetch::Failed);
    tokio::time::advance(COOLDOWN).await;
    assert_eq!(store.refetched(1, WAIT).await, Refetch::Failed);
    assert!(store.current(at(1)).is_ok());
}
