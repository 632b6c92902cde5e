//! uWSGI's ini dialect: bytes → entries with spans → expanded options → typed plan.
//!
//! Nothing here makes a system call: what a configuration may ask of the machine (files, environment, host name, …)
//! is asked of a [`World`] that the caller passes in.
//!
//! | module | job |
//! |---|---|
//! | [`args`], [`help`] | the command line of both programs |
//! | [`entrypoint`], `getopt` | what the init does for one command, under its own name and others |
//! | `magic`, `ini` | a file's text → entries with their places |
//! | `expand`, `logic`, `placeholder` | entries → [`Setting`]s: includes, `if`/`for`, `%(name)`, `$(ENV)`, `@(file)` |
//! | `index`, `glob` | settings by name; paths by pattern |
//! | [`options`], `hooks`, `actions`, `capabilities` | the tables: which options, phases, actions and capabilities there are |
//! | `bytes` | what `str` has and byte strings lack |
//! | `vassal`, `emperor`, `app`, `values` | settings → [`plan`] |
//! | `reload` | whether a new plan fits the jail there is |
//! | [`diagnostic`], `suggest` | mistakes, and what was probably meant |

pub mod args;
pub mod diagnostic;
pub mod entrypoint;
pub mod help;
pub mod options;
pub mod plan;

mod actions;
mod app;
mod bytes;
mod capabilities;
mod emperor;
mod expand;
mod getopt;
pub(crate) mod glob;
mod hooks;
mod index;
mod ini;
mod listen;
mod logic;
mod magic;
mod placeholder;
mod reader;
mod reload;
mod suggest;
mod values;
mod vassal;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Cause;
use diagnostic::{Diagnostics, Report};
use plan::{EmperorPlan, VassalPlan};

pub use expand::Setting;

/// The machine, as far as a configuration may ask about it.
pub trait World {
    /// The content of a file.
    ///
    /// # Errors
    /// As open(2) and read(2); also for what is no regular file, and for a file that is too large.
    fn read(&self, path: &Path) -> Result<Vec<u8>, Cause>;
    /// What a command of the shell prints (`exec://COMMAND`), or what is behind a descriptor (`fd://N`); `None` where the
    /// configuration is only looked at, and nothing is to be run or used up.
    ///
    /// # Errors
    /// No such scheme or descriptor, or one that is neither a file nor a pipe; no process to be had; too much, or it does not
    /// end in time; commands are refused.
    fn resource(&self, name: &OsStr) -> Result<Option<Vec<u8>>, Cause>;
    /// The names in a directory, in any order; none if it cannot be read.
    fn names(&self, directory: &Path) -> Vec<OsString>;
    /// What a path is, links followed; `None` if there is nothing.
    fn status(&self, path: &Path) -> Option<Status>;
    /// The path without links and dots (realpath(3)).
    fn real_path(&self, path: &Path) -> Option<PathBuf>;
    /// The working directory.
    fn cwd(&self) -> PathBuf;
    /// The value of an environment variable.
    fn env(&self, name: &OsStr) -> Option<OsString>;
    /// The host's name.
    fn hostname(&self) -> OsString;
    /// The number of processors we may run on.
    fn cpus(&self) -> usize;
    /// The time since 1970.
    fn now(&self) -> Duration;
    /// Our user's number.
    fn uid(&self) -> u32;
    /// Our group's number.
    fn gid(&self) -> u32;
    /// Our user's name, empty if it has none.
    fn user_name(&self) -> OsString;
    /// Our group's name, empty if it has none.
    fn group_name(&self) -> OsString;
}

/// What [`World::status`] tells of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// It is a regular file.
    pub is_file: bool,
    /// It is a directory.
    pub is_directory: bool,
    /// The path itself is a symbolic link.
    pub symlink: bool,
    /// Its inode number.
    pub inode: u64,
}

/// One thing that options come from. Several are read in order; the later one has the last word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file, as `FILE` or `FILE:SECTION`.
    File(OsString),
    /// A file whose content is already there.
    Text {
        /// Its path, for messages and magic variables.
        path: PathBuf,
        /// The section to read; `None` for `uwsgi`.
        section: Option<OsString>,
        /// Its content.
        text: Vec<u8>,
    },
    /// An option of the command line.
    Option {
        /// Its key.
        key: String,
        /// Its value, if it was given one.
        value: Option<OsString>,
    },
    /// A hook that an emperor has for its vassals (`hook-as-vassal` and its kin), already expanded by the emperor.
    FromEmperor {
        /// Its name.
        key: String,
        /// Its value.
        value: OsString,
    },
}

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded<P> {
    /// What it says.
    pub plan: P,
    /// What is probably not meant as it is written.
    pub warnings: Report,
}

/// Reads the configuration of a vassal; `reload` is what `if-reload` asks.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_vassal(inputs: &[Input], reload: bool, world: &dyn World) -> Result<Loaded<VassalPlan>, Report> {
    load_app(inputs, None, reload, world)
}

/// Reads the configuration of a vassal whose app is this command, whatever the configuration says.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_command(
    inputs: &[Input],
    command: &[OsString],
    world: &dyn World,
) -> Result<Loaded<VassalPlan>, Report> {
    load_app(inputs, Some(command), false, world)
}

fn load_app(
    inputs: &[Input],
    command: Option<&[OsString]>,
    reload: bool,
    world: &dyn World,
) -> Result<Loaded<VassalPlan>, Report> {
    load(inputs, reload, world, |settings, found| vassal::plan(settings, command, found))
}

/// A time, as the keys take it; what is wrong with it otherwise.
///
/// # Errors
/// It is none.
pub fn duration(text: &[u8]) -> Result<Duration, String> {
    values::duration(text)
}

/// An address to listen at, as `listen` takes it; what is wrong with it otherwise.
///
/// # Errors
/// It is none.
pub fn address(text: &[u8]) -> Result<plan::Address, String> {
    listen::address(text)
}

/// Reads the configuration of an emperor.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_emperor(inputs: &[Input], world: &dyn World) -> Result<Loaded<EmperorPlan>, Report> {
    load(inputs, false, world, emperor::plan)
}

/// Reads a file as an emperor's and returns all there is to say.
pub fn check_emperor(file: &OsStr, world: &dyn World) -> Report {
    check_as(file, world, |settings, found| drop(emperor::plan(settings, found)))
}

/// Reads a file as a vassal's and returns all there is to say.
pub fn check_vassal(file: &OsStr, world: &dyn World) -> Report {
    check_as(file, world, |settings, found| drop(vassal::plan(settings, None, found)))
}

fn check_as(file: &OsStr, world: &dyn World, read: fn(&[Setting], &mut Diagnostics)) -> Report {
    let mut found = Diagnostics::default();
    let settings = expand::expand(&[Input::File(file.to_owned())], false, world, &mut found);
    read(&settings, &mut found);
    found.into_report()
}

/// The expanded options, in order.
///
/// # Errors
/// Everything that keeps them from being read.
pub fn expanded(inputs: &[Input], reload: bool, world: &dyn World) -> Result<Vec<Setting>, Report> {
    let mut found = Diagnostics::default();
    let settings = expand::expand(inputs, reload, world, &mut found);
    if found.failed() { Err(found.into_report()) } else { Ok(settings) }
}

/// The expanded options as `uwsgi --show-config` prints them.
pub fn show_config(settings: &[Setting]) -> Vec<u8> {
    let mut text = b"\n;uWSGI instance configuration\n[uwsgi]\n".to_vec();
    for setting in settings {
        let value = setting.value.as_deref().unwrap_or(b"true");
        for part in [&setting.key[..], b" = ", value, b"\n"] {
            text.extend(part);
        }
    }
    text.extend(b";end of configuration\n\n");
    text
}

fn load<P>(
    inputs: &[Input],
    reload: bool,
    world: &dyn World,
    plan: impl Fn(&[Setting], &mut Diagnostics) -> P,
) -> Result<Loaded<P>, Report> {
    let mut found = Diagnostics::default();
    let settings = expand::expand(inputs, reload, world, &mut found);
    let plan = plan(&settings, &mut found);
    if found.failed() { Err(found.into_report()) } else { Ok(Loaded { plan, warnings: found.into_report() }) }
}
