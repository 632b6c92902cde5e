//! The environment of a child.

use std::ffi::{OsStr, OsString};

use crate::config::plan::EnvChange;
use crate::sys::exec::Strings;
use crate::world;

/// Variables that name the process which they are for, by its pid: sockets it was started with (sd_listen_fds(3)), and how
/// often it is to say that it is alive (sd_watchdog_enabled(3)).
const PID_VARIABLES: [&str; 2] = [LISTEN_PID, "WATCHDOG_PID"];
const LISTEN_PID: &str = "LISTEN_PID";

/// Says the same as `LISTEN_PID` of the same process in another way, and cannot be known before that process is there.
const LISTEN_PIDFDID: &str = "LISTEN_PIDFDID";

/// The environment of a child. What this process was started with is not even copied as long as nothing is changed.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// All variables; `None` for those that this process was started with.
    changed: Option<Vec<(OsString, OsString)>>,
    /// Variables whose value is the pid of the child.
    pid_variables: Vec<&'static str>,
}

impl Environment {
    /// What this process was started with. A variable that names this process names the child instead: a command stands in
    /// for the process that its starter has started.
    pub fn inherited() -> Self {
        let mut new = Self::default();
        let own = std::process::id().to_string();
        for name in PID_VARIABLES {
            if std::env::var_os(name).is_some_and(|pid| pid == *own) {
                new.set(OsStr::new(name), None);
                new.set(OsStr::new(LISTEN_PIDFDID), None);
                new.pid_variables.push(name);
            }
        }
        new
    }

    /// From now on the child has its sockets from us: `LISTEN_PID` is its own pid.
    pub fn has_sockets(&mut self) {
        self.set(OsStr::new(LISTEN_PID), None);
        self.pid_variables.push(LISTEN_PID);
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

    /// Makes changes of the configuration, in order.
    pub fn change(&mut self, changes: &[EnvChange]) {
        for change in changes {
            match change {
                EnvChange::Set(name, value) => self.set(name, Some(value.clone())),
                EnvChange::Unset(name) => self.set(name, None),
            }
        }
    }

    /// Where programs are looked for, if that is said.
    pub fn path(&self) -> Option<OsString> {
        match &self.changed {
            None => std::env::var_os("PATH"),
            Some(all) => all.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone()),
        }
    }

    /// The environment block, before the child is created.
    pub fn strings(&self) -> Strings {
        match &self.changed {
            None => Strings::inherited_environment(),
            Some(all) => Strings::environment(all),
        }
    }

    /// In the child: the environment block with the child's own pid, where that differs.
    pub fn strings_of_child(&self) -> Option<Strings> {
        if self.pid_variables.is_empty() {
            return None;
        }
        let pid = || rustix::process::getpid().to_string().into();
        let own: Vec<_> = self.pid_variables.iter().map(|name| (OsString::from(name), pid())).collect();
        Some(Strings::environment(self.changed.iter().flatten().chain(&own)))
    }

    fn all(&mut self) -> &mut Vec<(OsString, OsString)> {
        self.changed.get_or_insert_with(world::environment)
    }
}
