//! `vassal-init`: PID 1 of a vassal.

use std::process::ExitCode;

use vassal::cli;
use vassal::config::options::VASSAL_INIT;
use vassal::config::{self, Input};
use vassal::init::{probe, start};

fn main() -> ExitCode {
    // A prober, which PID 1 has started from its own file.
    if std::env::args_os().next().is_some_and(|name| name == probe::NAME) {
        probe::serve();
    }
    match start::from_emperor() {
        Some(status) => ExitCode::from(status as u8),
        None => cli::main(&VASSAL_INIT, config::check_vassal, run),
    }
}

fn run(inputs: &[Input]) -> ExitCode {
    ExitCode::from(start::from_command_line(inputs) as u8)
}
