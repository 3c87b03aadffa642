//! The entity types of the schema, and uids of them.

use std::sync::LazyLock;

use cedar_policy::{EntityId, EntityTypeName, EntityUid};
use identity::PrincipalKind;

/// The entity types that the schema declares.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum EntityType {
    Anonymous,
    Dns,
    Jwt,
    Spiffe,
    Subject,
    Role,
    Scope,
    Label,
    Route,
    Action,
}

/// The types that a principal can have; a type's place here is its number.
pub(crate) const PRINCIPALS: [EntityType; 5] =
    [EntityType::Anonymous, EntityType::Dns, EntityType::Jwt, EntityType::Spiffe, EntityType::Subject];

impl EntityType {
    /// The type of a principal of this kind.
    pub(crate) const fn of(kind: PrincipalKind) -> Self {
        match kind {
            PrincipalKind::Anonymous => Self::Anonymous,
            PrincipalKind::Dns => Self::Dns,
            PrincipalKind::Jwt => Self::Jwt,
            PrincipalKind::Spiffe => Self::Spiffe,
            PrincipalKind::Subject => Self::Subject,
        }
    }

    /// The place of a principal's type in [`PRINCIPALS`].
    pub(crate) const fn number(self) -> usize {
        self as usize
    }

    /// The type as Cedar names it.
    pub(crate) fn name(self) -> EntityTypeName {
        let name: &EntityTypeName = match self {
            Self::Anonymous => &ANONYMOUS,
            Self::Dns => &DNS,
            Self::Jwt => &JWT,
            Self::Spiffe => &SPIFFE,
            Self::Subject => &SUBJECT,
            Self::Role => &ROLE,
            Self::Scope => &SCOPE,
            Self::Label => &LABEL,
            Self::Route => &ROUTE,
            Self::Action => &ACTION,
        };
        name.clone()
    }

    /// The entity of this type that is called `id`.
    pub(crate) fn uid(self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.name(), EntityId::new(id))
    }
}

static ANONYMOUS: LazyLock<EntityTypeName> = LazyLock::new(|| parse("Anonymous"));
static DNS: LazyLock<EntityTypeName> = LazyLock::new(|| parse("Dns"));
static JWT: LazyLock<EntityTypeName> = LazyLock::new(|| parse("Jwt"));
static SPIFFE: LazyLock<EntityTypeName> = LazyLock::new(|| parse("Spiffe"));
static SUBJECT: LazyLock<EntityTypeName> = LazyLock::new(|| parse("Subject"));
static ROLE: LazyLock<EntityTypeName> = LazyLock::new(|| parse("Role"));
static SCOPE: LazyLock<EntityTypeName> = LazyLock::new(|| parse("Scope"));
static LABEL: LazyLock<EntityTypeName> = LazyLock::new(|| parse("Label"));
static ROUTE: LazyLock<EntityTypeName> = LazyLock::new(|| parse("Route"));
static ACTION: LazyLock<EntityTypeName> = LazyLock::new(|| parse("Action"));

#[expect(clippy::expect_used, reason = "the names are the constants above, each of which a test parses")]
fn parse(name: &str) -> EntityTypeName {
    name.parse().expect("an entity type's name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_type_stands_where_its_number_says() {
        for (place, kind) in PRINCIPALS.into_iter().enumerate() {
            assert_eq!(kind.number(), place);
        }
    }

    #[test]
    fn every_type_has_a_name() {
        let others =
            [EntityType::Role, EntityType::Scope, EntityType::Label, EntityType::Route, EntityType::Action];
        for kind in PRINCIPALS.into_iter().chain(others) {
            assert_eq!(kind.uid("a \"b\"").id().unescaped(), "a \"b\"");
        }
    }
}
