//! `portcullis policy`: the policies alone, without a gateway around them.

mod check;
mod explain;
mod schema;
mod test;

use std::path::{Path, PathBuf};

use ::policy::cases::CaseFile;
use ::policy::{ClaimSchema, Engine, PolicySource, RouteFacts};
use clap::{Args, Subcommand};

use super::exit::{CliError, Report};
use super::source::{bytes, configuration, json_files};
use crate::config::{Problems, Severity, policies};

/// Check, test and explain policies
#[derive(Args, Debug)]
pub(super) struct Policy {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Check),
    Test(test::Test),
    Explain(Box<explain::Explain>),
    Schema(schema::Schema),
}

impl Policy {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        match &self.command {
            Command::Check(check) => check.run(),
            Command::Test(test) => test.run(),
            Command::Explain(explain) => explain.run(),
            Command::Schema(schema) => schema.run(),
        }
    }
}

/// Which policies.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Place {
    /// The configuration that names them; its routes, labels and claims count
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Their directory, without a configuration; claims are those that the cases declare
    #[arg(short, long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Policies, and what they may speak of.
struct Policies {
    directory: PathBuf,
    sources: Vec<PolicySource>,
    claims: ClaimSchema,
    routes: Vec<RouteFacts>,
    cases: Vec<(PathBuf, CaseFile)>,
}

impl Place {
    fn read(&self) -> Result<Policies, CliError> {
        match (&self.config, &self.directory) {
            (Some(path), _) => {
                let config = configuration(path)?;
                let Some(directory) = &config.policies else {
                    return Err(CliError::Usage(format!(
                        "`{}` names no `policies.directory`",
                        path.display()
                    )));
                };
                Policies::read(&directory.path, policies::claims(&config), policies::routes(&config))
            }
            (None, Some(directory)) => {
                let mut policies = Policies::read(directory, ClaimSchema::new(), Vec::new())?;
                let declared = policies.cases.iter().flat_map(|(_, file)| file.claims.clone());
                policies.claims = declared.collect();
                Ok(policies)
            }
            (None, None) => Err(CliError::Usage("either `--config` or `--directory` is needed".to_owned())),
        }
    }
}

impl Policies {
    fn read(directory: &Path, claims: ClaimSchema, routes: Vec<RouteFacts>) -> Result<Self, CliError> {
        let sources = policies::read(directory).map_err(CliError::Unreadable)?;
        let cases_directory = directory.join("cases");
        let mut cases = Vec::new();
        if cases_directory.is_dir() {
            for path in json_files(&cases_directory)? {
                let text = String::from_utf8_lossy(&bytes(&path)?).into_owned();
                let file = CaseFile::parse(&text).map_err(|error| CliError::read(&path, &error))?;
                cases.push((path, file));
            }
        }
        Ok(Self { directory: directory.to_owned(), sources, claims, routes, cases })
    }

    /// The engine over these policies and `routes`.
    fn engine(&self, routes: Vec<RouteFacts>) -> Result<Engine, CliError> {
        let compiled = Engine::compile(&self.sources, &self.claims, routes);
        compiled.map(|(engine, _)| engine).map_err(|found| self.refused(&found))
    }

    fn refused(&self, found: &[::policy::Problem]) -> CliError {
        CliError::Config(self.problems(found, Severity::Error))
    }

    fn problems(&self, found: &[::policy::Problem], severity: Severity) -> Problems {
        Problems::new(policies::problems(found, &self.sources, severity))
    }
}

#[cfg(test)]
mod tests;
