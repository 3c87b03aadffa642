//! A principal as Cedar sees it, built once per verified proof.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cedar_policy::{Entities, Entity, EntityUid, RestrictedExpression};
use identity::{ClaimValue, Principal, PrincipalKind};

use crate::names::EntityType;
use crate::schema::{ClaimSchema, ClaimType};

/// A principal's entities. Build it once, keep it beside the verified token or with the connection in an `Arc`.
///
/// INVARIANT: immutable, and its serial is never given twice: whoever holds the serial knows the principal with
/// all its roles, scopes and claims. Remembered decisions rest on that.
#[derive(Debug)]
pub struct Subject {
    principal: Arc<Principal>,
    serial: u64,
    /// It was decided on before.
    known: AtomicBool,
    kind: EntityType,
    uid: EntityUid,
    /// The principal's entity alone. `None` (it could not be built, or its id has two readings) denies everything.
    entities: Option<Entities>,
    keys: Vec<Option<EntityUid>>,
}

impl Subject {
    /// The subject of `principal`. Cheap enough for a handshake, too dear for every request.
    #[must_use]
    pub fn new(principal: &Principal) -> Self {
        Self::of(Arc::new(principal.clone()))
    }

    /// The same of one that is shared already.
    #[must_use]
    pub fn of(principal: Arc<Principal>) -> Self {
        let kind = EntityType::of(principal.id.kind());
        let uid = kind.uid(&entity_id(&principal));
        let parents: Vec<EntityUid> = principal
            .roles
            .iter()
            .map(|role| EntityType::Role.uid(role))
            .chain(principal.scopes.iter().map(|scope| EntityType::Scope.uid(scope)))
            .collect();
        let mut keys: Vec<_> = [&uid].into_iter().chain(&parents).cloned().map(Some).collect();
        keys.push(None);
        keys.sort();
        keys.dedup();
        Self {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            known: AtomicBool::new(false),
            kind,
            entities: entities(&principal, uid.clone(), parents),
            principal,
            uid,
            keys,
        }
    }

    /// The principal that this was made from.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(crate) const fn serial(&self) -> u64 {
        self.serial
    }

    /// Whether it was asked before: only then is there something to gain from remembering what is decided on it.
    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed) || self.known.swap(true, Ordering::Relaxed)
    }

    pub(crate) const fn kind(&self) -> EntityType {
        self.kind
    }

    pub(crate) const fn uid(&self) -> &EntityUid {
        &self.uid
    }

    pub(crate) const fn entities(&self) -> Option<&Entities> {
        self.entities.as_ref()
    }

    /// What the principal scope of a policy that applies can name: nothing, the principal itself, or what it is in.
    pub(crate) fn keys(&self) -> &[Option<EntityUid>] {
        &self.keys
    }

    /// Whether every claim is one that `schema` knows, of that type.
    pub(crate) fn conforms_to(&self, schema: &ClaimSchema) -> bool {
        self.principal.claims.iter().all(|(name, value)| schema.get(name) == Some(&claim_type(value)))
    }
}

static SERIAL: AtomicU64 = AtomicU64::new(0);

/// The id of the principal's entity: for SPIFFE the whole URI, else `authority#subject`.
fn entity_id(principal: &Principal) -> String {
    let id = &principal.id;
    match id.kind() {
        PrincipalKind::Anonymous | PrincipalKind::Spiffe => id.to_string(),
        PrincipalKind::Dns | PrincipalKind::Jwt | PrincipalKind::Subject => {
            format!("{}#{}", id.authority(), id.subject())
        }
    }
}

fn entities(principal: &Principal, uid: EntityUid, parents: Vec<EntityUid>) -> Option<Entities> {
    let id = &principal.id;
    // `a#b` by `c` would be called like `a` by `b#c`: a subject could spell its way into another issuer.
    if id.authority().contains('#') {
        return None;
    }
    let names: &[&str] = match id.kind() {
        PrincipalKind::Anonymous => &[],
        PrincipalKind::Jwt => &["issuer", "subject"],
        PrincipalKind::Spiffe => &["trust_domain", "path"],
        PrincipalKind::Dns | PrincipalKind::Subject => &["trust", "name"],
    };
    let claims = principal.claims.iter().map(|(name, value)| (name.clone(), claim(value)));
    let mut attributes = vec![
        ("id".to_owned(), RestrictedExpression::new_string(id.to_string())),
        ("claims".to_owned(), RestrictedExpression::new_record(claims).ok()?),
    ];
    for (name, value) in names.iter().zip([id.authority(), id.subject()]) {
        attributes.push(((*name).to_owned(), RestrictedExpression::new_string(value.to_owned())));
    }
    let entity = Entity::new_with_tags(uid, attributes, parents, []).ok()?;
    Entities::from_entities([entity], None).ok()
}

fn claim(value: &ClaimValue) -> RestrictedExpression {
    match value {
        ClaimValue::Bool(value) => RestrictedExpression::new_bool(*value),
        ClaimValue::Long(value) => RestrictedExpression::new_long(*value),
        ClaimValue::String(value) => RestrictedExpression::new_string(value.clone()),
        ClaimValue::Strings(values) => {
            RestrictedExpression::new_set(values.iter().cloned().map(RestrictedExpression::new_string))
        }
    }
}

const fn claim_type(value: &ClaimValue) -> ClaimType {
    match value {
        ClaimValue::Bool(_) => ClaimType::Bool,
        ClaimValue::Long(_) => ClaimType::Long,
        ClaimValue::String(_) => ClaimType::String,
        ClaimValue::Strings(_) => ClaimType::Strings,
    }
}

#[cfg(test)]
mod tests {
    use identity::PrincipalId;

    use super::*;

    #[test]
    fn two_subjects_of_one_principal_have_two_serials() {
        let principal = Principal::anonymous();
        assert_ne!(Subject::new(&principal).serial(), Subject::new(&principal).serial());
    }

    #[test]
    fn every_kind_of_principal_conforms_to_the_schema() {
        let schema =
            crate::schema::parse(&ClaimSchema::from([("level".to_owned(), ClaimType::Long)])).unwrap();
        for kind in [
            PrincipalKind::Anonymous,
            PrincipalKind::Dns,
            PrincipalKind::Jwt,
            PrincipalKind::Spiffe,
            PrincipalKind::Subject,
        ] {
            let mut principal = Principal::named(PrincipalId::new(kind, "example.org", "/a"));
            principal.roles = vec!["a".into(), "a".into()];
            principal.scopes = vec!["a".into()];
            principal.claims.insert("level".into(), ClaimValue::Long(1));
            let entities = Subject::new(&principal).entities.unwrap();
            Entities::from_entities(entities, Some(&schema)).unwrap();
        }
    }

    #[test]
    fn an_authority_whose_name_could_be_read_in_two_ways_denies() {
        let id = PrincipalId::new(PrincipalKind::Jwt, "https://a#b", "c");
        assert!(Subject::new(&Principal::named(id)).entities.is_none());
        let id = PrincipalId::new(PrincipalKind::Jwt, "https://a", "b#c");
        assert!(Subject::new(&Principal::named(id)).entities.is_some());
    }

    #[test]
    fn a_claim_of_another_type_or_name_does_not_conform() {
        let schema = ClaimSchema::from([("level".to_owned(), ClaimType::Long)]);
        let mut principal = Principal::anonymous();
        assert!(Subject::new(&principal).conforms_to(&schema));
        principal.claims.insert("level".into(), ClaimValue::Bool(true));
        assert!(!Subject::new(&principal).conforms_to(&schema));
        principal.claims = [("other".to_owned(), ClaimValue::Long(1))].into();
        assert!(!Subject::new(&principal).conforms_to(&schema));
    }
}
