//! An emperor that is not root for longer than it has to be, with the capabilities that its vassals need and
//! no others.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Output;

use crate::common::process::Handle;
use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::tutorial::MOUNTED;
use crate::common::{Daemon, Sandbox, eventually, process, run, sandboxed, until};
use rustix::process::Signal;

/// No database knows it, as the group of the same number.
const USER: &str = "uid = 9000\ngid = 9000";
const AGAIN: &str = "Resource temporarily unavailable (EAGAIN)";
/// What namespaces, users of vassals and the end of both take.
const JAILER: &str = "cap = kill,setgid,setpcap,setuid,sys_admin\nemperor-use-clone = fs,pid";

/// An emperor whose file has these lines.
fn emperor(sandbox: &Sandbox, lines: &str) -> Daemon {
    fs::create_dir_all(VASSALS).unwrap();
    let mut command = sandbox.program("emperor");
    command.arg(ini(sandbox, lines));
    sandbox.start("emperor", command)
}

fn ini(sandbox: &Sandbox, lines: &str) -> std::path::PathBuf {
    sandbox.ini("emperor", &format!("emperor = {VASSALS}\n{lines}"))
}

/// A line of `/proc/PID/status`, with one space between its words.
pub fn status(pid: i32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The sets of capabilities of a process: permitted, effective, inheritable, ambient, bounding.
fn capabilities(pid: i32) -> [u64; 5] {
    ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:", "CapBnd:"]
        .map(|key| u64::from_str_radix(&status(pid, key), 16).unwrap())
}

/// A command for the emperor, by a user: exit status and what it says.
fn command(sandbox: &Sandbox, user: &str, words: &[&str]) -> (i32, String) {
    let mut command =
        sandbox.wrapped(&["setpriv", "--reuid", user, "--regid", user, "--clear-groups"], "emperor");
    let Output { status, stdout, stderr } = command.args(words).output().unwrap();
    (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn it_becomes_the_user_once_everything_is_open() {
    sandboxed(|sandbox| {
        sandbox.append_to("/etc/group", "helpers:x:7777:user001\n");
        sandbox.vassal("a", "command = sleep 1000");
        let lines = "uid = user001\nadd-gid = 7778\nlogto = /run/log\nemperor-pidfile = /run/pid\n\
                     emperor-stats = /run/stats";
        let emperor = emperor(sandbox, lines);
        let [user, group] = ["-u", "-g"].map(|flag| run("id", &[flag, "user001"]).trim().to_owned());
        until("the vassal runs", || process::named("sleep").len() == 1);
        let pid = emperor.pid();
        assert_eq!(status(pid, "Uid:"), [&*user; 4].join(" "));
        assert_eq!(status(pid, "Gid:"), [&*group; 4].join(" "));
        assert_eq!(status(pid, "Groups:"), format!("{group} 7777 7778"));
        // Set-user-id programs work as for any user.
        let [kept @ .., bounding] = capabilities(pid);
        assert_eq!((kept, bounding), ([0; 4], capabilities(std::process::id() as i32)[4]));
        assert_eq!(status(process::named("sleep")[0].pid, "Uid:"), [&*user; 4].join(" "));

        for socket in ["/run/emperor.sock", "/run/stats"] {
            assert_eq!(fs::metadata(socket).unwrap().uid().to_string(), user);
        }
        let mut told = String::new();
        UnixStream::connect("/run/stats").unwrap().read_to_string(&mut told).unwrap();
        assert!(told.contains("\"a\""), "{told}");
        for user in ["0", &user] {
            assert_eq!(command(sandbox, user, &["stop", "a"]).0, 0);
            until("the vassal is gone", || process::named("sleep").is_empty());
            assert_eq!(command(sandbox, user, &["start", "a"]).0, 0);
            until("the vassal is back", || process::named("sleep").len() == 1);
        }
        assert_ne!(command(sandbox, "9001", &["stop", "a"]).0, 0);
        assert_eq!(fs::read_to_string("/run/pid").unwrap(), format!("{pid}\n"));
        emperor.stop();
        let log = fs::read_to_string("/run/log").unwrap();
        assert!(
            log.contains("emperor: without the capabilities kill,setgid,setpcap,setuid ('cap') no "),
            "{log}"
        );
        // Their directory is root's: they are left for the next one, of which there is nothing to tell.
        for file in ["/run/emperor.sock", "/run/stats", "/run/pid"] {
            assert!(fs::exists(file).unwrap() && !log.contains(&format!("remove {file}")), "{log}");
        }
        let next = self::emperor(sandbox, lines);
        until("the next one takes commands", || command(sandbox, "0", &["status"]).0 == 0);
        assert_eq!(fs::read_to_string("/run/pid").unwrap(), format!("{}\n", next.pid()));
    });
}

#[test]
fn vassals_become_other_users_in_namespaces_and_apps_get_no_capability() {
    sandboxed(|sandbox| {
        sandbox.zip();
        sandbox.vassal("zip", &format!("{MOUNTED}\ncommand = sleep 1000"));
        sandbox.vassal("own", "exec-as-user = grep CapPrm /proc/self/status\ncommand = sleep 2000");
        sandbox.vassal("kept", "cap = setgid,chown\ncommand = sleep 3000");
        sandbox
            .vassal("jail", "mount-as-root = tmpfs none /mnt\nuid = 4242\ngid = 4242\ncommand = sleep 4000");
        let emperor = emperor(sandbox, &format!("{USER}\n{JAILER}"));
        for name in ["zip", "own", "kept", "jail"] {
            emperor.wait_running(1, name);
        }
        assert_eq!(emperor.lines("no vassal can have another 'uid'"), [""; 0]);
        let jailer = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 21;
        assert_eq!(capabilities(emperor.pid()), [jailer; 5]);
        assert_eq!(status(emperor.pid(), "Uid:"), "9000 9000 9000 9000");
        let app = |time: &str| eventually(time, || process::with_argument("sleep", time).pop()).pid;
        assert_eq!(status(app("2000"), "Uid:"), "9000 9000 9000 9000");
        assert_eq!(capabilities(app("2000"))[..4], [0; 4]);
        assert_eq!(capabilities(app("3000"))[..4], [1 << 6; 4]);
        assert_eq!(status(app("4000"), "Uid:"), "4242 4242 4242 4242");
        assert_eq!(capabilities(app("4000")), [0; 5]);
        emperor.wait_for("CapPrm:\t0000000000000000");
        // Its mount is asked by its user, and the next instance can make it anew.
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        emperor.wait_for("vassal-init[zip]: mountpoint /app lost: ");
        emperor.wait_running(2, "zip");
        // One that does not answer can be ended.
        process::signal(app("4000"), Signal::STOP);
        let jail = Handle::of(emperor.pid_of("jail"));
        process::signal(emperor.pid_of("jail"), Signal::STOP);
        fs::remove_file(vassal_path("jail")).unwrap();
        emperor.wait_for("emperor: jail: not gone ");
        jail.wait();
        emperor.stop();
    });
}

#[test]
fn it_runs_files_as_their_owners() {
    sandboxed(|sandbox| {
        let path = sandbox.vassal("a", "command = sleep 1000");
        lchown(&path, Some(4242), Some(4242)).unwrap();
        let emperor = emperor(sandbox, &format!("{USER}\ncap = setgid,setuid\nemperor-tyrant"));
        let pid = emperor.wait_running(1, "a");
        assert_eq!(capabilities(emperor.pid()), [0xe0; 5]);
        assert_eq!(status(pid, "Uid:"), "4242 4242 4242 4242");
        assert_eq!(capabilities(pid)[..4], [0; 4]);
        emperor.stop();
    });
}

/// The lines of Debian's /etc/uwsgi-emperor/emperor.ini, but for the directory.
const DEBIAN: &str = "master = true\nworkers = 2\nno-orphans = true\nlog-date = true\nuid = www-data\n\
                      gid = www-data";
/// Those of Fedora's /etc/uwsgi.ini.
const FEDORA: &str = "uid = uwsgi\ngid = uwsgi\npidfile = /run/uwsgi/uwsgi.pid\n\
                      stats = /run/uwsgi/stats.sock\nchmod-socket = 660\nemperor-tyrant = true\n\
                      cap = setgid,setuid";

#[test]
fn stock_files_of_distributions_start_as_they_are() {
    sandboxed(|sandbox| {
        sandbox.append_to("/etc/passwd", "uwsgi:x:9100:9100::/run/uwsgi:/sbin/nologin\n");
        sandbox.append_to("/etc/group", "uwsgi:x:9100:\n");
        let path = sandbox.vassal("a", "command = sleep 1000");
        lchown(&path, Some(4242), Some(4242)).unwrap();
        for (lines, ours, of_vassal) in [(DEBIAN, 33, 33), (FEDORA, 9100, 4242)] {
            let emperor = emperor(sandbox, lines);
            let vassal = emperor.wait_running(1, "a");
            for (pid, uid) in [(emperor.pid(), ours), (vassal, of_vassal)] {
                assert_eq!(status(pid, "Uid:"), format!("{uid} {uid} {uid} {uid}"), "{lines}");
            }
            emperor.stop();
        }
    });
}

#[test]
fn an_upgrade_keeps_the_user_and_what_is_open() {
    sandboxed(|sandbox| {
        sandbox.vassal("a", "uid = 4242\ngid = 4242\ncommand = sleep 1000");
        let lines = format!("{USER}\n{JAILER}\nlogto = /run/log\nemperor-pidfile = /run/pid");
        let emperor = emperor(sandbox, &lines);
        until("the vassal runs", || process::named("sleep").len() == 1);
        let before = capabilities(emperor.pid());
        for user in ["0", "9000"] {
            let (status, text) = command(sandbox, user, &["upgrade"]);
            assert_eq!((status, text.contains("has taken over 1 vassal")), (0, true), "{text}");
        }
        assert_eq!(capabilities(emperor.pid()), before);
        assert_eq!(status(emperor.pid(), "Uid:"), "9000 9000 9000 9000");
        let log = fs::read_to_string("/run/log").unwrap();
        assert!(!log.contains("going on without"), "{log}");
        // It can still make jails and users.
        sandbox.vassal("b", "uid = 4243\ngid = 4243\ncommand = sleep 2000");
        until("the second runs", || process::named("sleep").len() == 2);
        for changed in [
            lines.replace("uid = 9000", "uid = 9001"),
            lines.replace("setpcap,", ""),
            lines.replace("cap = kill,setgid,setpcap,setuid,sys_admin\nemperor-use-clone = fs,pid", ""),
        ] {
            ini(sandbox, &changed);
            let (status, text) = command(sandbox, "0", &["upgrade"]);
            assert_eq!(status, 1, "{text}");
            let why = "an upgrade cannot change who the emperor is: it has to be started anew";
            let log = fs::read_to_string("/run/log").unwrap();
            assert!(log.contains(&format!("become what 'uid', 'gid' and 'cap' say: {why}")), "{log}");
            fs::write("/run/log", "").unwrap();
        }
        assert_eq!(process::named("sleep").len(), 2);
        emperor.stop();
    });
}

#[test]
fn mistakes_end_it_at_its_start() {
    sandboxed(|sandbox| {
        let tyrant =
            "'emperor-tyrant' takes the capabilities kill,setgid,setuid, which 'uid' or 'cap' leaves out";
        let clone = "'emperor-use-clone' takes the capabilities sys_admin, which 'uid' or 'cap' leaves out";
        for (lines, status, why) in [
            (
                "uid = nobody-knows",
                1,
                "emperor.ini:3:7: uid: user 'nobody-knows': does not exist in /etc/passwd",
            ),
            ("uid = 9000", 1, "uid 9000: is in no database, so it has no primary group: 'gid' is missing"),
            ("uid = user001\ncap = kil", 78, "emperor.ini:4:7: 'cap': unknown capability 'kil'"),
            ("uid = user001\nemperor-tyrant", 78, &format!("emperor.ini:4:1: {tyrant}")),
            ("uid = user001\ncap = setgid\nemperor-tyrant", 78, tyrant),
            ("uid = user001\nemperor-use-clone = pid", 78, clone),
            ("cap = kill\nemperor-use-clone = pid", 78, clone),
            (
                "vassal-init = /nonexistent",
                1,
                "emperor.ini:3:15: vassal-init: read /nonexistent: No such file",
            ),
        ] {
            let mut emperor = emperor(sandbox, lines);
            assert_eq!(emperor.wait(), status, "{lines}");
            // What is all in the file is found without a start.
            let check = sandbox.program("emperor").arg("--check").arg(sandbox.path("emperor.ini")).status();
            assert_eq!(check.unwrap().code(), Some(if status == 78 { 78 } else { 0 }), "{lines}");
            emperor.wait_for(why);
            assert!(!fs::exists("/run/emperor.sock").unwrap(), "{lines}");
        }
        let become_what = "become what 'uid', 'gid' and 'cap' say: it takes capabilities that the emperor \
            was not started with";
        let user = &["setpriv", "--reuid", "9000", "--regid", "9000", "--clear-groups"][..];
        // Root without capabilities has no more power than any other user.
        let bare_root = &["setpriv", "--inh-caps", "-all", "--bounding-set", "-all,+setuid"];
        for (wrapper, lines, why) in [
            (user, "uid = user001", become_what),
            (bare_root, "uid = user001", become_what),
            (bare_root, "cap = kill,sys_admin", become_what),
            (
                user,
                "emperor-use-clone = pid",
                "use emperor-use-clone: it takes root, or the capabilities sys_admin (cap)",
            ),
        ] {
            let mut command = sandbox.wrapped(wrapper, "emperor");
            command.arg(ini(sandbox, lines));
            let mut emperor = sandbox.start("emperor", command);
            assert_eq!(emperor.wait(), 1, "{lines}");
            emperor.wait_for(why);
        }
    });
}

#[test]
fn root_can_give_up_capabilities_for_good() {
    sandboxed(|sandbox| {
        sandbox.vassal("a", "command = sleep 1000");
        let emperor = emperor(sandbox, JAILER);
        let pid = emperor.wait_running(1, "a");
        let [permitted, effective, _, _, bounding] = capabilities(pid);
        let jailer = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 21;
        assert_eq!([permitted, effective, bounding], [jailer; 3]);
        assert_eq!(command(sandbox, "0", &["upgrade"]).0, 0);
        assert_eq!(capabilities(emperor.pid())[1], jailer);
        emperor.stop();
    });
}

#[test]
fn what_pid_1_may_not_look_at_is_not_missing() {
    sandboxed(|sandbox| {
        run("install", &["-d", "-m", "700", "-o", "user001", "/run/scratch/private"]);
        run("install", &["-o", "user001", "/usr/bin/sleep", "/run/scratch/private/app"]);
        let lines = "uid = user001\ncommand = /run/scratch/private/app 1000";
        sandbox.vassal("app", lines);
        let emperor = emperor(sandbox, &format!("{USER}\ncap = kill,setgid,setpcap,setuid"));
        emperor.wait_running(1, "app");
        sandbox.vassal("app", &format!("{lines}\nenv = A=1"));
        emperor.wait_for("emperor: app: reloaded after");
        emperor.stop();
    });
}

#[test]
fn it_says_which_files_are_left_if_no_process_can_be_had_to_remove_them() {
    sandboxed(|sandbox| {
        let emperor = emperor(sandbox, "uid = user001\nlogto = /run/log\nemperor-pidfile = /run/pid");
        let pid = emperor.pid().to_string();
        until("it is that user's", || capabilities(emperor.pid())[1] == 0);
        until("it takes commands", || command(sandbox, "0", &["status"]).0 == 0);
        let by_user = ["--reuid", "user001", "--regid", "user001", "--clear-groups", "prlimit"];
        run("setpriv", &[&by_user[..], &["--pid", &pid, "--nproc=1:1"]].concat());
        emperor.signal(Signal::TERM);
        let told = || fs::read_to_string("/run/log").unwrap();
        for file in ["/run/emperor.sock", "/run/pid"] {
            let line = format!("emperor: create process: {AGAIN}: {file} is left\n");
            until(&line, || told().contains(&line));
        }
    });
}

#[test]
fn it_names_the_limits_when_no_process_can_be_had_and_starts_the_vassal_once_one_can() {
    sandboxed(|sandbox| {
        sandbox.vassal("a", "command = sleep 1000");
        let emperor = emperor(sandbox, "uid = user001");
        emperor.wait_running(1, "a");
        let limit = |number: &str| {
            let user = ["--reuid", "user001", "--regid", "user001", "--clear-groups"];
            run("setpriv", &[&user[..], &["prlimit", "--pid", &emperor.pid().to_string(), number]].concat());
        };
        limit("--nproc=1:");
        sandbox.vassal("b", "command = sleep 1000");
        let line = emperor.wait_for("emperor: b: cannot start: create process: ");
        let limits = "pids.max, kernel.pid_max, kernel.threads-max or RLIMIT_NPROC";
        assert!(line.contains(&format!("{AGAIN}: no more processes by {limits}; next try in ")), "{line}");
        let status = || command(sandbox, "0", &["status"]).1;
        assert!(status().contains("a     running"));
        sandbox.vassal("c", "command = sleep 1000");
        until("c is refused, too", || status().matches("(EAGAIN)").count() == 2);
        assert_eq!(emperor.lines(": cannot start: ").len(), 1);
        limit("--nproc=4096:");
        emperor.wait_running(1, "b");
        emperor.wait_running(1, "c");
        emperor.wait_for(": it was the last of up to 2 that could not start");
        emperor.stop();
    });
}

/// The programs in a directory of their own, `vassal-init` with this mode.
fn programs_of_mode(sandbox: &Sandbox, mode: u32) -> [String; 2] {
    let directory = format!("/run/{mode:o}");
    fs::create_dir(&directory).unwrap();
    ["emperor", "vassal-init"].map(|name| {
        let copy = format!("{directory}/{name}");
        fs::copy(sandbox.program(name).get_program(), &copy).unwrap();
        let mode = if name == "emperor" { 0o755 } else { mode };
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode)).unwrap();
        copy
    })
}

#[test]
fn a_vassal_init_that_nobody_can_read_is_traced_by_nobody_and_makes_no_user_namespace() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("a program of another user's") {
            return;
        }
        // Not by setpriv: that has its capabilities until the program runs, and could read it.
        let as_user = |program: &str, words: &[&str]| {
            let mut command = std::process::Command::new(program);
            command.uid(1001).gid(1001).args(words);
            command
        };
        for (mode, is_readable) in [(0o755, true), (0o711, false)] {
            let [_, vassal_init] = programs_of_mode(sandbox, mode);
            let mut init = sandbox.start("init", as_user(&vassal_init, &["--", "sleep", "1000"]));
            until("the command runs", || process::named("sleep").len() == 1);
            // Who can trace a process owns what /proc has of it.
            let owner = fs::metadata(format!("/proc/{}/mem", init.pid())).unwrap().uid();
            assert_eq!(owner != 0, is_readable, "{mode:o}: {owner}");
            init.signal(Signal::TERM);
            assert_eq!(init.wait(), 143);

            let made = as_user(&vassal_init, &["--unshare", "user,fs", "--", "true"]).output().unwrap();
            let said = String::from_utf8(made.stderr).unwrap();
            assert_eq!(made.status.code(), Some(if is_readable { 0 } else { 71 }), "{mode:o}: {said}");
            assert_eq!(said.contains("/setgroups: Permission denied"), !is_readable, "{mode:o}: {said}");
        }
    });
}

#[test]
fn an_emperor_with_a_user_upgrades_with_a_vassal_init_that_it_can_read_only() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("an emperor that becomes another user") {
            return;
        }
        fs::create_dir_all(VASSALS).unwrap();
        sandbox.vassal("a", "command = sleep 1000");
        for (mode, status) in [(0o755, 0_u8), (0o711, 1)] {
            let [program, _] = programs_of_mode(sandbox, mode);
            let mut start = std::process::Command::new(&program);
            start.arg(ini(sandbox, "uid = user001"));
            let emperor = sandbox.start("emperor", start);
            emperor.wait_running(1, "a");
            let upgrade = std::process::Command::new(&program).arg("upgrade").output().unwrap();
            let said = String::from_utf8([upgrade.stdout, upgrade.stderr].concat()).unwrap();
            assert_eq!(upgrade.status.code(), Some(i32::from(status)), "{mode:o}: {said}");
            let why = emperor.lines("/vassal-init: Permission denied (EACCES)");
            assert_eq!(why.len(), usize::from(status), "{mode:o}: {why:?}");
            emperor.stop();
        }
    });
}
