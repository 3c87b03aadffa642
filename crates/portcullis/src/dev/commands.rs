//! The five commands that a person pastes.

use std::path::Path;

/// A command and what it shows.
#[derive(Debug)]
pub(super) struct Example {
    /// What it shows, for a person.
    pub(super) shows: &'static str,
    /// The status that it gives.
    pub(super) status: u16,
    /// One line for a shell.
    pub(super) line: String,
}

/// The five, for a setting in `directory` whose gateway listens on `port`.
pub(super) fn examples(directory: &Path, port: u16) -> [Example; 5] {
    let file = |name: &str| quoted(&directory.join(name).display().to_string());
    let curl = format!("curl -sS -w '%{{http_code}}\\n' --cacert {}", file("ca.pem"));
    let token = format!("--oauth2-bearer \"$(cat {})\"", file("alice.token"));
    let url = format!("https://localhost:{port}");
    [
        Example {
            shows: "alice has a token whose scope may read orders",
            status: 200,
            line: format!("{curl} {token} {url}/orders/1"),
        },
        Example {
            shows: "nobody in particular may not",
            status: 401,
            line: format!("{curl} {url}/orders/1"),
        },
        Example {
            shows: "alice may read, but no policy lets her write",
            status: 403,
            line: format!("{curl} {token} -d '{{\"item\":\"tea\"}}' {url}/orders"),
        },
        Example {
            shows: "alice asks for reports more often than five times in a row",
            status: 429,
            line: format!("for i in 1 2 3 4 5 6 7 8; do {curl} -o /dev/null {token} {url}/reports/1; done"),
        },
        Example {
            shows: "the workload billing proves itself by its certificate",
            status: 200,
            line: format!(
                "{curl} --cert {} --key {} {url}/orders/1",
                file("billing.pem"),
                file("billing.key")
            ),
        },
    ]
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%,:".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_one_line_that_verifies_the_gateway() {
        let examples = examples(Path::new("/tmp/dev"), 8443);
        assert_eq!(examples.each_ref().map(|example| example.status), [200, 401, 403, 429, 200]);
        for Example { line, .. } in &examples {
            assert!(line.starts_with("curl ") || line.starts_with("for "), "{line}");
            assert!(line.contains("--cacert /tmp/dev/ca.pem") && !line.contains('\n'), "{line}");
            assert!(!line.contains(" -k") && !line.contains("--insecure"), "{line}");
        }
    }

    #[test]
    fn a_directory_of_any_name_is_one_word_for_a_shell() {
        for path in ["/tmp/dev", "/tmp/it's here", "/tmp/$(reboot)", "/tmp/a;b", "/tmp/größe", "~/x", ""] {
            let said = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(path))])
                .output();
            assert_eq!(String::from_utf8(said.unwrap().stdout).unwrap(), path);
        }
    }
}
