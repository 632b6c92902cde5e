//! What both programs do with a command line before their own work begins.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use rustix::io::Errno;

use crate::config::args::{self, Invocation};
use crate::config::diagnostic::Report;
use crate::config::options::Program;
use crate::config::{self, Input, World, help};
use crate::log::{print_error, write_all};
use crate::protocol::EXIT_CONFIG;
use crate::world::Machine;

/// Answers what can be answered at once (help, checks, …; `check` says all there is to say about a file) and leaves the
/// rest to `run`.
pub fn main(
    program: &Program,
    check: fn(&OsStr, &dyn World) -> Report,
    run: fn(&[Input]) -> ExitCode,
) -> ExitCode {
    let name = program.name;
    match args::parse(program, std::env::args_os().skip(1)) {
        Ok(Invocation::Help) => print(help::overview(program).as_bytes()),
        Ok(Invocation::HelpOn(row)) => print(help::entry(row).as_bytes()),
        Ok(Invocation::Version) => print(format!("{name} {}\n", env!("CARGO_PKG_VERSION")).as_bytes()),
        Ok(Invocation::Check(files)) => check_all(&files, check),
        Ok(Invocation::ShowConfig(inputs)) => match config::expanded(&inputs, false, &Machine) {
            Ok(settings) => print(&config::show_config(&settings)),
            Err(report) => invalid(&report),
        },
        Ok(Invocation::Run(inputs)) => run(&inputs),
        Err(message) => {
            print_error(&format!("{name}: {message}\nTry '{name} --help'.\n"));
            ExitCode::from(EXIT_CONFIG as u8)
        }
    }
}

/// Shows everything that is wrong with a configuration.
pub fn invalid(report: &Report) -> ExitCode {
    print_error(&report.to_string());
    ExitCode::from(EXIT_CONFIG as u8)
}

fn check_all(files: &[OsString], check: fn(&OsStr, &dyn World) -> Report) -> ExitCode {
    let mut errors = 0;
    for file in files {
        let report = check(file, &Machine);
        errors += report.errors();
        print_error(&report.to_string());
    }
    if errors == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CONFIG as u8) }
}

/// Writes to standard output; a reader that went away is no failure.
fn print(text: &[u8]) -> ExitCode {
    match write_all(rustix::stdio::stdout(), text) {
        Ok(()) | Err(Errno::PIPE) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
