//! Files of vassals on a filesystem that hangs: who is not concerned does not notice.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::process;
use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::{Daemon, Sandbox, cow, run, sandboxed, unmount, until};
use crate::rootless::{AS_USER, CLONE};
use rustix::process::Signal;
use vassal::sys::memfd;

/// A vassal that runs until it is asked to stop.
const STEADY: &str = "command = sleep 1000";

/// A directory below the mount of a bindfs that can be stopped.
pub struct Remote {
    /// Where it is.
    pub path: &'static str,
    daemon: Child,
}

impl Remote {
    /// Mounts a copy of a directory, of which nothing is remembered.
    pub fn mount() -> Self {
        let (mount, path) = ("/run/remote", "/run/remote/vassals");
        for directory in ["/run/real/vassals", mount] {
            fs::create_dir_all(directory).unwrap();
        }
        let forget = "attr_timeout=0,entry_timeout=0,negative_timeout=0";
        let daemon = Command::new("bindfs").args(["-f", "-o", forget, "/run/real", mount]).spawn().unwrap();
        until("it is mounted", || cow::mounts().contains(" /run/remote "));
        Self { path, daemon }
    }

    /// Writes a file behind the back of the daemon, in one step: no event tells that it is being written.
    pub fn write(&self, name: &str, text: &str) {
        fs::write("/run/real/draft", text).unwrap();
        fs::rename("/run/real/draft", Path::new("/run/real/vassals").join(name)).unwrap();
    }

    /// From now on nobody who asks for something there gets an answer.
    pub fn hang(&self) {
        let is_stopped = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        };
        let tasks = format!("/proc/{}/task", self.daemon.id());
        // A request that it has read already could not even be given up by who is killed.
        until("it is stopped while nobody asks", || {
            process::signal(self.daemon.id() as i32, Signal::STOP);
            until("it is stopped", || fs::read_dir(&tasks).unwrap().flatten().all(is_stopped));
            let is_asked = process::all().iter().any(|process| process::waits_for_fuse(process.pid));
            if is_asked {
                self.answer();
            }
            !is_asked
        });
    }

    /// The end of that.
    pub fn answer(&self) {
        process::signal(self.daemon.id() as i32, Signal::CONT);
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Whoever waits for it could not end.
        self.answer();
        let _ = Command::new("umount").args(["-l", "/run/remote"]).status();
        let _ = self.daemon.wait();
    }
}

/// Ends an emperor; the daemon of the directory goes only when no vassal has its mount any more.
pub fn end(mut emperor: Daemon) {
    emperor.signal(Signal::TERM);
    assert_eq!(emperor.wait(), 0);
}

/// An emperor of the usual directory and of the one that can hang.
fn emperor(sandbox: &Sandbox, remote: &Remote, options: &[&str]) -> Daemon {
    sandbox.emperor(&[&["--emperor", remote.path, "--emperor-freq", "1"], options].concat())
}

/// How long a file may take to be read.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// Waits until the log says `what`, because the file of `far` is not read in time, and `next` behind that.
fn wait_for_unread(emperor: &Daemon, what: &str, next: &str) {
    let said = format!("{what}read /run/remote/vassals/far.ini: not done after ");
    let line = emperor.wait_for_time(&said, READ_WITHIN);
    assert!(line.contains(&format!(" s: does its filesystem answer?; {next}")), "{line}");
}

/// Less than anybody waits for something that does not answer, and far more than anything takes.
const SOON: Duration = Duration::from_secs(9);

/// What `emperor status` prints; it must not wait for anything.
fn status(sandbox: &Sandbox) -> String {
    let start = Instant::now();
    let output = sandbox.program("emperor").arg("status").output().unwrap();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    String::from_utf8(output.stdout).unwrap()
}

/// Those who are not concerned are served while something hangs.
fn others_are_served(sandbox: &Sandbox, emperor: &Daemon) {
    assert!(status(sandbox).contains("healthy"));
    let init = emperor.pid_of("healthy");
    let (runs, reloads) = (emperor.lines("healthy: running after"), emperor.lines("healthy: reloaded after"));
    run("touch", &[vassal_path("healthy").to_str().unwrap()]);
    emperor.wait_for_nth(reloads.len() + 1, "healthy: reloaded after");
    process::signal(init, Signal::KILL);
    assert_ne!(emperor.wait_running(runs.len() + 1, "healthy"), init);
}

/// Has an emperor stop, and waits for its end, which no filesystem may put off.
fn ends_soon(mut emperor: Daemon) {
    let start = Instant::now();
    emperor.signal(Signal::TERM);
    assert_eq!(emperor.wait(), 0);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_directory_that_hangs_costs_only_its_own_news() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        let file = format!("[uwsgi]\n{STEADY}\n");
        remote.write("far.ini", &file);
        sandbox.vassal("healthy", STEADY);
        let emperor = emperor(sandbox, &remote, &["--emperor-throttle", "1"]);
        let far = emperor.wait_running(1, "far");
        emperor.wait_running(1, "healthy");
        remote.hang();
        let line = emperor.wait_for("directory /run/remote/vassals does not answer since ");
        assert!(line.ends_with("; keeping what runs"), "{line}");
        others_are_served(sandbox, &emperor);
        until("the status tells", || {
            status(sandbox).contains("\nThe directory /run/remote/vassals does not answer since ")
        });
        remote.write("far.ini", &format!("{file}# changed\n"));
        remote.write("new.ini", &file);
        // It is told once, and taken up again by itself.
        others_are_served(sandbox, &emperor);
        assert_eq!(emperor.lines("directory /run/remote/vassals does not answer").len(), 1);
        assert!(process::read(far).is_some());
        assert_eq!(emperor.lines("emperor: far: ").len(), 2);
        remote.answer();
        emperor.wait_for("directory /run/remote/vassals answers again, after ");
        emperor.wait_for("emperor: far: reloaded after ");
        emperor.wait_running(1, "new");
        assert!(!status(sandbox).contains("does not answer"));
        assert_eq!(emperor.pid_of("far"), far);
        end(emperor);
    });
}

#[test]
fn with_a_directory_that_hangs_the_others_are_started_and_everything_is_stopped() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        remote.write("far.ini", &format!("[uwsgi]\n{STEADY}\n"));
        sandbox.vassal("healthy", STEADY);
        remote.hang();
        // Of two directories the first one is the first to be acted on, but for one that does not answer.
        let mut command = sandbox.program("emperor");
        command.args(["--emperor", remote.path, "--emperor", VASSALS, "--emperor-use-clone", "fs,pid"]);
        command.args(["--emperor-freq", "1", "--emperor-throttle", "1"]);
        let mut emperor = sandbox.start("emperor", command);
        emperor.wait_running(1, "healthy");
        emperor.wait_for("directory /run/remote/vassals does not answer since ");
        others_are_served(sandbox, &emperor);
        let start = Instant::now();
        emperor.signal(Signal::TERM);
        assert_eq!(emperor.wait(), 0);
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        assert!(process::named("vassal-init").is_empty());
    });
}

#[test]
fn a_file_that_hangs_at_a_start_costs_only_its_own_vassal() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        remote.write("far.ini", &format!("[uwsgi]\n{STEADY}\n"));
        sandbox.vassal("healthy", STEADY);
        // One that reads a file keeps nobody waiting that starts, either.
        let options =
            ["--emperor-max-starts", "1", "--emperor-throttle", "1", "--emperor-max-throttle", "1000"];
        let emperor = emperor(sandbox, &remote, &options);
        let far = emperor.wait_running(1, "far");
        emperor.wait_running(1, "healthy");
        until("one reader stays", || process::named("emperor-reader").len() == 1);
        remote.hang();
        process::signal(far, Signal::KILL);
        others_are_served(sandbox, &emperor);
        wait_for_unread(&emperor, "emperor: far: cannot start: ", "next try in ");
        // It is tried again, and nobody else hangs for that.
        emperor.wait_for_nth(3, "emperor: far: cannot start: ");
        others_are_served(sandbox, &emperor);
        until("one hangs, and one is there", || process::named("emperor-reader").len() <= 2);
        // By the next try, or by the one that hangs.
        remote.answer();
        emperor.wait_running(2, "far");
        until("one reader stays", || process::named("emperor-reader").len() == 1);
        end(emperor);
        until("no process is left", || process::named("emperor-reader").is_empty());
    });
}

#[test]
fn files_that_hang_at_a_reload_leave_their_apps_alone() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        let names: Vec<_> = (0..12).map(|n| format!("far{n}")).collect();
        for name in &names {
            remote.write(&format!("{name}.ini"), &format!("[uwsgi]\n{STEADY}\n"));
        }
        sandbox.vassal("healthy", STEADY);
        let mut emperor = emperor(sandbox, &remote, &["--emperor-throttle", "1"]);
        let inits: Vec<_> = names.iter().map(|name| emperor.wait_running(1, name)).collect();
        emperor.wait_running(1, "healthy");
        remote.hang();
        emperor.signal(Signal::HUP);
        emperor.wait_for("healthy: reloaded after ");
        others_are_served(sandbox, &emperor);
        for name in &names {
            let line = emperor.wait_for(&format!("emperor: {name}: cannot reload: "));
            let shown = format!("cannot reload: read /run/remote/vassals/{name}.ini: not ");
            assert!(line.contains(&shown) && line.ends_with("; the app goes on as it was"), "{line}");
        }
        // No more than eight hang there.
        assert_eq!(emperor.lines(".ini: not done after ").len(), 8);
        let not_begun = ".ini: not begun: others in /run/remote/vassals are not done after ";
        assert_eq!(emperor.lines(not_begun).len(), 4);
        until("eight hang, and one is there", || (8..=9).contains(&process::named("emperor-reader").len()));
        assert!(inits.iter().all(|&init| process::read(init).is_some()));
        remote.answer();
        for (name, &init) in names.iter().zip(&inits) {
            emperor.wait_for(&format!("emperor: {name}: its file can be read by now: reloading"));
            emperor.wait_for(&format!("emperor: {name}: reloaded after "));
            assert_eq!(emperor.pid_of(name), init);
        }
        // Nor is the end of the emperor put off.
        remote.hang();
        emperor.signal(Signal::HUP);
        emperor.wait_for_nth(3, "healthy: reloaded after ");
        let start = Instant::now();
        emperor.signal(Signal::TERM);
        assert_eq!(emperor.wait(), 0);
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        until("no process is left", || process::named("emperor-reader").is_empty());
        assert!(process::named("vassal-init").is_empty());
    });
}

#[test]
fn links_to_files_that_hang_cost_no_vassal_beside_them() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        sandbox.vassal("healthy", STEADY);
        let names: Vec<_> = (0..12).map(|n| format!("far{n}")).collect();
        for (name, is_direct) in names.iter().zip([true, false].into_iter().cycle()) {
            remote.write(&format!("{name}.ini"), &format!("[uwsgi]\n{STEADY}\n"));
            let far = format!("/run/remote/vassals/{name}.ini");
            // By another link beside it, or directly.
            let beside = Path::new(VASSALS).join(format!("{name}.link"));
            symlink(&far, &beside).unwrap();
            symlink(if is_direct { Path::new(&far) } else { &beside }, vassal_path(name)).unwrap();
        }
        let elsewhere = sandbox.file("elsewhere.ini", &format!("[uwsgi]\n{STEADY}\n"));
        symlink(&elsewhere, vassal_path("linked")).unwrap();
        let emperor = sandbox.emperor(&["--emperor-freq", "1", "--emperor-throttle", "1"]);
        for name in names.iter().map(String::as_str).chain(["healthy", "linked"]) {
            emperor.wait_running(1, name);
        }
        remote.hang();
        emperor.signal(Signal::HUP);
        for name in &names {
            emperor.wait_for(&format!("emperor: {name}: cannot reload: "));
        }
        let not_begun = "not begun: others in /run/remote/vassals are not done after ";
        assert_eq!(emperor.lines(not_begun).len(), 4, "{}", emperor.log());
        for name in ["healthy", "linked"] {
            emperor.wait_for(&format!("emperor: {name}: reloaded after "));
            let init = emperor.pid_of(name);
            process::signal(init, Signal::KILL);
            assert_ne!(emperor.wait_running(2, name), init);
            assert_eq!(emperor.lines(&format!("emperor: {name}: cannot ")), [""; 0]);
        }
        until("eight hang, and one is there", || (8..=9).contains(&process::named("emperor-reader").len()));
        remote.answer();
        for name in &names {
            emperor.wait_for(&format!("emperor: {name}: reloaded after "));
        }
        end(emperor);
    });
}

#[test]
fn a_file_that_hangs_when_it_is_checked_refuses_the_reload() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        remote.write("far.ini", &format!("[uwsgi]\n{STEADY}\n"));
        let emperor = emperor(sandbox, &remote, &[]);
        let init = emperor.wait_running(1, "far");
        // It hangs when the file was sent to PID 1, before that says that it needs a fresh jail.
        process::signal(init, Signal::STOP);
        remote.write("far.ini", &format!("[uwsgi]\nnice = 1\n{STEADY}\n"));
        // It is read twice: to find out that it says something else, which gives this line, and for PID 1.
        emperor.wait_for("emperor: far: file changed: reloading");
        process::wait_for_turns(emperor.pid(), 1);
        let is_read = || {
            let mut others =
                process::all().into_iter().filter(|it| it.parent == emperor.pid() && it.pid != init);
            others.all(|other| process::waits_for_events(other.pid))
        };
        until("it is read for PID 1", is_read);
        remote.hang();
        process::signal(init, Signal::CONT);
        wait_for_unread(&emperor, "emperor: far: reload refused: ", "the app goes on as it was");
        assert!(process::read(init).is_some());
        remote.answer();
        emperor.wait_for("emperor: far: needs a fresh jail: ");
        assert_ne!(emperor.wait_running(2, "far"), init);
        end(emperor);
    });
}

#[test]
fn a_process_that_is_to_become_an_instance_holds_nothing_of_the_emperors_and_ends_with_it() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        remote.write("far.ini", &format!("[uwsgi]\n{STEADY}\n"));
        sandbox.vassal("healthy", STEADY);
        let mut emperor = emperor(sandbox, &remote, &["--emperor-throttle", "1"]);
        let init = emperor.wait_running(1, "far");
        emperor.wait_running(1, "healthy");
        // The directory hangs when the file has been read, before the process enters it.
        until("one reader stays", || process::named("emperor-reader").len() == 1);
        let reader = process::only("emperor-reader").pid;
        process::signal(reader, Signal::STOP);
        process::signal(init, Signal::KILL);
        emperor.wait_for("emperor: far: vassal-init killed by SIGKILL");
        // For the backoff, for the reader, and then for the reader that is slow.
        process::wait_for_turns(emperor.pid(), 3);
        process::wait_asleep(emperor.pid());
        process::signal(emperor.pid(), Signal::STOP);
        let slept = process::slept(reader);
        process::signal(reader, Signal::CONT);
        until("it is read", || process::slept(reader) > slept && process::waits_for_events(reader));
        remote.hang();
        emperor.signal(Signal::CONT);
        let call = format!("{} ", libc::SYS_chdir);
        let waits = |pid: i32| {
            fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|now| now.starts_with(&call))
        };
        let waiting = || process::all().into_iter().find(|it| it.parent == emperor.pid() && waits(it.pid));
        until("it enters the directory", || waiting().is_some());
        let child = waiting().unwrap().pid;
        let held = fs::read_dir(format!("/proc/{child}/fd")).unwrap().count();
        assert!(held <= 6, "{held} descriptors");
        others_are_served(sandbox, &emperor);
        emperor.wait_for_time("emperor: far: still setting up after ", Duration::from_secs(10));
        emperor.wait_for(": it waits for /run/remote/vassals");
        assert!(status(sandbox).contains("waits for /run/remote/vassals"), "{}", status(sandbox));
        emperor.signal(Signal::KILL);
        assert_ne!(emperor.wait(), 0);
        until("it has ended, too", || process::read(child).is_none());
    });
}

/// However many hang, and if only one may set up at a time.
#[test]
fn vassals_that_hang_in_their_setup_keep_none_waiting_that_comes_after_them() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        remote.write("more.ini", "[uwsgi]\n");
        fs::create_dir_all("/run/real/vassals/place").unwrap();
        for number in 0..20 {
            sandbox.vassal(
                &format!("include{number}"),
                &format!("include = {}/more.ini\n{STEADY}", remote.path),
            );
            sandbox.vassal(&format!("place{number}"), &format!("chdir = {}/place\n{STEADY}", remote.path));
        }
        sandbox.vassal("z-healthy", STEADY);
        remote.hang();
        let start = Instant::now();
        let mut emperor = sandbox.emperor(&["--emperor-max-starts", "1"]);
        emperor.wait_running(1, "z-healthy");
        assert!(start.elapsed() < 2 * SOON, "{:?}: a second for each", start.elapsed());
        emperor.signal(Signal::TERM);
        emperor.signal(Signal::KILL);
        emperor.wait();
    });
}

#[test]
fn commands_for_addresses_that_hang_keep_none_waiting_that_comes_after_them() {
    sandboxed(|sandbox| {
        for number in 0..32 {
            sandbox.vassal(&format!("far{number}"), STEADY);
        }
        let command = "case $1 in far*) sleep 1000;; z-*) echo /run/scratch/near;; esac; :";
        let command = sandbox.file("address.sh", command);
        let start = Instant::now();
        let asked = format!("sh {}", command.display());
        let emperor = sandbox.emperor(&["--emperor-on-demand-exec", &asked]);
        until("all are asked", || process::named("sleep").len() == 32);
        sandbox.vassal("z-near", STEADY);
        emperor.wait_for("emperor: z-near: waiting for a connection to /run/scratch/near");
        assert!(start.elapsed() < SOON, "{:?}: they take 10 s each, 8 at a time", start.elapsed());
        emperor.stop();
    });
}

#[test]
fn an_address_that_hangs_leaves_its_vassal_as_it_is() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        remote.write("address", "/run/app.sock\n");
        sandbox.vassal("healthy", STEADY);
        let address = format!("{}.address", vassal_path("app").display());
        symlink("/run/remote/vassals/address", &address).unwrap();
        sandbox.vassal("app", STEADY);
        let emperor = emperor(sandbox, &remote, &["--emperor-on-demand-extension", ".address"]);
        emperor.wait_for("app: waiting for a connection to /run/app.sock");
        emperor.wait_running(1, "healthy");
        remote.hang();
        run("touch", &[vassal_path("app").to_str().unwrap()]);
        others_are_served(sandbox, &emperor);
        let line = emperor.wait_for_time(&format!("app: read {address}: not done after "), READ_WITHIN);
        assert!(line.ends_with(" s: does its filesystem answer?; it stays as it is"), "{line}");
        let _client = UnixStream::connect("/run/app.sock").unwrap();
        let init = emperor.wait_running(1, "app");
        remote.answer();
        emperor.wait_for("app: its file can be read by now: reloading");
        emperor.wait_for("app: reloaded after ");
        assert_eq!(emperor.pid_of("app"), init);
        end(emperor);
    });
}

/// A vassal `far` whose on-demand socket is in the directory that can hang, and the path of that.
fn far_socket(sandbox: &Sandbox, remote: &Remote) -> String {
    let socket = format!("{}/far.sock", remote.path);
    let leaves = "import socket, time; c = socket.socket(fileno=3).accept()[0]; time.sleep(1000)";
    let path = sandbox.vassal("far", &format!("command = python3 -c \"{leaves}\""));
    fs::write(format!("{}.address", path.display()), &socket).unwrap();
    socket
}

/// An emperor that looks often, with vassals on demand.
const ON_DEMAND: [&str; 6] =
    ["--emperor-on-demand-extension", ".address", "--emperor-freq", "1", "--emperor-throttle", "1"];

#[test]
fn a_socket_on_demand_whose_path_hangs_stays_as_it_is_and_delays_nobody() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        let socket = far_socket(sandbox, &remote);
        sandbox.vassal("healthy", STEADY);
        let emperor = sandbox.emperor(&ON_DEMAND);
        let waits = format!("emperor: far: waiting for a connection to {socket}");
        emperor.wait_for(&waits);
        emperor.wait_running(1, "healthy");
        remote.hang();
        let hangs = format!("emperor: far: look at {socket}: not done after ");
        let line = emperor.wait_for(&hangs);
        assert!(line.ends_with(" s: does its filesystem answer?; it stays as it is"), "{line}");
        others_are_served(sandbox, &emperor);
        process::wait_for_turns(emperor.pid(), 3);
        assert_eq!(emperor.lines(&hangs).len(), 1);
        // Nor does the end of the socket wait for its file.
        let stopped = sandbox.program("emperor").args(["stop", "far"]).status().unwrap();
        assert!(stopped.success());
        others_are_served(sandbox, &emperor);
        remote.answer();
        until("its file is removed", || !Path::new(&socket).exists());
        // Before the emperor knows that it answers, the start fails, and a connection is waited for.
        until("the reader has answered", || {
            process::named("emperor-reader").iter().all(|reader| process::waits_for_events(reader.pid))
        });
        process::wait_asleep(emperor.pid());
        assert!(sandbox.program("emperor").args(["start", "far"]).status().unwrap().success());
        let app = emperor.wait_running(1, "far");
        fs::remove_file("/run/real/vassals/far.sock").unwrap();
        emperor.wait_for("emperor: far: the file of its on-demand socket is gone: reloading");
        emperor.wait_for(&waits);
        until("it is bound anew", || UnixStream::connect(&socket).is_ok());
        assert_ne!(emperor.wait_running(2, "far"), app);
        remote.hang();
        ends_soon(emperor);
    });
}

#[test]
fn a_socket_on_demand_that_hangs_when_it_is_bound_is_tried_again_and_delays_nobody() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        let socket = far_socket(sandbox, &remote);
        sandbox.vassal("healthy", STEADY);
        remote.hang();
        let emperor = sandbox.emperor(&ON_DEMAND);
        emperor.wait_running(1, "healthy");
        let line = emperor.wait_for(&format!("emperor: far: look at {socket}: not done after "));
        assert!(line.contains("s: does its filesystem answer?; next try in "), "{line}");
        others_are_served(sandbox, &emperor);
        // A start by command needs the socket, too.
        assert!(sandbox.program("emperor").args(["start", "far"]).status().unwrap().success());
        emperor.wait_for(&format!("emperor: far: cannot start: look at {socket}: not done after "));
        others_are_served(sandbox, &emperor);
        remote.answer();
        emperor.wait_for(&format!("emperor: far: waiting for a connection to {socket}"));
        let _client = UnixStream::connect(&socket).unwrap();
        emperor.wait_running(1, "far");
        end(emperor);
    });
}

#[test]
fn the_emperors_own_names_on_a_filesystem_that_hangs_delay_nobody() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        let own = ["control", "stats", "pid"].map(|name| format!("{}/{name}", remote.path));
        let [control, stats, pid] = &own;
        let options = ["--control", control, "--emperor-stats", stats, "--emperor-pidfile", pid];
        sandbox.vassal("healthy", STEADY);
        let options = [&options[..], &["--emperor-freq", "1", "--emperor-throttle", "1"]].concat();
        let emperor = sandbox.emperor(&options);
        let first = emperor.wait_running(1, "healthy");
        remote.hang();
        for path in &own {
            let line = emperor.wait_for(&format!("emperor: look at {path}: not done after "));
            assert!(line.ends_with(" s: does its filesystem answer?; it stays as it is"), "{line}");
        }
        process::signal(first, Signal::KILL);
        emperor.wait_running(2, "healthy");
        emperor.signal(Signal::HUP);
        emperor.wait_for("healthy: reloaded after ");
        assert_eq!(emperor.lines("emperor: look at ").len(), own.len());
        for path in &own {
            let name = Path::new(path).file_name().unwrap();
            fs::remove_file(Path::new("/run/real/vassals").join(name)).unwrap();
        }
        remote.answer();
        for name in ["control socket", "stats socket", "pid file"] {
            emperor.wait_for(&format!("emperor: the {name} {}/", remote.path));
        }
        assert_eq!(fs::read_to_string(pid).unwrap(), format!("{}\n", emperor.pid()));
        let status = sandbox.program("emperor").args(["status", "--control", control]).output().unwrap();
        assert!(String::from_utf8_lossy(&status.stdout).contains("healthy"));
        remote.hang();
        ends_soon(emperor);
    });
}

#[test]
fn what_is_unmounted_stops_no_vassal_and_what_is_mounted_again_reloads_none() {
    sandboxed(|sandbox| {
        let mount = |name: &str| {
            run("bindfs", &[&format!("/run/real/{name}"), &format!("/run/{name}")]);
            fs::metadata(format!("/run/{name}")).unwrap().dev()
        };
        let [one, two] = ["/run/one/a.ini", "/run/two/vassals/b.ini"].map(Path::new);
        for path in ["/run/real/one", "/run/real/two/vassals", "/run/one", "/run/two"] {
            fs::create_dir_all(path).unwrap();
        }
        let before = ["one", "two"].map(mount);
        for path in [one, two] {
            fs::write(path, format!("[uwsgi]\n{STEADY}\n")).unwrap();
        }
        let sources = ["--emperor", "/run/one", "--emperor", "/run/t*/vassals/*.ini"];
        let emperor = sandbox.emperor(&[&sources[..], &["--emperor-freq", "1"]].concat());
        let names = ["a", "two/vassals/b"];
        let pids = names.map(|name| emperor.wait_running(1, name));
        run("umount", &["-l", "/run/one", "/run/two"]);
        emperor.wait_for("read directory /run/one: another filesystem without vassals' files is there now: ");
        emperor.wait_for("open directory /run/two/vassals: No such file or directory (ENOENT); keeping ");
        let after = ["one", "two"].map(mount);
        assert!(after.iter().all(|device| !before.contains(device)), "{before:?} {after:?}");
        for (path, new) in [(one, "c"), (two, "two/vassals/c")] {
            let directory = path.parent().unwrap();
            emperor.wait_for(&format!("{} can be read again", directory.display()));
            // Found after what else has changed.
            fs::copy(path, directory.join("c.ini")).unwrap();
            emperor.wait_running(1, new);
        }
        assert_eq!((emperor.lines("runs, next look in ").len(), emperor.lines(": file ").len()), (2, 0));
        assert_eq!(names.map(|name| emperor.pid_of(name)), pids);
        run("touch", &[one.to_str().unwrap()]);
        emperor.wait_for("emperor: a: reloaded after ");
        // What is deleted ends its vassals, and so does a mountpoint.
        fs::remove_file(one).unwrap();
        emperor.wait_for("emperor: a: file removed: stopping");
        run("umount", &["-l", "/run/one", "/run/two"]);
        emperor.wait_for_nth(2, "open directory /run/two/vassals: ");
        assert!(emperor.lines("two/vassals/b: file removed").is_empty());
        fs::remove_dir("/run/two").unwrap();
        emperor.wait_for("emperor: two/vassals/b: file removed: stopping");
        end(emperor);
    });
}

#[test]
fn links_to_files_that_hang_cost_only_their_own_news() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        let file = format!("[uwsgi]\n{STEADY}\n");
        remote.write("far.ini", &file);
        remote.write("far2.ini", &file);
        sandbox.vassal("healthy", STEADY);
        let other = Path::new("/run/other");
        fs::create_dir(other).unwrap();
        // On another mount, too, but one that answers.
        fs::create_dir("/run/elsewhere").unwrap();
        run("mount", &["-t", "tmpfs", "none", "/run/elsewhere"]);
        for path in [&other.join("near.ini"), Path::new("/run/elsewhere/fine.ini")] {
            fs::write(path, &file).unwrap();
        }
        let links = [
            ("/run/remote/vassals/far.ini", "link.ini"),
            ("/run/elsewhere/twice", "link2.ini"),
            ("/run/remote/vassals/far2.ini", "/run/elsewhere/twice"),
            ("/run/elsewhere/fine.ini", "zfine.ini"),
        ];
        for (target, link) in links {
            symlink(target, other.join(link)).unwrap();
        }
        let names = ["healthy", "near", "link", "link2", "zfine"];
        let options = ["--emperor", "/run/other", "--emperor-freq", "1", "--emperor-throttle", "1"];
        let emperor = sandbox.emperor(&options);
        for name in names {
            emperor.wait_running(1, name);
        }
        remote.hang();
        let shown = "directory /run/remote/vassals does not answer since ";
        let line = emperor.wait_for(shown);
        let link = |name| line.ends_with(&format!(": waiting for /run/other/{name}.ini; keeping what runs"));
        assert!(link("link") || link("link2"), "{line}");
        until("the status tells", || status(sandbox).contains(&format!("\nThe {shown}")));
        others_are_served(sandbox, &emperor);
        // In that directory, too, and of links there.
        for name in ["near", "zfine"] {
            process::signal(emperor.pid_of(name), Signal::KILL);
            emperor.wait_running(2, name);
        }
        fs::write(other.join("new.ini"), &file).unwrap();
        emperor.wait_running(1, "new");
        fs::remove_file(other.join("near.ini")).unwrap();
        emperor.wait_for("emperor: near: stopped");
        run("touch", &["/run/elsewhere/fine.ini"]);
        emperor.wait_for("emperor: zfine: reloaded after ");
        assert_eq!(emperor.lines(shown).len(), 1);
        // A start while they hang.
        end(emperor);
        let emperor = sandbox.emperor(&options);
        for name in ["healthy", "new", "zfine"] {
            emperor.wait_running(1, name);
        }
        emperor.wait_for(shown);
        remote.write("far.ini", &format!("{file}# changed\n"));
        remote.answer();
        emperor.wait_for("directory /run/remote/vassals answers again, after ");
        for name in ["link", "link2"] {
            emperor.wait_running(1, name);
        }
        assert!(!status(sandbox).contains("does not answer"));
        end(emperor);
        unmount("/run/elsewhere");
    });
}

/// As the home directories of users can be, each on a server of its own.
#[test]
fn a_directory_of_a_pattern_that_hangs_costs_only_its_own_news() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        let file = format!("[uwsgi]\n{STEADY}\n");
        remote.write("far.ini", &file);
        fs::create_dir_all("/run/near/vassals").unwrap();
        fs::write("/run/near/vassals/near.ini", &file).unwrap();
        let start = || {
            let mut command = sandbox.program("emperor");
            command.args(["--emperor", "glob:///run/*/vassals/*.ini", "--emperor-use-clone", "fs,pid"]);
            command.args(["--emperor-freq", "1", "--emperor-throttle", "1"]);
            sandbox.start("emperor", command)
        };
        let (near, far) = ("near/vassals/near", "remote/vassals/far");
        let emperor = start();
        let init = emperor.wait_running(1, far);
        emperor.wait_running(1, near);
        remote.hang();
        let shown = "directory /run/remote/vassals does not answer since ";
        emperor.wait_for(shown);
        run("touch", &["/run/near/vassals/near.ini"]);
        emperor.wait_for(&format!("emperor: {near}: reloaded after "));
        fs::write("/run/near/vassals/new.ini", &file).unwrap();
        emperor.wait_running(1, "near/vassals/new");
        assert!(process::read(init).is_some());
        remote.write("far.ini", &format!("{file}# changed\n"));
        remote.answer();
        emperor.wait_for("directory /run/remote/vassals answers again, after ");
        emperor.wait_for(&format!("emperor: {far}: reloaded after "));
        assert_eq!(emperor.pid_of(far), init);
        end(emperor);
        // A start while it hangs.
        remote.hang();
        let emperor = start();
        emperor.wait_running(1, near);
        emperor.wait_for(shown);
        remote.answer();
        emperor.wait_running(1, far);
        end(emperor);
    });
}

#[test]
fn the_watchdog_of_systemd_hears_of_the_emperor_while_a_directory_hangs() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        sandbox.vassal("healthy", STEADY);
        let socket = UnixDatagram::bind("/run/notify").unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut messages = String::new();
        let mut heard = |text: &str| {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                messages.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
                messages.push('\n');
            }
            messages.matches(text).count()
        };
        remote.hang();
        let mut command = sandbox.program("emperor");
        command.args(["--emperor", VASSALS, "--emperor", remote.path, "--emperor-use-clone", "fs,pid"]);
        command.env("NOTIFY_SOCKET", "/run/notify").env("WATCHDOG_USEC", "2000000");
        let emperor = sandbox.start("emperor", command);
        emperor.wait_for("directory /run/remote/vassals does not answer since ");
        // What can be started is started: that is all that READY says.
        until("it is ready", || heard("READY=1") == 1);
        let before = heard("WATCHDOG=1");
        until("it gives heartbeats", || heard("WATCHDOG=1") >= before + 3);
        end(emperor);
    });
}

#[test]
fn who_looks_at_a_directory_and_is_killed_is_replaced_and_no_vassal_notices() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", STEADY);
        sandbox.vassal("gone", STEADY);
        let emperor = sandbox.emperor(&["--emperor-freq", "1"]);
        let init = emperor.wait_running(1, "app");
        emperor.wait_running(1, "gone");
        process::signal(process::only("emperor-scout").pid, Signal::KILL);
        emperor.wait_for("has ended: another one takes its place");
        fs::remove_file(vassal_path("gone")).unwrap();
        sandbox.vassal("new", STEADY);
        emperor.wait_running(1, "new");
        emperor.wait_for("emperor: gone: file removed: stopping");
        assert_eq!(emperor.lines("emperor: app: ").len(), 2, "only that it was started, and runs");
        run("touch", &[vassal_path("app").to_str().unwrap()]);
        emperor.wait_for("emperor: app: reloaded after ");
        assert_eq!(emperor.pid_of("app"), init);
        emperor.stop();
    });
}

#[test]
fn a_directory_or_program_of_an_app_that_hangs_refuses_the_reload_and_the_app_goes_on() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        run("cp", &["/bin/sleep", "/run/real/vassals/program"]);
        run("cp", &["/bin/sh", "/run/real/vassals/sh"]);
        let script = sandbox.file("script", "#!/run/remote/vassals/sh\nexec sleep 1000\n");
        run("chmod", &["755", script.to_str().unwrap()]);
        let apps = [
            ("directory", "chdir = /run/remote/vassals\ncommand = sleep 1000".to_owned()),
            ("program", "command = /run/remote/vassals/program 1000".to_owned()),
            ("search", "env = PATH=/run/remote/vassals:/bin\ncommand = program 1000".to_owned()),
            ("interpreter", format!("command = {}", script.display())),
            ("variable", "env = PATH=/run/remote/vassals:/bin\ncommand = sleep 1000".to_owned()),
        ];
        for (name, lines) in &apps {
            // Only the new file of one leads there.
            let is_new = *name == "variable";
            sandbox.vassal(
                name,
                &if is_new { lines.replace("/run/remote/vassals:", "") } else { lines.clone() },
            );
        }
        let emperor = sandbox.emperor(&[]);
        let inits = apps.each_ref().map(|(name, _)| emperor.wait_running(1, name));
        let children = |init: i32| -> Vec<i32> {
            process::all().iter().filter(|it| it.parent == init).map(|it| it.pid).collect()
        };
        let before = inits.map(children);
        remote.hang();
        for (name, lines) in &apps {
            sandbox.vassal(name, &format!("{lines}\nenv = NEW=1"));
        }
        for (name, _) in &apps {
            let line = emperor.wait_for(&format!("emperor: {name}: reload refused: "));
            assert!(line.contains(": not done after 2.0 s: do their filesystems answer? ("), "{line}");
        }
        assert_eq!(inits.map(|init| children(init).into_iter().take(1).collect::<Vec<_>>()), before);
        remote.answer();
        for (name, lines) in &apps {
            sandbox.vassal(name, &format!("{lines}\nenv = NEW=2"));
            emperor.wait_for(&format!("emperor: {name}: reloaded after "));
        }
        assert_eq!(apps.each_ref().map(|(name, _)| emperor.pid_of(name)), inits);
        end(emperor);
    });
}

#[test]
fn an_include_that_hangs_refuses_the_reload_and_the_app_goes_on() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        remote.write("more.ini", "[uwsgi]\nenv = A=1\n");
        let lines = format!("include = {}/more.ini\n{STEADY}", remote.path);
        sandbox.vassal("app", &lines);
        let emperor = sandbox.emperor(&[]);
        let init = emperor.wait_running(1, "app");
        remote.hang();
        sandbox.vassal("app", &lines);
        let line = emperor.wait_for("emperor: app: reload refused: reading the new file takes too long: ");
        assert!(line.contains(&format!("it looks at {}/more.ini, which is", remote.path)), "{line}");
        assert!(line.ends_with("; the app goes on as it was"), "{line}");
        assert!(process::read(init).is_some());
        // Once it answers, what was asked for is done.
        remote.answer();
        emperor.wait_for("emperor: app: needs a fresh jail: ");
        assert_ne!(emperor.wait_running(2, "app"), init);
        end(emperor);
    });
}

/// Whoever looks at a name in `/run/auto` waits until something is mounted there, which never is.
const AUTOMOUNTER: &str = r#"
import ctypes, os
asks, told = os.pipe()
os.setpgid(0, 0)
options = f"fd={told},pgrp={os.getpgrp()},minproto=5,maxproto=5,indirect"
assert ctypes.CDLL(None).mount(b"auto", b"/run/auto", b"autofs", 0, options.encode()) == 0
os.close(told)
while True:
    os.read(asks, 4096)
"#;

#[test]
fn what_is_yet_to_be_mounted_refuses_the_reload_and_the_app_goes_on() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("autofs") {
            return;
        }
        fs::create_dir("/run/auto").unwrap();
        let mut automounter = Command::new("python3").args(["-c", AUTOMOUNTER]).spawn().unwrap();
        until("it is mounted", || cow::mounts().contains(" /run/auto "));
        sandbox.vassal("app", STEADY);
        sandbox.vassal("other", STEADY);
        let emperor = sandbox.emperor(&[]);
        let inits = ["app", "other"].map(|name| emperor.wait_running(1, name));
        sandbox.vassal("other", "command = /run/auto/nfs/program");
        emperor.wait_for("find /run/auto/nfs/program: not done after 2.0 s: do their filesystems answer?");
        sandbox.vassal("app", &format!("include = /run/auto/nfs/more.ini\n{STEADY}"));
        let line = emperor.wait_for("emperor: app: reload refused: reading the new file takes too long: ");
        assert!(
            line.contains("it looks at /run/auto/nfs/more.ini, which is, or leads to, a filesystem"),
            "{line}"
        );
        assert!(line.ends_with("; the app goes on as it was"), "{line}");
        assert!(inits.into_iter().all(|init| process::read(init).is_some()));
        assert_eq!(emperor.lines("vassal-init[other]: app started: ").len(), 1);
        end(emperor);
        automounter.kill().unwrap();
        automounter.wait().unwrap();
        unmount("/run/auto");
    });
}

#[test]
fn includes_that_hang_when_they_are_compared_keep_no_vassal_beside_them_waiting() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        remote.write("more.ini", "[uwsgi]\nenv = A=1\n");
        let lines = format!("reload-on = content\ninclude = {}/more.ini\n{STEADY}", remote.path);
        // More than are read at a time in one directory.
        let names: Vec<_> = (0..9).map(|number| format!("app{number}")).collect();
        for name in &names {
            sandbox.vassal(name, &lines);
        }
        sandbox.vassal("healthy", STEADY);
        let emperor = sandbox.emperor(&[]);
        let inits: Vec<_> = names.iter().map(|name| emperor.wait_running(1, name)).collect();
        emperor.wait_running(1, "healthy");
        remote.hang();
        for name in &names {
            run("touch", &[vassal_path(name).to_str().unwrap()]);
        }
        others_are_served(sandbox, &emperor);
        for name in &names {
            emperor.wait_for(&format!("emperor: {name}: reload refused: "));
        }
        assert!(inits.iter().all(|init| process::read(*init).is_some()));
        others_are_served(sandbox, &emperor);
        remote.answer();
        for name in &names {
            emperor.wait_running(2, name);
        }
        end(emperor);
    });
}

/// The processes of a name that wait for a filesystem.
pub fn hanging(comm: &str) -> Vec<i32> {
    let all = process::named(comm).into_iter().map(|process| process.pid);
    all.filter(|pid| process::waits_for_fuse(*pid)).collect()
}

#[test]
fn upgrades_while_a_directory_hangs_leave_none_behind_who_waits_for_it() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        remote.write("far.ini", &format!("[uwsgi]\n{STEADY}\n"));
        sandbox.vassal("healthy", STEADY);
        symlink("/run/remote/vassals/far.ini", vassal_path("link")).unwrap();
        let emperor = emperor(sandbox, &remote, &[]);
        for name in ["healthy", "far", "link"] {
            emperor.wait_running(1, name);
        }
        let all = || ["scout", "follow", "reader"].map(|name| hanging(&format!("emperor-{name}")).len());
        remote.hang();
        run_command(sandbox, &["reload", "far"]);
        until("all of them hang", || all() == [1, 1, 1]);
        for _ in 0..2 {
            run_command(sandbox, &["upgrade"]);
            until("only those of the new program hang", || all() == [1, 1, 0]);
            until("none is left behind", || process::named("emperor-scout").len() == 2);
        }
        remote.answer();
        others_are_served(sandbox, &emperor);
        end(emperor);
    });
}

fn run_command(sandbox: &Sandbox, words: &[&str]) {
    assert!(sandbox.program("emperor").args(words).status().unwrap().success(), "{words:?}");
}

#[test]
fn an_upgrade_to_a_program_that_hangs_is_refused_and_delays_nobody() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        let program = crate::upgrade::installed(sandbox);
        let far = Path::new(remote.path).join("emperor");
        fs::copy(&program, Path::new("/run/real/vassals/emperor")).unwrap();
        let [link, init] = ["/run/scratch/link", "/run/scratch/sbin/vassal-init"];
        symlink(&program, link).unwrap();
        sandbox.vassal("healthy", STEADY);
        let options = ["--emperor-throttle", "1", "--vassal-init", init];
        let emperor = crate::upgrade::start(sandbox, Path::new(link), &options);
        emperor.wait_running(1, "healthy");
        fs::remove_file(link).unwrap();
        symlink(far, link).unwrap();
        remote.hang();
        emperor.signal(Signal::USR2);
        emperor.wait_for("emperor: upgrade: trying the new program");
        others_are_served(sandbox, &emperor);
        emperor.wait_for(&format!("emperor: upgrade refused: {link} killed by SIGKILL; everything stays"));
        remote.answer();
        emperor.signal(Signal::USR2);
        emperor.wait_for("has taken over 1 vassal");
        end(emperor);
    });
}

#[test]
fn an_upgrade_whose_trial_cannot_even_be_killed_is_refused_once_and_delays_nobody() {
    sandboxed(|sandbox| {
        let program = crate::upgrade::installed(sandbox);
        let [link, init, place] = ["/run/scratch/link", "/run/scratch/sbin/vassal-init", "/run/scratch/far"];
        symlink(&program, link).unwrap();
        sandbox.vassal("healthy", STEADY);
        let options = ["--emperor-throttle", "1", "--vassal-init", init];
        let emperor = crate::upgrade::start(sandbox, Path::new(link), &options);
        emperor.wait_running(1, "healthy");
        let faulty = sandbox.faulty();
        fs::create_dir(place).unwrap();
        run("sh", &["-c", &faulty.command(place, "direct")]);
        let file = Path::new(place).join("file");
        // It has begun to answer: a question that it has not read could be given up.
        fs::metadata(&file).unwrap();
        fs::remove_file(link).unwrap();
        symlink(file, link).unwrap();
        faulty.behave("hold");
        let upgrade = || {
            let output = sandbox.program("emperor").arg("upgrade").output().unwrap();
            String::from_utf8(output.stderr).unwrap()
        };
        let refused =
            "upgrade refused: /run/scratch/link: not done after 6.0 s: does its filesystem answer?; ";
        let said = upgrade();
        assert!(said.contains(refused), "{said}");
        others_are_served(sandbox, &emperor);
        let said = upgrade();
        assert!(said.contains("try /run/scratch/link: the trial before has not ended: "), "{said}");
        assert_eq!(emperor.lines("upgrade: trying the new program").len(), 1);
        faulty.behave("");
        fs::remove_file(link).unwrap();
        symlink(&program, link).unwrap();
        until("there is room for another one", || upgrade().is_empty());
        emperor.wait_for("has taken over 1 vassal");
        end(emperor);
        unmount(place);
    });
}

#[test]
fn an_upgrade_whose_configuration_hangs_is_refused_with_the_reason() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        let program = crate::upgrade::installed(sandbox);
        remote.write("more.ini", "[uwsgi]\n");
        remote.write("vassal-init", "");
        sandbox.vassal("healthy", STEADY);
        let more = sandbox.ini("more", "");
        let emperor = crate::upgrade::start(
            sandbox,
            &program,
            &["--emperor-throttle", "1", "--ini", more.to_str().unwrap()],
        );
        emperor.wait_running(1, "healthy");
        for (key, file) in [("include", "more.ini"), ("vassal-init", "vassal-init")] {
            let far = Path::new(remote.path).join(file).display().to_string();
            fs::write(&more, format!("[uwsgi]\n{key} = {far}\n")).unwrap();
            remote.hang();
            let mut upgrade =
                sandbox.program("emperor").arg("upgrade").stderr(Stdio::piped()).spawn().unwrap();
            others_are_served(sandbox, &emperor);
            let mut said = String::new();
            upgrade.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            assert!(said.contains(" exited with status 1; everything stays as it is"), "{said}");
            emperor
                .wait_for(&format!("emperor: read {far}: not done after 2.0 s: does its filesystem answer?"));
            upgrade.wait().unwrap();
            remote.answer();
        }
        end(emperor);
    });
}

#[test]
fn a_start_that_waits_for_a_file_says_so_goes_on_with_it_and_hears_who_stops_it() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        remote.write("more.ini", "[uwsgi]\n");
        let far = |name: &str| Path::new(remote.path).join(name).display().to_string();
        sandbox.vassal("healthy", STEADY);
        remote.hang();
        let late = |file: &str| format!("{file}: not done after 2.0 s: does its filesystem answer?");
        for (option, verb) in [("--include", "read "), ("--vassal-init", "read "), ("--ini", "read ")] {
            let file = far(if option == "--vassal-init" { "init" } else { "more.ini" });
            let mut waiting = sandbox.emperor(&[option, &file]);
            let line = waiting.wait_for(&late(&file));
            assert!(line.contains(verb) && line.ends_with("; waiting for it"), "{option}: {line}");
            waiting.signal(Signal::TERM);
            assert_eq!(waiting.wait(), 1, "{option}");
            waiting.wait_for(&format!("{file}: SIGTERM came first"));
        }
        for (option, verb) in [
            ("--control", "listen on "),
            ("--metrics", "listen on "),
            ("--emperor-pidfile", "write "),
            ("--logto", "open "),
        ] {
            let file = far("name");
            let mut refused = sandbox.emperor(&[option, &file]);
            assert_eq!(refused.wait(), 1, "{option}");
            refused.wait_for(&format!("emperor: {verb}{}", late(&file)));
        }
        let starting = sandbox.emperor(&["--include", &far("more.ini")]);
        starting.wait_for("; waiting for it");
        remote.answer();
        starting.wait_running(1, "healthy");
        end(starting);
    });
}

#[test]
fn a_start_on_a_busy_machine_waits_for_the_usual_place_of_the_command_socket() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("another user") {
            return;
        }
        let remote = Remote::mount();
        fs::set_permissions("/run/real/vassals", fs::Permissions::from_mode(0o777)).unwrap();
        fs::create_dir_all(VASSALS).unwrap();
        remote.hang();
        let place = format!("XDG_RUNTIME_DIR={}", remote.path);
        let as_user = [&["/usr/bin/env", &place], &AS_USER[2..]].concat();
        let mut command = sandbox.wrapped(&as_user, "emperor");
        command.args(["--emperor", VASSALS, CLONE]);
        let emperor = sandbox.start("emperor", command);
        let start = Instant::now();
        until("another name would be given up by now", || start.elapsed() > Duration::from_secs(4));
        remote.answer();
        emperor.wait_for(&format!("watching {VASSALS}"));
        let status = sandbox.wrapped(&as_user, "emperor").arg("status").output().unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
        end(emperor);
    });
}

#[test]
fn a_standard_error_that_hangs_stops_no_emperor() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        let log = || fs::read_to_string("/run/real/vassals/log").unwrap_or_default();
        sandbox.vassal("healthy", STEADY);
        let file = fs::File::create("/run/remote/vassals/log").unwrap();
        let mut command = sandbox.program("emperor");
        command.args(["--emperor", VASSALS]).stdout(file.try_clone().unwrap()).stderr(file);
        let mut emperor = command.spawn().unwrap();
        // It would hold the file, too.
        drop(command);
        until("it is told", || log().contains("emperor: healthy: running after "));
        let pid = emperor.id() as i32;
        remote.hang();
        for _ in 0..20 {
            process::signal(pid, Signal::USR1);
            assert!(status(sandbox).contains("  running  "));
        }
        let start = Instant::now();
        process::signal(pid, Signal::TERM);
        assert!(emperor.wait().unwrap().success());
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        remote.answer();
        until("the last line is there", || {
            log().lines().last().is_some_and(|line| line.starts_with("emperor: all vassals stopped in "))
        });
    });
}

/// A file there is closed only when the daemon has heard of it.
#[test]
fn a_standard_input_that_hangs_delays_only_who_closes_it() {
    sandboxed(|sandbox| {
        let place = sandbox.path("mount").display().to_string();
        run("mkdir", &[&place]);
        run("sh", &["-c", &sandbox.faulty().command(&place, "direct")]);
        sandbox.vassal("healthy", STEADY);
        let input = format!("exec \"$@\" < {place}/file");
        let mut command = sandbox.wrapped(&["sh", "-c", &input, "sh"], "emperor");
        command.args(["--emperor", VASSALS]);
        let emperor = sandbox.start("emperor", command);
        let init = emperor.wait_running(1, "healthy");
        let input = fs::read_link(format!("/proc/{init}/fd/0")).unwrap();
        assert_eq!(input, Path::new("/dev/null"));
        let server = process::only("faulty-fuse").pid;
        process::signal(server, Signal::STOP);
        sandbox.vassal("new", STEADY);
        let new = emperor.pid_of_started("new");
        until("it closes the file", || process::waits_for_fuse(new));
        run("touch", &[vassal_path("healthy").to_str().unwrap()]);
        emperor.wait_for("emperor: healthy: reloaded after");
        assert!(status(sandbox).contains("  starting  "), "{}", status(sandbox));
        process::signal(server, Signal::CONT);
        emperor.wait_running(1, "new");
        end(emperor);
        process::signal(server, Signal::KILL);
        unmount(&place);
    });
}

#[test]
fn a_log_that_hangs_delays_nobody_and_loses_no_more_than_it_says() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        let log = || fs::read_to_string("/run/real/vassals/log").unwrap_or_default();
        sandbox.vassal("app", "command = sh -c 'echo the app says so; exec sleep 1000'");
        for number in 0..60 {
            sandbox.vassal(&format!("{number}"), "exec-as-usr = none");
        }
        let options = ["--logto", "/run/remote/vassals/log", "--emperor-throttle", "3600000"];
        let mut emperor =
            emperor(sandbox, &remote, &[&options[..], &["--emperor-max-throttle", "3600000"]].concat());
        let has_begun = || {
            status(sandbox).matches("  invalid  ").count() == 60 && status(sandbox).contains("  running  ")
        };
        until("all have begun", has_begun);
        until("it is told", || {
            log().contains("emperor: app: running after ") && log().contains("the app says so\n")
        });
        let init = process::only("vassal-init").pid;
        remote.hang();
        // Far more than a pipe holds.
        for _ in 0..60 {
            emperor.signal(Signal::USR1);
            assert!(status(sandbox).contains("  running  "));
        }
        // It is started again at once only if it was up for a second.
        sandbox.until_up(&[]);
        process::signal(init, Signal::TERM);
        until("PID 1 has heard it", || process::read(init).is_none());
        until("the next one runs", || status(sandbox).contains("  running  "));
        remote.answer();
        until("what was lost is told", || log().contains(" log lines lost: they could not be written\n"));
        let text = log();
        let is_whole = |line: &str| {
            line.starts_with("emperor: ") || line.starts_with("vassal-init[") || line == "the app says so"
        };
        assert!(text.lines().all(is_whole), "{text}");
        // The process that writes the file is replaced, and a pipe without it is none that kills who writes.
        process::signal(process::only("emperor-log").pid, Signal::KILL);
        until("it is started anew", || {
            log().contains(", which copied lines to /run/remote/vassals/log, has ended: ")
        });
        // An upgrade goes on with it.
        let writer = process::only("emperor-log").pid;
        assert!(sandbox.program("emperor").arg("upgrade").status().unwrap().success());
        until("it is told", || log().contains("emperor: upgrade: version "));
        assert_eq!(process::only("emperor-log").pid, writer);
        process::signal(writer, Signal::KILL);
        until("it is started anew", || {
            log().matches(", which copied lines to /run/remote/vassals/log, has ended: started anew").count()
                == 2
        });
        // The last lines come, in their order, though the file hangs when the emperor ends.
        remote.hang();
        let start = Instant::now();
        emperor.signal(Signal::TERM);
        assert_eq!(emperor.wait(), 0);
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        remote.answer();
        until("the last line is there", || {
            log().lines().last().is_some_and(|line| line.starts_with("emperor: all vassals stopped in "))
        });
    });
}

#[test]
fn what_a_vassal_sends_is_not_looked_at_unless_it_is_sealed_memory() {
    sandboxed(|_| {
        let remote = Remote::mount();
        remote.write("transcript", "its size is known to the filesystem only");
        let file = fs::File::open(Path::new(remote.path).join("transcript")).unwrap();
        remote.hang();
        let (tell, told) = mpsc::channel();
        let looks = thread::spawn(move || {
            let file = file.into();
            let _ = tell.send(memfd::content(&file, 1000));
        });
        let found = told.recv_timeout(SOON);
        remote.answer();
        looks.join().unwrap();
        assert_eq!(found, Ok(None));
    });
}
