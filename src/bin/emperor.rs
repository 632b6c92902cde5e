//! `emperor`: keeps the vassals of a directory running.

use std::process::ExitCode;

use vassal::config::options::EMPEROR;
use vassal::config::{self, Input};
use vassal::sys::signal;
use vassal::world::Machine;
use vassal::{cli, emperor, log};

fn main() -> ExitCode {
    match emperor::control::command(std::env::args_os().skip(1)) {
        Some(status) => status,
        None => cli::main(&EMPEROR, config::check, run),
    }
}

fn run(inputs: &[Input]) -> ExitCode {
    let inherited = signal::block_all();
    log::init("emperor", "");
    match config::load_emperor(inputs, &Machine) {
        Ok(loaded) => {
            log::print_error(&loaded.warnings.to_string());
            match emperor::run(&loaded.plan, inherited) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    vassal::log!("{error}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(report) => cli::invalid(&report),
    }
}
