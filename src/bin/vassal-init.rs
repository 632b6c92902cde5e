//! `vassal-init`: PID 1 of a vassal, or of a container.
#![no_main]

use std::ffi::OsString;

use vassal::config::cmdline::entrypoint::personality;
use vassal::config::keys::vassal::VASSAL_INIT;
use vassal::init::start;
use vassal::init::watch::probe;
use vassal::sys::memory::Patient;
use vassal::{cli, config, log};

#[global_allocator]
static MEMORY: Patient = Patient;

vassal::entry!(main_of);

/// Under which name, for whom: to the exit status.
fn main_of(words: Vec<OsString>) -> i32 {
    log::report_failures();
    // A prober, which PID 1 has started from its own file.
    if words.first().is_some_and(|name| name == probe::NAME) {
        probe::serve();
    }
    if let Some(status) = start::from_emperor() {
        return status;
    }
    match personality(&words, &|name| std::env::var_os(name)) {
        Some(call) => cli::answer(call, start::command_alone),
        None => {
            let words = words.get(1..).unwrap_or_default();
            cli::main(&VASSAL_INIT, words, config::check_vassal, start::from_command_line)
        }
    }
}
