//! `vassal-init`: PID 1 of a vassal.

use std::process::ExitCode;

use vassal::cli;
use vassal::config::Input;
use vassal::config::options::Reader;
use vassal::init::start;

fn main() -> ExitCode {
    match start::from_emperor() {
        Some(status) => ExitCode::from(status as u8),
        None => cli::main("vassal-init", Reader::Vassal, run),
    }
}

fn run(inputs: &[Input]) -> ExitCode {
    ExitCode::from(start::from_command_line(inputs) as u8)
}
