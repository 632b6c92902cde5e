//! An upgrade during which something breaks: the vassals are supervised on all the same.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use crate::common::process::{self, Handle};
use crate::common::sandbox::VASSALS;
use crate::common::{Daemon, Sandbox, eventually, run, sandboxed, until};
use crate::hanging::{Remote, end, hanging};
use crate::upgrade::{STEADY, installed, replace, start, wrap};
use rustix::process::Signal;

/// A part of the emperor's configuration that the test changes.
const MORE: &str = "/etc/uwsgi/more.ini";

/// What counts the readings of the configuration.
const COUNTED: &str = "emperor-extra-extension = @(exec://echo >> /run/readings; echo .other)";

/// What a status says of an emperor that could not take its new configuration.
const STALE: &str = "The configuration is that of before the upgrade: ";

/// An upgraded emperor for which `spoil`, a line of shell, has broken something after the trial, once; and
/// the pid of its vassal `app`.
fn spoilt(sandbox: &Sandbox, spoil: &str) -> (Daemon, PathBuf, i32) {
    let program = installed(sandbox);
    sandbox.vassal("app", STEADY);
    fs::write(MORE, format!("[uwsgi]\n{COUNTED}\n")).unwrap();
    let emperor = start(sandbox, &program, &["--ini", MORE]);
    let init = emperor.wait_running(1, "app");
    // The next upgrade is that of the program behind the shell.
    let real = wrap(&program, &format!("[ -z \"$EMPEROR_STATE\" ] || {{ {spoil}; }}\nexec REAL \"$@\""));
    emperor.signal(Signal::USR2);
    emperor.wait_for("emperor: upgrade: handing 1 vassal over to the new program");
    (emperor, real, init)
}

/// Changes it in one step: it may be read at any time.
fn configure(text: &str) {
    let draft = Path::new(MORE).with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, MORE).unwrap();
}

/// How often the emperor's configuration was read.
fn readings() -> usize {
    fs::read_to_string("/run/readings").map_or(0, |text| text.lines().count())
}

/// The emperor supervises `app`, whose PID 1 is `init`, as if nothing had happened; and it takes new vassals.
fn supervises(sandbox: &Sandbox, emperor: &Daemon, init: i32) {
    assert!(process::read(init).is_some(), "the vassal has ended");
    run("touch", &[&format!("{VASSALS}/app.ini")]);
    emperor.wait_for("emperor: app: reloaded after ");
    process::signal(init, Signal::KILL);
    emperor.wait_running(2, "app");
    sandbox.vassal("late", STEADY);
    emperor.wait_running(1, "late");
    assert_eq!(sandbox.control(&["stop", "--wait", "late"]).0, 0);
}

#[test]
fn a_configuration_that_breaks_after_the_trial_costs_only_what_is_new_in_it() {
    sandboxed(|sandbox| {
        let (emperor, _, init) = spoilt(sandbox, &format!("echo 'emperor-freq = often' >> {MORE}"));
        let mistake = format!("{MORE}:3:16: 'emperor-freq': 'often' is not a whole number");
        emperor.wait_for(&format!(
            "has taken over 1 vassal, but its configuration is that of before: {mistake}"
        ));
        supervises(sandbox, &emperor, init);
        let status = sandbox.control(&["status"]).1;
        assert!(status.ends_with(&format!("{STALE}{mistake}\n")), "{status}");
        let one = sandbox.control(&["status", "app"]).1;
        assert!(!one.contains(STALE), "{one}");
        emperor.signal(Signal::USR1);
        emperor.wait_for(&format!("emperor: the configuration is that of before the upgrade: {mistake}"));
        let json = sandbox.control(&["status", "--json"]).1;
        assert!(json.contains(&format!("\"configuration_refused\":\"{mistake}\"")), "{json}");
        // It is tried again, and told once, until it is another mistake.
        let before = readings();
        until("it is tried again and again", || readings() >= before + 2);
        assert_eq!(emperor.lines(&format!("emperor: {mistake}")).len(), 1);
        configure("[uwsgi]\nemperor-freq = seldom\n");
        emperor.wait_for(&format!("emperor: {MORE}:2:16: 'emperor-freq': 'seldom' is not a whole number"));
        until("the status tells the other one", || sandbox.control(&["status"]).1.contains("'seldom'"));

        configure(&format!("[uwsgi]\n{COUNTED}\nmetrics = 127.0.0.1:9191\n"));
        until("the configuration is taken", || TcpStream::connect("127.0.0.1:9191").is_ok());
        assert!(!sandbox.control(&["status"]).1.contains(STALE));
        assert!(sandbox.control(&["status", "--json"]).1.contains("\"configuration_refused\":null"));
        assert_eq!(emperor.lines("emperor: app: started (pid ").len(), 2);
        let taken = readings();
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        assert_eq!(readings(), taken + 2, "it goes on trying");
        emperor.stop();
    });
}

#[test]
fn an_emperor_whose_configuration_broke_can_be_stopped_and_upgraded() {
    sandboxed(|sandbox| {
        let (emperor, program, init) = spoilt(sandbox, &format!("echo 'emperor-freq = often' >> {MORE}"));
        emperor.wait_for("but its configuration is that of before: ");
        // Whoever asks is told what is wrong, though the same is tried unasked.
        let (status, text) = sandbox.control(&["upgrade"]);
        assert_eq!(status, 1);
        assert!(text.starts_with("emperor: upgrade refused: "), "{text}");
        // A program that takes its time over a trial does not keep others from asking.
        replace(&program, b"#!/bin/sh\necho >> /run/tried\nexec sleep 2");
        until("it is tried unasked", || fs::exists("/run/tried").unwrap());
        let before = emperor.lines("trying the new program").len();
        assert_eq!(sandbox.control(&["upgrade"]).0, 1);
        assert_eq!(emperor.lines("trying the new program").len(), before + 1);
        assert!(process::read(init).is_some());
        emperor.stop();
    });
}

#[test]
fn an_exec_that_fails_again_and_again_is_told_once() {
    sandboxed(|sandbox| {
        let (emperor, program, init) = spoilt(sandbox, &format!("echo 'emperor-freq = often' >> {MORE}"));
        emperor.wait_for("but its configuration is that of before: ");
        // It can be executed for the trial only, and that for once: the status 119 says that it can take
        // over. A trial that has begun before the mistake is mended must not be the last.
        let real = program.with_extension("kept");
        fs::copy(&program, &real).unwrap();
        let script = |first: &str| format!("#!/bin/sh\n{first}\nexec {} \"$@\"\n", real.display());
        let once = format!("{} \"$@\"; s=$?; [ $s != 119 ] || chmod 644 \"$0\"; exit $s", real.display());
        replace(&program, script(&once).as_bytes());
        configure(&format!("[uwsgi]\n{COUNTED}\n"));
        let refused = format!("upgrade refused: execute {}: ", program.display());
        emperor.wait_for(&format!("{refused}Permission denied"));
        // Each trial puts another file in its place.
        let another = "echo >> /run/tried; cp -p \"$0\" \"$0.other\"; mv \"$0.other\" \"$0\"";
        replace(&program, script(another).as_bytes());
        until("it is tried again and again", || {
            fs::read_to_string("/run/tried").is_ok_and(|tried| tried.lines().count() > 3)
        });
        assert_eq!(emperor.lines(&format!("{refused}it has changed since it was tried")).len(), 1);
        assert!(process::read(init).is_some());
        emperor.stop();
    });
}

#[test]
fn a_file_that_is_included_and_cannot_be_read_is_no_end_of_supervision() {
    sandboxed(|sandbox| {
        fs::write("/etc/uwsgi/inner.ini", "[uwsgi]\nemperor-throttle = 10\n").unwrap();
        let (emperor, _, init) = spoilt(sandbox, &format!("echo 'include = /etc/uwsgi/gone.ini' >> {MORE}"));
        emperor.wait_for("cannot read '/etc/uwsgi/gone.ini': No such file or directory (ENOENT)");
        supervises(sandbox, &emperor, init);
        fs::rename("/etc/uwsgi/inner.ini", "/etc/uwsgi/gone.ini").unwrap();
        until("the configuration is taken", || !sandbox.control(&["status"]).1.contains(STALE));
        emperor.stop();
    });
}

#[test]
fn instances_start_with_the_vassal_init_of_before_where_the_new_one_is_gone() {
    sandboxed(|sandbox| {
        let place = sandbox.path("sbin");
        let spoil = format!("mv {0}/vassal-init {0}/away", place.display());
        let (emperor, _, init) = spoilt(sandbox, &spoil);
        emperor.wait_for("vassal-init: No such file or directory (ENOENT)");
        supervises(sandbox, &emperor, init);
        assert!(sandbox.control(&["status"]).1.contains(STALE));
        fs::rename(place.join("away"), place.join("vassal-init")).unwrap();
        until("the configuration is taken", || !sandbox.control(&["status"]).1.contains(STALE));
        emperor.stop();
    });
}

#[test]
fn vassals_of_a_relative_directory_stay_when_the_working_directory_is_gone() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        sandbox.vassal("app", STEADY);
        let away = sandbox.path("away");
        fs::create_dir(&away).unwrap();
        let mut command_line = std::process::Command::new(&program);
        let source = format!("../../..{VASSALS}");
        command_line.args(["--emperor", &source, "--emperor-freq", "1"]).current_dir(&away);
        command_line.args(["--emperor-use-clone", "fs,pid"]);
        let emperor = sandbox.start("emperor", command_line);
        let init = emperor.wait_running(1, "app");
        wrap(&program, &format!("[ -z \"$EMPEROR_STATE\" ] || rmdir {}\nexec REAL \"$@\"", away.display()));
        let (status, text) = sandbox.control(&["upgrade"]);
        let told = "has taken over 1 vassal, but its configuration is that of before: ";
        assert!(status == 1 && text.contains(told), "{status}: {text}");
        emperor.wait_for("find the working directory: No such file or directory (ENOENT)");
        emperor.wait_for("keeping what runs, next look in 1.0 s");
        fs::create_dir(&away).unwrap();
        emperor.wait_for("can be read again");
        sandbox.vassal("late", STEADY);
        emperor.wait_running(1, "late");
        assert!(process::read(init).is_some());
        emperor.stop();
    });
}

#[test]
fn an_emperor_without_any_descriptor_waits_for_one_and_hears_term_meanwhile() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        sandbox.vassal("app", STEADY);
        let mut emperor = start(sandbox, &program, &[]);
        let init = emperor.wait_running(1, "app");
        // One descriptor is left, by which the configuration can be read.
        let limit = "n=3; while [ -e /proc/$$/fd/$n ]; do n=$((n + 1)); done; ulimit -n $((n + 1))";
        let script = format!("[ -z \"$EMPEROR_STATE\" ] || {{ {limit}; }}\nexec REAL \"$@\"");
        wrap(&program, &script);
        let waits = "create epoll: Too many open files (EMFILE): trying again every 1.0 s";
        emperor.signal(Signal::USR2);
        emperor.wait_for(waits);
        assert!(process::read(init).is_some());
        let vassal = Handle::of(init);
        emperor.signal(Signal::TERM);
        assert_eq!(emperor.wait(), 1);
        emperor.wait_for("emperor: take over the vassals: SIGTERM came first");
        vassal.wait();
    });
}

/// What an upgrade that fails must leave as it was: what /proc tells of a process.
fn state_of(pid: i32) -> Vec<String> {
    let place = Path::new("/proc").join(pid.to_string());
    let text = |name: &str| fs::read_to_string(place.join(name)).unwrap();
    let link = |name: &str| fs::read_link(place.join(name)).unwrap().display().to_string();
    // Not SigQ: that counts what is queued for all processes of root on the machine.
    let wanted = [
        "SigBlk",
        "SigCgt",
        "SigIgn",
        "SigPnd",
        "Cap",
        "Uid",
        "Gid",
        "Groups",
        "Umask",
        "NoNewPrivs",
        "Seccomp",
    ];
    let status = text("status");
    let lines = status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
    let mut state: Vec<_> = lines.map(str::to_owned).collect();
    state.extend([text("environ"), text("limits"), text("cmdline"), text("comm"), link("cwd"), link("exe")]);
    let mut files: Vec<_> = fs::read_dir(place.join("fd"))
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let target = fs::read_link(entry.path()).ok()?;
            let number = entry.file_name();
            let info = fs::read_to_string(place.join("fdinfo").join(&number)).ok()?;
            let flags = info.lines().find(|line| line.starts_with("flags:"))?.to_owned();
            Some(format!("{} {} {flags}", number.display(), target.display()))
        })
        .collect();
    files.sort();
    state.extend(files);
    state
}

#[test]
fn an_upgrade_whose_exec_fails_leaves_everything_as_it_was() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        sandbox.vassal("app", &format!("{STEADY}\nlisten = /run/kept.sock"));
        let options = ["--emperor-pidfile", "/run/pid", "--metrics", "127.0.0.1:9191"];
        let emperor = start(sandbox, &program, &options);
        let init = emperor.wait_running(1, "app");
        let good = fs::read(&program).unwrap();
        // It is there for the trial only.
        wrap(&program, "rm \"$0\"\nexec REAL \"$@\"");
        until("it has settled", || {
            let first = state_of(emperor.pid());
            first.iter().any(|line| line.contains("memfd:looks at")) && first == state_of(emperor.pid())
        });
        let before = state_of(emperor.pid());
        let pid_file = fs::read_to_string("/run/pid").unwrap();
        emperor.signal(Signal::USR2);
        let failed = format!("execute {}: No such file or directory (ENOENT)", program.display());
        emperor.wait_for(&format!("emperor: upgrade refused: {failed}; everything stays as it is"));
        until("everything is as it was", || state_of(emperor.pid()) == before);
        assert_eq!(fs::read_to_string("/run/pid").unwrap(), pid_file);
        for untrue in ["takes over", "taken over"] {
            assert_eq!(emperor.lines(untrue), [""; 0]);
        }
        assert!(process::read(init).is_some());
        assert_eq!(sandbox.control(&["reload", "--wait", "app"]).0, 0);
        replace(&program, &good);
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        emperor.stop();
    });
}

#[test]
fn an_upgrade_whose_exec_fails_while_a_directory_hangs_has_that_looked_at_anew() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        let program = installed(sandbox);
        sandbox.vassal("app", STEADY);
        remote.write("far.ini", &format!("[uwsgi]\n{STEADY}\n"));
        let emperor = start(sandbox, &program, &["--emperor", remote.path, "--emperor-freq", "1"]);
        let inits = ["app", "far"].map(|name| emperor.wait_running(1, name));
        wrap(&program, "rm \"$0\"\nexec REAL \"$@\"");
        remote.hang();
        emperor.wait_for("directory /run/remote/vassals does not answer since ");
        let scout = Handle::of(eventually("it hangs", || hanging("emperor-scout").pop()));
        emperor.signal(Signal::USR2);
        emperor.wait_for(&format!("emperor: upgrade refused: execute {}: ", program.display()));
        scout.wait();
        until("another one hangs", || hanging("emperor-scout").len() == 1);
        remote.write("new.ini", &format!("[uwsgi]\n{STEADY}\n"));
        remote.answer();
        emperor.wait_running(1, "new");
        run("touch", &["/run/remote/vassals/far.ini"]);
        emperor.wait_for("emperor: far: reloaded after ");
        assert_eq!(["app", "far"].map(|name| emperor.pid_of(name)), inits);
        end(emperor);
    });
}

/// Executes its arguments without the sockets for which WANTED is true. Their numbers are the first that are
/// free, so that what the new program opens would get them.
const LOSE: &str = r#"
import os, socket, sys
for number in map(int, os.listdir("/proc/self/fd")):
    try:
        s = socket.socket(fileno=number)
    except OSError:
        continue
    if WANTED:
        while (spare := os.dup(0)) < number:
            os.set_inheritable(spare, True)
        os.close(spare)
        s.close()
    else:
        s.detach()
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Lets the new program find only the sockets for which `wanted`, an expression about the socket `s`, is
/// false.
fn lose_sockets(sandbox: &Sandbox, program: &Path, wanted: &str) {
    let lose = sandbox.file("lose.py", &LOSE.replace("WANTED", wanted));
    let lose = format!("[ -z \"$EMPEROR_STATE\" ] || exec python3 {} REAL \"$@\"", lose.display());
    wrap(program, &format!("{lose}\nexec REAL \"$@\""));
}

#[test]
fn a_socket_on_demand_that_an_upgrade_has_lost_is_bound_anew() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        // An instance that was up for a second is waited for again at once.
        let app = "import socket, time; c = socket.socket(fileno=3).accept()[0]; c.send(b'served'); \
                   c.close(); time.sleep(1.1)";
        let path = sandbox.vassal("app", &format!("command = python3 -c \"{app}\""));
        fs::write(path.with_extension("ini.sock"), "127.0.0.1:8090").unwrap();
        let emperor = start(sandbox, &program, &["--emperor-on-demand-ext", ".sock"]);
        let served = || {
            let mut text = String::new();
            TcpStream::connect("127.0.0.1:8090").unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "served");
        };
        let waits = "emperor: app: waiting for a connection to 127.0.0.1:8090";
        emperor.wait_for_nth(1, waits);
        served();
        // From now on the emperor knows the version of the file, which is no news for the next program.
        emperor.wait_for_nth(2, waits);
        lose_sockets(sandbox, &program, "s.getsockname() == ('127.0.0.1', 8090)");
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        emperor.wait_for("emperor: app: wait for a connection: the socket is lost; next try in ");
        emperor.wait_for_nth(3, waits);
        served();
        emperor.stop();
    });
}

#[test]
fn a_vassal_whose_link_an_upgrade_has_lost_is_started_anew_and_leaves_no_descriptor() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        sandbox.vassal("app", &format!("{STEADY}\nlisten = /run/kept.sock"));
        let emperor = start(sandbox, &program, &[]);
        let init = Handle::of(emperor.wait_running(1, "app"));
        // Without their numbers, which are other ones in the new program; and without what the test has left
        // open to it, files and pipes.
        const OURS: [&str; 3] = ["socket:", "anon_inode:", "/memfd:looks at"];
        let descriptors = || {
            let entries = fs::read_dir(format!("/proc/{}/fd", emperor.pid())).unwrap();
            let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            let kinds = targets.map(|path| path.display().to_string().split('[').next().unwrap().to_owned());
            let mut ours: Vec<_> =
                kinds.filter(|kind| OURS.iter().any(|our| kind.starts_with(our))).collect();
            ours.sort();
            ours
        };
        until("it watches", || descriptors().iter().any(|kind| kind.contains("memfd:looks at")));
        let before = descriptors();
        lose_sockets(sandbox, &program, "s.type == socket.SOCK_SEQPACKET");
        emperor.signal(Signal::USR2);
        emperor.wait_for("take over a descriptor: Bad file descriptor (EBADF): starting it anew");
        emperor.wait_running(2, "app");
        init.wait();
        until("no descriptor of the first instance is left", || descriptors() == before);
        emperor.stop();
    });
}

#[test]
fn a_program_that_is_replaced_after_its_trial_does_not_cost_the_vassals() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        sandbox.vassal("app", STEADY);
        // An upgrade waits for such commands between the trial and the exec.
        let waits = "[ ! -e /run/hold ] || touch /run/begun; while [ -e /run/hold ]; do sleep 0.02; done";
        let emperor = start(sandbox, &program, &["--exec-as-emperor", waits]);
        let init = emperor.wait_running(1, "app");
        let good = fs::read(&program).unwrap();
        fs::write("/run/hold", "").unwrap();
        sandbox.vassal("other", STEADY);
        until("the command runs", || Path::new("/run/begun").exists());
        wrap(&program, "[ -z \"$EMPEROR_TRIAL\" ] || touch /run/tried\nexec REAL \"$@\"");
        emperor.signal(Signal::USR2);
        until("the program is tried", || Path::new("/run/tried").exists());
        replace(&program, b"#!/bin/sh\nexit 1\n");
        fs::remove_file("/run/hold").unwrap();
        let refused = format!("execute {}: it has changed since it was tried", program.display());
        emperor.wait_for(&format!("emperor: upgrade refused: {refused}; everything stays as it is"));
        assert!(process::read(init).is_some(), "the vassal has ended");
        replace(&program, &good);
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        emperor.stop();
    });
}
