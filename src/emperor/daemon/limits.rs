//! How many instances the limits of this process and of the machine allow: said at the start, and once more
//! before it comes to that.

use crate::emperor::supervisor::supervisor::Supervisor;
use crate::files;
use crate::log;

/// The processes that an instance has at least: PID 1 and the app.
const PROCESSES: u64 = 2;
/// The part of a limit, in percent, from which it is warned of.
const NEAR: u64 = 80;

/// The limit that is reached first.
pub struct Limits {
    /// So many instances.
    pub most: u64,
    /// What is limited, and where.
    pub what: String,
    /// Whether it was warned of.
    is_told: bool,
}

impl Limits {
    /// The limit that an emperor without vassals has.
    pub fn look(supervisor: &Supervisor) -> Self {
        let (files, most) = supervisor.room();
        let mut all = vec![(most, format!("{files} open files (setrlimit(2), systemd's LimitNOFILE)"))];
        for name in ["pid_max", "threads-max"] {
            if let Some(limit) = number(&format!("/proc/sys/kernel/{name}")) {
                all.push((limit / PROCESSES, format!("kernel.{name} = {limit}")));
            }
        }
        let own = files::read_file("/proc/self/cgroup").unwrap_or_default();
        for directory in cgroups(&String::from_utf8_lossy(&own)) {
            if let Some(limit) = number(&format!("{directory}/pids.max")) {
                let what = format!("{limit} processes (pids.max in {directory}, systemd's TasksMax)");
                all.push((limit / PROCESSES, what));
            }
        }
        let (most, what) = all.into_iter().min().unwrap_or_default();
        Self { most, what, is_told: false }
    }

    /// Warns once that the limit is near. Limits may have changed since the start, so it is looked at anew.
    pub fn warn(&mut self, supervisor: &Supervisor) {
        if !self.is_told && self.is_near(supervisor.processes()) {
            *self = Self::look(supervisor);
            if self.is_near(supervisor.processes()) {
                self.is_told = true;
                log!("{} of {self}", supervisor.processes());
            }
        }
    }

    /// What to say beside the status; nothing while the limit is far.
    pub fn note(&self, instances: u64) -> String {
        if self.is_near(instances) { format!("{instances} of {self}\n") } else { String::new() }
    }

    fn is_near(&self, instances: u64) -> bool {
        instances.saturating_mul(100) >= self.most.saturating_mul(NEAR)
    }
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at most {} instances: the limit is {}", self.most, self.what)
    }
}

/// The number in a file; `None` if it says `max`, or is not there.
fn number(file: &str) -> Option<u64> {
    std::str::from_utf8(&files::read_file(file).ok()?).ok()?.trim_ascii().parse().ok()
}

/// The directories that may limit the processes in these cgroups (`/proc/PID/cgroup`), at the usual places.
fn cgroups(own: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let place = match fields.next() {
            Some("") => "/sys/fs/cgroup",
            Some(controllers) if controllers.split(',').any(|name| name == "pids") => "/sys/fs/cgroup/pids",
            _ => continue,
        };
        let mut path = fields.next().unwrap_or_default().trim_end_matches('/');
        loop {
            found.push(format!("{place}{path}"));
            let Some((above, _)) = path.rsplit_once('/') else { break };
            path = above;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_and_all_above_it_may_limit_processes() {
        let both = "4:memory:/x\n3:cpu,pids:/user\n0::/system.slice/emperor.service\n";
        assert_eq!(
            cgroups(both),
            [
                "/sys/fs/cgroup/pids/user",
                "/sys/fs/cgroup/pids",
                "/sys/fs/cgroup/system.slice/emperor.service",
                "/sys/fs/cgroup/system.slice",
                "/sys/fs/cgroup",
            ]
        );
        assert_eq!(cgroups("0::/\n"), ["/sys/fs/cgroup"]);
        assert_eq!(cgroups(""), [""; 0]);
    }

    #[test]
    fn a_limit_is_near_from_four_fifths_on() {
        let limits = Limits { most: 10, what: "10 open files".into(), is_told: false };
        assert_eq!(limits.note(7), "");
        assert_eq!(limits.note(8), "8 of at most 10 instances: the limit is 10 open files\n");
        let none = Limits { most: u64::MAX, what: String::new(), is_told: false };
        assert_eq!(none.note(1_000_000), "");
    }
}
