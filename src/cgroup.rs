//! Control groups: writing to their files, and what they tell about memory (cgroups(7)).
//!
//! Both versions are served: v2, and the v1 hierarchies that uWSGI's `cgroup` was made for.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, open, statfs};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::config::plan::{CgroupOption, Located};
use crate::error::{Cause, Context, Described, Error, Result};
use crate::files;
use crate::outside;
use crate::path::Walk;

/// `CGROUP2_SUPER_MAGIC` (statfs(2)).
const CGROUP2: u64 = 0x6367_7270;

/// The file of a cgroup with the pids of its processes.
pub const PROCS: &str = "cgroup.procs";

/// The file of a cgroup of version 2 that tells whether it is frozen, and the line that says so.
const EVENTS: &str = "cgroup.events";
const FROZEN: &str = "frozen 1";

/// The controllers that a cgroup has, and those that the cgroups in it get.
const CONTROLLERS: &str = "cgroup.controllers";
const SUBTREE_CONTROL: &str = "cgroup.subtree_control";

/// Writes each option to its file in all cgroups of a vassal that have that file: each hierarchy of version 1
/// has files of its own. With `optional` a failure is only logged, as one of `vassal` if that is not empty.
///
/// # Errors
/// As open(2) and write(2). No cgroup has the file; the missing controller is named.
pub fn set(
    vassal: &str,
    directories: &[&Path],
    options: &[Located<CgroupOption>],
    optional: bool,
) -> Result<()> {
    for Located { value: CgroupOption { file, value }, key, at } in options {
        let what = format!("{at}: {key}: write");
        let mut found = false;
        for directory in directories {
            let path = directory.join(file);
            match write(&path, value) {
                Err(Cause::Os(Errno::NOENT)) => continue,
                // PID 1 may be root of a user namespace, where the file is nobody's.
                Err(Cause::Os(Errno::ACCESS)) => {
                    let written = outside::set_limit(&path, value).context(&what, path.display());
                    optionally(vassal, written, optional)?;
                }
                written => optionally(vassal, written.context(&what, path.display()), optional)?,
            }
            found = true;
        }
        if let (false, Some(directory)) = (found, directories.first()) {
            let missing = Error::new(&what, directory.join(file).display(), missing(directory, file, key));
            optionally(vassal, Err(missing), optional)?;
        }
    }
    Ok(())
}

/// Logs a failure if it is `optional`, as one of `vassal` if that is not empty.
///
/// # Errors
/// The failure, if it is not optional.
pub fn optionally(vassal: &str, result: Result<()>, optional: bool) -> Result<()> {
    match result {
        Err(error) if optional => {
            crate::log::line(vassal, format_args!("{error}; going on without, as cgroup-optional says"));
            Ok(())
        }
        result => result,
    }
}

/// Moves this process, and so everything it will start, into a cgroup, which is created if it is not there.
///
/// # Errors
/// mkdir(2), open(2), write(2); the directory is in no hierarchy of cgroups.
pub fn enter(directory: &Path) -> Result<()> {
    create(directory)?;
    let procs = directory.join(PROCS);
    // 0 stands for the writing process, in every pid namespace.
    match write(&procs, b"0") {
        Err(Cause::Os(Errno::NOENT)) => {
            Err(Error::new("enter", directory.display(), "it is no cgroup: it lacks cgroup.procs"))
        }
        written => written.context("write", procs.display()),
    }
}

/// Creates a cgroup. It may exist already.
///
/// # Errors
/// mkdir(2).
pub fn create(directory: &Path) -> Result<()> {
    let entry = Walk::default().entry(directory).context("create cgroup", directory.display())?;
    match mkdirat(entry.0, entry.1, Mode::RWXU) {
        Err(Errno::EXIST) => Ok(()),
        made => made.context("create cgroup", directory.display()),
    }
}

/// Whether a directory is in a hierarchy of version 2.
///
/// # Errors
/// statfs(2).
pub fn is_version_2(directory: &Path) -> rustix::io::Result<bool> {
    Ok(statfs(directory)?.f_type as u64 == CGROUP2)
}

/// Enables controllers in every cgroup above a directory, the outermost first: one is there only if it is
/// enabled all the way down (cgroups(7)). What cannot be had is named by [`set`]. `make_way` is as in
/// [`enable`].
pub fn enable_above(directory: &Path, controllers: &[&str], make_way: fn(&Path) -> bool) {
    if controllers.is_empty() {
        return;
    }
    let above = directory.ancestors().skip(1).take_while(|above| is_version_2(above) == Ok(true));
    for above in above.collect::<Vec<_>>().into_iter().rev() {
        enable(above, controllers, make_way);
    }
}

/// Enables controllers for the cgroups in a directory. `make_way` is asked to take this process out of it, if
/// the kernel finds processes there; whether it has.
pub fn enable(directory: &Path, controllers: &[&str], make_way: fn(&Path) -> bool) {
    let file = directory.join(SUBTREE_CONTROL);
    let enabled = words(&file).unwrap_or_default();
    for controller in controllers {
        if enabled.iter().any(|other| other == controller) {
            continue;
        }
        let attempt = || write(&file, format!("+{controller}").as_bytes());
        if let Err(Cause::Os(Errno::BUSY)) = attempt()
            && make_way(directory)
        {
            let _ = attempt();
        }
    }
}

/// The controller that a file of a cgroup belongs to: `memory` of `memory.max`.
pub fn controller(file: &str) -> &str {
    file.split('.').next().unwrap_or(file)
}

/// The words in a file of a cgroup.
fn words(file: &Path) -> Result<Vec<String>, Errno> {
    let text = files::read_file(&file.to_string_lossy())?;
    Ok(String::from_utf8_lossy(&text).split_ascii_whitespace().map(str::to_owned).collect())
}

/// The processes of a cgroup that have a pid with us, from its file [`PROCS`], whose path begins at `at`;
/// none if it cannot be read.
pub fn processes(at: impl AsFd, procs: &str) -> Vec<Pid> {
    let text = files::read_file_at(at, procs).unwrap_or_default();
    let pids =
        text.split(|byte| *byte == b'\n').filter_map(|pid| std::str::from_utf8(pid).ok()?.parse().ok());
    pids.filter_map(Pid::from_raw).collect()
}

/// Whether a cgroup of version 2, or one above, is frozen: a process that is created in it does nothing.
pub fn freezes(directory: &Path) -> bool {
    says(&directory.join(EVENTS).to_string_lossy(), FROZEN)
}

/// Whether a file of a cgroup has this line.
fn says(file: &str, line: &str) -> bool {
    let text = files::read_file(file).unwrap_or_default();
    text.split(|&byte| byte == b'\n').any(|other| other == line.as_bytes())
}

/// Whether its cgroup, or one above, has frozen a process, as far as the usual places of cgroups tell:
/// version 2, also beside version 1, and the freezer of version 1. `directory` is the process's cgroup of
/// version 2, if that is known.
pub fn is_frozen(pid: i32, directory: Option<&Path>) -> bool {
    if directory.is_some_and(freezes) {
        return true;
    }
    let text = files::read_file(&format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().any(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return false };
        match controllers {
            "" => ["", "/unified"]
                .iter()
                .any(|place| says(&format!("/sys/fs/cgroup{place}{path}/{EVENTS}"), FROZEN)),
            _ if controllers.split(',').any(|name| name == "freezer") => {
                says(&format!("/sys/fs/cgroup/freezer{path}/freezer.state"), "FROZEN")
            }
            _ => false,
        }
    })
}

/// Writes to a file of a cgroup.
///
/// # Errors
/// open(2), write(2).
pub fn write(path: &Path, value: &[u8]) -> Result<(), Cause> {
    let file = Walk::default().open_to_change(path, OFlags::WRONLY, Mode::empty())?;
    rustix::io::write(file, value)?;
    Ok(())
}

/// The file that counts the processes that were killed for lack of memory, and whether poll(2) reports its
/// changes.
/// `None` where the cgroup does not account for memory.
pub fn oom_counter(directory: &Path) -> Option<(OwnedFd, bool)> {
    // Version 2, then 1.
    counter(directory, "memory.events")
        .map(|file| (file, true))
        .or_else(|| counter(directory, "memory.oom_control").map(|file| (file, false)))
}

/// The number in a file of a cgroup; `None` if it cannot be read.
pub fn number(path: &Path) -> Option<u64> {
    let text = files::read_file(path.to_str()?).ok()?;
    std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

/// How many processes the kernel has killed in the cgroup since it was created; 0 if it does not say.
pub fn oom_kills(counter: impl AsFd) -> u64 {
    read_count(counter, "oom_kill ")
}

/// The file that counts the processes that could not be created in the cgroup (`pids.max`); poll(2) reports
/// its changes, in version 2. `None` where the cgroup does not account for processes.
pub fn refusal_counter(directory: &Path) -> Option<OwnedFd> {
    counter(directory, "pids.events")
}

/// How many processes could not be created since the cgroup was; 0 if it does not say.
pub fn refusals(counter: impl AsFd) -> u64 {
    read_count(counter, "max ")
}

/// What the processes of a cgroup use; `None` for what the cgroup does not account for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Time on processors, since the cgroup was made.
    pub cpu: Option<Duration>,
    /// The number of processes, without those in cgroups below.
    pub processes: Option<u64>,
}

/// What the processes of a cgroup of version 2 use.
pub fn usage(directory: &Path) -> Usage {
    let path = |file: &str| directory.join(file).to_string_lossy().into_owned();
    let text = |file: &str| String::from_utf8(files::read_file(&path(file)).ok()?).ok();
    let cpu = text("cpu.stat").map(|text| count(text.as_bytes(), "usage_usec "));
    Usage {
        memory: text("memory.current").and_then(|text| text.trim_ascii().parse().ok()),
        cpu: cpu.map(Duration::from_micros),
        processes: cpu.map(|_| processes(CWD, &path(PROCS)).len() as u64),
    }
}

fn counter(directory: &Path, file: &str) -> Option<OwnedFd> {
    open(directory.join(file), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

fn read_count(counter: impl AsFd, field: &str) -> u64 {
    let mut text = [0; 1024];
    let length = rustix::io::pread(counter, &mut text, 0).unwrap_or(0);
    count(text.get(..length).unwrap_or_default(), field)
}

fn count(text: &[u8], field: &str) -> u64 {
    let text = std::str::from_utf8(text).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix(field)?.trim_ascii().parse().ok());
    count.unwrap_or(0)
}

/// Why a cgroup may lack a file.
fn missing(directory: &Path, file: &str, key: &str) -> String {
    let controller = controller(file);
    let Ok(controllers) = words(&directory.join(CONTROLLERS)) else {
        return match key.ends_with("-max") {
            true => format!("'{key}' needs a cgroup of version 2; for others there is cgroup-opt"),
            false => Described(Errno::NOENT).to_string(),
        };
    };
    let there = if controllers.is_empty() { "none".to_owned() } else { controllers.join(" ") };
    let has = |above: &&Path| {
        words(&above.join(CONTROLLERS)).is_ok_and(|words| words.iter().any(|word| word == controller))
    };
    let mut reason = format!("the cgroup has no controller '{controller}' for it (there: {there})");
    if let Some(above) = directory.ancestors().skip(1).find(has) {
        let file = above.join(SUBTREE_CONTROL);
        reason += &format!(": write '+{controller}' to {}, or have the cgroup delegated", file.display());
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cgroup_does_not_account_for_is_not_known() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(usage(directory.path()), Usage::default());
        let write = |file: &str, text: &str| std::fs::write(directory.path().join(file), text).unwrap();
        write("cpu.stat", "usage_usec 2500000\nuser_usec 1\n");
        write("cgroup.procs", "7\n9\n");
        let cpu = Some(Duration::from_millis(2500));
        assert_eq!(usage(directory.path()), Usage { memory: None, cpu, processes: Some(2) });
        write("memory.current", "12288\n");
        assert_eq!(usage(directory.path()).memory, Some(12_288));
    }

    #[test]
    fn kills_are_counted_in_both_versions() {
        let kills = |text| count(text, "oom_kill ");
        assert_eq!(kills(b"low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 1\n"), 3);
        assert_eq!(kills(b"oom_kill_disable 0\nunder_oom 0\noom_kill 12\n"), 12);
        assert_eq!(kills(b"oom_kill_disable 0\nunder_oom 0\n"), 0);
        assert_eq!(kills(b""), 0);
    }
}
