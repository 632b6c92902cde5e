//! The processes of vassals, as procfs tells them: `emperor ps`, and where `emperor enter` goes.
//!
//! The emperor says which PID 1s there are. The client looks at their processes.

use std::fmt::Write as _;
use std::time::Duration;

use rustix::fs::{Dir, Mode, OFlags};

use super::render::{rounded, size};
use crate::files;
use crate::log::printable;

/// How many ticks of procfs a second has (USER_HZ).
const TICKS: u64 = 100;
/// A command line that is longer is cut off.
const COMMAND_MAX: usize = 200;

/// What the emperor says of an instance.
pub(super) struct Instance<'a> {
    /// Its PID 1; 0 if it has none.
    pub(super) pid: i32,
    /// Its app, as PID 1 sees it; 0 if that is not known.
    pub(super) app: i32,
    pub(super) state: &'a str,
    pub(super) name: &'a str,
}

/// The instances of an answer.
pub(super) fn instances(answer: &str) -> impl Iterator<Item = Instance<'_>> {
    answer.lines().filter_map(|line| {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next();
        let (pid, app) = (word()?.parse().ok()?, word()?.parse().ok()?);
        Some(Instance { pid, app, state: word()?, name: word()? })
    })
}

/// A process.
struct Process {
    pid: i32,
    parent: i32,
    /// The time on a processor, in ticks.
    ticks: u64,
    name: String,
}

/// A table of the processes of the instances of an answer. With `shows_down` those without any have a row,
/// too.
pub(super) fn table(answer: &str, shows_down: bool) -> String {
    let all = all();
    let mut text = format!(
        "{:<16} {:>7} {:>6} {:>6} {:>7} {:>6}  COMMAND\n",
        "NAME", "PID", "INSIDE", "USER", "MEMORY", "CPU"
    );
    let mut inits: Vec<i32> = instances(answer).map(|instance| instance.pid).filter(|pid| *pid > 0).collect();
    inits.sort_unstable();
    let of: Vec<_> = all.iter().map(|process| init_of(process, &inits, &all)).collect();
    for Instance { pid, name, state, .. } in instances(answer) {
        if pid == 0 && shows_down {
            let _ = writeln!(text, "{name:<16} {:>7} {0:>6} {0:>6} {0:>7} {0:>6}  not up: {state}", "-");
        }
        for (process, _) in all.iter().zip(&of).filter(|(_, init)| **init == Some(pid)) {
            push_row(&mut text, name, process);
        }
    }
    text
}

fn push_row(text: &mut String, name: &str, process: &Process) {
    let pid = process.pid;
    let status = Status::of(&format!("/proc/{pid}"));
    let inside = status.words("NSpid:").last().unwrap_or("-").to_owned();
    let user = status.words("Uid:").nth(1).unwrap_or("-").to_owned();
    let resident = status.words("VmRSS:").next().and_then(|count| count.parse::<u64>().ok());
    let memory = size(resident.unwrap_or_default() << 10);
    let cpu = rounded(Duration::from_secs(process.ticks / TICKS));
    let mut line = files::read_file(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.truncate(COMMAND_MAX);
    line.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    let line = String::from_utf8_lossy(line.trim_ascii_end());
    // A relay or a prober has the words of the PID 1 that it was forked from.
    let is_helper = process.name.starts_with("vassal-") && process.name != "vassal-init";
    let command =
        if line.is_empty() || is_helper { format!("[{}]", process.name) } else { line.into_owned() };
    let _ = writeln!(
        text,
        "{name:<16} {pid:>7} {inside:>6} {user:>6} {memory:>7} {cpu:>6}  {}",
        printable(command)
    );
}

/// The nearest of the PID 1s that a process descends from, or is.
fn init_of<'a>(mut process: &'a Process, inits: &[i32], all: &'a [Process]) -> Option<i32> {
    // A parent may have ended since, and its number be another's: no walk is longer than all.
    for _ in 0..all.len() {
        if inits.binary_search(&process.pid).is_ok() {
            return Some(process.pid);
        }
        let parent = all.binary_search_by_key(&process.parent, |process| process.pid).ok()?;
        process = all.get(parent)?;
    }
    None
}

/// All processes that can be seen, in the order of procfs, which is that of their numbers.
fn all() -> Vec<Process> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut all = Vec::new();
    let Ok(directory) = rustix::fs::open("/proc", flags, Mode::empty()).and_then(Dir::new) else {
        return all;
    };
    for entry in directory {
        let Ok(entry) = entry else { break };
        let pid = entry.file_name().to_str().ok().and_then(|name| name.parse().ok());
        all.extend(pid.and_then(read));
    }
    all
}

fn read(pid: i32) -> Option<Process> {
    let stat = files::read_file(&format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name may have any character in it, also a parenthesis.
    let (head, fields) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = fields.split(' ');
    let parent = fields.nth(2)?.parse().ok()?;
    let mut ticks = fields.skip(9).map(|ticks| ticks.parse::<u64>().unwrap_or_default());
    Some(Process { pid, parent, ticks: ticks.next()? + ticks.next()?, name })
}

/// The file `status` of a process.
pub(super) struct Status(String);

impl Status {
    fn of(directory: &str) -> Self {
        Self::from(files::read_file(&format!("{directory}/status")).unwrap_or_default())
    }

    /// From its text.
    pub(super) fn from(text: Vec<u8>) -> Self {
        Self(String::from_utf8_lossy(&text).into_owned())
    }

    /// The words behind a name with a colon.
    pub(super) fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().split_ascii_whitespace()
    }
}

/// The child of a PID 1 that has this pid in its namespace.
pub(super) fn app_of(pid: i32, app: i32) -> Option<i32> {
    let children = files::read_file(&format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let children = String::from_utf8_lossy(&children).into_owned();
    children.split_ascii_whitespace().filter_map(|child| child.parse().ok()).find(|child: &i32| {
        let inside = Status::of(&format!("/proc/{child}"));
        inside.words("NSpid:").last().is_some_and(|inside| inside.parse() == Ok(app))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_the_table_with_its_command() {
        let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        // Between fork and exec the child has no command line.
        let text = (0..1000)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(10));
                table(&format!("{own} 0 running my app\n0 0 backoff other\n"), false)
            })
            .find(|text| text.contains("  sleep 1000"))
            .unwrap();
        let status = child.kill();
        child.wait().unwrap();
        assert!(status.is_ok() && !text.contains("other"), "{text}");
        let row =
            |pid: u32| text.lines().find(|line| line.split_whitespace().nth(2) == Some(&pid.to_string()));
        assert!(row(own).is_some_and(|row| row.starts_with("my app  ")), "{text}");
        assert!(row(child.id()).is_some_and(|row| row.ends_with("  sleep 1000")), "{text}");
        assert!(row(parent).is_none(), "{text}");
        let down = table("0 0 backoff other\n", true);
        assert!(down.ends_with("\nother                  -      -      -       -      -  not up: backoff\n"));
    }

    #[test]
    fn an_answer_is_read_with_blanks_in_names() {
        let read: Vec<_> = instances("7 5 running a b\nx\n0 0 stopped c\n")
            .map(|one| (one.pid, one.app, one.state.to_owned(), one.name.to_owned()))
            .collect();
        let one = |pid, app, state: &str, name: &str| (pid, app, state.to_owned(), name.to_owned());
        assert_eq!(read, [one(7, 5, "running", "a b"), one(0, 0, "stopped", "c")]);
    }
}
