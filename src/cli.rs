//! The part of the command line that both programs handle alike.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;

use crate::config::cmdline::args::{self, Command, Invocation};
use crate::config::cmdline::entrypoint::{Call, Entrypoint, LICENCE};
use crate::config::diagnostic::Report;
use crate::config::keys::options::Program;
use crate::config::{self, Input, ToCheck, World};
use crate::error::Error;
use crate::json::Json;
use crate::log::print_error;
use crate::protocol::EXIT_CONFIG;
use crate::sys::fd::write_all;
use crate::version::VERSION;
use crate::world::{self, Machine, NoCommands};

/// Carries out help, checks and the like. Otherwise returns what to run.
///
/// # Errors
/// There is nothing to run: the exit status.
pub fn parse(program: &Program, words: &[OsString], check: Check) -> Result<(Vec<Input>, Command), i32> {
    let name = program.name;
    Err(match args::parse(program, words) {
        Ok(Invocation::Help(text)) => print(name, text.as_bytes()),
        Ok(Invocation::Version) => print(name, format!("{name} {VERSION}\n").as_bytes()),
        Ok(Invocation::Check(files, json)) => check_all(name, files, json, check),
        Ok(Invocation::ShowConfig(inputs)) => show_config(program, inputs),
        Ok(Invocation::Run(inputs)) => return Ok((inputs, Command::default())),
        Ok(Invocation::Command(inputs, command)) => return Ok((inputs, command)),
        Ok(Invocation::Licence) => print(name, LICENCE.as_bytes()),
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
        Call::Say { text, is_error: false, status } => Err(status.max(print("vassal-init", text.as_bytes()))),
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
        Ok(settings) => print(program.name, &config::show_config(&settings)),
        Err(report) => invalid(&report),
    }
}

/// The findings of a check, printed as they come, or collected for JSON.
pub struct Findings {
    /// The number of errors so far.
    pub errors: usize,
    /// An open array; `None` for text on standard error.
    pub json: Option<Json>,
}

impl Findings {
    /// Adds the findings in a file.
    pub fn add(&mut self, report: &Report) {
        self.errors += report.errors();
        match &mut self.json {
            Some(json) => report.write_json(json),
            None => print_error(&report.to_string()),
        }
    }
}

/// How a program checks a file.
pub type Check = fn(ToCheck, &mut Findings);

/// Checks a vassal's file, or all of a directory.
pub fn check_vassal(of: ToCheck, findings: &mut Findings) {
    // A user who checks a file need not trust it, so no command in it is run.
    const WORLD: NoCommands<'_> = NoCommands::LeftOpen;
    let Some(directory) = of.file.as_deref().map(Path::new) else { return };
    if !WORLD.status(directory).is_some_and(|status| status.is_directory) {
        return findings.add(&config::check_vassal(&of, &WORLD));
    }
    let mut names = WORLD.names(directory);
    names.sort_unstable();
    for name in &names {
        if let Some(why) = refusal(name) {
            findings.add(&Report::about(directory.join(name).as_os_str(), format!("ignored: {why}")));
        }
    }
    names.retain(|name| ends_with(name, b".ini"));
    if names.is_empty() {
        findings.add(&Report::about(directory.as_os_str(), "there is no file NAME.ini in it".to_owned()));
    }
    for name in names {
        let file = Some(directory.join(name).into());
        let of = ToCheck { before: of.before.clone(), file, behind: of.behind.clone() };
        findings.add(&config::check_vassal(&of, &WORLD));
    }
}

/// Why a hidden file is no vassal's, and what to do.
pub const HIDDEN: &str = "hidden files are not read: name it without the dot";
/// The same of files with other suffixes.
pub const FOREIGN: &str = "only ini files are read: write it as NAME.ini";

/// Why a file is refused that uWSGI's emperor would run, or that was probably meant for a vassal; `None` for
/// others. `.ini` files that are not hidden are vassals'.
pub fn refusal(name: &OsStr) -> Option<&'static str> {
    let is_hidden = name.as_bytes().strip_prefix(b".").is_some_and(|name| {
        // `.#NAME` is an editor's, `.ansible_tmp...` a file on its way to its name, and `.ini` has no name.
        !name.starts_with(b"ansible_tmp") && ends_with(OsStr::from_bytes(name), b".ini")
    });
    if is_hidden {
        return Some(HIDDEN);
    }
    let suffixes = [".ini", ".conf", ".xml", ".yml", ".yaml", ".json", ".js"];
    let lower = name.to_ascii_lowercase();
    let is_foreign = suffixes.iter().any(|suffix| ends_with(&lower, suffix.as_bytes()));
    (is_foreign && !ends_with(name, b".ini")).then_some(FOREIGN)
}

/// Whether a name has this suffix, and is not that of an editor's temporary file.
pub fn ends_with(name: &OsStr, suffix: &[u8]) -> bool {
    let name = name.as_bytes();
    name.len() > suffix.len() && name.ends_with(suffix) && !matches!(name.first(), Some(b'.' | b'#'))
}

/// Carries out a check, and returns the exit status.
fn check_all(name: &str, files: Vec<ToCheck>, json: bool, check: Check) -> i32 {
    let mut array = Json::default();
    array.open("", '[');
    let mut findings = Findings { errors: 0, json: json.then_some(array) };
    for file in files {
        check(file, &mut findings);
    }
    let printed = findings.json.map_or(0, |mut json| {
        json.close(']');
        print(name, format!("{}\n", json.0).as_bytes())
    });
    if findings.errors == 0 { printed } else { EXIT_CONFIG }
}

/// Writes to standard output, and returns the exit status. A reader that went away is no failure.
pub fn print(name: &str, text: &[u8]) -> i32 {
    match write_all(rustix::stdio::stdout(), text) {
        Ok(()) | Err(Errno::PIPE) => 0,
        Err(errno) => {
            let error = Error::os("write to", "standard output", errno);
            print_error(&format!("{name}: {error}\n"));
            1
        }
    }
}
