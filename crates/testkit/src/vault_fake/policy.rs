//! Who may do what: policies in Vault's HCL, as far as tests write them.

/// The rules of a policy.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy(Vec<(String, Vec<String>)>);

impl Policy {
    /// Reads `path "…" { capabilities = ["…", …] }`, any number of times.
    pub(super) fn parse(text: &str) -> Self {
        let rules = text.split("path \"").skip(1).map(|rule| {
            let (path, rest) = rule.split_once('"').expect("a path ends");
            let list = rest.split_once('[').and_then(|(_, list)| list.split_once(']')).expect("capabilities");
            let capabilities = list.0.split('"').skip(1).step_by(2).map(str::to_owned).collect();
            (path.to_owned(), capabilities)
        });
        Self(rules.collect())
    }

    /// What every token may do.
    pub(super) fn default_one() -> Self {
        Self::parse(
            r#"
            path "auth/token/lookup-self" { capabilities = ["read"] }
            path "auth/token/renew-self" { capabilities = ["update"] }
            path "auth/token/revoke-self" { capabilities = ["update"] }
            path "sys/leases/renew" { capabilities = ["update"] }
            path "sys/leases/lookup" { capabilities = ["update"] }
            path "sys/wrapping/wrap" { capabilities = ["update"] }
            "#,
        )
    }

    /// Whether one of the rules allows this method at this path.
    pub(super) fn allows(&self, method: &str, path: &str) -> bool {
        let wanted: &[&str] = match method {
            "GET" => &["read"],
            "LIST" => &["list"],
            "DELETE" => &["delete"],
            "PATCH" => &["patch"],
            _ => &["create", "update"],
        };
        let allows = |capabilities: &[String]| capabilities.iter().any(|one| wanted.contains(&one.as_str()));
        self.0.iter().any(|(rule, capabilities)| matches(rule, path) && allows(capabilities))
    }

    /// Whether one of the rules allows anything below a mount.
    pub(super) fn touches(&self, mount: &str) -> bool {
        let start = format!("{mount}/");
        self.0.iter().any(|(rule, capabilities)| {
            !capabilities.is_empty()
                && (rule.starts_with(&start)
                    || start.starts_with(rule.trim_end_matches('*')) && rule.ends_with('*'))
        })
    }
}

/// `*` at the end stands for anything, `+` for one segment.
fn matches(rule: &str, path: &str) -> bool {
    let (rule, open) = rule.strip_suffix('*').map_or((rule, false), |rule| (rule, true));
    let (mut rules, mut parts) = (rule.split('/'), path.split('/'));
    let mut last = None;
    loop {
        match (rules.next(), parts.next()) {
            (None, None) => return true,
            (Some(rule), Some(part)) if rule == part || rule == "+" => last = Some(rule),
            (Some(rule), Some(part)) => return open && rules.next().is_none() && part.starts_with(rule),
            (None, Some(_)) => return open && last == Some(""),
            (Some(rule), None) => return open && rule.is_empty() && rules.next().is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_allow_what_they_name_and_no_more() {
        let policy = Policy::parse(
            r#"path "kv/data/a/*" { capabilities = ["read", "list"] }
               path "pki/+/web" { capabilities = ["update"] }"#,
        );
        assert!(policy.allows("GET", "kv/data/a/b/c") && policy.allows("LIST", "kv/data/a/b"));
        assert!(!policy.allows("POST", "kv/data/a/b") && !policy.allows("GET", "kv/data/ab"));
        assert!(policy.allows("POST", "pki/sign/web") && !policy.allows("POST", "pki/sign/webs"));
        assert!(!policy.allows("POST", "pki/sign/x/web"));
        assert!(policy.touches("kv") && !policy.touches("kv1"));
    }
}
