//! A command notices nothing of the life that the init has: what it gets and how it is ended is the same
//! whether options are given or not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::common::command::{IN_NAMESPACES, LIVES, Running, ended, init};
use crate::common::{Sandbox, eventually, process, run, sandboxed, until};
use rustix::process::Signal;

/// All lives, with the arguments that follow the options.
fn lives<'a>(command: &'a [&str]) -> impl Iterator<Item = Vec<&'a str>> {
    LIVES.into_iter().map(move |options| [options, &["--"], command].concat())
}

/// The path of our program, for a shell.
fn program(sandbox: &Sandbox) -> String {
    init(sandbox, &[]).get_program().display().to_string()
}

#[test]
fn a_command_has_the_environment_of_its_starter() {
    sandboxed(|sandbox| {
        let variables = [
            "A=1",
            "LISTEN_FDNAMES=web",
            "LISTEN_FDS=1",
            "LISTEN_PID=4000000",
            "LISTEN_PIDFDID=4000",
            "NOTIFY_SOCKET=/run/starter",
            "PATH=/usr/bin:/bin",
            "UWSGI_EMPEROR_FD=77",
            "UWSGI_VASSAL_X=1",
            "VASSAL_LOG=text",
            "WATCHDOG_PID=4000000",
            "WATCHDOG_USEC=1",
        ];
        let wrapper = [&["env", "-i"][..], &variables].concat();
        for mut arguments in lives(&["env"]).chain([[IN_NAMESPACES, &["--", "env"]].concat()]) {
            let mut expected = variables.to_vec();
            for options in [&[][..], &["--env", "A=2", "--unenv", "WATCHDOG_USEC"]] {
                if !options.is_empty() {
                    expected[0] = "A=2";
                    expected.retain(|variable| *variable != "WATCHDOG_USEC=1");
                }
                arguments.splice(0..0, options.iter().copied());
                let (status, out, err) = ended(sandbox.wrapped(&wrapper, "vassal-init").args(&arguments));
                let mut has: Vec<_> = out.lines().collect();
                has.sort_unstable();
                assert_eq!((status, has), (0, expected.clone()), "{arguments:?}: {err}");
            }
        }
    });
}

#[test]
fn variables_that_name_the_init_name_the_command() {
    sandboxed(|sandbox| {
        let ini = sandbox.ini("hook", "exec-asap = echo hook: ${LISTEN_PID-none} ${WATCHDOG_PID-none}");
        let hook = ["--ini", ini.to_str().unwrap(), "--", "true"];
        let wrapper = ["sh", "-c", "LISTEN_PID=$$ WATCHDOG_PID=4000000 exec \"$@\"", "starter"];
        let (_, out, err) = ended(sandbox.wrapped(&wrapper, "vassal-init").args(hook));
        assert_eq!(out, "hook: none 4000000\n", "the sockets are not for a hook: {err}");
        let show = ["sh", "-c", "echo $LISTEN_PID $WATCHDOG_PID $SYSTEMD_EXEC_PID $$"];
        for arguments in lives(&show).chain([[IN_NAMESPACES, &["--"], &show].concat()]) {
            // As the starter of the init sets them: sockets for it, and a heartbeat of another process, or
            // the other way.
            for (set, expected) in [
                ("LISTEN_PID=$$ WATCHDOG_PID=4000000 SYSTEMD_EXEC_PID=$$", [true, false, true]),
                ("LISTEN_PID=4000000 WATCHDOG_PID=$$ SYSTEMD_EXEC_PID=4000000", [false, true, false]),
                ("LISTEN_PID=$$ WATCHDOG_PID=$$ SYSTEMD_EXEC_PID=$$", [true, true, true]),
            ] {
                let line = format!("{set} exec \"$@\"");
                let wrapper = ["sh", "-c", &line, "starter"];
                let (status, out, err) = ended(sandbox.wrapped(&wrapper, "vassal-init").args(&arguments));
                let said: Vec<_> = out.split_whitespace().collect();
                let expected = expected.map(|is_its| if is_its { said[3] } else { "4000000" });
                assert_eq!((status, &said[..3]), (0, &expected[..]), "{set} {arguments:?}: {err}");
            }
        }
    });
}

#[test]
fn a_sigchld_that_a_process_sends_reaches_the_command() {
    sandboxed(|sandbox| {
        let out = sandbox.path("out");
        let program =
            "import signal, sys; print('up', flush=True); sys.exit(signal.sigwait([signal.SIGCHLD]))";
        let command = ["env", "--block-signal=CHLD", "python3", "-c", program];
        for arguments in lives(&command).chain([[IN_NAMESPACES, &["--"], &command].concat()]) {
            let mut starter = init(sandbox, &arguments);
            starter.stdin(Stdio::null()).stdout(fs::File::create(&out).unwrap());
            let mut running = Running::start(&mut starter);
            until("the command runs", || fs::read_to_string(&out).is_ok_and(|text| text == "up\n"));
            process::signal(running.pid(), Signal::CHILD);
            assert_eq!(running.wait(), Signal::CHILD.as_raw(), "{arguments:?}");
        }
    });
}

#[test]
fn the_init_holds_nothing_that_the_command_has_closed() {
    sandboxed(|sandbox| {
        let pipe = sandbox.path("pipe");
        run("mkfifo", &[pipe.to_str().unwrap()]);
        let script = "exec 7>&-; exec sleep 1000";
        for arguments in
            lives(&["sh", "-c", script]).chain([[IN_NAMESPACES, &["--", "sh", "-c", script]].concat()])
        {
            let line = format!("exec \"$@\" 7>{}", pipe.display());
            let mut command = Command::new("bash");
            command.args(["-c", &line, "starter", &program(sandbox)]).args(&arguments).stdin(Stdio::null());
            let mut running = Running::start(&mut command);
            // It ends when nobody has the other end of the pipe any more.
            assert_eq!(Running::start(Command::new("cat").arg(&pipe)).wait(), 0, "{arguments:?}");
            until("the command runs", || !process::named("sleep").is_empty());
            process::signal(running.pid(), Signal::TERM);
            assert_eq!(running.wait(), 143, "{arguments:?}");
        }
    });
}

#[test]
fn a_command_that_is_started_again_has_its_descriptors_again() {
    sandboxed(|sandbox| {
        let place = sandbox.path("mount");
        fs::create_dir(&place).unwrap();
        let place = place.to_str().unwrap();
        let options = ["--unshare", "fs,pid", "--mountpoint-check", place, "--mountpoint-lost", "remount"];
        let (out, ready, log) = (sandbox.path("out"), sandbox.path("ready"), sandbox.path("log"));
        let script = "echo again >&7; exec sleep 1000";
        let line = format!("exec \"$@\" 5>{} 7>{}", ready.display(), out.display());
        // Only for the phase of the user the configuration need not be read again.
        for phase in ["as-user", "as-root"] {
            let ini = sandbox.ini("mount", &format!("exec-{phase} = mount -t tmpfs none {place}"));
            let mut command = Command::new("bash");
            command.args(["-c", &line, "starter", &program(sandbox)]).args(options);
            command.args(["--ini", ini.to_str().unwrap(), "--ready-fd", "5", "--", "sh", "-c", script]);
            command.stdin(Stdio::null()).stderr(fs::File::create(&log).unwrap());
            let mut running = Running::start(&mut command);
            let starts = || fs::read_to_string(&out).map_or(0, |text| text.lines().count());
            until("the first start", || starts() == 1);
            let pid =
                eventually("the command", || process::named("sleep").first().map(|process| process.pid));
            process::enter(pid, &["umount", place]);
            until("the second start", || starts() == 2);
            process::signal(running.pid(), Signal::TERM);
            assert_eq!(running.wait(), 143, "{phase}");
            // By the second start a descriptor of the init may have the number of the first one.
            let log = fs::read_to_string(&log).unwrap();
            assert!(!log.contains("ready-fd"), "{log}");
            assert_eq!(fs::read_to_string(&ready).unwrap(), "\n", "{phase}");
        }
    });
}

#[test]
fn a_ready_fd_that_is_not_open_is_no_descriptor_of_the_init() {
    sandboxed(|sandbox| {
        let expected = "vassal-init: write to ready-fd 3: Bad file descriptor (EBADF)";
        for options in LIVES.into_iter().chain([IN_NAMESPACES]) {
            let line = "exec \"$@\" 3>&-";
            let mut command = Command::new("bash");
            command.args(["-c", line, "starter", &program(sandbox)]).args(options);
            let (status, _, err) = ended(command.args(["--ready-fd", "3", "--", "sh", "-c", "exit 5"]));
            assert_eq!((status, err.lines().next()), (5, Some(expected)), "{options:?}: {err}");
        }
    });
}

#[test]
fn a_starter_that_waits_at_the_ready_fd_sees_its_end() {
    sandboxed(|sandbox| {
        for options in LIVES.into_iter().chain([IN_NAMESPACES]) {
            let (reader, writer) = std::io::pipe().unwrap();
            let line = "exec \"$@\" 7>&1 >/dev/null";
            let mut command = Command::new("bash");
            command.args(["-c", line, "starter", &program(sandbox)]).args(options);
            command.args(["--ready-fd", "7", "--", "sleep", "1000"]);
            let mut running = Running::start(command.stdin(Stdio::null()).stdout(writer));
            drop(command);
            let said = fs::File::create(sandbox.path("said")).unwrap();
            let mut reading = Running::start(Command::new("cat").stdin(reader).stdout(said));
            assert_eq!(reading.wait(), 0, "{options:?}");
            assert_eq!(fs::read_to_string(sandbox.path("said")).unwrap(), "\n", "{options:?}");
            process::only("sleep");
            process::signal(running.pid(), Signal::TERM);
            assert_eq!(running.wait(), 143);
        }
    });
}

#[test]
fn filters_that_refuse_to_wait_do_not_hold_up_the_end() {
    sandboxed(|sandbox| {
        // Profiles that were recorded with another init have only the call that it uses.
        for calls in [
            &[libc::SYS_waitid][..],
            &[libc::SYS_rt_sigtimedwait],
            &[libc::SYS_signalfd4],
            &[libc::SYS_rt_sigtimedwait, libc::SYS_signalfd4],
        ] {
            for errno in [libc::ENOSYS, libc::EPERM] {
                for arguments in lives(&["sh", "-c", "exit 5"]) {
                    let arguments = [&["--grace", "1000"][..], &arguments].concat();
                    let (status, _, err) =
                        ended(sandbox.filtered(calls, errno, "vassal-init").args(&arguments));
                    assert_eq!(status, 5, "{calls:?} {arguments:?}: {err}");
                    // Once, and only if there is no other way to hear signals.
                    let told = err.matches("create the signal descriptor: ").count();
                    let is_deaf =
                        calls.len() == 2 || (calls == [libc::SYS_signalfd4] && arguments.contains(&"--user"));
                    assert_eq!(told, usize::from(is_deaf), "{calls:?} {arguments:?}: {err}");
                    assert!(!err.contains("stuck"), "{err}");
                }
            }
        }
    });
}

/// A program that becomes root, whoever starts it, and runs `sleep` as such.
fn root_for_all(sandbox: &Sandbox) -> String {
    let program = sandbox.path("setpriv");
    fs::copy("/usr/bin/setpriv", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    program.display().to_string()
}

#[test]
fn a_signal_that_does_not_reach_the_command_is_told() {
    sandboxed(|sandbox| {
        let root = root_for_all(sandbox);
        let user = ["setpriv", "--reuid", "9000", "--regid", "9000", "--clear-groups"];
        for options in [&[][..], &["--umask", "022"], &["--chdir", "/"]] {
            let mut command = sandbox.wrapped(&user, "vassal-init");
            command.args(options).args([
                "--",
                &root,
                "--reuid",
                "0",
                "--regid",
                "0",
                "--clear-groups",
                "sleep",
                "1000",
            ]);
            let daemon = sandbox.start("init", command);
            let app = eventually("the command", || {
                process::named("sleep").first().filter(|process| process.uid == 0).map(|process| process.pid)
            });
            process::signal(daemon.pid(), Signal::TERM);
            daemon.wait_for("hand on SIGTERM: Operation not permitted (EPERM)");
            process::signal(app, Signal::KILL);
            let mut daemon = daemon;
            assert_eq!(daemon.wait(), 137, "{options:?}");
            fs::remove_file(sandbox.path("init.log")).unwrap();
        }
    });
}

#[test]
fn what_leaves_its_session_is_found_without_proc_or_not_called_stuck() {
    sandboxed(|sandbox| {
        let left = sandbox.path("left");
        fs::write(&left, "").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o666)).unwrap();
        let script = "setsid sh -c 'trap \"\" TERM; echo $$ >/run/scratch/left; exec sleep 1000' \
                      >/dev/null 2>&1 & \
                      while ! [ -s /run/scratch/left ]; do sleep 0.01; done";
        let without_proc =
            ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "starter"];
        let user = ["setpriv", "--reuid", "9000", "--regid", "9000", "--clear-groups"];
        for options in [&[][..], &["--umask", "022"]] {
            for (user, is_found) in [(&[][..], true), (&user, false)] {
                let mut command = sandbox.wrapped(&[&without_proc, user].concat(), "vassal-init");
                let (status, _, err) =
                    ended(command.args(options).args(["--grace", "50ms", "--", "sh", "-c", script]));
                assert_eq!(status, 0, "{options:?}: {err}");
                assert!(!err.contains("stuck"), "{options:?}: {err}");
                let what = "processes are left that no signal reaches: /proc does not show them";
                assert_eq!(err.contains(what), !is_found, "{options:?}: {err}");
                let pid = fs::read_to_string(&left).unwrap().trim().parse().unwrap();
                if is_found {
                    // What was killed may hang in the kernel for longer than it is waited for.
                    until("it is gone", || process::read(pid).is_none());
                } else {
                    assert!(process::read(pid).is_some(), "{options:?}: {err}");
                }
                process::kill_if_there(pid);
                fs::write(&left, "").unwrap();
            }
        }
    });
}

#[test]
fn an_app_that_no_signal_reaches_is_not_called_stuck_either() {
    sandboxed(|sandbox| {
        let root = root_for_all(sandbox);
        let app = format!("{root} --reuid 0 --regid 0 --clear-groups sleep 1000");
        let ini =
            sandbox.ini("vassal", &format!("command = {app}\nno-new-privs = false\nstop-timeout = 50ms"));
        let user = ["setpriv", "--reuid", "9000", "--regid", "9000", "--clear-groups"];
        let mut command = sandbox.wrapped(&user, "vassal-init");
        let mut vassal = sandbox.start("vassal", {
            command.arg(ini);
            command
        });
        let is_app = |process: &process::Process| process.uid == 0;
        let app = eventually("the app", || process::named("sleep").into_iter().find(is_app)).pid;
        process::wait_asleep(app);
        process::signal(vassal.pid(), Signal::TERM);
        let left = format!("after SIGKILL, and is left: pid {app} (sleep, S (sleeping))");
        vassal.wait_for(&left);
        assert_eq!(vassal.wait(), 143);
        assert!(vassal.lines("stuck").is_empty(), "{}", vassal.log());
        process::signal(app, Signal::KILL);
    });
}

#[test]
fn a_command_that_unmounts_is_blamed_for_nothing_else() {
    sandboxed(|sandbox| {
        let place = sandbox.path("mount");
        fs::create_dir(&place).unwrap();
        let place = place.to_str().unwrap();
        // It is busy while the prober looks at it.
        let umount = format!("until umount {place} 2>/dev/null; do sleep 0.01; done");
        for script in [format!("{umount}; exec sleep 1000"), format!("({umount} &); exec sleep 1000")] {
            run("mount", &["-t", "tmpfs", "none", place]);
            let arguments = ["--mountpoint-check", place, "--", "sh", "-c", &script];
            let (status, _, err) = ended(&mut init(sandbox, &arguments));
            assert_eq!(status, 75, "{err}");
            let lost =
                format!("vassal-init: mountpoint {place} lost: no longer mounted; destroying the instance");
            // There is no mount to be taken away any more, which is no error.
            assert_eq!(err.lines().skip(1).collect::<Vec<_>>(), [lost], "{err}");
        }
    });
}
