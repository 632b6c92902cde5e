//! Signals by name and by number (signal(7)), as configurations write them and log lines show them.

/// The number of a signal by its name, with or without `SIG`, or by number (1 to 64).
pub fn number(name: &str) -> Option<i32> {
    by_name(name).or_else(|| name.parse().ok().filter(|number| (1..=64).contains(number)))
}

/// The number of a signal by its name, with or without `SIG`.
pub fn by_name(name: &str) -> Option<i32> {
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    NAMES.iter().find(|(_, known)| *known == bare).map(|&(number, _)| number)
}

/// `SIGKILL` for 9; `signal 40` for a number without a name.
pub fn name(number: i32) -> String {
    match NAMES.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => format!("SIG{name}"),
        None => format!("signal {number}"),
    }
}

const NAMES: [(i32, &str); 31] = [
    (libc::SIGHUP, "HUP"),
    (libc::SIGINT, "INT"),
    (libc::SIGQUIT, "QUIT"),
    (libc::SIGILL, "ILL"),
    (libc::SIGTRAP, "TRAP"),
    (libc::SIGABRT, "ABRT"),
    (libc::SIGBUS, "BUS"),
    (libc::SIGFPE, "FPE"),
    (libc::SIGKILL, "KILL"),
    (libc::SIGUSR1, "USR1"),
    (libc::SIGSEGV, "SEGV"),
    (libc::SIGUSR2, "USR2"),
    (libc::SIGPIPE, "PIPE"),
    (libc::SIGALRM, "ALRM"),
    (libc::SIGTERM, "TERM"),
    (libc::SIGSTKFLT, "STKFLT"),
    (libc::SIGCHLD, "CHLD"),
    (libc::SIGCONT, "CONT"),
    (libc::SIGSTOP, "STOP"),
    (libc::SIGTSTP, "TSTP"),
    (libc::SIGTTIN, "TTIN"),
    (libc::SIGTTOU, "TTOU"),
    (libc::SIGURG, "URG"),
    (libc::SIGXCPU, "XCPU"),
    (libc::SIGXFSZ, "XFSZ"),
    (libc::SIGVTALRM, "VTALRM"),
    (libc::SIGPROF, "PROF"),
    (libc::SIGWINCH, "WINCH"),
    (libc::SIGIO, "IO"),
    (libc::SIGPWR, "PWR"),
    (libc::SIGSYS, "SYS"),
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
