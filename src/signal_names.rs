//! Signals by name and by number (signal(7)), as configurations write them and log lines show them.

use crate::names;
use crate::names::Names;

/// The number of a signal from its name, with or without `SIG`, or from its number (1 to 64).
pub fn number(name: &str) -> Option<i32> {
    by_name(name).or_else(|| name.parse().ok().filter(|number| (1..=64).contains(number)))
}

/// The number of a signal from its name, with or without `SIG`.
pub fn by_name(name: &str) -> Option<i32> {
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    NAMES.find(bare.as_bytes())
}

/// `SIGKILL` for 9; `signal 40` for a number without a name.
pub fn name(number: i32) -> String {
    match NAMES.line(number) {
        Some(name) => format!("SIG{name}"),
        None => format!("signal {number}"),
    }
}

static NAMES: Names<i32> = names![
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(number("SIGTERM"), Some(libc::SIGTERM));
        assert_eq!(number("INT"), Some(libc::SIGINT));
        assert_eq!(number("34"), Some(34));
        assert_eq!((number("0"), number("65"), number("TREM")), (None, None, None));
        assert_eq!((name(9).as_str(), name(40).as_str()), ("SIGKILL", "signal 40"));
    }
}
