//! Keys that stay in the cluster: signatures, ciphertexts, HMACs.

use secrets::{Cause, SigningAlgorithm};
use serde_json::json;

use super::rig::{Rig, cause, openssl};

const SIGNING: [(&str, SigningAlgorithm); 3] = [
    ("ecdsa-p256", SigningAlgorithm::Es256),
    ("ed25519", SigningAlgorithm::EdDsa),
    ("rsa-2048", SigningAlgorithm::Rs256),
];

pub(super) fn signatures_hold_for_everybody_who_has_the_public_key(rig: &Rig) {
    let mount = rig.mount("transit");
    for (kind, algorithm) in SIGNING {
        rig.operator().write(&format!("{mount}/keys/{kind}"), &json!({ "type": kind }));
        let input = b"eyJhbGciOiJ4In0.e30";
        let signature = rig.wait(rig.store.sign(&mount, kind, algorithm, input)).unwrap();
        assert_eq!(signature.version, 1);
        let keys = rig.wait(rig.store.signing_keys(&mount, kind)).unwrap();
        check(rig, algorithm, &keys[0].public_key_pem, input, &signature.bytes);
        let vault = rig.vault();
        assert!(rig.wait(vault.verify(&mount, kind, algorithm, input, &signature)).unwrap());
        assert!(!rig.wait(vault.verify(&mount, kind, algorithm, b"other", &signature)).unwrap());
    }
}

pub(super) fn a_rotated_key_signs_with_its_newest_version_and_tells_all(rig: &Rig) {
    let mount = rig.mount("transit");
    rig.operator().write(&format!("{mount}/keys/k"), &json!({ "type": "ecdsa-p256" }));
    let sign = || rig.wait(rig.store.sign(&mount, "k", SigningAlgorithm::Es256, b"x")).unwrap();
    let first = sign();
    for _ in 0..10 {
        rig.operator().write(&format!("{mount}/keys/k/rotate"), &json!({}));
    }
    assert_eq!((first.version, sign().version), (1, 11));
    let keys = rig.wait(rig.store.signing_keys(&mount, "k")).unwrap();
    assert_eq!(keys.iter().map(|key| key.version).collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
    check(rig, SigningAlgorithm::Es256, &keys[0].public_key_pem, b"x", &first.bytes);
    check(rig, SigningAlgorithm::Es256, &keys[10].public_key_pem, b"x", &sign().bytes);
}

pub(super) fn what_is_encrypted_comes_back_and_one_bad_item_fails_alone(rig: &Rig) {
    let (mount, vault) = (rig.mount("transit"), rig.vault());
    rig.operator().write(&format!("{mount}/keys/k"), &json!({}));
    let sealed = rig.wait(vault.encrypt(&mount, "k", &[b"one", b"\xff\x00two"])).unwrap();
    let sealed: Vec<String> = sealed.into_iter().map(Result::unwrap).collect();
    assert!(sealed.iter().all(|text| text.starts_with("vault:v1:")));
    rig.operator().write(&format!("{mount}/keys/k/rotate"), &json!({}));
    let moved = rig.wait(vault.rewrap(&mount, "k", &[&sealed[0]])).unwrap().remove(0).unwrap();
    assert!(moved.starts_with("vault:v2:"), "{moved}");
    let opened = rig
        .wait(vault.decrypt(&mount, "k", &[&moved, "vault:v1:nonsense", "no prefix", &sealed[1]]))
        .unwrap();
    let opened: Vec<_> = opened.iter().map(|item| item.as_ref().map(|plain| plain.as_slice())).collect();
    assert_eq!((opened[0].unwrap(), opened[3].unwrap()), (&b"one"[..], &b"\xff\x00two"[..]));
    assert!(matches!((opened[1], opened[2]), (Err(Cause::Refused(_)), Err(Cause::Refused(_)))));
}

pub(super) fn an_hmac_is_the_same_for_the_same_input_only(rig: &Rig) {
    let (mount, vault) = (rig.mount("transit"), rig.vault());
    rig.operator().write(&format!("{mount}/keys/k"), &json!({}));
    let made = rig.wait(vault.hmac(&mount, "k", &[b"a", b"b", b"a"])).unwrap();
    let made: Vec<String> = made.into_iter().map(Result::unwrap).collect();
    assert!(made[0] == made[2] && made[0] != made[1] && made[0].starts_with("vault:v1:"), "{made:?}");
}

pub(super) fn a_key_that_is_not_there_is_absent_and_one_that_cannot_sign_is_refused(rig: &Rig) {
    let mount = rig.mount("transit");
    rig.operator().write(&format!("{mount}/keys/aes"), &json!({}));
    let sign = |key: &str| cause(rig.wait(rig.store.sign(&mount, key, SigningAlgorithm::EdDsa, b"x")));
    assert!(matches!(sign("none"), Cause::Absent(_)), "{:?}", sign("none"));
    assert!(matches!(sign("aes"), Cause::Refused(_)), "{:?}", sign("aes"));
    let keys = |key: &str| cause(rig.wait(rig.store.signing_keys(&mount, key)));
    assert!(matches!(keys("none"), Cause::Absent(_)), "{:?}", keys("none"));
    assert!(matches!(keys("aes"), Cause::Refused(_)), "{:?}", keys("aes"));
}

/// Verifies a signature by openssl.
fn check(rig: &Rig, algorithm: SigningAlgorithm, key: &str, input: &[u8], signature: &[u8]) {
    let (key, input) = (rig.path(key), rig.path(input));
    match algorithm {
        SigningAlgorithm::EdDsa => {
            let signature = rig.path(signature);
            openssl(&[
                "pkeyutl", "-verify", "-pubin", "-inkey", &key, "-rawin", "-in", &input, "-sigfile",
                &signature,
            ]);
        }
        SigningAlgorithm::Es256 | SigningAlgorithm::Rs256 => {
            let is_raw = algorithm == SigningAlgorithm::Es256;
            let signature = rig.path(if is_raw { der(signature) } else { signature.to_owned() });
            openssl(&["dgst", "-sha256", "-verify", &key, "-signature", &signature, &input]);
        }
    }
}

/// `r || s` as openssl wants it: a DER SEQUENCE of two INTEGERs.
fn der(raw: &[u8]) -> Vec<u8> {
    assert_eq!(raw.len(), 64);
    let integer = |bytes: &[u8]| {
        let digits: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        let sign = digits.first().is_none_or(|byte| *byte >= 0x80).then_some(0);
        let digits: Vec<u8> = sign.into_iter().chain(digits).collect();
        [vec![2, digits.len() as u8], digits].concat()
    };
    let both = [integer(&raw[..32]), integer(&raw[32..])].concat();
    [vec![0x30, both.len() as u8], both].concat()
}
