//! Entrypoint mode under our own name: what a command and its starter notice of the init.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::command::{LIVES, Running, as_pid1, ended, init};
use crate::common::{eventually, process, run, sandboxed, unmount, until};
use rustix::process::Signal;

#[test]
fn it_ends_with_the_commands_status() {
    sandboxed(|sandbox| {
        let cases: &[(&[&str], i32)] = &[
            (&["true"], 0),
            (&["--", "sh", "-c", "exit 42"], 42),
            (&["sh", "-c", "kill -KILL $$"], 137),
            (&["sh", "-c", "kill -40 $$"], 168),
            (&["-e", "42", "sh", "-c", "exit 42"], 0),
            (&["-e", "143", "sh", "-c", "kill $$"], 0),
            (&["/etc/passwd"], 126),
            (&["/etc"], 126),
            (&["no-such-program"], 127),
            (&["/etc/passwd/x"], 127),
            (&[""], 127),
            (&["--", "x.ini"], 127),
        ];
        for (arguments, status) in cases {
            for life in LIVES {
                // In front of the others, as `--` may be among them.
                let arguments = [life, arguments].concat();
                for mut command in [init(sandbox, &arguments), as_pid1(sandbox, &arguments)] {
                    let (ended, out, err) = ended(&mut command);
                    assert_eq!((ended, &*out), (*status, ""), "{arguments:?}: {err}");
                    let said = err.lines().filter(|line| !line.contains("mountpoint /proc answers")).count();
                    assert_eq!(said, usize::from([126, 127].contains(status)), "{arguments:?}: {err}");
                }
            }
        }
    });
}

#[test]
fn what_is_wrong_with_the_command_line_is_said() {
    sandboxed(|sandbox| {
        let cases: &[(&[&str], &str)] = &[
            (&[], "a command or a configuration file is missing"),
            (&["--"], "the command is missing"),
            (&["-x", "true"], "unknown option '-x'"),
            (&["--rewrte", "3", "true"], "did you mean '--rewrite'?"),
            (&["--grace", "soon", "true"], "'soon' is not a duration"),
            (&["--grace"], "grace"),
            (&["-e", "256", "true"], "'256' is not a value for '-e'"),
            (&["-p", "TERM", "true"], "'TERM' is not a value for '-p'"),
            (&["--rewrite", "TERM:TREM", "true"], "'TERM:TREM' is not SIGNAL:REPLACEMENT"),
            (&["--ready-fd", "1", "true"], "'1' is no number from 3 up"),
            (&["-gvp", "9", "true"], "command line: '9' is not a value for '-p'\n    -p 9\n       ^\n"),
        ];
        for (arguments, part) in cases {
            let (status, out, err) = ended(&mut init(sandbox, arguments));
            assert_eq!((status, &*out), (78, ""), "{arguments:?}: {err}");
            assert!(err.contains(part), "{arguments:?}: {err}");
        }
    });
}

/// Every signal but those that cannot be caught, and those that bash keeps to itself.
fn forwardable() -> Vec<i32> {
    (1..=64).filter(|number| ![libc::SIGKILL, libc::SIGSTOP].contains(number)).collect()
}

/// Python waits for signals as they come, real-time ones and those of the C library too.
const LISTENER: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
everything = struct.pack("Q", (1 << 64) - 1)
libc.syscall(14, 0, everything, None, 8)
print("ready", flush=True)
while True:
    number = libc.syscall(128, everything, None, None, 8)
    print(number, flush=True)
    if number == 15:
        break
"#;

#[test]
fn every_signal_is_handed_on_and_none_kills_the_init() {
    sandboxed(|sandbox| {
        let listener = sandbox.file("listener.py", LISTENER);
        let out = sandbox.path("out");
        for life in LIVES {
            let arguments = [life, &["/usr/bin/python3", listener.to_str().unwrap()]].concat();
            let mut command = init(sandbox, &arguments);
            let mut running = Running::start(command.stdout(fs::File::create(&out).unwrap()));
            let lines = || fs::read_to_string(&out).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
            until("it listens", || !lines().is_empty());
            let mut expected = vec!["ready".to_owned()];
            // The last one ends it.
            for number in forwardable().into_iter().filter(|&number| number != 15).chain([15]) {
                run("/bin/kill", &[&format!("-{number}"), &running.pid().to_string()]);
                expected.push(number.to_string());
                until(format_args!("signal {number}: {:?}", lines()), || lines().len() == expected.len());
            }
            assert_eq!(running.wait(), 0, "{life:?}");
            assert_eq!(lines(), expected, "{life:?}");
        }
    });
}

#[test]
fn no_signal_is_lost_between_start_and_exec() {
    sandboxed(|sandbox| {
        // Those that take a start apart have tests of their own for what comes before the command.
        for number in 0..200 {
            let life = LIVES[number % 2];
            let mut command = init(sandbox, &[life, &["sleep", "1000"]].concat());
            let mut running = Running::start(command.stdin(Stdio::null()));
            // Wherever it is now: in our own start, before the exec, or after it.
            process::signal(running.pid(), Signal::TERM);
            assert_eq!(running.wait(), 143);
        }
    });
}

#[test]
fn a_stop_before_the_exec_holds_nobody_up() {
    sandboxed(|sandbox| {
        // So many directories to look in that the stop comes before the right one.
        let path = format!("{}/usr/bin:/bin", "/proc/self/task/..:".repeat(5000));
        for life in [LIVES[0], LIVES[0], LIVES[1], LIVES[1]] {
            let mut command = init(sandbox, &[life, &["sleep", "1000"]].concat());
            let mut running = Running::start(command.env("PATH", &path));
            let child = || process::all().into_iter().find(|process| process.parent == running.pid());
            let child = eventually("the child", child).pid;
            process::signal(child, Signal::TSTP);
            let state = || fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
            until("the command is stopped, not what was before it", || state().contains("(sleep) T"));
            process::signal(running.pid(), Signal::CONT);
            until("the command goes on", || state().contains("(sleep) S"));
            process::signal(running.pid(), Signal::TERM);
            assert_eq!(running.wait(), 143);
        }
    });
}

#[test]
fn signals_are_rewritten_and_reach_the_group_as_asked() {
    sandboxed(|sandbox| {
        let script = "trap 'echo quit; exit 3' QUIT; echo ready; sleep 1000 & wait";
        for (flags, sent) in [
            (&["--rewrite", "TERM:QUIT"][..], Signal::TERM),
            (&["--stop-signal", "QUIT"], Signal::TERM),
            (&["-g"], Signal::QUIT),
        ] {
            for life in LIVES {
                let out = sandbox.path("out");
                let line = ["--grace", "0", "--", "bash", "-c", script];
                let mut command = init(sandbox, &[flags, life, &line].concat());
                let mut running = Running::start(command.stdout(fs::File::create(&out).unwrap()));
                until("it is ready", || fs::read_to_string(&out).unwrap().contains("ready"));
                process::signal(running.pid(), sent);
                assert_eq!(running.wait(), 3, "{life:?} {flags:?}");
                assert!(fs::read_to_string(&out).unwrap().contains("quit"));
            }
        }
    });
}

/// What /proc/PID/status says of signals.
fn masks(status: &str) -> Vec<&str> {
    status
        .lines()
        .filter(|line| ["SigBlk:", "SigIgn:", "SigCgt:"].iter().any(|name| line.starts_with(name)))
        .collect()
}

#[test]
fn the_command_has_the_signals_of_our_starter() {
    sandboxed(|sandbox| {
        for wrapper in [
            &["env"][..],
            &["env", "--ignore-signal=PIPE,HUP", "--block-signal=INT,TERM,CHLD,USR1"],
            &["env", "--ignore-signal=CHLD,TSTP,TTOU"],
        ] {
            let show = ["cat", "/proc/self/status"];
            let (_, plain, _) = ended(Command::new(wrapper[0]).args(&wrapper[1..]).args(show));
            for life in LIVES {
                let mut command = sandbox.wrapped(wrapper, "vassal-init");
                let (status, ours, _) = ended(command.args(life).args(show));
                assert_eq!((status, masks(&ours)), (0, masks(&plain)), "{life:?} {wrapper:?}");
            }
        }
    });
}

#[test]
fn orphans_are_reaped_and_the_rest_is_ended() {
    sandboxed(|sandbox| {
        // Orphans that end at once, one that obeys, one that does not.
        let script = "for _ in 1 2 3 4 5; do setsid sh -c 'exit 3' & done\n\
            setsid sleep 1000 &\n\
            setsid sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.01; done' &\n\
            read -r _; exit 4";
        let lines = LIVES.map(|life| [life, &["--grace", "200ms", "bash", "-c", script]].concat());
        for mut command in lines.iter().flat_map(|line| [init(sandbox, line), as_pid1(sandbox, line)]) {
            let mut running = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
            let mut ready = [0; 6];
            running.0.stdout.take().unwrap().read_exact(&mut ready).unwrap();
            let zombies = || process::all().into_iter().filter(|process| process.state == 'Z').count();
            until("no zombie is left", || zombies() == 0);
            drop(running.0.stdin.take());
            assert_eq!(running.wait(), 4);
            // What was killed may hang in the kernel for longer than it is waited for.
            until("nothing is left", || {
                process::named("sleep").is_empty() && process::named("sh").is_empty()
            });
        }
    });
}

#[test]
fn the_grace_ends_with_the_last_process() {
    sandboxed(|sandbox| {
        let left = "rm -f /run/scratch/left; setsid sh -c 'touch /run/scratch/left; exec sleep 1000' & \
                    until [ -e /run/scratch/left ]; do sleep 0.01; done";
        for script in ["true", left] {
            let lines = LIVES.map(|life| [life, &["--grace", "1000", "sh", "-c", script]].concat());
            for mut command in lines.iter().flat_map(|line| [init(sandbox, line), as_pid1(sandbox, line)]) {
                let began = Instant::now();
                assert_eq!(ended(&mut command).0, 0);
                assert!(began.elapsed() < crate::common::PATIENCE, "{script}: the grace was sat out");
            }
        }
    });
}

/// A command that takes a while to obey SIGTERM, and leaves a process behind that never does.
fn stubborn(seconds: u32) -> [String; 3] {
    // It ignores the signal from its birth on.
    let script = format!(
        "trap '' TERM; sleep 1000 & trap 'sleep {seconds}; exit 5' TERM; echo ready >&2; \
         while :; do sleep 0.01; done"
    );
    ["bash".to_owned(), "-c".to_owned(), script]
}

/// Kills what is left, which may not have executed `sleep` yet.
fn kill_sleepers() {
    until("nobody is left", || {
        process::named("sleep").iter().for_each(|sleeper| process::kill_if_there(sleeper.pid));
        process::all().iter().all(process::Process::is_of_sandbox)
    });
}

#[test]
fn an_engine_that_stops_it_gets_the_commands_status() {
    sandboxed(|sandbox| {
        until("an end within Docker's patience, and Podman's", || {
            let mut runs: Vec<_> = LIVES.map(|life| (init(sandbox, life), 0, "processes are left")).into();
            // The command itself has taken most of the time.
            runs.push((init(sandbox, &["--grace", "2s"]), 3, "processes are left 1.0 s after SIGTERM"));
            // Podman's name for it, whatever it is.
            runs.push((sandbox.personality("podman-init"), 0, ""));
            let start = |(number, (mut command, seconds, left)): (usize, (Command, u32, &'static str))| {
                command.arg("--").args(stubborn(seconds));
                (sandbox.start(&format!("run-{number}"), command), left)
            };
            let runs: Vec<_> = runs.into_iter().enumerate().map(start).collect();
            runs.iter().for_each(|(daemon, _)| drop(daemon.wait_for("ready")));
            let asked = Instant::now();
            runs.iter().for_each(|(daemon, _)| process::signal(daemon.pid(), Signal::TERM));
            for (mut daemon, left) in runs {
                assert_eq!(daemon.wait(), 5, "{}", daemon.log());
                assert!(daemon.log().contains(left), "{}", daemon.log());
                assert_eq!(daemon.log().contains("SIGKILL"), !left.is_empty(), "{}", daemon.log());
            }
            let took = asked.elapsed();
            kill_sleepers();
            // A machine that stands still for a moment makes each time longer.
            took < Duration::from_secs(10)
        })
    });
}

#[test]
fn a_program_on_a_filesystem_that_hangs_makes_no_init_deaf() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let place = sandbox.path("mount");
        fs::create_dir(&place).unwrap();
        let program = place.join("file").display().to_string();
        for name in ["", "tini", "dumb-init", "catatonit"] {
            // SIGQUIT, which would dump core, does not end such a wait in the kernel.
            for signal in [Signal::TERM, Signal::INT] {
                for options in LIVES {
                    run("sh", &["-c", &faulty.command(place.to_str().unwrap(), "direct")]);
                    let server = process::only("faulty-fuse").pid;
                    process::signal(server, Signal::STOP);
                    let mut command = init(sandbox, options);
                    if !name.is_empty() {
                        command = sandbox.personality(name);
                    }
                    let mut running = Running::start(command.args(["--", &program]).stdin(Stdio::null()));
                    // It hangs in execve(2), where the prober may wait for a moment, too.
                    let call = format!("{} ", libc::SYS_execve);
                    let hangs = |process: &process::Process| {
                        let now = fs::read_to_string(format!("/proc/{}/syscall", process.pid));
                        process.parent == running.pid()
                            && now.is_ok_and(|now| now.starts_with(&call))
                            && process::waits_for_fuse(process.pid)
                    };
                    until("it hangs", || process::all().iter().any(hangs));
                    process::signal(running.pid(), signal);
                    assert_eq!(running.wait(), 128 + signal.as_raw(), "{name} {options:?}");
                    process::signal(server, Signal::KILL);
                    unmount(place.to_str().unwrap());
                    if !name.is_empty() {
                        break;
                    }
                }
            }
        }
    });
}

#[test]
fn a_working_directory_on_a_filesystem_that_hangs_makes_no_init_deaf() {
    sandboxed(|sandbox| {
        let place = sandbox.path("mount/sub").display().to_string();
        let vassal =
            format!("chdir = {place}\ncommand = sleep 1000\nstop-timeout = 1000\nhook-timeout = 1000");
        let vassal = sandbox.file("vassal.ini", &format!("[uwsgi]\n{vassal}\n"));
        let chosen = ["--chdir", &place, "--", "sleep", "1000"];
        let as_user = [&["--user", "65534"][..], &chosen].concat();
        for options in [&chosen[..], &as_user, &[vassal.to_str().unwrap()]] {
            let hanging = sandbox.hanging();
            let mut running = Running::start(init(sandbox, options).stdin(Stdio::null()));
            let call = format!("{} ", libc::SYS_chdir);
            let hangs = |process: &process::Process| {
                let now = fs::read_to_string(format!("/proc/{}/syscall", process.pid));
                process.parent == running.pid() && now.is_ok_and(|now| now.starts_with(&call))
            };
            until("it hangs", || process::all().iter().any(hangs));
            process::signal(running.pid(), Signal::TERM);
            assert_eq!(running.wait(), 128 + Signal::TERM.as_raw(), "{options:?}");
            hanging.end();
        }
    });
}

#[test]
fn what_a_program_is_executed_by_is_named_where_that_is_missing() {
    sandboxed(|sandbox| {
        let script = sandbox.file("script", "#!/nonexistent/python -u\r\n");
        run("chmod", &["755", script.to_str().unwrap()]);
        for options in LIVES {
            let (status, _, err) = ended(init(sandbox, options).arg("--").arg(&script));
            let said = "script, its interpreter /nonexistent/python: No such file or directory (ENOENT)";
            assert!(status == 127 && err.contains(said), "{options:?}: {err}");
        }
    });
}

#[test]
fn a_configuration_that_hangs_says_so_and_whoever_reads_it_can_be_stopped() {
    sandboxed(|sandbox| {
        let hanging = sandbox.hanging();
        let file = format!("{}/file", hanging.place);
        let ini = sandbox.ini("app", &format!("include = {file}\ncommand = true"));
        for wrapper in [&["env"][..], &["unshare", "--pid", "--fork"]] {
            let mut command = sandbox.wrapped(wrapper, "vassal-init");
            command.arg(&ini);
            let mut init = sandbox.start(wrapper[0], command);
            let line = init.wait_for(&format!("{file}: not done after 2.0 s: does its filesystem answer?"));
            assert!(line.ends_with("; waiting for it"), "{line}");
            process::signal(process::only("vassal-init").pid, Signal::TERM);
            init.wait_for(&format!("{file}: SIGTERM came first"));
            assert_eq!(init.wait(), 143);
            until("nothing of it is left", || process::named("vassal-asker").is_empty());
        }
        hanging.end();
    });
}

#[test]
fn an_app_whose_program_or_directory_hangs_says_so_and_ends() {
    sandboxed(|sandbox| {
        for lines in ["command = /run/scratch/mount/file", "chdir = /run/scratch/mount/in\ncommand = sleep 1"]
        {
            let hanging = sandbox.hanging();
            let lines = format!("{lines}\nhook-timeout = 300ms\nstop-timeout = 100ms");
            let mut vassal = sandbox.vassal_init("vassal", &lines);
            let line = vassal.wait_for(": not done after 300 ms: does its filesystem answer");
            assert!(line.contains("/run/scratch/mount/"), "{line}");
            assert_eq!(vassal.wait(), 71, "{}", vassal.log());
            hanging.end();
            fs::remove_file(sandbox.path("vassal.log")).unwrap();
        }
    });
}

#[test]
fn nothing_of_the_starter_is_held() {
    sandboxed(|sandbox| {
        let cwd = sandbox.path("cwd");
        fs::create_dir(&cwd).unwrap();
        let program = init(sandbox, &[]).get_program().display().to_string();
        for life in LIVES {
            let mut command = Command::new("bash");
            command.args(["-c", "exec \"$@\" 77>/dev/null", "starter", &program]).args(life);
            command.args(["sleep", "1000"]).current_dir(&cwd).stdin(Stdio::null());
            let mut running = Running::start(&mut command);
            let app = running.command("sleep");
            let has = |pid: i32, what: &str| Path::new(&format!("/proc/{pid}/{what}")).exists();
            until("the init lets go", || !has(running.pid(), "fd/77"));
            assert!(has(app, "fd/77"));
            assert_eq!(fs::read_link(format!("/proc/{app}/cwd")).unwrap(), cwd);
            until("the init leaves", || {
                fs::read_link(format!("/proc/{}/cwd", running.pid())).unwrap() == Path::new("/")
            });
            if life.is_empty() {
                let held = fs::read_dir(format!("/proc/{}/fd", running.pid())).unwrap().count();
                assert_eq!(held, 3, "only the standard descriptors");
            }
            process::signal(running.pid(), Signal::TERM);
            assert_eq!(running.wait(), 143);
        }
    });
}

#[test]
fn closed_standard_descriptors_stay_closed() {
    sandboxed(|sandbox| {
        let binary = init(sandbox, &[]).get_program().to_str().unwrap().to_owned();
        for (redirections, open) in [("<&-", "1 2"), (">&-", "0 2"), ("2>&-", "0 1"), ("<&- >&- 2>&-", "")] {
            let out = sandbox.path("out");
            // The shell of the command tells which of the three it has.
            let script = r#"for fd in 0 1 2; do [ -e /proc/$$/fd/$fd ] && set -- "$@" $fd; done
                echo "$*" >"$OUT"; exit 7"#;
            let tini = sandbox.personality("tini").get_program().display().to_string();
            for name in LIVES.map(|life| format!("{binary} {}", life.join(" "))).into_iter().chain([tini]) {
                let line =
                    format!("exec env OUT={} {name} -- bash -c '{script}' {redirections}", out.display());
                let status = Command::new("bash").args(["-c", &line]).stdin(Stdio::null()).status().unwrap();
                assert_eq!(
                    (status.code(), fs::read_to_string(&out).unwrap().trim()),
                    (Some(7), open),
                    "{line}"
                );
            }
        }
    });
}

/// A command that leaves orphans, of which the init writes lines, and ends with 5, or with 9 after a signal
/// that such a write causes. A signal with a higher number, which the init hands on, says that the init has
/// heard its own.
const LEAVES_ORPHANS: &str = "trap 'exit 9' PIPE XFSZ; trap heard=1 WINCH
    for _ in 1 2 3; do (sleep 0.01 &); done
    until [ \"$(pgrep -x -P $PPID 'bash|sleep')\" = $$ ]; do sleep 0.01; done
    kill -WINCH $PPID; until [ \"$heard\" ]; do sleep 0.01; done; exit 5";

#[test]
fn a_reader_that_went_away_is_no_signal_for_the_command() {
    sandboxed(|sandbox| {
        for life in LIVES {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let mut command = init(sandbox, &[life, &["-wvvv", "bash", "-c", LEAVES_ORPHANS]].concat());
            let mut running =
                Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer));
            assert_eq!(running.wait(), 5, "{life:?}");
        }
    });
}

#[test]
fn a_log_that_has_reached_the_limit_of_its_size_is_no_signal_for_the_command() {
    sandboxed(|sandbox| {
        for life in LIVES {
            let mut command = sandbox.wrapped(&["prlimit", "--fsize=0"], "vassal-init");
            command.args([life, &["-wvvv", "bash", "-c", LEAVES_ORPHANS]].concat());
            let log = fs::File::create(sandbox.path("log")).unwrap();
            let mut running = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log));
            assert_eq!(running.wait(), 5, "{life:?}");
        }
    });
}

#[test]
fn the_starter_learns_that_the_command_runs() {
    sandboxed(|sandbox| {
        for (command, told) in [("sleep", "\n"), ("nonexistent", "")] {
            for life in LIVES {
                let line = format!(
                    "{} {} --ready-fd 5 -- {command} 0 5>&1 >/dev/null",
                    init(sandbox, &[]).get_program().display(),
                    life.join(" ")
                );
                let (_, out, _) = ended(Command::new("bash").args(["-c", &line]));
                assert_eq!(out, told, "{life:?}");
            }
        }
    });
}

#[test]
fn a_starter_that_reads_nothing_holds_nobody_up() {
    sandboxed(|sandbox| {
        let (_reader, writer) = std::io::pipe().unwrap();
        // As much as it takes: the init gets it as its standard input, and the shell as descriptor 5.
        let line = format!(
            "dd if=/dev/zero of=/dev/stdout oflag=nonblock bs=4096 >&5 2>/dev/null; exec {} --ready-fd 5 -- \
             sleep 1000",
            init(sandbox, &[]).get_program().display()
        );
        let mut command = Command::new("bash");
        command.args(["-c", &format!("exec 5>&0 </dev/null; {line}")]).stdin(writer).stderr(Stdio::null());
        let mut running = Running::start(&mut command);
        running.command("sleep");
        process::signal(running.pid(), Signal::TERM);
        assert_eq!(running.wait(), 143);
    });
}

#[test]
fn a_command_runs_without_proc_and_as_an_ordinary_user() {
    sandboxed(|sandbox| {
        let script =
            "mount -t tmpfs none /proc && exec setpriv --reuid user001 --regid user001 --clear-groups \"$@\"";
        let line = "setsid sleep 1000 >/dev/null 2>&1 & sleep 1000 & exec sh -c 'kill -TERM $$'";
        for wrapper in [
            &["unshare", "--mount", "bash", "-c", script, "-"][..],
            &["unshare", "--mount", "--pid", "--fork", "bash", "-c", script, "-"],
        ] {
            let mut command = sandbox.wrapped(wrapper, "vassal-init");
            let (status, _, err) = ended(command.args(["--grace", "100ms", "-w", "--", "sh", "-c", line]));
            assert_eq!(status, 143, "{err}");
            // Not PID 1 and without /proc, whoever left the command's process group is out of reach.
            kill_sleepers();
        }
    });
}

#[test]
fn ten_thousand_orphans_die_at_once() {
    sandboxed(|sandbox| {
        // All wait for the end of one pipe.
        let script = r#"
import os, sys
reader, writer = os.pipe()
for _ in range(100):
    if os.fork() == 0:
        for _ in range(100):
            if os.fork() == 0:
                os.close(writer)
                os.read(reader, 1)
                os._exit(0)
        os._exit(0)
for _ in range(100):
    os.wait()
print("ready", flush=True)
sys.stdin.read()
os.close(writer)
os.close(reader)
print("released", flush=True)
import time
time.sleep(1000)
"#;
        let script = sandbox.file("orphans.py", script);
        for life in &LIVES[..2] {
            let mut command =
                init(sandbox, &[life, &["/usr/bin/python3", script.to_str().unwrap()][..]].concat());
            let mut running = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
            let mut out = running.0.stdout.take().unwrap();
            let mut line = [0; 6];
            out.read_exact(&mut line).unwrap();
            let list = format!("/proc/{0}/task/{0}/children", running.pid());
            let children = || fs::read_to_string(&list).unwrap().split(' ').count();
            assert!(children() > 10_000, "{}", children());
            drop(running.0.stdin.take());
            // The command itself, and the end of the list.
            until("they are reaped", || children() == 2);
            process::signal(running.pid(), Signal::TERM);
            assert_eq!(running.wait(), 143);
        }
    });
}

/// Options that need something prepared, a command that shows it, and what it shows.
const PREPARED: &[(&[&str], &str, &str)] = &[
    (&["--chdir", "/usr"], "pwd", "/usr"),
    (
        &["--env", "A=b c", "--env", "B=%(x)", "--unenv", "PATH"],
        "echo \"$A $B\"; env | grep -c ^PATH || true",
        "b c %(x)\n0",
    ),
    (&["--user", "12345:54321"], "id -u; id -g; id -G", "12345\n54321\n54321"),
    (&["--user", "user001"], "id -un; id -gn", "user001\nuser001"),
    (&["--umask", "027"], "umask", "0027"),
    (&["--no-new-privs"], "grep NoNewPrivs /proc/self/status | tr -s '[:blank:]' ' '", "NoNewPrivs: 1"),
    (&["--chdir", "/"], "grep NoNewPrivs /proc/self/status | tr -s '[:blank:]' ' '", "NoNewPrivs: 0"),
    (
        &["--cap-drop", "all"],
        "grep -E 'Cap(Prm|Eff|Bnd|Inh|Amb)' /proc/self/status | cut -f2 | sort -u",
        "0000000000000000",
    ),
    (
        &["--cap-drop", "chown,cap_kill"],
        "capsh --has-b=cap_net_raw --has-p=cap_net_raw; capsh --has-p=cap_kill 2>/dev/null || echo gone",
        "gone",
    ),
    (
        &["--unshare", "fs,pid,ipc,uts,net,cgroup", "--hostname", "inner"],
        "hostname; echo $PPID; ls /sys/class/net 2>/dev/null | wc -l >/dev/null",
        "inner\n1",
    ),
    (&["--unshare", "user,pid"], "echo $PPID", "1"),
];

#[test]
fn what_a_command_needs_is_prepared() {
    sandboxed(|sandbox| {
        for (options, script, shown) in PREPARED {
            let (status, out, err) =
                ended(&mut init(sandbox, &[options, &["--", "sh", "-c", script][..]].concat()));
            assert_eq!((status, out.trim_end(), &*err), (0, *shown, ""), "{options:?}");
        }
    });
}

#[test]
fn what_cannot_be_prepared_is_said_and_nothing_runs() {
    sandboxed(|sandbox| {
        let cases: &[(&[&str], i32, &str)] = &[
            (&["--chdir", "/nonexistent"], 71, "chdir /nonexistent: No such file or directory (ENOENT)"),
            (&["--user", "no-such-user"], 71, "no-such-user"),
            (&["--user", "12345"], 71, "'gid' is missing"),
            (&["--hostname", "x"], 71, "needs a uts namespace"),
            (&["--cap-drop", "everything"], 78, "unknown capability 'everything'"),
            (&["--unshare", "fs,pdi"], 78, "unknown namespace 'pdi'"),
            (
                &["--mountpoint-check", "/run/scratch", "--mountpoint-timeout", "100ms"],
                71,
                "/run/scratch: nothing is mounted there",
            ),
        ];
        for (options, status, part) in cases {
            let (ended, out, err) =
                ended(&mut init(sandbox, &[options, &["--", "echo", "it ran"][..]].concat()));
            assert_eq!((ended, &*out), (*status, ""), "{options:?}: {err}");
            assert!(err.contains(part), "{options:?}: {err}");
        }
        // Nobody may lead root where nobody may go.
        let cwd = sandbox.path("private");
        fs::create_dir(&cwd).unwrap();
        run("chmod", &["700", cwd.to_str().unwrap()]);
        let line = ["--user", "user001", "--chdir", cwd.to_str().unwrap(), "--", "true"];
        let (status, _, err) = ended(&mut init(sandbox, &line));
        assert_eq!(status, 71, "{err}");
        assert!(err.contains("Permission denied (EACCES)"), "{err}");
    });
}

#[test]
fn hooks_run_around_a_command_and_its_signals_are_its_own() {
    sandboxed(|sandbox| {
        let log = sandbox.path("told");
        let tell = |what: &str| format!("exec-{what} = echo {what} >>{}", log.display());
        let lines =
            [&tell("asap"), &tell("as-user"), &tell("as-user-atexit"), "command = echo this is not run"]
                .map(String::from)
                .join("\n");
        let ini = sandbox.ini("hooks", &lines);
        let script = format!(
            "for s in HUP USR1 INT TERM; do trap \"echo $s >>{0}\" $s; done; trap 'exit 6' QUIT; echo ready \
             >>{0}; while :; do sleep 0.01; done",
            log.display()
        );
        for options in [&["--grace", "0"][..], &["--unshare", "fs,pid", "-e", "6"]] {
            fs::write(&log, "").unwrap();
            let arguments =
                [options, &["--ini", ini.to_str().unwrap(), "--", "bash", "-c", &script][..]].concat();
            let mut running = Running::start(init(sandbox, &arguments).stdin(Stdio::null()));
            let told = || fs::read_to_string(&log).unwrap();
            for (signal, name) in
                [(Signal::HUP, "HUP"), (Signal::USR1, "USR1"), (Signal::INT, "INT"), (Signal::TERM, "TERM")]
            {
                until("it is ready", || told().contains("ready"));
                process::signal(running.pid(), signal);
                until(name, || told().contains(name));
            }
            process::signal(running.pid(), Signal::QUIT);
            assert_eq!(running.wait(), if options.contains(&"-e") { 0 } else { 6 });
            assert_eq!(told(), "asap\nas-user\nready\nHUP\nUSR1\nINT\nTERM\nas-user-atexit\n");
        }
    });
}

#[test]
fn a_lost_mountpoint_ends_the_command_with_75() {
    sandboxed(|sandbox| {
        let (zip, mount) = (sandbox.path("app.zip"), "/app");
        run(
            "bash",
            &[
                "-c",
                &format!(
                    "cd /etc && python3 -m zipfile -c {} hostname && chown user001 {}",
                    zip.display(),
                    zip.display()
                ),
            ],
        );
        let ini = sandbox
            .ini("mount", &format!("uid = user001\nexec-as-user = fuse-zip -r {} {mount}", zip.display()));
        let mut command = init(
            sandbox,
            &[
                "--unshare",
                "fs,pid",
                "--mountpoint-check",
                mount,
                "--ini",
                ini.to_str().unwrap(),
                "--",
                "sleep",
                "1000",
            ],
        );
        let mut running = Running::start(command.stdin(Stdio::null()));
        until("the command runs", || !process::named("sleep").is_empty());
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        assert_eq!(running.wait(), 75);
        until("nothing is left", || process::named("sleep").is_empty());
    });
}
