//! `emperor`: keeps the vassals of a directory running.
#![no_main]

use std::ffi::OsString;

use vassal::config::keys::emperor::EMPEROR;
use vassal::sys::memory::Patient;
use vassal::sys::{fd, signal};
use vassal::{cli, emperor, log};

#[global_allocator]
static MEMORY: Patient = Patient;

vassal::entry!(main_of);

/// Runs the command line, and returns the exit status.
fn main_of(words: Vec<OsString>) -> i32 {
    log::report_failures();
    // Opens descriptors 0 to 2 if they are closed: a file opened later would otherwise get one of these
    // numbers, and log lines and answers would be written to it.
    fd::fill_standard(false);
    let words = words.get(1..).unwrap_or_default();
    if let Some(status) = emperor::api::client::command(words) {
        return status;
    }
    match cli::parse(&EMPEROR, words, emperor::check::check) {
        Ok((inputs, _no_command)) => {
            fd::make_terminals_write_only();
            let inherited = signal::block_all();
            log::init("emperor", "");
            log::keep_terminal();
            let status = emperor::run(&inputs, inherited);
            log::finish();
            status
        }
        Err(status) => status,
    }
}
