//! Whether processes are at work, or wait for something: who only waits need not keep others from starting.

use std::os::fd::AsFd;

use crate::files;

/// How many processes of one are looked at.
const PROCESSES_MAX: usize = 64;

/// What a process and those that it has started do.
#[derive(Debug, PartialEq, Eq)]
pub enum Work {
    /// One of them runs, or waits for a processor. Also if nobody tells.
    Runs,
    /// One of them waits for a disk, or for a filesystem that does not answer; so often each of them has
    /// waited.
    Reads(u64),
    /// All of them wait for something else.
    Waits,
}

/// What a process and those that it has started do just now.
pub fn look(pid: i32) -> Work {
    let Ok(proc) = files::open_proc() else { return Work::Runs };
    let (mut found, mut next, mut switches) = (vec![pid], 0, None);
    while let Some(&pid) = found.get(next) {
        next += 1;
        let stat = files::read_file(&format!("/proc/{pid}/stat")).unwrap_or_default();
        // The state follows the number and the name in parentheses.
        let end = stat.windows(2).rposition(|text| text == b") ");
        match end.and_then(|end| stat.get(end + 2)) {
            Some(b'R') => return Work::Runs,
            None if next == 1 => return Work::Runs,
            Some(b'D') => switches = Some(switches.unwrap_or_default() + waits(pid)),
            _ => {}
        }
        if found.len() < PROCESSES_MAX {
            found.extend(files::children_of(proc.as_fd(), pid));
        }
    }
    switches.map_or(Work::Waits, Work::Reads)
}

/// How often a process has waited for something (proc_pid_status(5)).
fn waits(pid: i32) -> u64 {
    let text = files::read_file(&format!("/proc/{pid}/status")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let number = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    number.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn who_computes_is_at_work_and_who_sleeps_is_not() {
        // A child of another thread than the first, too.
        let of_thread = "import subprocess as s, threading as t; \
            t.Thread(target=lambda: s.run(['sh', '-c', 'while :; do :; done'])).start()";
        let sleeps = ["sh", "-c", "sleep 1000; :"];
        let spins = ["sh", "-c", "(while :; do :; done); :"];
        for (command, is_at_work) in [(sleeps, false), (spins, true), (["python3", "-c", of_thread], true)] {
            let [program, arguments @ ..] = command;
            let mut child = Command::new(program).args(arguments).spawn().unwrap();
            let is_it = |_: &u32| (look(child.id() as i32) == Work::Runs) == is_at_work;
            // At first both start.
            let begun = (0..1000).find(|_| {
                std::thread::sleep(std::time::Duration::from_millis(10));
                (0..3).all(|round| is_it(&round))
            });
            let pid = child.id() as i32;
            let _ = Command::new("pkill").args(["-9", "-P", &pid.to_string()]).status();
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(begun.is_some(), "{command:?}");
        }
        assert_eq!(look(i32::MAX), Work::Runs);
    }
}
