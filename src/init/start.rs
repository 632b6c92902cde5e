//! Reads a configuration, from the emperor or from a shell, and runs the vassal in the right process.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::asker::{self, Asker, WhenLate};
use crate::cli;
use crate::command;
use crate::config::cmdline::args::Command;
use crate::config::cmdline::entrypoint::Entrypoint;
use crate::config::plan::Located;
use crate::config::{self, Input, World};
use crate::error::{Context, Error, Result};
use crate::init::child::notices;
use crate::init::greeting::{self, Greeting};
use crate::init::life::pause::pause;
use crate::init::life::run::run;
use crate::init::life::shutdown::EXIT_STOPPED;
use crate::init::source::source::send_transcript;
use crate::init::unshare;
use crate::init::vassal::{Setup, start_failed};
use crate::protocol::{self, EXIT_CONFIG, ExitReason, FromVassal, LINK_VARIABLE};
use crate::sys::{creds, environment, fd, signal};
use crate::transcript::Transcript;
use crate::world::{self, Machine};

/// What the command line asks for.
pub enum Task {
    /// A command that needs no preparation.
    CommandAlone(Entrypoint),
    /// A vassal, or a command, with these inputs.
    WithOptions(Vec<Input>, Option<Entrypoint>),
}

/// The task of a command line.
///
/// # Errors
/// The command line has a mistake, which was reported: the exit status.
pub fn task(mut inputs: Vec<Input>, command: Command) -> Result<Task, i32> {
    if command.words.is_empty() {
        return Ok(Task::WithOptions(inputs, None));
    }
    match Entrypoint::own(command, &mut inputs, &|name| environment::variable(name)) {
        Ok(entry) if inputs.is_empty() => Ok(Task::CommandAlone(entry)),
        Ok(entry) => Ok(Task::WithOptions(inputs, Some(entry))),
        Err(report) => Err(cli::invalid(&report)),
    }
}

/// Runs a vassal with this configuration, or a command if there is one.
pub fn with_options(mut inputs: Vec<Input>, mut entry: Option<Entrypoint>) -> i32 {
    let signals = signal::block_all();
    let inherited = entry.as_ref().map(inherited_descriptors);
    fd::fill_standard(entry.is_some());
    name_process();
    crate::log::init("vassal-init", &name_of(&inputs).to_string());
    if entry.is_none() {
        creds::join_new_session_keyring();
        // An open directory would keep the old root reachable from the jail. A command, however, gets all
        // descriptors that its starter has opened for it.
        fd::close_inherited();
        // Only a vassal takes options from the environment. For a command they are left to its program.
        let mut all = Vec::new();
        add_options(&mut all, &world::environment_options());
        all.append(&mut inputs);
        inputs = all;
    }
    crate::log::keep_terminal();
    let loaded = asker::apart(WhenLate::WaitOn, |world| match &entry {
        Some(entry) => config::load_command(&inputs, &entry.command, false, world),
        None => config::load_vassal(&inputs, false, world),
    });
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            let status = start_failed(None, "configuration", &error);
            return if asker::is_told_to_stop() { EXIT_STOPPED } else { status };
        }
    };
    match loaded {
        Ok(loaded) => {
            crate::log::text(&loaded.warnings.to_string());
            if let Some(entry) = &mut entry {
                notices::follow_parent(entry);
                keep_ready_fd(entry);
            }
            let stop = loaded.plan.signal_to_stop();
            if let Some(entry) = entry.as_mut().filter(|_| stop != libc::SIGTERM) {
                // Container engines stop a container by SIGTERM.
                entry.rewrites.insert(0, (libc::SIGTERM, stop));
            }
            let inputs = anchored(&inputs);
            live(Setup {
                plan: Rc::new(loaded.plan),
                inputs,
                entry: entry.map(Rc::new),
                started: rustix::process::getpid(),
                namespaces: 0,
                cgroup: PathBuf::new(),
                owner: None,
                link: None,
                signals,
                inherited,
                kept: Vec::new(),
                transcript: Transcript::default(),
            })
        }
        Err(report) => {
            crate::log::text(&report.to_string());
            EXIT_CONFIG
        }
    }
}

/// Runs a command that needs no preparation; returns the exit status.
pub fn command_alone(mut entry: Entrypoint) -> i32 {
    let mut signals = signal::block_all();
    if entry.clears_signals {
        signals = signal::Inherited::cleared();
    }
    crate::log::init(entry.name, "");
    notices::follow_parent(&entry);
    keep_ready_fd(&mut entry);
    if entry.command.is_empty() {
        return pause(Rc::new(entry));
    }
    run(Setup {
        plan: config::command_alone(&entry.command),
        inputs: Vec::new(),
        entry: Some(Rc::new(entry)),
        started: rustix::process::getpid(),
        namespaces: 0,
        cgroup: PathBuf::new(),
        owner: None,
        link: None,
        signals,
        inherited: Some(fd::Inherited::All),
        kept: Vec::new(),
        transcript: Transcript::default(),
    })
}

/// Keeps the descriptor of `--ready-fd` from the command. A number that is not open is dropped, because a
/// descriptor of this process may have that number by the time the command runs.
fn keep_ready_fd(entry: &mut Entrypoint) {
    let Some(number) = entry.ready_fd else { return };
    if fd::is_open(number) {
        fd::set_cloexec(number, true);
    } else {
        entry.ready_fd = None;
        crate::log!("{}", Error::os("write to", format_args!("ready-fd {number}"), Errno::BADF));
    }
}

/// The descriptors that the starter has opened for its command: all except the one for the init.
fn inherited_descriptors(entry: &Entrypoint) -> fd::Inherited {
    let inherited = fd::Inherited::list();
    match entry.ready_fd {
        Some(number) => inherited.without(number),
        None => inherited,
    }
}

/// Runs a vassal for an emperor and returns the exit status; `None` if no emperor has started this process.
pub fn from_emperor() -> Option<i32> {
    let number = environment::variable(LINK_VARIABLE)?.into_string().ok()?;
    let signals = signal::block_all();
    // As in uWSGI: the emperor's standard input may be a terminal or the pipe of another program. To close it
    // takes as long as its filesystem likes, so the emperor leaves that to this process.
    if let Ok(null) = open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdin(&null);
    }
    creds::join_new_session_keyring();
    name_process();
    let link = match greeting::take_link(&number) {
        Ok(link) => link,
        Err(error) => return Some(start_failed(None, "greeting", &error)),
    };
    Some(match greeting::read(&link) {
        Ok(greeting) => obey(link, greeting, signals),
        Err(error) => start_failed(Some(&link), "greeting", &error),
    })
}

/// Runs the vassal whose file the emperor sent.
fn obey(link: OwnedFd, greeting: Greeting, signals: signal::Inherited) -> i32 {
    let Greeting { hello, text, kept } = greeting;
    let mut name = hello.name.to_string_lossy().into_owned();
    if hello.is_one_of_several {
        name = format!("{name}/{}", hello.replica);
    }
    crate::log::init("vassal-init", &name);
    crate::log::keep_terminal();
    // Relative paths in the file start from its directory. In tyrant mode that is a user's, in which commands
    // of the emperor's file must not run: there PID 1 enters it after it has become the owner. If the
    // directory is gone, the instance starts nevertheless. While this hangs, the emperor's end is this
    // process's.
    if let (None, Some(directory)) = (hello.owner, hello.path.parent()) {
        let _ = rustix::process::chdir(directory);
    }
    // From now on it looks at the link. A stopped process would not see its end.
    let at_emperors_end = if hello.is_check { Signal::KILL } else { Signal::CONT };
    let _ = rustix::process::set_parent_process_death_signal(Some(at_emperors_end));
    let text = match hello.is_program {
        false => text,
        true => match configuration_of(&hello.path) {
            Ok(text) => text,
            Err(error) => return start_failed(Some(&link), "configuration", &error),
        },
    };
    let (text, transcript) = match hello.is_transcript {
        false => (text, Transcript::default()),
        // The emperor has it from a PID 1.
        true => Transcript::decode(&text),
    };
    let file = Input::Text { path: hello.path.clone(), section: None, text };
    let mut inputs = vec![Input::Replica(hello.replica)];
    // In tyrant mode PID 1 reads the file only after it has become the owner. The emperor's own hooks run
    // before that.
    if hello.owner.is_none() {
        add_hooks(&mut inputs, &hello.as_vassal);
    }
    add_options(&mut inputs, &world::environment_options());
    add_options(&mut inputs, &hello.before);
    inputs.push(file);
    add_options(&mut inputs, &hello.behind);
    let loaded = match hello.owner {
        None => config::load_vassal(
            &inputs,
            false,
            &Asker::here(&|question, path| transcript.answer(question, path), None),
        ),
        Some(_) => config::load_vassal(&only_hooks(&hello.as_vassal), false, &Machine),
    };
    match loaded {
        Ok(_) if hello.is_check => {
            let _ = protocol::send(&link, &ExitReason::Stopped.encode(), None);
            0
        }
        Ok(loaded) => {
            send_transcript(Some(link.as_fd()), &loaded.plan, &inputs, &transcript);
            crate::log::lines(&loaded.warnings);
            let warnings = loaded.warnings.in_short();
            if !warnings.is_empty() {
                let _ = protocol::send(&link, &FromVassal::Warnings(warnings).encode(), None);
            }
            live(Setup {
                plan: Rc::new(loaded.plan),
                inputs,
                entry: None,
                started: rustix::process::getpid(),
                namespaces: hello.namespaces,
                cgroup: hello.cgroup.clone(),
                owner: hello.owner,
                link: Some(link),
                signals,
                inherited: None,
                kept,
                // Nobody else reads the inputs with it.
                transcript: hello.owner.map(|_| transcript).unwrap_or_default(),
            })
        }
        Err(report) => {
            crate::log::lines(&report);
            let reason = ExitReason::Config(report.worst());
            // The emperor sees the exit status in any case.
            let _ = protocol::send(&link, &reason.encode(), None);
            EXIT_CONFIG
        }
    }
}

/// Runs an executable that takes the place of a vassal's file, and returns its output. It runs in the
/// directory in which the emperor has started this process.
fn configuration_of(program: &Path) -> Result<Vec<u8>> {
    command::output_of(program.file_name().unwrap_or_default()).context("run", program.display())
}

/// Inputs with only the emperor's hooks. A plan needs an app, so they have one, which is never started.
fn only_hooks(hooks: &[(String, OsString)]) -> Vec<Input> {
    let mut inputs = vec![Input::Option { key: "command".into(), value: Some("true".into()) }];
    add_hooks(&mut inputs, hooks);
    inputs
}

fn add_hooks(inputs: &mut Vec<Input>, hooks: &[(String, OsString)]) {
    let hook =
        |(key, value): &(String, OsString)| Input::FromEmperor { key: key.clone(), value: value.clone() };
    inputs.extend(hooks.iter().map(hook));
}

fn add_options(inputs: &mut Vec<Input>, options: &[(String, OsString)]) {
    let option =
        |(key, value): &(String, OsString)| Input::Option { key: key.clone(), value: Some(value.clone()) };
    inputs.extend(options.iter().map(option));
}

/// Runs the plan, in new namespaces if it asks for some that this process does not have.
fn live(mut setup: Setup) -> i32 {
    let maps = &setup.plan.jail.maps;
    if setup.namespaces & libc::CLONE_NEWUSER as u64 != 0
        && let Some(Located { key, at, .. }) = maps.users.first().or(maps.groups.first())
    {
        let reason = "the emperor has mapped the IDs of this vassal already: its own file may say how";
        return start_failed(setup.link.as_ref(), "unshare", &Error::new(&format!("{at}:"), key, reason));
    }
    let missing = setup.plan.jail.unshare & !setup.namespaces;
    setup.namespaces |= missing;
    if missing == 0 {
        return run(setup);
    }
    let plan = Rc::clone(&setup.plan);
    unshare::run_in(missing, &plan.jail.maps, setup, run).unwrap_or_else(|(error, setup)| {
        let link = setup.as_ref().and_then(|setup| setup.link.as_ref());
        start_failed(link, "unshare", &error)
    })
}

/// Sets the name that ps(1) shows. A program in a memory file would have the name of a descriptor.
fn name_process() {
    let _ = rustix::thread::set_name(c"vassal-init");
}

/// The inputs with absolute paths, because PID 1 leaves the directory that it was started in.
fn anchored(inputs: &[Input]) -> Vec<Input> {
    let cwd = Machine.cwd();
    let anchor = |input: &Input| match input {
        Input::File(file) => Input::File(cwd.join(file).into()),
        Input::Text { .. } | Input::Option { .. } | Input::FromEmperor { .. } | Input::Replica(_) => {
            input.clone()
        }
    };
    inputs.iter().map(anchor).collect()
}

/// The vassal's name: that of its file without the suffix; empty without a file.
fn name_of(inputs: &[Input]) -> String {
    let file = inputs.iter().rev().find_map(|input| match input {
        Input::File(file) => Path::new(file).file_stem(),
        Input::Text { path, .. } => path.file_stem(),
        Input::Option { .. } | Input::FromEmperor { .. } | Input::Replica(_) => None,
    });
    file.unwrap_or_default().to_string_lossy().into_owned()
}
