//! `vassal-init`: PID 1 of a vassal, or of a container.
#![no_main]

use std::ffi::OsString;

use vassal::config::cmdline::entrypoint::personality;
use vassal::config::keys::vassal::VASSAL_INIT;
use vassal::init::start::{self, Task};
use vassal::init::watch::prober;
use vassal::sys::environment;
use vassal::sys::memory::Patient;
use vassal::{cli, log};

#[global_allocator]
static MEMORY: Patient = Patient;

vassal::entry!(main_of);

/// Finds out from the program's name and the command line what to do, does it, and returns the exit status.
fn main_of(words: Vec<OsString>) -> i32 {
    log::report_failures();
    // PID 1 starts its probers from its own program file.
    if words.first().is_some_and(|name| name == prober::NAME) {
        prober::serve();
    }
    let status = start::from_emperor().unwrap_or_else(|| match task(&words) {
        Ok(Task::CommandAlone(entry)) => start::command_alone(entry),
        Ok(Task::WithOptions(inputs, entry)) => start::with_options(inputs, entry),
        Err(status) => status,
    });
    log::finish();
    status
}

/// What the command line asks for. `Err` has the exit status where the command line has been dealt with
/// already.
fn task(words: &[OsString]) -> Result<Task, i32> {
    if let Some(call) = personality(words, std::process::id(), &|name| environment::variable(name)) {
        return cli::answer(call).map(Task::CommandAlone);
    }
    let (inputs, command) = cli::parse(&VASSAL_INIT, words.get(1..).unwrap_or_default(), cli::check_vassal)?;
    start::task(inputs, command)
}
