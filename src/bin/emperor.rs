//! `emperor`: keeps the vassals of a directory running.

use std::process::ExitCode;

use vassal::config::args::Command;
use vassal::config::options::EMPEROR;
use vassal::config::{self, Input};
use vassal::sys::memory::Patient;
use vassal::sys::signal;
use vassal::world::Machine;
use vassal::{cli, emperor, log};

#[global_allocator]
static MEMORY: Patient = Patient;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let words = words.get(1..).unwrap_or_default();
    if let Some(status) = emperor::control::command(words) {
        return status;
    }
    ExitCode::from(cli::main(&EMPEROR, words, config::check_emperor, run) as u8)
}

fn run(inputs: Vec<Input>, _no_command: Command) -> i32 {
    let inherited = signal::block_all();
    log::init("emperor", "");
    let loaded = loop {
        match config::load_emperor(&inputs, &Machine) {
            Ok(loaded) => break loaded,
            // It was right when the upgrade was tried, and will be again; the vassals go on meanwhile.
            Err(report) if emperor::upgrade::has_vassals() => {
                log::print_error(&report.to_string());
                emperor::mainloop::try_again(&"the upgrade waits for a configuration without mistakes");
            }
            Err(report) => return cli::invalid(&report),
        }
    };
    log::print_error(&loaded.warnings.to_string());
    match emperor::run(&loaded.plan, inherited) {
        Ok(()) => 0,
        Err(error) => {
            vassal::log!("{error}");
            1
        }
    }
}
