//! The program file: how it is loaded, and what is known when it fails.

use std::fs;

use rustix::process::Signal;

use crate::common::{process, sandboxed, until};

/// Calls that fail as no kernel lets them: std's `sleep` panics then.
const NO_SLEEP: &str = "inject=clock_nanosleep,nanosleep:error=EINVAL";
/// Calls that are made again after a short sleep.
const BUSY: &str = "inject=umount2:error=EBUSY:when=2+";

#[test]
fn a_panic_of_pid_1_is_in_its_log() {
    sandboxed(|sandbox| {
        let options = ["-f", "-D", "-qq", "-o", "/dev/null", "-e", NO_SLEEP, "-e", BUSY];
        let ini = sandbox.ini(
            "app",
            "mount-asap = tmpfs none /ufs\nmount-asap = tmpfs none /ufs\numount-as-root = /ufs\n\
             umount-as-root = /ufs\ncommand = true",
        );
        for format in ["text", "json"] {
            let mut command = sandbox.wrapped(&[&["strace"], &options[..]].concat(), "vassal-init");
            command.args(["--unshare", "fs,pid"]).arg(&ini).env("VASSAL_LOG", format);
            let mut vassal = sandbox.start(format, command);
            // The status that a shell shows for SIGABRT, though a PID 1 cannot send itself a signal.
            assert_eq!(vassal.wait(), 134, "{}", vassal.log());
            let lines = vassal.lines("panic");
            assert_eq!(lines.len(), 1, "{}", vassal.log());
            assert!(lines[0].contains(": this is a mistake in the program, which aborts"), "{}", lines[0]);
            let start = if format == "json" { "{\"time\":\"" } else { "vassal-init[app]: panic at " };
            assert!(lines[0].starts_with(start), "{}", lines[0]);
        }
    });
}

/// A part of a file in the memory of a process.
struct Mapping {
    start: String,
    rights: String,
    /// Pages that the process has written to, in kB: relocated, if they are read-only by now.
    written: u64,
}

fn mappings(pid: i32, file: &str) -> Vec<Mapping> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut found = Vec::new();
    let mut is_wanted = false;
    for line in smaps.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["Anonymous:", count, "kB"] if is_wanted => {
                let mapping: &mut Mapping = found.last_mut().unwrap();
                mapping.written = count.parse().unwrap();
            }
            [range, rights, _, _, _, ..] if !range.ends_with(':') => {
                is_wanted = line.ends_with(file);
                let start = range.split('-').next().unwrap().to_owned();
                found.extend(is_wanted.then(|| Mapping { start, rights: rights.to_owned(), written: 0 }));
            }
            _ => {}
        }
    }
    found
}

#[test]
fn the_program_is_loaded_at_another_place_each_time_and_its_constants_are_read_only() {
    sandboxed(|sandbox| {
        let mut places = Vec::new();
        for turn in ["first", "second", "third"] {
            let mut command = sandbox.program("vassal-init");
            command.args(["--", "sleep", "1000"]);
            let mut vassal = sandbox.start(turn, command);
            until("it runs", || !process::named("sleep").is_empty());
            let mappings = mappings(vassal.pid(), "/vassal-init");
            let with = |rights: &'static str| mappings.iter().filter(move |mapping| mapping.rights == rights);
            let known = ["r--p", "r-xp", "rw-p"].map(|rights| with(rights).count());
            assert_eq!(known.iter().sum::<usize>(), mappings.len(), "a part is writable and executable");
            assert!(with("r-xp").all(|code| code.written == 0), "relocations in code");
            assert!(with("r--p").any(|constants| constants.written > 0), "what was relocated is writable");
            places.push(mappings[0].start.clone());
            vassal.signal(Signal::TERM);
            assert_eq!(vassal.wait(), 143);
        }
        places.dedup();
        assert!(places.len() > 1, "always at {places:?}");
    });
}

#[test]
fn a_log_that_nobody_reads_keeps_no_app_from_starting_and_stopping() {
    sandboxed(|sandbox| {
        use rustix::pipe::{PipeFlags, fcntl_getpipe_size, pipe_with};
        let (_reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let size = fcntl_getpipe_size(&writer).unwrap();
        assert_eq!(rustix::io::write(&writer, &vec![b'\n'; size]), Ok(size));
        // There is a warning about this one.
        let file = sandbox.ini("app", "command = sleep 1000\nprocesses = 4");
        let mut command = sandbox.program("vassal-init");
        let mut init = command.arg(file).stderr(writer.try_clone().unwrap()).spawn().unwrap();
        until("the app runs", || !process::named("sleep").is_empty());
        process::signal(init.id() as i32, Signal::TERM);
        until("it has ended", || init.try_wait().unwrap().is_some());
        // A mistake is no reason to stay, either.
        let file = sandbox.ini("mistaken", "exec-as-usr = none");
        let mut command = sandbox.program("vassal-init");
        let mut init = command.arg(file).stderr(writer).spawn().unwrap();
        until("it has ended, too", || init.try_wait().unwrap().is_some());
    });
}
