//! `emperor`: keeps the vassals of a directory running.

use std::process::ExitCode;

use vassal::cli;
use vassal::config::options::Reader;
use vassal::config::{self, Input};
use vassal::world::Machine;

fn main() -> ExitCode {
    cli::main("emperor", Reader::Emperor, run)
}

/// Runs an emperor from its configuration.
fn run(inputs: &[Input]) -> ExitCode {
    match config::load_emperor(inputs, &Machine) {
        Ok(loaded) => {
            eprint!("{}", loaded.warnings);
            // src/emperor takes over from here.
            ExitCode::SUCCESS
        }
        Err(report) => cli::invalid(&report),
    }
}
