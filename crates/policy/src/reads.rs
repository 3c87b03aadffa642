//! What a policy reads besides the principal.

use std::ops::BitOr;

use cedar_policy::Policy;
use cedar_policy::pst::{BinaryOp, Clause, Expr, Literal, Var};

/// A set of context attributes, and whether the entities of route or action are read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Reads(u8);

impl Reads {
    pub(crate) const NOTHING: Self = Self(0);
    pub(crate) const METHOD: Self = Self(1);
    pub(crate) const HOST: Self = Self(1 << 1);
    pub(crate) const PATH: Self = Self(1 << 2);
    pub(crate) const QUERY: Self = Self(1 << 3);
    pub(crate) const ADDRESS: Self = Self(1 << 4);
    pub(crate) const TIME: Self = Self(1 << 5);
    pub(crate) const TLS: Self = Self(1 << 6);
    /// The entity of the route, of the scope that is granted, or of the action.
    pub(crate) const RESOURCE: Self = Self(1 << 7);
    pub(crate) const EVERYTHING: Self = Self(0xff);

    /// What `policy` reads; everything if that cannot be told.
    pub(crate) fn of(policy: &Policy) -> Self {
        let Ok(policy) = policy.to_pst() else { return Self::EVERYTHING };
        policy.body().clauses().iter().fold(Self::NOTHING, |reads, clause| {
            reads
                | match clause {
                    Clause::When(expr) | Clause::Unless(expr) => {
                        expr.reduce(&Self::of_node, &Self::bitor, Self::NOTHING)
                    }
                }
        })
    }

    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the outcome is one and the same for a principal on one route by one action.
    pub(crate) const fn is_free_of_context(self) -> bool {
        self.0 & !Self::RESOURCE.0 == 0
    }

    /// `context.name…` and `context has name…` read one attribute; the context in any other place is read whole.
    fn of_node(node: &Expr) -> Option<Self> {
        match node {
            Expr::GetAttr { expr, attr } if is_context(expr) => Some(Self::named(attr)),
            Expr::HasAttr { expr, attrs } if is_context(expr) => Some(Self::named(attrs.first())),
            // What somebody is in stands with him: the scopes on the right are only compared.
            Expr::BinaryOp { op: BinaryOp::In, left, right } if names_scopes(right) => {
                Some(left.reduce(&Self::of_node, &Self::bitor, Self::NOTHING))
            }
            Expr::Unknown { .. } => Some(Self::EVERYTHING),
            Expr::Var(Var::Resource | Var::Action) => Some(Self::RESOURCE),
            Expr::Literal(Literal::EntityUID(uid)) => Some(match uid.ty.to_string().as_str() {
                "Route" | "Scope" | "Action" => Self::RESOURCE,
                _ => Self::NOTHING,
            }),
            node if is_context(node) => Some(Self::EVERYTHING),
            _ => None,
        }
    }

    fn named(attribute: &str) -> Self {
        match attribute {
            "method" => Self::METHOD,
            "host" => Self::HOST,
            "path" => Self::PATH,
            "query" => Self::QUERY,
            "address" => Self::ADDRESS,
            "time" => Self::TIME,
            "tls" => Self::TLS,
            _ => Self::EVERYTHING,
        }
    }
}

impl BitOr for Reads {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

fn is_context(expr: &Expr) -> bool {
    matches!(expr, Expr::Var(Var::Context))
}

fn names_scopes(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(Literal::EntityUID(uid)) => uid.ty.to_string() == "Scope",
        Expr::Set(members) => members.iter().all(|member| names_scopes(member)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(condition: &str) -> Reads {
        Reads::of(&format!("permit(principal, action, resource) when {{ {condition} }};").parse().unwrap())
    }

    #[test]
    fn a_policy_over_principals_alone_reads_nothing_of_the_context() {
        assert_eq!(reads(r#"principal in Role::"a" && principal has claims"#), Reads::NOTHING);
    }

    #[test]
    fn each_attribute_is_found_wherever_it_stands() {
        assert_eq!(reads(r#"context.path like "/a/*""#), Reads::PATH);
        assert_eq!(reads("if principal has a then context.query.isEmpty() else true"), Reads::QUERY);
        assert_eq!(reads(r#"[context.host, context.method].contains("a")"#), Reads::HOST | Reads::METHOD);
        assert_eq!(reads(r#"context has tls.client && context.tls.client.name == "a""#), Reads::TLS);
        assert_eq!(reads(r#"!(context.address.isInRange(ip("::1")))"#), Reads::ADDRESS);
        assert_eq!(reads(r#"context.time < datetime("2026-01-01")"#), Reads::TIME);
    }

    #[test]
    fn entities_of_routes_and_actions_are_found() {
        assert_eq!(reads(r#"resource.name == "a""#), Reads::RESOURCE);
        assert_eq!(
            reads(r#"(if principal in Role::"a" then Route::"a" else Route::"b").name == "a""#),
            Reads::RESOURCE
        );
        assert!(
            Reads::RESOURCE.is_free_of_context() && !(Reads::RESOURCE | Reads::PATH).is_free_of_context()
        );
    }

    #[test]
    fn to_be_in_a_scope_reads_no_entity_of_the_scope() {
        assert_eq!(reads(r#"principal in Scope::"a" || principal in [Scope::"b"]"#), Reads::NOTHING);
        assert_eq!(reads(r#"Scope::"a".name == "a""#), Reads::RESOURCE);
        assert_eq!(reads(r#"resource in Scope::"a""#), Reads::RESOURCE);
    }

    #[test]
    fn the_context_as_a_whole_is_everything() {
        assert_eq!(reads("context == {a: 1}"), Reads::EVERYTHING);
        assert_eq!(reads(r#"{a: context}.a.path == "/""#), Reads::EVERYTHING);
        assert_eq!(reads(r#"context["unheard of"] == 1"#), Reads::EVERYTHING);
    }
}
