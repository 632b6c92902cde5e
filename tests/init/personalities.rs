//! Side by side with the real programs: under their names, vassal-init does as they do.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::common::{Sandbox, process, run, sandboxed, until};
use rustix::process::{Pid, Signal, kill_process};

/// What a call came to: its exit status, what the command wrote, and whether the init itself said something
/// on either stream.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: i32,
    command_said: String,
    chats: bool,
    complains: bool,
}

/// Whatever is written by a command of these tests starts like this.
const SAID: &str = "said:";

fn outcome(mut command: Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let (said, chat): (Vec<_>, Vec<_>) = out.lines().partition(|line| line.starts_with(SAID));
    Outcome {
        status: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap()),
        command_said: said.join("\n"),
        chats: !chat.is_empty(),
        complains: !output.stderr.is_empty(),
    }
}

/// Words as a shell splits them; `A=b` in front are environment variables.
fn call(program: Command, line: &str) -> Command {
    let mut shell = Command::new("bash");
    let program = program.get_program().to_str().unwrap();
    let (mut variables, mut rest) = (Vec::new(), line);
    while let Some((word, after)) =
        rest.split_once(' ').filter(|(word, _)| word.contains('=') && !word.starts_with('-'))
    {
        variables.push(word);
        rest = after;
    }
    shell.args(["-c", &format!("exec env {} {program} {rest}", variables.join(" "))]);
    shell
}

/// Compares with the real program under the same name, not PID 1 and as PID 1.
fn assert_same(sandbox: &Sandbox, peer: &str, lines: &[&str]) {
    fs::set_permissions(
        sandbox.file("noshebang", "echo said: no shebang\n"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    fs::write(sandbox.path("plain"), "").unwrap();
    let mut differences = Vec::new();
    for line in lines {
        let line = &line.replace("SCRATCH", sandbox.path("").to_str().unwrap());
        for wrapper in [&[][..], &["unshare", "--pid", "--fork", "--mount-proc"]] {
            let wrapped = |program| {
                let inner = call(program, line);
                let mut outer = Command::new(wrapper.first().copied().unwrap_or("env"));
                outer
                    .args(wrapper.get(1..).unwrap_or_default())
                    .arg(inner.get_program())
                    .args(inner.get_args());
                outcome(outer)
            };
            let both =
                || (wrapped(Command::new(format!("/usr/bin/{peer}"))), wrapped(sandbox.personality(peer)));
            let (theirs, ours) = agreeing(both);
            if theirs != ours {
                differences
                    .push(format!("{wrapper:?} {peer} {line}\n  theirs: {theirs:?}\n  ours:   {ours:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What two came to in the first try in which they agree, or else in the last: what a command does a moment
/// before another may come after it on a busy machine.
fn agreeing<T: PartialEq>(mut both: impl FnMut() -> (T, T)) -> (T, T) {
    for _ in 1..5 {
        let (theirs, ours) = both();
        if theirs == ours {
            return (theirs, ours);
        }
    }
    both()
}

/// In a command: waits until its init has reaped every other child.
const REAPED: &str = "until [ \"$(pgrep -P $PPID)\" = $$ ]; do sleep 0.01; done";

/// Commands that end in every way, and some that cannot be executed.
const COMMANDS: &[&str] = &[
    "-- true",
    "-- false",
    "-- sh -c 'exit 255'",
    "-- sh -c 'kill -KILL $$'",
    "-- sh -c 'kill -TERM $$'",
    "-- sh -c 'kill -34 $$'",
    "-- sh -c 'echo said: $1' x --help",
    "-- echo said: -v",
    "-- nonexistent",
    "-- ./nonexistent",
    "-- /etc/passwd",
    "-- /etc/passwd/x",
    "-- /",
    "-- ''",
    "-- SCRATCH/noshebang",
    "-- SCRATCH/plain",
    "PATH=SCRATCH -- noshebang",
    "PATH=/nonexistent:SCRATCH -- plain",
];

#[test]
fn as_tini_it_does_what_tini_does() {
    sandboxed(|sandbox| {
        assert_same(sandbox, "tini", COMMANDS);
        assert_same(sandbox, "tini-static", COMMANDS);
        assert_same(
            sandbox,
            "tini",
            &[
                "",
                "--",
                "-h",
                "-l",
                "--version",
                "--version x",
                "-v --version",
                "--help",
                "-x true",
                "-sx true",
                "true -h",
                "-s true",
                "-s -s true",
                "-v true",
                "-vs true",
                "-vvs true",
                "-vvvs true",
                "-vvv -s -w -g -- sh -c 'true & wait'",
                &format!("-w -s -- sh -c '(sleep 0.01 &); {REAPED}'"),
                "-w -- sh -c 'true & wait'",
                "-p",
                "-p SIGKILL true",
                "-p SIGTERM -s true",
                "-p TERM true",
                "-p 15 true",
                "-p SIGNOTHING true",
                "-p '' true",
                "-pSIGINT -s true",
                "-e",
                "-e 3 -- sh -c 'exit 3'",
                "-e 3 -e 4 -- sh -c 'exit 4'",
                "-e 143 -- sh -c 'kill -TERM $$'",
                "-e 127 nonexistent",
                "-e 0 true",
                "-e '' false",
                "-e ' 1' false",
                "-e +1 false",
                "-e ' ' false",
                "-e -1 true",
                "-e 256 true",
                "-e 255 true",
                "-e 1x true",
                "-e x true",
                "-e 99999999999999999999 true",
                "-gs true",
                "echo said: -s",
                "echo said: -- -x",
                "echo said: -x",
                "- true",
                "POSIXLY_CORRECT=1 echo said: -s -x",
                "POSIXLY_CORRECT=1 -s echo said: -s -x",
                "TINI_SUBREAPER= true",
                "TINI_SUBREAPER=no true",
                "TINI_VERBOSITY=0 true",
                "TINI_VERBOSITY=2 -s true",
                "TINI_VERBOSITY=3 -s true",
                "TINI_VERBOSITY=4 -s true",
                "TINI_VERBOSITY=-1 -s true",
                "TINI_VERBOSITY=nonsense true",
                "TINI_VERBOSITY= -vvv true",
                "TINI_VERBOSITY=2x -s true",
                "TINI_VERBOSITY=0 nonexistent",
                "TINI_KILL_PROCESS_GROUP= -s true",
            ],
        );
    });
}

#[test]
fn as_dumb_init_it_does_what_dumb_init_does() {
    sandboxed(|sandbox| {
        assert_same(sandbox, "dumb-init", COMMANDS);
        assert_same(
            sandbox,
            "dumb-init",
            &[
                "",
                "--",
                "-h",
                "--help",
                "-V",
                "--version",
                "--ver",
                "--vers",
                "-x true",
                "--nonsense true",
                "--help=1",
                "-v true",
                "--verbose true",
                "DUMB_INIT_DEBUG=1 true",
                "DUMB_INIT_DEBUG=0 true",
                "DUMB_INIT_DEBUG=yes true",
                "-c true",
                "--single-child true",
                "--sin true",
                "-c -v true",
                "echo said: -x",
                "DUMB_INIT_SETSID=0 -v true",
                "DUMB_INIT_SETSID=nonsense true",
                "-r 15:2 true",
                "-r15:2 true",
                "--rewrite 15:2 true",
                "--rewrite=15:0 true",
                "-r",
                "-r 15 true",
                "-r 15: true",
                "-r :15 true",
                "-r 0:1 true",
                "-r 32:1 true",
                "-r 1:32 true",
                "-r 31:31 true",
                "-r -1:1 true",
                "-r x true",
                "-r TERM:INT true",
                "-r '' true",
                "-r ' 15: 3' true",
                "-r 15:3x true",
                "-r 15 :3 true",
                "-c sh -c 'ps -o pid= | wc -l >/dev/null; echo said: $(test $(ps -o sess= $$) = $(ps -o \
                 sess= $PPID) && echo same)'",
                "sh -c 'echo said: $(test $(ps -o sess= $$) = $$ && echo leader)'",
            ],
        );
    });
}

#[test]
fn as_catatonit_it_does_what_catatonit_does() {
    sandboxed(|sandbox| {
        assert_same(sandbox, "catatonit", COMMANDS);
        assert_same(
            sandbox,
            "catatonit",
            &[
                "",
                "--",
                "-h",
                "-L",
                "-V",
                "--version",
                "--ver",
                "--version=1",
                "--help",
                "-x true",
                "-g true",
                "true -g",
                "true -V",
                "true -x",
                "POSIXLY_CORRECT=1 echo said: -V",
                "CATATONIT_LOG= true",
                "CATATONIT_DEBUG=1 nonexistent",
                "CATATONIT_DEBUG=1 true",
            ],
        );
    });
}

#[test]
fn dumb_init_starts_its_command_with_no_signal_blocked_or_ignored() {
    sandboxed(|sandbox| {
        // SIGCHLD, too; of the real-time signals they leave the dispositions.
        let prepare = "import os, signal, sys\n\
             for number in (1, 2, 13, 15, 17, 20, 41): signal.signal(number, signal.SIG_IGN)\n\
             signal.pthread_sigmask(signal.SIG_BLOCK, [10, 42])\n\
             os.execvp(sys.argv[1], sys.argv[1:])";
        let signals = |program: &Command, options: &[&str]| {
            let mut command = Command::new("python3");
            command.args(["-c", prepare]).arg(program.get_program()).args(options);
            let output = command.args(["grep", "Sig[BI]", "/proc/self/status"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        for options in [&[][..], &["-c"]] {
            let theirs = signals(&Command::new("/usr/bin/dumb-init"), options);
            assert_eq!(signals(&sandbox.personality("dumb-init"), options), theirs);
            assert!(theirs.contains("SigIgn:\t000001"), "{theirs}");
        }
    });
}

/// What is written by an init and its command, without the numbers of processes and the path of the init; not
/// in order, as a child of the original writes lines, too.
fn written(program: &Command, peer: &str, line: &str) -> Vec<String> {
    let output = call(Command::new(program.get_program()), line).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let text = text.replace(program.get_program().to_str().unwrap(), peer);
    let without_pids = |line: &str| {
        ["tini (", "catatonit:", "PID ", "pid=", "pid '"].iter().fold(line.to_owned(), |line, mark| {
            line.split_once(mark).map_or(line.clone(), |(before, after)| {
                let after = after.trim_start_matches(|letter: char| letter.is_ascii_digit());
                format!("{before}{mark}{after}")
            })
        })
    };
    let mut lines: Vec<_> = text.lines().map(without_pids).collect();
    lines.sort();
    lines
}

#[test]
fn the_short_messages_are_those_of_the_real_ones() {
    sandboxed(|sandbox| {
        let orphan = format!("-- bash -c '(sleep 0.05 & exec true); {REAPED}; exit 4'");
        let killed = "-- sh -c 'kill -KILL $$'";
        let rewritten = "-c -v -r 10:12 -r 12:0 sh -c 'kill -USR1 $PPID; exec sleep 10'";
        let dropped = "-c -v -r 10:0 sh -c 'kill -USR1 $PPID; kill -TERM $PPID; exec sleep 10'";
        let tini_orphan = format!("-s -w {orphan}");
        let tini_killed = format!("-s -w {killed}");
        let cases: &[(&str, &[&str])] = &[
            ("tini", &["-s nonexistent", "-s /etc/passwd", "true", "-p TERM true", "-e 256 true"]),
            ("tini", &["TINI_VERBOSITY=2 -s -- sh -c 'exit 4'", &tini_orphan, &tini_killed]),
            (
                "dumb-init",
                &["nonexistent", "-c /etc/passwd", "", "-x true", "--yolo true", "-r", "-r 15 true"],
            ),
            ("dumb-init", &["-c -v -- sh -c 'exit 4'", "-c -v -- sh -c 'kill -KILL $$'"]),
            ("dumb-init", &[rewritten, dropped]),
            ("catatonit", &["nonexistent", "/etc/passwd/x"]),
        ];
        for (peer, lines) in cases {
            for line in *lines {
                let real = Command::new(format!("/usr/bin/{peer}"));
                let both = || (written(&real, peer, line), written(&sandbox.personality(peer), peer, line));
                let (theirs, ours) = agreeing(both);
                assert_eq!(ours, theirs, "{peer} {line}");
            }
        }
    });
}

/// A shell that tells which of these signals it gets, in a process group with another one that does.
const LISTENERS: &str = r#"
    listen() {
        for signal in HUP USR1 USR2 TERM INT WINCH 40; do trap "echo said: $1 $signal" $signal; done
        echo said: $1 ready
        until [ -e "$SENT" ]; do sleep 0.01; done
        for _ in $(seq 300); do sleep 0.01; done
    }
    listen second & listen first; wait
"#;

struct Running {
    child: Child,
    pid: i32,
}

impl Running {
    fn start(mut command: Command, line: &str) -> Self {
        let child = command
            .args(line.split(' '))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { pid: child.id() as i32, child }
    }

    /// The command's process.
    fn command(&self) -> i32 {
        crate::common::eventually("the command", || {
            process::all().into_iter().find(|process| process.parent == self.pid).map(|process| process.pid)
        })
    }

    fn signal(&self, number: i32) {
        run("kill", &[&format!("-{number}"), &self.pid.to_string()]);
    }

    fn end(mut self) -> (i32, String) {
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or_else(|| 128 + status.signal().unwrap()), text)
    }
}

/// What two listeners hear of one signal, sent when both are ready. They go on for a while after that.
fn heard(script: &Path, out: &Path, mut command: Command, flags: &str, number: i32) -> Vec<String> {
    fs::write(out, "").unwrap();
    let line = format!("{flags} bash {}", script.display());
    let sent = out.with_extension("sent");
    command.args(line.split_whitespace()).env("SENT", &sent).stdin(Stdio::null());
    command.stdout(fs::File::create(out).unwrap()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let text = || fs::read_to_string(out).unwrap();
    until("both listen", || text().contains("first ready") && text().contains("second ready"));
    kill_process(Pid::from_child(&child), Signal::from_named_raw(number).unwrap()).unwrap();
    fs::write(sent, "").unwrap();
    child.wait().unwrap();
    let mut lines: Vec<_> =
        text().lines().filter(|line| !line.ends_with("ready")).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn signals_reach_the_same_processes() {
    sandboxed(|sandbox| {
        let script = &sandbox.file("listeners", LISTENERS);
        let cases = [
            ("tini", ""),
            ("tini", "-g"),
            ("dumb-init", ""),
            ("dumb-init", "-c"),
            ("dumb-init", "-r 10:12"),
            ("dumb-init", "-r 10:0"),
            ("catatonit", ""),
            ("catatonit", "-g"),
        ];
        // All at the same time: each listens for a while.
        std::thread::scope(|scope| {
            let mut rounds = Vec::new();
            for (index, (peer, flags)) in cases.into_iter().enumerate() {
                let listen = |kind: &str, program: Command| {
                    let out = sandbox.path(&format!("heard-{index}-{kind}"));
                    scope.spawn(move || heard(script, &out, program, flags, libc::SIGUSR1))
                };
                let theirs = listen("theirs", Command::new(peer));
                rounds.push((peer, flags, theirs, listen("ours", sandbox.personality(peer))));
            }
            for (peer, flags, theirs, ours) in rounds {
                assert_eq!(ours.join().unwrap(), theirs.join().unwrap(), "{peer} {flags}");
            }
        });
    });
}

#[test]
fn dumb_init_ends_the_group_with_its_child() {
    sandboxed(|sandbox| {
        for program in [Command::new("dumb-init"), sandbox.personality("dumb-init")] {
            let out = sandbox.path("out");
            let script = format!(
                "sh -c 'trap \"echo said: TERM >>{0}; exit\" TERM; echo ready >>{0}; while :; do sleep 0.1; \
                 done' &\n\
                until grep -q ready {0}; do :; done; exit 3",
                out.display()
            );
            fs::write(&out, "").unwrap();
            let running =
                Running::start(program, &format!("bash {}", sandbox.file("script", &script).display()));
            assert_eq!(running.end().0, 3);
            until("the rest got SIGTERM", || fs::read_to_string(&out).unwrap().contains("said: TERM"));
            fs::remove_file(out).unwrap();
        }
    });
}

#[test]
fn dumb_init_is_suspended_along_with_its_command() {
    sandboxed(|sandbox| {
        for program in [Command::new("dumb-init"), sandbox.personality("dumb-init")] {
            let running = Running::start(program, "sleep 1000");
            let command = running.command();
            until("it sleeps", || process::read(command).is_some_and(|process| process.comm == "sleep"));
            let state = |pid| process::read(pid).map(|process| process.state);
            running.signal(libc::SIGTSTP);
            until("both are stopped", || state(running.pid) == Some('T') && state(command) == Some('T'));
            running.signal(libc::SIGCONT);
            until("both go on", || state(running.pid) == Some('S') && state(command) == Some('S'));
            running.signal(libc::SIGTERM);
            assert_eq!(running.end().0, 143);
        }
    });
}

#[test]
fn the_parents_death_reaches_tini() {
    sandboxed(|sandbox| {
        for program in [Command::new("tini"), sandbox.personality("tini")] {
            let program = program.get_program().to_str().unwrap();
            let script = format!(
                "{program} -s -p SIGUSR1 -- sh -c 'trap \"echo said; exit\" USR1; echo ready; while :; do \
                 sleep 0.1; done'& sleep 1000"
            );
            let mut shell =
                Command::new("bash").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
            let mut out = shell.stdout.take().unwrap();
            let mut first = [0; 6];
            out.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"ready\n");
            shell.kill().unwrap();
            shell.wait().unwrap();
            let mut rest = [0; 5];
            out.read_exact(&mut rest).unwrap();
            assert_eq!(&rest, b"said\n");
            // That of the shell may not be one by name yet.
            until("nobody is left", || {
                process::named("sleep").iter().for_each(|sleeper| process::kill_if_there(sleeper.pid));
                process::all().iter().all(process::Process::is_of_sandbox)
            });
        }
    });
}

#[test]
fn at_the_process_limit_it_fails_as_the_real_ones_do() {
    const LIMITED: &[&str] =
        &["setpriv", "--reuid", "user001", "--regid", "user001", "--clear-groups", "prlimit", "--nproc=1:1"];
    sandboxed(|sandbox| {
        let ended = |mut command: Command| command.output().unwrap().status.code().unwrap();
        for name in ["tini", "dumb-init", "catatonit"] {
            let limited = |program: &Command| {
                let mut command = Command::new(LIMITED[0]);
                command.args(&LIMITED[1..]).arg(program.get_program()).arg("true");
                ended(command)
            };
            let theirs = limited(&Command::new(format!("/usr/bin/{name}")));
            assert_eq!((limited(&sandbox.personality(name)), theirs), (1, 1), "{name}");
        }
        assert_eq!(
            ended({
                let mut own = sandbox.wrapped(LIMITED, "vassal-init");
                own.arg("true");
                own
            }),
            71
        );
    });
}

#[test]
fn as_catatonit_it_pauses_where_catatonit_does() {
    sandboxed(|sandbox| {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            for program in [Command::new("catatonit"), sandbox.personality("catatonit")] {
                let running = Running::start(program, "-P");
                until("it sleeps", || process::read(running.pid).is_some_and(|process| process.state == 'S'));
                running.signal(libc::SIGHUP);
                running.signal(signal);
                assert_eq!(running.end().0, 0);
            }
        }
    });
}
