//! References to secrets, and the names of what stores hold. A text that is no reference may be the secret itself: no
//! message repeats it.

use std::path::{Path, PathBuf};

use secrets::Reference;

use super::field::FilePath;
use super::{Misread, Word, words};

/// A secret by reference; a relative `file:` path is not yet joined to the configuration's directory.
#[derive(Clone, Debug)]
pub(in crate::config) struct SecretText(pub(in crate::config) Reference);

impl Word for SecretText {
    const EXPECTED: &'static str =
        "a reference: `vault:<store>/<path>#<field>`, `embedded:<name>`, `file:<path>` or `env:<NAME>`";

    fn parse(text: &str) -> Result<Self, Misread> {
        Reference::parse(text, Path::new("")).map(Self).map_err(|error| error.to_string().into())
    }
}

/// A part of a certificate: the path of a file that is watched, or a value of a store.
#[derive(Clone, Debug)]
pub(in crate::config) enum CertificatePart {
    /// A path, as such or behind `file:`.
    Path(PathBuf),
    /// A value of a store or a variable.
    Reference(Reference),
}

impl Word for CertificatePart {
    const EXPECTED: &'static str =
        "the path of a file, or a reference such as `vault:<store>/<path>#<field>`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let kind = text.split_once(':').map(|(kind, _)| kind);
        if !matches!(kind, Some("vault" | "embedded" | "file" | "env")) {
            return FilePath::parse(text).map(|path| Self::Path(path.0));
        }
        match SecretText::parse(text)?.0 {
            Reference::File { path } => Ok(Self::Path(path)),
            reference => Ok(Self::Reference(reference)),
        }
    }
}

/// The key of the embedded store.
#[derive(Clone, Debug)]
pub(in crate::config) enum StoreKey {
    /// Where a reference says.
    Reference(Reference),
    /// A systemd credential.
    Credential(String),
}

impl Word for StoreKey {
    const EXPECTED: &'static str =
        "`file:<path>`, `env:<NAME>`, or `credential:<NAME>` for a systemd credential";

    fn parse(text: &str) -> Result<Self, Misread> {
        let Some(name) = text.strip_prefix("credential:") else {
            return Reference::parse(text, Path::new(""))
                .map(Self::Reference)
                .map_err(|_| NO_STORE_KEY.into());
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
            return Err("the name of a systemd credential has letters, digits, `.`, `_` and `-`".into());
        }
        Ok(Self::Credential(name.to_owned()))
    }
}

/// The path of a mount or of a namespace; without a final slash.
#[derive(Clone, Debug)]
pub(in crate::config) struct MountPath(pub(in crate::config) String);

impl Word for MountPath {
    const EXPECTED: &'static str =
        "a path such as `pki` or `team/pki`: letters, digits, `.`, `_`, `-` and `/`";

    fn parse(text: &str) -> Result<Self, Misread> {
        let path = text.strip_suffix('/').unwrap_or(text);
        if path.split('/').all(is_segment) { Ok(Self(path.to_owned())) } else { Err(Misread::Other) }
    }
}

/// The name of a role or key of Vault.
#[derive(Clone, Debug)]
pub(in crate::config) struct VaultName(pub(in crate::config) String);

impl Word for VaultName {
    const EXPECTED: &'static str = "a name such as `gateway`: letters, digits, `.`, `_` and `-`";

    fn parse(text: &str) -> Result<Self, Misread> {
        if is_segment(text) { Ok(Self(text.to_owned())) } else { Err(Misread::Other) }
    }
}

words! {
    SecretText: "^(vault:[^/]+/.+#.+|embedded:.+|file:.+|env:[A-Za-z0-9_]+)$",
    CertificatePart: "^.+$",
    StoreKey: "^(file:.+|env:[A-Za-z0-9_]+|credential:[A-Za-z0-9_-][A-Za-z0-9._-]*)$",
    MountPath: "^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*/?$",
    VaultName: "^[A-Za-z0-9._-]+$",
}

/// INVARIANT: a segment stands in a URL as it is, and leads nowhere else.
fn is_segment(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(plain)
}

const NO_STORE_KEY: &str =
    "not a reference: expected `file:<path>`, `env:<NAME>`, or `credential:<NAME>` for a systemd credential";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_reference_is_refused_and_not_repeated() {
        for text in ["canary", "vault:canary", "env:canary canary", "embedded:canary canary", "hvs.canary"] {
            for misread in [SecretText::parse(text).unwrap_err(), StoreKey::parse(text).unwrap_err()] {
                let Misread::Because(reason) = misread else { panic!("{text} would be quoted") };
                assert!(!reason.contains("canary"), "{reason}");
            }
        }
    }

    #[test]
    fn a_part_of_a_certificate_is_a_path_unless_it_is_a_reference() {
        let path = |text: &str| match CertificatePart::parse(text).unwrap() {
            CertificatePart::Path(path) => path.display().to_string(),
            CertificatePart::Reference(reference) => panic!("{reference}"),
        };
        assert_eq!(path("tls/edge.pem"), "tls/edge.pem");
        assert_eq!(path("file:tls/edge.pem"), "tls/edge.pem");
        assert!(matches!(
            CertificatePart::parse("vault:main/kv/edge#key"),
            Ok(CertificatePart::Reference(_))
        ));
        assert!(CertificatePart::parse("vault:main").is_err());
    }

    #[test]
    fn a_mount_leads_nowhere_else() {
        assert_eq!(MountPath::parse("team/pki/").unwrap().0, "team/pki");
        for text in ["", "/", "/pki", "a//b", "a/../b", "a?b", "a b", "a%2fb", "a\nb"] {
            assert!(MountPath::parse(text).is_err(), "{text:?}");
        }
        assert!(VaultName::parse("a/b").is_err() && VaultName::parse("..").is_err());
    }
}
