//! From a directory of rules to a [`Program`]: what cannot be kept is refused with its file and line.

use std::fs;
use std::path::{Path, PathBuf};

use zentinel_modsec::Error;
use zentinel_modsec::parser::Parser;

use super::compile::compile;
use super::program::Program;
use crate::RulesError;

pub(super) fn load(directory: &Path) -> Result<Program, RulesError> {
    let setup = ["crs-setup.conf", "crs-setup.conf.example"]
        .map(|name| directory.join(name))
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| RulesError::Missing(directory.join("crs-setup.conf")))?;
    let mut read = Read { parser: Parser::new(), places: Vec::new() };
    read.file(&setup)?;
    // What the route says counts, whatever stands in the file before.
    read.text(ROUTE, &setup, 0)?;
    for file in rule_files(&directory.join("rules"))? {
        read.file(&file)?;
    }
    let Read { parser, places } = read;
    compile(&parser.into_directives(), &places)
}

/// In the order of their names, which is the order that the rule set wants.
fn rule_files(directory: &Path) -> Result<Vec<PathBuf>, RulesError> {
    let unreadable = |error: std::io::Error| RulesError::Rule {
        place: directory.display().to_string(),
        reason: error.to_string(),
    };
    if !directory.is_dir() {
        return Err(RulesError::Missing(directory.to_owned()));
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        files.push(entry.map_err(unreadable)?.path());
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    if files.is_empty() {
        return Err(RulesError::Missing(directory.join("*.conf")));
    }
    Ok(files)
}

/// Directives, each with the file and line where it begins.
struct Read {
    parser: Parser,
    places: Vec<String>,
}

impl Read {
    /// Directive by directive, because the parser does not always say where it failed.
    fn file(&mut self, path: &Path) -> Result<(), RulesError> {
        let place = |line: usize| format!("{}:{line}", path.display());
        let text = fs::read_to_string(path).map_err(|error| RulesError::Rule {
            place: path.display().to_string(),
            reason: error.to_string(),
        })?;
        let mut directive = String::new();
        let mut begins = 0;
        for (index, line) in text.lines().enumerate() {
            if directive.is_empty() {
                if line.trim().is_empty() || line.trim_start().starts_with('#') {
                    continue;
                }
                begins = index + 1;
            }
            directive.push_str(line);
            directive.push('\n');
            if !line.trim_end().ends_with('\\') {
                self.text(&std::mem::take(&mut directive), path, begins)?;
            }
        }
        if directive.is_empty() {
            return Ok(());
        }
        Err(RulesError::Rule { place: place(begins), reason: "the file ends within it".to_owned() })
    }

    fn text(&mut self, text: &str, path: &Path, line: usize) -> Result<(), RulesError> {
        let place = format!("{}:{line}", path.display());
        let failed = |error: Error| match error {
            Error::Parse { message, .. } => RulesError::Rule { place: place.clone(), reason: message },
            other => RulesError::Rule { place: place.clone(), reason: other.to_string() },
        };
        self.parser.parse_with_location(text, Some(path)).map_err(failed)?;
        self.places.resize(self.parser.directives().len(), place);
        Ok(())
    }
}

/// Takes the strictness of a route from where [`inspect`](super::evaluate::inspect) puts it.
const ROUTE: &str = "SecAction \"id:1,phase:1,pass,nolog,\
    setvar:'tx.blocking_paranoia_level=%{tx.route_paranoia}',\
    setvar:'tx.detection_paranoia_level=%{tx.route_paranoia}',\
    setvar:'tx.inbound_anomaly_score_threshold=%{tx.route_threshold}'\"\n";
