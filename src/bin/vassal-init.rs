//! `vassal-init`: process 1 of a vassal.

use std::process::ExitCode;

use vassal::cli;
use vassal::config::options::Reader;
use vassal::config::{self, Input};
use vassal::world::Machine;

fn main() -> ExitCode {
    cli::main("vassal-init", Reader::Vassal, run)
}

/// Runs a vassal from its configuration.
fn run(inputs: &[Input]) -> ExitCode {
    match config::load_vassal(inputs, false, &Machine) {
        Ok(loaded) => {
            eprint!("{}", loaded.warnings);
            // src/init takes over from here.
            ExitCode::SUCCESS
        }
        Err(report) => cli::invalid(&report),
    }
}
