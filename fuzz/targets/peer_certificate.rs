//! A certificate is refused, or names exactly one principal of the form that was asked for.
#![no_main]

use std::time::{Duration, SystemTime};

use identity::certificate::{NameForm, ServerIdentity, inspect, vet_client, vet_server};
use identity::{PrincipalKind, SpiffeId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    inspect(bytes).ok();
    for (form, kind) in [
        (NameForm::Spiffe { trust_domain: "lab.test".to_owned() }, PrincipalKind::Spiffe),
        (NameForm::Dns, PrincipalKind::Dns),
        (NameForm::Subject, PrincipalKind::Subject),
    ] {
        // As a leaf, and as an issuer that was sent along.
        for chain in [&[bytes][..], &[bytes, bytes][..]] {
            if let Ok(peer) = vet_client(chain.iter().copied(), &form, "mesh", now) {
                let id = &peer.principal.id;
                assert_eq!(id.kind(), kind);
                assert!(!id.to_string().bytes().any(|byte| byte.is_ascii_control()), "{id}");
                assert!(peer.not_before <= now && now <= peer.not_after);
            }
        }
    }
    let id = SpiffeId::parse("spiffe://lab.test/ns/a/sa/client1").expect("a good id");
    vet_server(bytes, &ServerIdentity::Spiffe(id), now).ok();
    vet_server(bytes, &ServerIdentity::Dns("one.internal".to_owned()), now).ok();
});
