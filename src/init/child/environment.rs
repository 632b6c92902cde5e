//! The environment of a child.

use std::ffi::{OsStr, OsString};

use rustix::process::Pid;

use crate::config::plan::EnvChange;
use crate::sys::environment;
use crate::sys::exec::Strings;

/// Variables that name, by its pid, the process that they are meant for: the process that gets the sockets
/// (sd_listen_fds(3)), the process that must send heartbeats (sd_watchdog_enabled(3)), and the process that
/// systemd has started (systemd.exec(5)).
const PID_VARIABLES: [&str; 3] = [LISTEN_PID, "WATCHDOG_PID", "SYSTEMD_EXEC_PID"];

/// The pid of the process that gets the sockets.
pub const LISTEN_PID: &str = "LISTEN_PID";

/// The same process as the inode of its pidfd. It is removed together with `LISTEN_PID`, because the inode is
/// not known before the child exists.
pub const LISTEN_PIDFDID: &str = "LISTEN_PIDFDID";

/// Where programs are looked for when the environment has no PATH.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The time in which a heartbeat must come.
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";

/// The environment of a child. The variables of this process are not copied until one of them is changed.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// All variables; `None` while they are those that this process was started with.
    changed: Option<Vec<(OsString, OsString)>>,
    /// Names of variables whose value is the pid of the child.
    pid_variables: Vec<&'static str>,
}

impl Environment {
    /// The environment that this process was started with. A variable that names `started`, the process that
    /// the starter has started, names the child instead, because a command takes that process's place.
    pub fn inherited(started: Pid) -> Self {
        let mut new = Self::default();
        let started = started.to_string();
        for name in PID_VARIABLES {
            if environment::variable(name).is_some_and(|pid| pid == *started) {
                new.name_child(name);
            }
        }
        new
    }

    /// These variables, and the default path of programs. Nothing is taken from the environment that this
    /// process was started with, except for the heartbeat that the emperor asks for.
    pub fn clean(variables: &[(OsString, OsString)]) -> Self {
        let path = ("PATH".into(), DEFAULT_PATH.into());
        let mut all = variables.to_vec();
        all.push(path);
        if let Some(time) = environment::variable(WATCHDOG_USEC) {
            all.push((WATCHDOG_USEC.into(), time));
        }
        Self { changed: Some(all), pid_variables: Vec::new() }
    }

    /// Adds `LISTEN_PID` for sockets that this process passes to the child.
    pub fn has_sockets(&mut self) {
        self.name_child(LISTEN_PID);
    }

    fn name_child(&mut self, name: &'static str) {
        if name == LISTEN_PID {
            self.set(OsStr::new(LISTEN_PIDFDID), None);
        }
        self.set(OsStr::new(name), None);
        self.pid_variables.push(name);
    }

    /// Removes variables.
    pub fn remove(&mut self, is_unwanted: impl Fn(&OsStr) -> bool) {
        self.all().retain(|(name, _)| !is_unwanted(name));
    }

    /// Sets or removes a variable.
    pub fn set(&mut self, name: &OsStr, value: Option<OsString>) {
        self.pid_variables.retain(|known| name != *known);
        let all = self.all();
        all.retain(|(known, _)| known != name);
        all.extend(value.map(|value| (name.to_owned(), value)));
    }

    /// Makes the changes that the configuration asks for, in order.
    pub fn change(&mut self, changes: &[EnvChange]) {
        for change in changes {
            match change {
                EnvChange::Set(name, value) => self.set(name, Some(value.clone())),
                EnvChange::Unset(name) => self.set(name, None),
            }
        }
    }

    /// The directories in which programs are searched for, if there is a `PATH`.
    pub fn path(&self) -> Option<OsString> {
        match &self.changed {
            None => environment::variable("PATH"),
            Some(all) => all.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone()),
        }
    }

    /// The variables, if they differ from those that this process was started with.
    pub fn variables(&self) -> impl Iterator<Item = &(OsString, OsString)> {
        self.changed.iter().flatten()
    }

    /// The environment block, built before the child is created.
    pub fn strings(&self) -> Strings {
        match &self.changed {
            None => Strings::inherited_environment(),
            Some(all) => Strings::environment(all),
        }
    }

    /// In the child: the environment block with the child's pid filled in; `None` if no variable holds it.
    pub fn strings_of_child(&self) -> Option<Strings> {
        if self.pid_variables.is_empty() {
            return None;
        }
        let pid = || rustix::process::getpid().to_string().into();
        let own: Vec<_> = self.pid_variables.iter().map(|name| (OsString::from(name), pid())).collect();
        Some(Strings::environment(self.changed.iter().flatten().chain(&own)))
    }

    fn all(&mut self) -> &mut Vec<(OsString, OsString)> {
        self.changed.get_or_insert_with(environment::variables)
    }
}
