//! Certificates: signed for a key that never left us, their chains, the authorities and the revocation list.

use std::time::Duration;

use secrets::Cause;
use serde_json::{Value, json};

use super::rig::{Rig, cause, certificates, openssl};

pub(super) fn a_certificate_is_signed_for_our_own_key_and_stands_under_the_authorities(rig: &Rig) {
    let (mount, role) = rig.authority("1h");
    let (key, request) = rig.request(&mount, &role, &["a.example.com", "b.example.com"]);
    let issued = rig.wait(rig.store.sign_certificate(&request)).unwrap();
    let leaf = rig.path(&certificates(&issued.chain_pem)[0]);
    let said = openssl(&["x509", "-in", &leaf, "-noout", "-ext", "subjectAltName", "-pubkey"]).stdout;
    assert!(said.contains("DNS:a.example.com, DNS:b.example.com"), "{said}");
    let ours = openssl(&["pkey", "-in", &key.display().to_string(), "-pubout"]).stdout;
    assert!(said.contains(ours.trim()), "it is for another key: {said}");
    for authorities in [&issued.authorities_pem, &rig.wait(rig.store.authorities(&mount)).unwrap()] {
        openssl(&[
            "verify",
            "-CAfile",
            &rig.path(authorities),
            "-untrusted",
            &rig.path(&issued.chain_pem),
            &leaf,
        ]);
    }
    let lives = rig.path(&issued.chain_pem);
    openssl(&["x509", "-in", &lives, "-noout", "-checkend", "500"]);
}

pub(super) fn the_chain_is_built_from_the_leaf_upwards_without_the_root(rig: &Rig) {
    let (root, lower) = (rig.authority("1h").0, rig.mount("pki"));
    let operator = rig.operator();
    let made = operator.write(
        &format!("{lower}/intermediate/generate/internal"),
        &json!({ "common_name": "lower", "key_type": "ec" }),
    );
    let signing = json!({ "csr": made["data"]["csr"], "common_name": "lower", "ttl": "2h" });
    let signed = operator.write(&format!("{root}/root/sign-intermediate"), &signing);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let root_pem = text(&signed["data"]["issuing_ca"]);
    let bundle = format!("{}\n{root_pem}", text(&signed["data"]["certificate"]));
    operator.write(&format!("{lower}/intermediate/set-signed"), &json!({ "certificate": bundle }));
    operator.write(
        &format!("{lower}/roles/web"),
        &json!({ "allow_any_name": true, "require_cn": false, "key_type": "any", "max_ttl": "1h" }),
    );
    let (_, request) = rig.request(&lower, "web", &["a.example.com"]);
    let issued = rig.wait(rig.store.sign_certificate(&request)).unwrap();
    let chain = certificates(&issued.chain_pem);
    let names: Vec<String> = chain
        .iter()
        .map(|one| {
            openssl(&["x509", "-in", &rig.path(one), "-noout", "-issuer", "-nameopt", "RFC2253"]).stdout
        })
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].contains("CN=lower") && names[1].contains(&format!("CN={root} root")), "{names:?}");
    let (root_pem, upper) = (rig.path(format!("{root_pem}\n")), rig.path(&chain[1]));
    openssl(&["verify", "-CAfile", &root_pem, "-untrusted", &upper, &rig.path(&chain[0])]);
    let authorities = certificates(&issued.authorities_pem);
    assert_eq!(authorities.len(), 2, "the root is among the authorities, each once");
    assert_eq!(certificates(&rig.wait(rig.store.authorities(&lower)).unwrap()).len(), 2);
}

pub(super) fn a_shorter_life_than_asked_for_is_warned_of(rig: &Rig) {
    let (mount, role) = rig.authority("300s");
    let (_, mut request) = rig.request(&mount, &role, &["a.example.com"]);
    request.ttl = Duration::from_secs(60);
    let asked = rig.wait(rig.store.sign_certificate(&request)).unwrap();
    assert_eq!(asked.warnings, [""; 0]);
    request.ttl = Duration::from_secs(3600);
    let capped = rig.wait(rig.store.sign_certificate(&request)).unwrap();
    assert!(matches!(&capped.warnings[..], [warning] if warning.contains("maxTTL")), "{:?}", capped.warnings);
    let ends = |issued: &secrets::IssuedCertificate| issued.expires.unwrap();
    let later = ends(&capped).duration_since(ends(&asked)).unwrap();
    assert!((230..=260).contains(&later.as_secs()), "{later:?}");
}

pub(super) fn a_name_that_the_role_does_not_allow_is_refused(rig: &Rig) {
    let (mount, role) = rig.authority("1h");
    let (_, request) = rig.request(&mount, &role, &["evil.org"]);
    let cause = cause(rig.wait(rig.store.sign_certificate(&request)));
    assert!(matches!(&cause, Cause::Refused(why) if why.contains("evil.org")), "{cause:?}");
}

pub(super) fn a_role_and_an_authority_that_are_not_there_are_absent(rig: &Rig) {
    let (mount, _) = rig.authority("1h");
    let (_, request) = rig.request(&mount, "nobody", &["a.example.com"]);
    let role = cause(rig.wait(rig.store.sign_certificate(&request)));
    assert!(matches!(&role, Cause::Absent(what) if what.contains("nobody")), "{role:?}");
    for mount in [rig.mount("pki"), "nowhere".to_owned()] {
        let cause = cause(rig.wait(rig.store.authorities(&mount)));
        assert!(matches!(cause, Cause::Absent(_) | Cause::Denied(_)), "{mount}: {cause:?}");
    }
}

pub(super) fn a_revoked_certificate_is_in_the_list(rig: &Rig) {
    let (mount, role) = rig.authority("1h");
    let (_, request) = rig.request(&mount, &role, &["a.example.com"]);
    let issued = rig.wait(rig.store.sign_certificate(&request)).unwrap();
    let leaf = rig.path(&certificates(&issued.chain_pem)[0]);
    let serial = openssl(&["x509", "-in", &leaf, "-noout", "-serial"]).stdout;
    let serial = serial.trim().trim_start_matches("serial=").to_owned();
    let listed = || {
        let list = rig.wait(rig.store.revocation_list(&mount)).unwrap().expect("there is a list");
        openssl(&["crl", "-in", &rig.path(list), "-noout", "-text"]).stdout
    };
    assert!(!listed().contains(&serial));
    let pairs: Vec<&str> =
        serial.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
    rig.operator()
        .write(&format!("{mount}/revoke"), &json!({ "serial_number": pairs.join(":").to_lowercase() }));
    assert!(listed().contains(&serial), "{serial} is not in {}", listed());
}
