//! Routes and scopes as entities.

use cedar_policy::{Entity, EntityUid, RestrictedExpression};

use crate::facts::RouteFacts;
use crate::index::Key;
use crate::names::EntityType;

/// A route or a scope as Cedar sees it.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) name: String,
    pub(crate) uid: EntityUid,
    pub(crate) entity: Entity,
    /// What the resource scope of a policy that applies can name: nothing, the route, or one of its labels.
    pub(crate) keys: Vec<Key>,
}

impl Resource {
    pub(crate) fn scope(name: &str) -> Option<Self> {
        Self::new(EntityType::Scope, RouteFacts { name: name.to_owned(), ..RouteFacts::default() })
    }

    pub(crate) fn new(kind: EntityType, facts: RouteFacts) -> Option<Self> {
        let uid = kind.uid(&facts.name);
        let labels: Vec<EntityUid> = facts
            .labels
            .iter()
            .map(|(key, value)| EntityType::Label.uid(&format!("{key}={value}")))
            .collect();
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let attributes = [("name".to_owned(), text(&facts.name))];
        let tags = facts.labels.iter().map(|(key, value)| (key.clone(), text(value)));
        let entity = Entity::new_with_tags(uid.clone(), attributes, labels.clone(), tags).ok()?;
        let mut keys: Vec<Key> =
            [None, Some(uid.clone())].into_iter().chain(labels.into_iter().map(Some)).collect();
        keys.sort();
        keys.dedup();
        Some(Self { uid, entity, keys, name: facts.name })
    }
}
