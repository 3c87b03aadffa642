//! HTTP methods as actions, and the granting of scopes.

use cedar_policy::EntityUid;

use crate::names::EntityType;

/// The actions of the schema, in the order of [`ALL`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Action {
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
    Other,
    /// No method: a scope of a minted token.
    Grant,
}

/// Every action once; an action's place here is its number.
pub(crate) const ALL: [Action; 9] = [
    Action::Get,
    Action::Head,
    Action::Options,
    Action::Post,
    Action::Put,
    Action::Patch,
    Action::Delete,
    Action::Other,
    Action::Grant,
];

impl Action {
    /// The action of `method`; methods are case-sensitive (RFC 9110 section 9.1).
    pub(crate) fn of(method: &str) -> Self {
        let is_method = |action: &Self| *action != Self::Grant && action.name() == method;
        ALL.into_iter().find(is_method).unwrap_or(Self::Other)
    }

    /// The action's place in [`ALL`].
    pub(crate) const fn number(self) -> usize {
        self as usize
    }

    /// The action's id in the schema.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Other => "other",
            Self::Grant => "grant",
        }
    }

    /// The group that the schema puts it in.
    pub(crate) const fn group(self) -> Option<&'static str> {
        match self {
            Self::Get | Self::Head | Self::Options => Some("read"),
            Self::Post | Self::Put | Self::Patch | Self::Delete => Some("write"),
            Self::Other | Self::Grant => None,
        }
    }

    /// Whether `uid`, from a policy's scope, is this action or its group.
    pub(crate) fn is_in(self, uid: &EntityUid) -> bool {
        let id = uid.id().unescaped();
        id == self.name() || self.group() == Some(id)
    }

    /// The action's entity.
    pub(crate) fn uid(self) -> EntityUid {
        EntityType::Action.uid(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_stands_where_its_number_says() {
        for (place, action) in ALL.into_iter().enumerate() {
            assert_eq!(action.number(), place);
            if action != Action::Grant {
                assert_eq!(Action::of(action.name()), action);
            }
        }
    }

    #[test]
    fn no_method_is_a_grant() {
        assert_eq!(Action::of("grant"), Action::Other);
    }

    #[test]
    fn a_method_in_small_letters_is_another_method() {
        assert_eq!(Action::of("get"), Action::Other);
        assert_eq!(Action::of("PROPFIND"), Action::Other);
    }
}
