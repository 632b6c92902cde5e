//! The emperor becomes its new program, and its vassals do not notice.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::process::{self, Handle};
use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::{Daemon, PATIENCE, Sandbox, run, sandboxed, until};
use rustix::process::Signal;

/// A vassal that runs until it is asked to stop.
pub const STEADY: &str = "command = sleep 1000";

/// The programs where they can be replaced.
pub fn installed(sandbox: &Sandbox) -> PathBuf {
    fs::create_dir_all(VASSALS).unwrap();
    let place = sandbox.path("sbin");
    fs::create_dir(&place).unwrap();
    for name in ["emperor", "vassal-init"] {
        fs::copy(sandbox.program(name).get_program(), place.join(name)).unwrap();
    }
    place.join("emperor")
}

/// An emperor of the installed program.
pub fn start(sandbox: &Sandbox, program: &Path, options: &[&str]) -> Daemon {
    let mut command = Command::new(program);
    command.args(["--emperor", VASSALS, "--emperor-use-clone", "fs,pid"]).args(options);
    sandbox.start("emperor", command)
}

/// Puts a program into the place of another, as package managers do it.
pub fn replace(program: &Path, by: &[u8]) {
    let new = program.with_extension("new");
    fs::write(&new, by).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, program).unwrap();
}

/// Puts a script, of the shell if it does not say otherwise, in the place of a program; REAL in it stands for
/// the program itself, which it returns.
pub fn wrap(program: &Path, script: &str) -> PathBuf {
    let mut real = program.as_os_str().to_owned();
    real.push(".real");
    let real = PathBuf::from(real);
    fs::copy(program, &real).unwrap();
    let script = script.replace("REAL", real.to_str().unwrap());
    let first = if script.starts_with("#!") { "" } else { "#!/bin/sh\n" };
    replace(program, format!("{first}{script}\n").as_bytes());
    real
}

#[test]
fn an_upgrade_keeps_vassals_histories_and_sockets() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        let up = sandbox.vassal("up", STEADY);
        // An app could be up for a second on a busy machine, and would come back at once.
        sandbox.vassal("down", "exec-as-root = false\ncommand = true");
        sandbox.vassal("held", STEADY);
        sandbox.vassal(
            "starting",
            "exec-as-root = perl -e 'select undef, undef, undef, 0.1 until -e q(/run/go)'\n\
             command = sleep 2000",
        );
        let options = [
            "--emperor-throttle",
            "36000000",
            "--emperor-max-throttle",
            "36000000",
            "--metrics",
            "127.0.0.1:9191",
        ];
        let emperor = start(sandbox, &program, &options);
        let init = emperor.wait_running(1, "up");
        emperor.wait_running(1, "held");
        assert_eq!(sandbox.control(&["stop", "held"]).0, 0);
        emperor.wait_for("emperor: held: stopped; ");
        emperor.wait_for("emperor: down: setup failed in as-root");
        emperor.wait_for("emperor: starting: started (pid ");
        let app = process::only("sleep").pid;
        let descriptors = || -> Vec<_> {
            let entries = fs::read_dir(format!("/proc/{}/fd", emperor.pid())).unwrap();
            entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).collect()
        };

        replace(&program, &fs::read(&program).unwrap());
        for round in 1..=3 {
            let (status, text) = sandbox.control(&["upgrade"]);
            assert_eq!((status, text.contains(" has taken over 4 vassals")), (0, true), "{text}");
            emperor.wait_for_nth(round, " has taken over 4 vassals");
        }
        // What it had from its starter is gone by now, and with the first scan everything is there.
        until("it watches", || {
            descriptors().iter().any(|target| target.to_string_lossy().contains("memfd:looks at"))
        });
        let before = descriptors().len();
        emperor.signal(Signal::USR2);
        emperor.wait_for_nth(4, "has taken over 4 vassals");
        // Among those of before may be the last command's connection.
        until("descriptors do not pile up", || descriptors().len() <= before);
        let table = sandbox.control(&["status"]).1;
        for (name, state) in
            [("up", "running"), ("down", "backoff"), ("held", "stopped"), ("starting", "starting")]
        {
            let line = table.lines().find(|line| line.starts_with(name)).unwrap();
            assert!(line.contains(state), "{line}");
        }
        assert!(table.contains("9h") && table.contains("setup failed in as-root"), "{table}");
        assert_eq!(process::only("sleep").pid, app, "the app was touched");
        for name in ["up", "down", "held", "starting"] {
            assert_eq!(emperor.lines(&format!("emperor: {name}: started (pid ")).len(), 1, "{name}");
        }
        assert_eq!(emperor.lines("reload"), [""; 0]);

        // They are all still obeyed, watched and heard.
        fs::write("/run/go", "").unwrap();
        emperor.wait_running(1, "starting");
        run("touch", &[up.to_str().unwrap()]);
        emperor.wait_for("emperor: up: reloaded after ");
        assert_eq!(emperor.pid_of("up"), init);
        process::signal(init, Signal::KILL);
        emperor.wait_for("emperor: up: vassal-init killed by SIGKILL without a reason; ");
        assert_eq!(sandbox.control(&["start", "held"]).0, 0);
        emperor.wait_running(2, "held");
        fs::remove_file(vassal_path("held")).unwrap();
        emperor.wait_for_nth(2, "emperor: held: stopped; ");
        fs::remove_file("/run/go").unwrap();
        emperor.stop();
        assert!(!fs::exists("/run/emperor.sock").unwrap(), "the socket is left");
    });
}

#[test]
fn what_happens_between_two_programs_is_seen_by_the_second() {
    sandboxed(|sandbox| between_two_programs(sandbox, "", ""));
}

#[test]
fn what_happens_between_two_programs_is_seen_also_where_the_starter_ignored_the_end_of_children() {
    sandboxed(|sandbox| between_two_programs(sandbox, "signal.signal(signal.SIGCHLD, signal.SIG_IGN)", ""));
}

#[test]
fn a_death_that_a_script_in_the_place_of_the_program_has_taken_in_is_found_out() {
    sandboxed(|sandbox| {
        between_two_programs(sandbox, "", "os.waitpid(pid, 0)");
    });
}

/// Changes the vassals while the emperor is a script that becomes the new program. `before` is run by Python
/// before the first program, `after` by the script after the death of one vassal.
fn between_two_programs(sandbox: &Sandbox, before: &str, after: &str) {
    let program = installed(sandbox);
    for name in ["changed", "removed", "killed", "steady"] {
        sandbox.vassal(name, STEADY);
    }
    let mut starter = Command::new("python3");
    let exec = "os.execv(sys.argv[1], sys.argv[1:])";
    starter.args(["-c", &format!("import os, signal, sys\n{before}\n{exec}")]).arg(&program).args([
        "--emperor",
        VASSALS,
        "--emperor-use-clone",
        "fs,pid",
        "--emperor-freq",
        "1",
        "--emperor-throttle",
        "1",
    ]);
    let emperor = sandbox.start("emperor", starter);
    for name in ["changed", "removed", "killed", "steady"] {
        emperor.wait_running(1, name);
    }
    let gone = Handle::of(emperor.pid_of("removed"));
    // A shell would reap every child of the emperor that has ended.
    let script = format!(
        "#!/usr/bin/env python3\n\
         import os, signal, sys\n\
         if 'EMPEROR_STATE' in os.environ:\n\
         \x20   os.utime('{VASSALS}/changed.ini')\n\
         \x20   os.remove('{VASSALS}/removed.ini')\n\
         \x20   with open('{VASSALS}/appeared.ini', 'w') as file:\n\
         \x20       file.write('[uwsgi]\\n{STEADY}\\n')\n\
         \x20   pid = {}\n\
         \x20   os.kill(pid, signal.SIGKILL)\n\
         \x20   os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\n\
         \x20   {after}\n\
         os.execv('REAL', sys.argv)",
        emperor.pid_of("killed")
    );
    wrap(&program, &script);
    assert_eq!(sandbox.control(&["upgrade"]).0, 0);
    emperor.wait_for("emperor: changed: reloaded after ");
    gone.wait();
    emperor.wait_running(1, "appeared");
    emperor.wait_running(2, "killed");
    emperor.signal(Signal::USR1);
    emperor.wait_for("emperor: steady: running, up ");
    assert_eq!(emperor.lines("emperor: steady: started (pid ").len(), 1);
    assert_eq!(emperor.lines("emperor: steady: reload"), [""; 0]);
    let lost = emperor.lines(" is gone, reaped by another program").len();
    assert_eq!(lost, usize::from(!after.is_empty()));
    until("the vassal is forgotten", || !sandbox.control(&["status"]).1.contains("removed"));
    emperor.stop();
}

#[test]
fn a_program_that_is_not_fit_is_refused_and_everything_stays_as_it_is() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        let good = fs::read(&program).unwrap();
        sandbox.vassal("app", STEADY);
        fs::write("/etc/uwsgi/more.ini", "[uwsgi]\n").unwrap();
        let emperor = start(sandbox, &program, &["--ini", "/etc/uwsgi/more.ini"]);
        let init = emperor.wait_running(1, "app");
        let refuses = |why: &str| {
            let (status, text) = sandbox.control(&["upgrade"]);
            assert_eq!(status, 1, "{text}");
            let whole = format!("{why}; everything stays as it is\n");
            assert!(text.starts_with("emperor: upgrade refused: ") && text.ends_with(&whole), "{text}");
            assert!(process::read(init).is_some());
            assert_eq!(sandbox.control(&["status"]).0, 0);
        };
        let name = program.display();
        let not_executed = |why: &str| refuses(&format!("execute {name}: {why}"));
        replace(&program, b"garbage");
        not_executed("Exec format error (ENOEXEC)");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
        not_executed("Permission denied (EACCES)");
        fs::remove_file(&program).unwrap();
        not_executed("No such file or directory (ENOENT)");
        for (bytes, why) in [
            (&b"#!/bin/sh\nexit 0\n"[..], "exited with status 0"),
            (b"#!/bin/sh\nkill -SEGV $$\n", "killed by SIGSEGV"),
            // One that does not know what it is handed would go on as an emperor.
            (b"#!/bin/sh\nexec sleep 1000\n", "killed by SIGKILL"),
        ] {
            replace(&program, bytes);
            refuses(&format!("{name} {why}"));
        }
        replace(&program, &good);
        fs::write("/etc/uwsgi/more.ini", "[uwsgi]\nemperor-freq = often\n").unwrap();
        refuses(&format!("{name} exited with status 78"));
        emperor.wait_for("/etc/uwsgi/more.ini:2:16: ");
        fs::write("/etc/uwsgi/more.ini", "[uwsgi]\n").unwrap();
        let vassal_init = program.with_file_name("vassal-init");
        fs::remove_file(&vassal_init).unwrap();
        refuses(&format!("{name} exited with status 1"));
        for (bytes, why) in [
            (&b"garbage"[..], "execute vassal-init: Exec format error (ENOEXEC)"),
            (&fs::read("/bin/true").unwrap(), "try vassal-init: it does not say its version"),
        ] {
            replace(&vassal_init, bytes);
            refuses(&format!("{name} exited with status 1"));
            emperor.wait_for(why);
        }
        replace(&vassal_init, &fs::read(sandbox.program("vassal-init").get_program()).unwrap());
        let (status, text) = sandbox.control(&["upgrade"]);
        assert_eq!(status, 0, "{text}");
        emperor.stop();
    });
}

#[test]
fn what_an_upgraded_emperor_cannot_have_does_not_cost_its_vassals() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        sandbox.vassal("app", STEADY);
        fs::write("/etc/uwsgi/more.ini", "[uwsgi]\n").unwrap();
        let emperor = start(sandbox, &program, &["--ini", "/etc/uwsgi/more.ini"]);
        let init = emperor.wait_running(1, "app");
        let _taken = std::net::TcpListener::bind("127.0.0.1:9191").unwrap();
        let more = "[uwsgi]\nmetrics = 127.0.0.1:9191\nlogto = /nonexistent/log\nemperor-pidfile = \
            /nonexistent/pid\n";
        fs::write("/etc/uwsgi/more.ini", more).unwrap();
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        for what in [
            "open /nonexistent/log: No such file or directory (ENOENT)",
            "listen on 127.0.0.1:9191: Address already in use (EADDRINUSE)",
            "open /nonexistent/pid: No such file or directory (ENOENT)",
        ] {
            emperor.wait_for(&format!("emperor: {what}: going on without"));
        }
        assert!(process::read(init).is_some());
        // Its control socket is the one it had.
        assert!(sandbox.control(&["status"]).1.contains("running"));
        emperor.stop();
    });
}

#[test]
fn an_upgrade_does_not_need_what_a_start_would_not() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        sandbox.vassal("app", STEADY);
        let away = sandbox.path("away");
        fs::create_dir(&away).unwrap();
        // In a user namespace, so that its limit is its own.
        let mut command_line = Command::new("unshare");
        command_line.args(["-Ur", program.to_str().unwrap(), "--emperor", VASSALS, "--emperor-freq", "1"]);
        command_line.args(["--emperor-use-clone", "fs,pid"]).current_dir(&away);
        let emperor = sandbox.start("emperor", command_line);
        let init = emperor.wait_running(1, "app");
        fs::remove_dir(&away).unwrap();
        let (status, text) = sandbox.control(&["upgrade"]);
        assert_eq!((status, text.contains("has taken over 1 vassal")), (0, true), "{text}");

        let pid = emperor.pid().to_string();
        let lower = "echo 0 > /proc/sys/user/max_inotify_instances";
        run("nsenter", &["-U", "--preserve-credentials", "-t", &pid, "sh", "-c", lower]);
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        emperor.wait_for("create inotify: Too many open files (EMFILE); changes are found only every 1.0 s");
        sandbox.vassal("late", STEADY);
        emperor.wait_running(1, "late");
        assert!(process::read(init).is_some());
        emperor.stop();
    });
}

#[test]
fn what_the_new_configuration_must_have_is_tried_before() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        sandbox.vassal("app", STEADY);
        fs::write("/etc/uwsgi/more.ini", "[uwsgi]\n").unwrap();
        let mut command_line = Command::new("setpriv");
        command_line.args(["--bounding-set=-setgid", "--inh-caps=-setgid", program.to_str().unwrap()]);
        command_line.args(["--emperor", VASSALS, "--ini", "/etc/uwsgi/more.ini"]);
        let emperor = sandbox.start("emperor", command_line);
        let init = emperor.wait_running(1, "app");
        fs::write("/etc/uwsgi/more.ini", "[uwsgi]\nemperor-tyrant = true\n").unwrap();
        assert_eq!(sandbox.control(&["upgrade"]).0, 1);
        emperor
            .wait_for("emperor: use emperor-tyrant: it takes root, or the capabilities kill,setgid,setuid");
        assert!(process::read(init).is_some());
        assert!(sandbox.control(&["status"]).1.contains("running"));
        emperor.stop();
    });
}

#[test]
fn the_release_that_a_link_leads_to_now_is_run_and_the_old_pid_file_goes() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        let (old, link) = (program.parent().unwrap(), sandbox.path("current"));
        let new = sandbox.path("new");
        run("cp", &["-r", old.to_str().unwrap(), new.to_str().unwrap()]);
        std::os::unix::fs::symlink(old, &link).unwrap();
        sandbox.vassal("app", STEADY);
        let pid_file = |name: &str| format!("[uwsgi]\nemperor-pidfile = /run/{name}\n");
        fs::write("/etc/uwsgi/more.ini", pid_file("first")).unwrap();
        let emperor = start(sandbox, &link.join("emperor"), &["--ini", "/etc/uwsgi/more.ini"]);
        emperor.wait_running(1, "app");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&new, &link).unwrap();
        let exe = || fs::read_link(format!("/proc/{}/exe", emperor.pid())).unwrap();
        for name in ["second", "second", "third"] {
            fs::write("/etc/uwsgi/more.ini", pid_file(name)).unwrap();
            let (status, text) = sandbox.control(&["upgrade"]);
            assert_eq!(status, 0, "{text}");
            assert_eq!(exe(), new.join("emperor"));
            let names = ["first", "second", "third"];
            let there = || names.map(|name| fs::exists(format!("/run/{name}")).unwrap());
            until("the old pid file goes", || there() == names.map(|other| other == name));
        }
        // Without the link it is where it was.
        fs::remove_file(&link).unwrap();
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        assert_eq!(exe(), new.join("emperor"));
        emperor.stop();
    });
}

#[test]
fn whoever_waits_for_an_upgrade_is_not_thrown_out_by_those_who_look() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        sandbox.vassal("app", STEADY);
        let hold = "while ! [ -e /run/go ]; do sleep 0.1; done";
        let emperor = start(sandbox, &program, &["--metrics", "127.0.0.1:9191", "--exec-as-emperor", hold]);
        emperor.wait_running(1, "app");
        let mut upgrade = sandbox.program("emperor");
        let upgrade = upgrade.arg("upgrade").stdout(std::process::Stdio::piped()).spawn().unwrap();
        emperor.wait_for("emperor: upgrade: trying the new program");
        let lookers: Vec<_> =
            (0..40).map(|_| std::net::TcpStream::connect("127.0.0.1:9191").unwrap()).collect();
        // Accepted after all of them.
        assert_eq!(sandbox.control(&["status"]).0, 0);
        fs::write("/run/go", "").unwrap();
        let output = upgrade.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("has taken over 1 vassal"), "{text}");
        drop(lookers);
        emperor.stop();
    });
}

#[test]
fn who_is_being_answered_is_not_hung_up_on() {
    sandboxed(|sandbox| {
        let mut program = installed(sandbox);
        sandbox.vassal("app", STEADY);
        let emperor = start(sandbox, &program, &[]);
        let init = emperor.wait_running(1, "app");
        let trial = "REAL \"$@\"; s=$?; echo > /run/tried; exit $s";
        let connect = || UnixStream::connect("/run/emperor.sock").unwrap();
        for upgrade in 1.. {
            // That of the program behind the shell.
            program =
                wrap(&program, &format!("if [ -n \"$EMPEROR_TRIAL\" ]; then {trial}; fi\nexec REAL \"$@\""));
            let (mut client, silent) = (connect(), connect());
            // Accepted after the two.
            assert_eq!(sandbox.control(&["status"]).0, 0);
            emperor.signal(Signal::USR2);
            let mut untried = Instant::now();
            until("the new program is tried", || {
                let now = Instant::now();
                let is_tried = fs::exists("/run/tried").unwrap();
                untried = if is_tried { untried } else { now };
                is_tried
            });
            // An emperor that hangs up has done so once it knows how the trial went, and sleeps.
            let is_known =
                |process: &process::Process| process.pid == init || process.comm.starts_with("emperor-");
            let is_trial = |process: &process::Process| process.parent == emperor.pid() && !is_known(process);
            until("the trial is reaped", || !process::all().iter().any(is_trial));
            process::wait_asleep(emperor.pid());
            let sent = client.write_all(b"status").and_then(|()| client.shutdown(Shutdown::Write));
            // Who has not asked after a second is hung up on. If the test itself was late, it begins again.
            if untried.elapsed() > Duration::from_millis(500) {
                emperor.wait_for_nth(upgrade, " has taken over 1 vassal");
                fs::remove_file("/run/tried").unwrap();
                continue;
            }
            sent.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.contains("app"), "{answer}");
            // One who says nothing is not waited for until he is thrown out, which takes 5 s.
            let answered = Instant::now();
            emperor.wait_for_nth(upgrade, " has taken over 1 vassal");
            assert!(answered.elapsed() < Duration::from_secs(4));
            drop(silent);
            break;
        }
        emperor.stop();
    });
}

#[test]
fn vassals_of_an_upgraded_emperor_start_as_those_of_the_first() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        let shell = format!("ulimit -Sn 333; trap '' PIPE; exec {} \"$@\"", program.display());
        let mut command_line = Command::new("bash");
        command_line.args(["-c", &shell, "bash", "--emperor", VASSALS, "--emperor-use-clone", "fs,pid"]);
        let emperor = sandbox.start("emperor", command_line);
        until("the emperor listens", || sandbox.control(&["status"]).0 == 0);
        let look = "command = sh -c 'ulimit -Sn; grep Sig[BI] /proc/self/status; env | grep -v \
            ^NOTIFY_SOCKET; exec sleep 1000'";
        let said = |name: &str, emperor: &Daemon| {
            let before = emperor.log().len();
            sandbox.vassal(name, look);
            emperor.wait_running(1, name);
            until("the app has said all", || process::named("sleep").len() == name.len());
            let log = emperor.log()[before..].to_owned();
            let lines = log
                .lines()
                .filter(|line| !line.starts_with("emperor: ") && !line.starts_with("vassal-init["));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let first = said("a", &emperor);
        assert!(first.contains(&"333".to_owned()), "{first:?}");
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        assert_eq!(said("bb", &emperor), first);
        emperor.stop();
    });
}

#[test]
fn vassals_keep_the_names_that_they_have() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        let place = |name: &str| Path::new(VASSALS).join(name).join("app.ini");
        for name in ["one", "two"] {
            fs::create_dir(Path::new(VASSALS).join(name)).unwrap();
            fs::write(place(name), format!("[uwsgi]\n{STEADY}\n")).unwrap();
        }
        let source = |text: String| fs::write("/etc/uwsgi/more.ini", format!("[uwsgi]\n{text}\n")).unwrap();
        source(format!("emperor = {VASSALS}/*/app.ini"));
        let mut command_line = Command::new(&program);
        command_line.args(["--emperor-use-clone", "fs,pid", "--ini", "/etc/uwsgi/more.ini"]);
        let emperor = sandbox.start("emperor", command_line);
        let inits = ["one/app", "two/app"].map(|name| emperor.wait_running(1, name));
        // By these each would be 'app'.
        source(format!("emperor = {VASSALS}/one\nemperor = {VASSALS}/two"));
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        run("touch", &[place("two").to_str().unwrap()]);
        emperor.wait_for("emperor: two/app: reloaded after ");
        assert_eq!(sandbox.control(&["stop", "--wait", "one/app"]).0, 0);
        assert_eq!(sandbox.control(&["start", "--wait", "one/app"]).0, 0);
        fs::remove_file(place("one")).unwrap();
        emperor.wait_for("emperor: one/app: file removed: stopping");
        until("the vassal is forgotten", || !sandbox.control(&["status"]).1.contains("one/app"));
        let (status, text) = sandbox.control(&["reload", "one/app"]);
        assert_eq!((status, &*text), (1, "emperor: there is no vassal 'one/app'\n"));
        fs::write(place("one"), format!("[uwsgi]\n{STEADY}\n")).unwrap();
        emperor.wait_running(1, "app");
        assert!(process::read(inits[1]).is_some());
        assert_eq!(emperor.lines("has to wait"), [""; 0]);
        emperor.stop();
    });
}

#[test]
fn vassals_of_a_directory_that_cannot_be_read_stay() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        for name in ["closed", "left"] {
            let directory = Path::new("/run").join(name);
            fs::create_dir(&directory).unwrap();
            std::os::unix::fs::chown(&directory, Some(1), None).unwrap();
            fs::write(directory.join(name).with_extension("ini"), format!("[uwsgi]\n{STEADY}\n")).unwrap();
        }
        let more = "[uwsgi]\nemperor = /run/closed\nemperor-freq = 1\n";
        fs::write("/etc/uwsgi/more.ini", format!("{more}emperor = /run/left\n")).unwrap();
        let mut command_line = Command::new("setpriv");
        let without = "-dac_override,-dac_read_search";
        command_line.args(["--bounding-set", without, "--inh-caps", without, program.to_str().unwrap()]);
        command_line.args(["--emperor-use-clone", "fs,pid", "--ini", "/etc/uwsgi/more.ini"]);
        let emperor = sandbox.start("emperor", command_line);
        let init = emperor.wait_running(1, "closed");
        emperor.wait_running(1, "left");
        fs::set_permissions("/run/closed", fs::Permissions::from_mode(0o711)).unwrap();
        fs::write("/etc/uwsgi/more.ini", more).unwrap();
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        // That of both is decided at the same time.
        emperor.wait_for("emperor: left: its directory is not watched any more: stopping");
        emperor.wait_for("emperor: left: stopped; ");
        assert!(process::read(init).is_some());
        assert_eq!(emperor.lines("emperor: closed: its directory"), [""; 0]);
        fs::set_permissions("/run/closed", fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file("/run/closed/closed.ini").unwrap();
        emperor.wait_for("emperor: closed: file removed: stopping");
        emperor.stop();
    });
}

#[test]
fn who_has_given_heartbeats_is_watched_on() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        let app = "perl -MSocket -e 'socket my $s, AF_UNIX, SOCK_DGRAM, 0; my $to = \
            pack_sockaddr_un(\"\\0\" . substr $ENV{NOTIFY_SOCKET}, 1); \
             send $s, \"WATCHDOG=1\\nSTATUS=at work\", 0, $to; sleep 1000'";
        sandbox.vassal("app", &format!("command = {app}"));
        let emperor = start(sandbox, &program, &["--emperor-required-heartbeat", "10"]);
        let status = || sandbox.control(&["status", "app"]).1;
        until("the app has said its status", || status().contains("at work"));
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        assert!(status().contains("at work"), "{}", status());
        emperor.wait_for("emperor: app: killed: the app has given no heartbeat for 10.0 s; up ");
        emperor.stop();
    });
}

#[test]
fn a_reload_that_is_asked_for_before_the_first_scan_is_not_put_off() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        sandbox.vassal("app", STEADY);
        let emperor = start(sandbox, &program, &[]);
        emperor.wait_running(1, "app");
        // It is blocked, so that it is for the program behind the shell.
        wrap(&program, "[ -z \"$EMPEROR_STATE\" ] || kill -HUP $$\nexec REAL \"$@\"");
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        emperor.wait_for(": reloading 1 vassal");
        emperor.wait_for("emperor: app: reload: reloading");
        emperor.wait_for("emperor: app: reloaded after ");
        assert_eq!(emperor.lines("file is back"), [""; 0]);
        emperor.stop();
    });
}

#[test]
fn who_was_ready_is_ready_after_an_upgrade() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        let app = "import os, socket, time; to = os.environ['NOTIFY_SOCKET'].replace('@', chr(0), 1); \
                   socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', to); time.sleep(1000)";
        sandbox.vassal("app", &format!("command = python3 -c \"{app}\""));
        let systemd = UnixDatagram::bind("/run/notify").unwrap();
        systemd.set_read_timeout(Some(PATIENCE)).unwrap();
        let hear = |wanted: &str| {
            let mut buffer = [0; 4096];
            until(wanted, || {
                let count = systemd.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}"));
                buffer[..count].starts_with(wanted.as_bytes())
            });
        };
        let mut new = Command::new(&program);
        new.args(["--emperor", VASSALS, "--emperor-use-clone", "fs,pid"]).env("NOTIFY_SOCKET", "/run/notify");
        let emperor = sandbox.start("emperor", new);
        emperor.wait_for("emperor: app: ready to accept requests after ");
        hear("READY=1");
        let is_ready = || sandbox.control(&["status", "--json"]).1.contains("\"ready\":true");
        assert!(is_ready());
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        assert!(is_ready());
        hear("READY=1");
        // The reload that systemd waits for is not answered by the program that began it.
        let init = emperor.pid_of("app");
        process::signal(init, Signal::STOP);
        emperor.signal(Signal::HUP);
        hear("RELOADING=1");
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        hear("READY=1");
        process::signal(init, Signal::CONT);
        emperor.wait_for_nth(2, "emperor: app: ready to accept requests after ");
        emperor.stop();
    });
}

#[test]
fn a_vassal_that_waits_is_waited_for_where_the_new_configuration_says() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        sandbox.vassal("app", STEADY);
        let more = sandbox.path("more.ini");
        let configure = |line: &str| fs::write(&more, format!("[uwsgi]\n{line}\n")).unwrap();
        let waits = |place: &str| format!("emperor: app: waiting for a connection to {place}");
        configure("emperor-on-demand-directory = /run/scratch");
        let emperor = start(sandbox, &program, &["--ini", more.to_str().unwrap()]);
        emperor.wait_for(&waits("/run/scratch/app.socket"));
        configure("emperor-on-demand-directory = /run");
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        emperor.wait_for(&waits("/run/app.socket"));
        until("the old socket's file goes", || !Path::new("/run/scratch/app.socket").exists());
        // A command may say something else than the one before.
        for place in ["/run/one", "/run/two"] {
            configure(&format!("emperor-on-demand-exec = echo {place}; :"));
            assert_eq!(sandbox.control(&["upgrade"]).0, 0);
            emperor.wait_for(&waits(place));
        }
        configure("");
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        emperor.wait_running(1, "app");
        emperor.stop();
    });
}
