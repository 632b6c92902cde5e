//! The part of the command line that both programs handle alike.

use std::ffi::{OsStr, OsString};

use rustix::io::Errno;

use crate::config::cmdline::args::{self, Command, Invocation};
use crate::config::cmdline::entrypoint::{Call, Entrypoint, LICENCE};
use crate::config::cmdline::help;
use crate::config::diagnostic::Report;
use crate::config::keys::options::Program;
use crate::config::{self, Input, World};
use crate::json::Json;
use crate::log::print_error;
use crate::protocol::EXIT_CONFIG;
use crate::sys::fd::write_all;
use crate::version::VERSION;
use crate::world::{self, Machine, NoCommands};

/// Carries out help, checks and the like (`check` returns the mistakes of a file). Otherwise returns what to
/// run.
///
/// # Errors
/// There is nothing to run: the exit status.
pub fn parse(
    program: &Program,
    words: &[OsString],
    check: fn(&OsStr, &dyn World) -> Report,
) -> Result<(Vec<Input>, Command), i32> {
    let name = program.name;
    Err(match args::parse(program, words) {
        Ok(Invocation::Help) => print(help::overview(program).as_bytes()),
        Ok(Invocation::HelpOn(row)) => print(help::entry(&row).as_bytes()),
        Ok(Invocation::Version) => print(format!("{name} {VERSION}\n").as_bytes()),
        Ok(Invocation::Check(files, json)) => check_all(&files, json, check),
        Ok(Invocation::ShowConfig(inputs)) => show_config(program, inputs),
        Ok(Invocation::Run(inputs)) => return Ok((inputs, Command::default())),
        Ok(Invocation::Command(inputs, command)) => return Ok((inputs, command)),
        Ok(Invocation::Licence) => print(LICENCE.as_bytes()),
        Err(report) => invalid(&report),
    })
}

/// Carries out a command line under the name of another program. Returns the command to run.
///
/// # Errors
/// There is nothing to run: the exit status.
pub fn answer(call: Call) -> Result<Entrypoint, i32> {
    match call {
        Call::Run(entry) => Ok(entry),
        Call::Say { text, is_error: true, status } => {
            print_error(&text);
            Err(status)
        }
        Call::Say { text, is_error: false, status } => Err(status.max(print(text.as_bytes()))),
    }
}

/// Prints the mistakes of a configuration. Returns the exit status.
pub fn invalid(report: &Report) -> i32 {
    print_error(&report.to_string());
    EXIT_CONFIG
}

/// Prints the settings that a run would have. Options from the environment come first.
fn show_config(program: &Program, inputs: Vec<Input>) -> i32 {
    let mut all = Vec::new();
    if program.runs_commands() {
        all.push(Input::Replica(1));
        for (key, value) in world::environment_options() {
            all.push(Input::Option { key, value: Some(value) });
        }
    }
    all.extend(inputs);
    match config::expanded(&all, false, &Machine) {
        Ok(settings) => print(&config::show_config(&settings)),
        Err(report) => invalid(&report),
    }
}

/// Prints the mistakes of files: as text, or as one JSON array on standard output.
fn check_all(files: &[OsString], json: bool, check: fn(&OsStr, &dyn World) -> Report) -> i32 {
    let mut errors = 0;
    let mut findings = Json::default();
    findings.open("", '[');
    // A user who checks a file need not trust it, so no command in it is run.
    for file in files {
        let report = check(file, &NoCommands::LeftOpen);
        errors += report.errors();
        if json {
            report.write_json(&mut findings);
        } else {
            print_error(&report.to_string());
        }
    }
    findings.close(']');
    if json {
        print(format!("{}\n", findings.0).as_bytes());
    }
    if errors == 0 { 0 } else { EXIT_CONFIG }
}

/// Writes to standard output. A closed pipe is no failure.
fn print(text: &[u8]) -> i32 {
    match write_all(rustix::stdio::stdout(), text) {
        Ok(()) | Err(Errno::PIPE) => 0,
        Err(_) => 1,
    }
}
