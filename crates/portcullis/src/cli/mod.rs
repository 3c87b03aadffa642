//! The command line: one file for each command.
//!
//! A command is a function from its arguments to a [`Report`] (what it prints, and how it ends) or a [`CliError`]. Only
//! [`main`] prints, through [`out`] (and `secret get`, whose value goes out exactly as it is); so every command can be tested
//! without a process. Results go to standard output, complaints to standard error. The exit codes are those of [`Exit`].

mod cert;
mod check;
mod completions;
mod decision;
mod deny;
mod dev;
mod door;
mod drill;
mod exit;
mod explain;
mod man;
mod out;
mod policy;
mod principal;
mod reload;
mod run;
mod schema;
mod secret;
mod source;
mod status;
mod time;
mod token;
mod upgrade;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use self::exit::Exit;

use self::exit::{CliError, Report};

/// Reads the command line, does what it says, and tells how that ended.
#[must_use]
pub fn main() -> ExitCode {
    let exit = match Cli::try_parse() {
        Ok(cli) => cli.command.run().unwrap_or_else(|error| error.report()).print(),
        Err(answer) => {
            // Help goes to standard output, a complaint to standard error; a reader who left is no reason to fail.
            answer.print().ok();
            if answer.use_stderr() { Exit::Usage } else { Exit::Ok }
        }
    };
    exit.into()
}

/// An API gateway that proves, limits and decides every request before it is forwarded
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, max_term_width = 100, after_long_help = EXIT_CODES)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Dev(dev::Dev),
    Status(status::Status),
    Reload(reload::Reload),
    Upgrade(upgrade::Upgrade),
    Drill(drill::Drill),
    Deny(deny::Deny),
    Explain(explain::Explain),
    Policy(policy::Policy),
    Cert(cert::Cert),
    Token(token::Token),
    Secret(secret::Secret),
    Schema(schema::Schema),
    Version(version::Version),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Command {
    fn run(&self) -> Result<Report, CliError> {
        match self {
            Self::Run(run) => run.run(),
            Self::Check(check) => check.run(),
            Self::Dev(dev) => dev.run(),
            Self::Status(status) => status.run(),
            Self::Reload(reload) => reload.run(),
            Self::Upgrade(upgrade) => upgrade.run(),
            Self::Drill(drill) => drill.run(),
            Self::Deny(deny) => deny.run(),
            Self::Explain(explain) => explain.run(),
            Self::Policy(policy) => policy.run(),
            Self::Cert(cert) => cert.run(),
            Self::Token(token) => token.run(),
            Self::Secret(secret) => secret.run(),
            Self::Schema(schema) => Ok(schema.run()),
            Self::Version(version) => Ok(version.run()),
            Self::Completions(completions) => Ok(completions.run()),
            Self::Man(man) => man.run(),
        }
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0  everything is as it should be
  1  something failed while running
  2  the command line is not understood
  3  the configuration or a policy has problems
  4  no running gateway can be reached
  5  the answer is no: a case failed, a request is not allowed, a token does not verify,
     a reference does not resolve";

#[cfg(test)]
mod tests;
