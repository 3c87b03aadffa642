use clap::CommandFactory;

use super::*;

#[test]
fn every_argument_is_declared_without_contradiction() {
    Cli::command().debug_assert();
}
