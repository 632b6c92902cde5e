//! What every process of an emperor and of its vassals has, at each stage, as one table: identity, rights,
//! descriptors, places, session and terminal. A line that changes here is a decision. (The kernel shows
//! nobody the session keyring of another process: see `inherited`.)

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use crate::common::process::{self, Process};
use crate::common::tutorial::EMPEROR_INI;
use crate::common::{PATIENCE, eventually, run, sandboxed};
use rustix::process::Signal;

/// All capabilities of this machine, as /proc writes them.
const ALL: &str = "all";

fn field(status: &str, name: &str) -> String {
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).expect(name);
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a descriptor leads to, without numbers.
fn kind(target: &str) -> String {
    let plain: String = target.chars().filter(|letter| !letter.is_ascii_digit()).collect();
    plain.trim_end_matches(":[]").trim_end_matches(" (deleted)").replace("anon_inode:", "")
}

/// What the standard descriptors of a process lead to. A `screen` is a terminal that it can only write to.
fn standard(pid: i32) -> String {
    let one = |number: u32| {
        let Ok(target) = fs::read_link(format!("/proc/{pid}/fd/{number}")) else { return "none".to_owned() };
        let about = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        match kind(&target.display().to_string()).as_str() {
            "/dev/null" => "null",
            "/dev/pts/" if field(&about, "flags").ends_with('1') => "screen",
            "/dev/pts/" => "terminal",
            log if log.ends_with(".log") => "log",
            other => other,
        }
        .to_owned()
    };
    [0, 1, 2].map(one).join(",")
}

/// What is decided for a process. Its rights: ids; permitted capabilities and bounding set; no_new_privs and
/// seccomp; the signals that it ignores; whose its memory is. Its places: whether it leads a session, and has
/// a terminal; root and working directory; the standard descriptors, then others.
fn state(pid: i32) -> [String; 2] {
    let text = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap().display().to_string();
    let status = text("status");
    let all = field(&fs::read_to_string("/proc/self/status").unwrap(), "CapBnd");
    let caps = |name| match field(&status, name) {
        bits if bits == all => ALL.to_owned(),
        bits => format!("{:x}", u64::from_str_radix(&bits, 16).unwrap()),
    };
    let ids = |name| {
        let all: BTreeSet<_> = field(&status, name).split(' ').map(str::to_owned).collect();
        all.into_iter().collect::<Vec<_>>().join(",")
    };
    assert_eq!(field(&status, "CapPrm"), field(&status, "CapEff"), "{status}");
    let stat = text("stat");
    let stat: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let session = if stat[3] == pid.to_string() { "leader" } else { "member" };
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let files = files.filter_map(|file| {
        let file = file.ok()?;
        let number: u32 = file.file_name().to_str()?.parse().ok()?;
        let target = fs::read_link(file.path()).ok()?;
        (number > 2).then(|| kind(&target.display().to_string()))
    });
    // PID 1 of a command opens that one when there is more than signals to wait for.
    let files = files.filter(|file| file != "[signalfd]");
    let files: Vec<_> = files.collect::<BTreeSet<_>>().into_iter().collect();
    let (uid, gid) = (ids("Uid"), ids("Gid"));
    // Without those that C libraries keep to themselves: posix_spawn(3) ignores these in a child.
    let ignored = u64::from_str_radix(&field(&status, "SigIgn"), 16).unwrap() & !(0b111 << 31);
    let owner = fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid();
    let rights = format!(
        "{uid}:{gid}:{} prm={} bnd={} nnp={} seccomp={} ign={ignored:x} mem={owner}",
        ids("Groups"),
        caps("CapPrm"),
        caps("CapBnd"),
        field(&status, "NoNewPrivs"),
        field(&status, "Seccomp"),
    );
    let tty = if stat[4] == "0" { "no" } else { "yes" };
    let (root, cwd, standard, files) = (link("root"), link("cwd"), standard(pid), files.join(" "));
    [rights, format!("{session} tty={tty} {root} {cwd} {standard} {files}").trim_end().to_owned()]
}

/// The process with this command line.
fn running(command: &str) -> Process {
    eventually(format_args!("{command} runs"), || {
        let is_it = |process: &Process| {
            fs::read(format!("/proc/{}/cmdline", process.pid))
                .is_ok_and(|words| String::from_utf8_lossy(&words).replace('\0', " ").trim_end() == command)
        };
        process::all().into_iter().find(is_it)
    })
}

/// A process by name, with its rights and places.
type Row<'a> = (&'a str, i32, &'a str, &'a str);

/// Compares each with its line, for as long as a start may still have something open.
fn assert_table(rows: &[Row<'_>]) {
    let seen =
        || rows.iter().map(|row| format!("{}: {}", row.0, state(row.1).join(" | "))).collect::<Vec<_>>();
    let line = |&(name, _, rights, places): &Row<'_>| format!("{name}: {rights} | {places}");
    let expected: Vec<_> = rows.iter().map(line).collect();
    let start = Instant::now();
    let seen = loop {
        let seen = seen();
        if seen == expected || start.elapsed() > PATIENCE / 4 {
            break seen;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(seen, expected, "seen:\n{}", seen.join("\n"));
}

#[test]
fn every_process_of_a_vassal_has_what_the_table_says() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("a memory that is root's") {
            return;
        }
        let mount = sandbox.faulty().command("/app", "");
        let lines = format!("uid = user001\nexec-as-user = {mount}\nmountpoint-check = /app\n");
        sandbox.vassal("user", &format!("{lines}exec-pre-app = sleep 1002 &\ncommand = sleep 1001"));
        sandbox.vassal("root", "uid = root\ncommand = sleep 1003");
        sandbox.vassal("bare", "uid = root\ncap-drop = all\ncommand = sleep 1004");
        let emperor = sandbox.emperor(&[]);
        for name in ["user", "root", "bare"] {
            emperor.wait_running(1, name);
        }
        let [hook, app, root, bare] = [1002, 1001, 1003, 1004].map(|time| running(&format!("sleep {time}")));
        assert_table(&[
            (
                "PID 1 of a user",
                app.parent,
                "0:0: prm=1e0 bnd=all nnp=0 seccomp=0 ign=1000 mem=0",
                "leader tty=no / / null,log,log /proc /proc//mountinfo [timerfd] pipe socket",
            ),
            (
                "prober",
                process::only("vassal-probe").pid,
                "1001:1001:1001 prm=0 bnd=all nnp=0 seccomp=0 ign=1000 mem=0",
                "member tty=no / /proc [timerfd],socket,log",
            ),
            (
                "FUSE daemon",
                process::only("faulty-fuse").pid,
                "1001:1001:1001 prm=0 bnd=all nnp=0 seccomp=0 ign=1000 mem=1001",
                "member tty=no / /etc/uwsgi/vassals /dev/fuse,null,null",
            ),
            (
                "left by a hook",
                hook.pid,
                "1001:1001:1001 prm=0 bnd=all nnp=0 seccomp=0 ign=6 mem=1001",
                "member tty=no / /etc/uwsgi/vassals null,log,log",
            ),
            (
                "app",
                app.pid,
                "1001:1001:1001 prm=0 bnd=0 nnp=1 seccomp=0 ign=0 mem=1001",
                "member tty=no / /etc/uwsgi/vassals null,log,log socket",
            ),
            (
                "PID 1 of root",
                root.parent,
                "0:0: prm=all bnd=all nnp=0 seccomp=0 ign=1000 mem=0",
                "leader tty=no / / null,log,log /proc pipe socket",
            ),
            (
                "app, root",
                root.pid,
                "0:0:0 prm=all bnd=all nnp=1 seccomp=0 ign=0 mem=0",
                "member tty=no / /etc/uwsgi/vassals null,log,log socket",
            ),
            (
                "PID 1 of bare root",
                bare.parent,
                "0:0: prm=all bnd=all nnp=0 seccomp=0 ign=1000 mem=0",
                "leader tty=no / / null,log,log /proc pipe socket",
            ),
            (
                "app, root without capabilities",
                bare.pid,
                "0:0:0 prm=0 bnd=0 nnp=1 seccomp=0 ign=0 mem=0",
                "member tty=no / /etc/uwsgi/vassals null,log,log socket",
            ),
        ]);
        emperor.stop();
    });
}

#[test]
fn every_process_of_an_owner_has_what_the_table_says() {
    sandboxed(|sandbox| {
        let file = sandbox.vassal("app", "command = sleep 1001");
        std::os::unix::fs::chown(&file, Some(4242), Some(4343)).unwrap();
        let emperor = sandbox.emperor(&["--emperor-tyrant"]);
        emperor.wait_running(1, "app");
        let app = running("sleep 1001");
        assert_table(&[
            (
                "PID 1 of an owner",
                app.parent,
                "4242:4343:4343 prm=0 bnd=all nnp=0 seccomp=0 ign=1000 mem=0",
                "leader tty=no / / null,log,log /proc pipe socket",
            ),
            (
                "app of an owner",
                app.pid,
                "4242:4343:4343 prm=0 bnd=all nnp=1 seccomp=0 ign=0 mem=4242",
                "member tty=no / /etc/uwsgi/vassals null,log,log socket",
            ),
        ]);
        emperor.stop();
    });
}

#[test]
fn every_process_of_a_shells_vassal_has_what_the_table_says() {
    sandboxed(|sandbox| {
        let user = "1001:1001:1001 prm=0 bnd=all nnp=0 seccomp=0 ign=0 mem=1001";
        for (options, init, app) in [
            (&["--user", "user001"][..], "0:0: prm=1e0 bnd=all nnp=0 seccomp=0 ign=1000 mem=0", user),
            (
                &["--user", "user001", "--unshare", "fs,pid"],
                "0:0: prm=1e0 bnd=all nnp=0 seccomp=0 ign=1000 mem=0",
                user,
            ),
            (
                &["--cap", "net_bind_service"],
                "0:0:4,6 prm=all bnd=all nnp=0 seccomp=0 ign=1000 mem=0",
                "0:0:4,6 prm=400 bnd=400 nnp=0 seccomp=0 ign=0 mem=0",
            ),
        ] {
            let mut command = sandbox.wrapped(&["setpriv", "--groups", "4,6"], "vassal-init");
            command.args(options).args(["--", "sleep", "1001"]);
            let mut vassal = sandbox.start("vassal", command);
            let process = running("sleep 1001");
            let names = [format!("PID 1 of {options:?}"), format!("app of {options:?}")];
            let (ours, its) = ("member tty=no / / null,log,log /proc pipe", "member tty=no / / null,log,log");
            assert_table(&[(&names[0], process.parent, init, ours), (&names[1], process.pid, app, its)]);
            vassal.signal(Signal::TERM);
            vassal.wait();
        }
    });
}

/// Answers the emperor's question for an address late, for one vassal.
const ASKED: &str = "#!/bin/sh\n[ $1 != slow.ini ] || exec sleep 1008\n";

#[test]
fn every_process_of_an_emperor_has_what_the_table_says() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("a memory that is root's") {
            return;
        }
        fs::create_dir("/run/image").unwrap();
        run("mksquashfs", &["/run/image", "/run/image.squashfs", "-quiet", "-no-progress"]);
        let asked = sandbox.file("asked", ASKED);
        fs::set_permissions(&asked, fs::Permissions::from_mode(0o755)).unwrap();
        let fuse = "hook-as-user = fuse:/app squashfuse /run/image.squashfs {}";
        let lines = format!("uid = user001\nexec-as-root = sleep 1005 &\n{fuse}\ncommand = sleep 1001");
        sandbox.vassal("one", &lines);
        let reads = "words = @(exec://[ ! -e /run/scratch/slow ] || exec sleep 1009; echo 1002)";
        let checked = format!("uid = user001\n{reads}\ncommand = sleep %(words)");
        sandbox.vassal("checked", &checked);
        fs::write("/etc/uwsgi/emperor.ini", EMPEROR_INI).unwrap();
        let mut command = sandbox.wrapped(&["setpriv", "--groups", "4,6"], "emperor");
        command.args(["/etc/uwsgi/emperor.ini", "--emperor-on-demand-exec"]).arg(asked);
        command.args(["--exec-as-emperor", "sleep 1006", "--hook-as-vassal", "exec:sleep 1007 &"]);
        let emperor = sandbox.start("emperor", command);
        for name in ["one", "checked"] {
            emperor.wait_running(1, name);
        }
        sandbox.file("slow", "");
        sandbox.vassal("checked", &checked);
        sandbox.vassal("slow", "command = sleep 1003");
        let [root, as_emperor, as_vassal, asked, reading] =
            [1005, 1006, 1007, 1008, 1009].map(|time| running(&format!("sleep {time}")));
        assert_table(&[
            (
                "emperor",
                emperor.pid(),
                "0:0:4,6 prm=all bnd=all nnp=0 seccomp=0 ign=1000 mem=0",
                "member tty=no / / null,log,log / /dev/null /memfd:looks at \
                 /memfd:vassal-init [eventpoll] [pidfd] pipe socket",
            ),
            (
                "scout",
                process::only("emperor-scout").pid,
                "0:0:4,6 prm=all bnd=all nnp=0 seccomp=0 ign=1000 mem=0",
                "member tty=no / / null,log,log /memfd:looks at inotify socket",
            ),
            (
                "reader",
                process::only("emperor-reader").pid,
                "0:0:4,6 prm=all bnd=all nnp=0 seccomp=0 ign=1000 mem=0",
                "member tty=no / / null,log,log socket",
            ),
            (
                "as-emperor",
                as_emperor.pid,
                "0:0:4,6 prm=all bnd=all nnp=0 seccomp=0 ign=0 mem=0",
                "member tty=no / / null,log,log",
            ),
            (
                "asked for an address",
                asked.pid,
                "0:0:4,6 prm=all bnd=all nnp=0 seccomp=0 ign=0 mem=0",
                "member tty=no / /etc/uwsgi/vassals null,pipe,log",
            ),
            (
                "check of a configuration",
                reading.parent,
                "0:0:4,6 prm=all bnd=all nnp=0 seccomp=0 ign=1000 mem=0",
                "leader tty=no / /etc/uwsgi/vassals null,log,log [pidfd] pipe socket",
            ),
            (
                "command in a configuration",
                reading.pid,
                "0:0:4,6 prm=all bnd=all nnp=0 seccomp=0 ign=0 mem=0",
                "member tty=no / /etc/uwsgi/vassals null,pipe,log",
            ),
            (
                "left by as-vassal",
                as_vassal.pid,
                "0:0:4,6 prm=all bnd=all nnp=0 seccomp=0 ign=6 mem=0",
                "member tty=no / /etc/uwsgi/vassals null,log,log",
            ),
            (
                "left by as-root",
                root.pid,
                "0:0:4,6 prm=all bnd=all nnp=0 seccomp=0 ign=6 mem=0",
                "member tty=no / /etc/uwsgi/vassals null,log,log",
            ),
            (
                "FUSE daemon that was handed its mount",
                process::only("squashfuse").pid,
                "1001:1001:1001 prm=0 bnd=all nnp=0 seccomp=0 ign=0 mem=1001",
                "leader tty=no / / null,null,null /dev/fuse /run/image.squashfs",
            ),
        ]);
        emperor.stop();
    });
}

/// A starter with a terminal, which ignores SIGXFSZ.
const ON_TERMINAL: &str = "import pty, sys; pty.spawn(sys.argv[1:])";

#[test]
fn every_process_of_an_emperor_on_a_terminal_has_what_the_table_says() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("a memory that is root's") {
            return;
        }
        sandbox.vassal("user", "uid = user001\nexec-as-user = sleep 1002 &\ncommand = sleep 1001");
        fs::write("/etc/uwsgi/emperor.ini", EMPEROR_INI).unwrap();
        let mut command =
            sandbox.wrapped(&["python3", "-c", ON_TERMINAL, "setpriv", "--clear-groups"], "emperor");
        command.args(["/etc/uwsgi/emperor.ini", "--exec-as-emperor", "sleep 1006"]);
        let mut starter = sandbox.start("emperor", command);
        starter.wait_running(1, "user");
        let [hook, app, as_emperor] = [1002, 1001, 1006].map(|time| running(&format!("sleep {time}")));
        let emperor = process::only("emperor").pid;
        assert_table(&[
            (
                "emperor",
                emperor,
                "0:0: prm=all bnd=all nnp=0 seccomp=0 ign=1001000 mem=0",
                "leader tty=yes / / terminal,screen,screen / /dev/null /dev/pts/ /memfd:looks at \
                 /memfd:vassal-init [eventpoll] [pidfd] socket",
            ),
            (
                "scout",
                process::only("emperor-scout").pid,
                "0:0: prm=all bnd=all nnp=0 seccomp=0 ign=1001000 mem=0",
                "member tty=yes / / terminal,screen,screen /memfd:looks at inotify socket",
            ),
            (
                "reader",
                process::only("emperor-reader").pid,
                "0:0: prm=all bnd=all nnp=0 seccomp=0 ign=1001000 mem=0",
                "member tty=yes / / terminal,screen,screen socket",
            ),
            (
                "as-emperor",
                as_emperor.pid,
                "0:0: prm=all bnd=all nnp=0 seccomp=0 ign=0 mem=0",
                "member tty=no / / terminal,screen,screen",
            ),
            (
                "PID 1 of a user",
                app.parent,
                "0:0: prm=1e0 bnd=all nnp=0 seccomp=0 ign=1000 mem=0",
                "leader tty=no / / null,screen,screen /dev/pts/ /proc pipe socket",
            ),
            (
                "left by a hook",
                hook.pid,
                "1001:1001:1001 prm=0 bnd=all nnp=0 seccomp=0 ign=6 mem=1001",
                "member tty=no / /etc/uwsgi/vassals null,screen,screen",
            ),
            (
                "app",
                app.pid,
                "1001:1001:1001 prm=0 bnd=0 nnp=1 seccomp=0 ign=0 mem=1001",
                "member tty=no / /etc/uwsgi/vassals null,screen,screen socket",
            ),
        ]);
        process::signal(emperor, Signal::TERM);
        starter.wait();
    });
}
