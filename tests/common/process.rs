//! The processes of a sandbox, as /proc shows them.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::{eventually, until};

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its pid, as the sandbox numbers it.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its name.
    pub comm: String,
    /// Its state, `Z` for a zombie.
    pub state: char,
    /// Its real user ID.
    pub uid: u32,
}

impl Process {
    /// Whether it is the sandbox's PID 1 or the test itself.
    pub fn is_of_sandbox(&self) -> bool {
        self.pid == 1 || self.pid == std::process::id() as i32
    }
}

/// All processes there are.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| read(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

/// One of them; `None` when it has ended and was reaped.
pub fn read(pid: i32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(Process {
        pid,
        parent: field("PPid:")?.parse().ok()?,
        comm: field("Name:")?.to_owned(),
        state: field("State:")?.chars().next()?,
        uid: field("Uid:")?.split_whitespace().next()?.parse().ok()?,
    })
}

/// The pid of a process in its own pid namespace.
pub fn number_inside(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("NSpid:")).unwrap();
    line.split_whitespace().last().unwrap().parse().unwrap()
}

/// The living processes of that name.
pub fn named(comm: &str) -> Vec<Process> {
    all().into_iter().filter(|process| process.comm == comm && lives(process.pid)).collect()
}

/// Whether a process is neither a zombie nor about to be one: the kernel has taken its memory, and may take
/// long to close its files, as those of inotify.
fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains("\nVmSize:"))
}

/// Waits for the one living process of that name.
pub fn only(comm: &str) -> Process {
    eventually(format_args!("exactly one process {comm}"), || match named(comm).as_slice() {
        [process] => Some(process.clone()),
        _ => None,
    })
}

/// The living processes of that name that have this word on their command lines.
pub fn with_argument(comm: &str, word: &str) -> Vec<Process> {
    let has_it = |process: &Process| {
        let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|part| part == word.as_bytes())
    };
    named(comm).into_iter().filter(has_it).collect()
}

/// Kills a process, if it has not ended meanwhile.
pub fn kill_if_there(pid: i32) {
    signal_if_there(pid, Signal::KILL);
}

/// Sends a signal by number, if the process has not ended meanwhile.
pub fn signal_if_there(pid: i32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// Runs a command in the mount and pid namespaces of a PID 1. It may be killed there with all else, as soon
/// as what it does is taken for a loss. A mount that the prober looks at just then is busy for a moment.
pub fn enter(init: i32, command: &[&str]) {
    let init = init.to_string();
    until(format_args!("{command:?} finds nothing busy"), || {
        let done =
            super::cow::attempt("nsenter", &[&["--target", &init, "--mount", "--pid"], command].concat());
        !String::from_utf8_lossy(&done.stderr).contains("busy")
    });
}

/// Sends a signal by number.
pub fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Whether a process waits for the answer to a FUSE request, or for the first one to be answered.
pub fn waits_for_fuse(pid: i32) -> bool {
    ["request_wait_answer", "fuse_get_req"].contains(&place_in_the_kernel(pid).as_str())
}

/// Whether a process waits for events. One that was woken, and does not run yet, may still have its former
/// place.
pub fn waits_for_events(pid: i32) -> bool {
    let sleeps = read(pid).is_some_and(|process| process.state == 'S');
    sleeps && place_in_the_kernel(pid).contains("poll")
}

/// The function in which a process waits. Linux 5.10 calls it `0` in wchan, and tells root in the stack.
fn place_in_the_kernel(pid: i32) -> String {
    let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    match read("wchan") {
        place if place == "0" => read("stack").split([' ', '+']).nth(1).unwrap_or_default().to_owned(),
        place => place,
    }
}

/// Waits until a process sleeps: a loop that waits for events has done what there was to do.
pub fn wait_asleep(pid: i32) {
    until(format_args!("process {pid} sleeps"), || read(pid).is_some_and(|process| process.state == 'S'));
}

/// How often a process has gone to sleep.
pub fn slept(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    line.trim().parse().unwrap()
}

/// Waits until a process has gone to sleep that often from now on: a loop that waits for events, or for its
/// next turn, has gone round.
pub fn wait_for_turns(pid: i32, turns: u64) {
    let enough = slept(pid) + turns;
    until(format_args!("{turns} turns of process {pid}"), || slept(pid) >= enough);
}

/// A handle that tells when a process has ended, whoever gets its number.
pub struct Handle(OwnedFd);

impl Handle {
    /// The handle of a living process.
    pub fn of(pid: i32) -> Self {
        Self(pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap())
    }

    /// Whether it has ended.
    pub fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    }

    /// Waits for its end.
    pub fn wait(&self) {
        until("the end of a process", || self.is_gone());
    }
}
