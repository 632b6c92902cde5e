//! One emperor for each directory: a second one is refused, and one that replaces another waits for its end.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::common::process::{self, wait_for_turns};
use crate::common::sandbox::VASSALS;
use crate::common::{Daemon, Sandbox, run, sandboxed, until};
use crate::hanging::{Remote, end};
use rustix::process::Signal;

const STEADY: &str = "command = sleep 1000";

/// Takes the name of a lock.
const TAKER: &str = "import os, socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind(chr(0) + sys.argv[1])
s.listen()
print('taken', flush=True)
time.sleep(1000)";

/// One more emperor, without a place for commands of its own.
fn another(sandbox: &Sandbox, sources: &[&str]) -> Daemon {
    let mut command = sandbox.program("emperor");
    for source in sources {
        command.args(["--emperor", source]);
    }
    command.args(["--emperor-use-clone", "pid", "--emperor-freq", "1"]);
    sandbox.start("another", command)
}

/// Checks that an emperor ends with status 1 and one line, since the one of this pid has the place.
fn is_refused(mut emperor: Daemon, place: &str, pid: i32) {
    assert_eq!(emperor.wait(), 1);
    let says = format!(
        "emperor: watch {place}: another emperor, pid {pid}, runs its vassals: stop that one first\n"
    );
    assert_eq!(emperor.log(), says);
}

#[test]
fn a_second_emperor_on_a_directory_is_refused_also_after_an_upgrade_of_the_first() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", STEADY);
        let first = sandbox.emperor(&[]);
        first.wait_running(1, "app");
        is_refused(another(sandbox, &[VASSALS]), VASSALS, first.pid());
        // The same directory by another name, among others.
        symlink(VASSALS, "/etc/uwsgi/link").unwrap();
        is_refused(another(sandbox, &["/etc", "/etc/uwsgi/link"]), "/etc/uwsgi/link", first.pid());
        let check = sandbox.program("emperor").args(["--check", "/etc/uwsgi/emperor.ini"]).status().unwrap();
        assert!(check.success(), "a check locks nothing");

        first.signal(Signal::USR2);
        first.wait_for("has taken over 1 vassal");
        is_refused(another(sandbox, &[VASSALS]), VASSALS, first.pid());
        assert_eq!(process::named("sleep").len(), 1);
        assert_eq!(first.lines("emperor: app: started").len(), 1);
        first.stop();
        // The lock has ended with it.
        let second = another(sandbox, &[VASSALS]);
        second.wait_running(1, "app");
        second.stop();
    });
}

#[test]
fn a_start_that_replaces_an_emperor_is_not_refused_while_that_one_ends() {
    sandboxed(|sandbox| {
        let leave = "until [ -e /run/scratch/go ]; do sleep 0.02; done; exit";
        let slow = format!("trap '{leave}' TERM; echo caught; while :; do sleep 0.1; done");
        sandbox.vassal("app", &format!("stop-timeout = 60\ncommand = sh -c \"{slow}\""));
        let go = sandbox.path("go");
        let mut emperor = sandbox.emperor(&[]);
        for _ in 0..3 {
            emperor.wait_for("caught");
            emperor.signal(Signal::KILL);
            let next = another(sandbox, &[VASSALS]);
            emperor.wait();
            emperor = next;
            emperor.wait_running(1, "app");
        }
        emperor.wait_for("caught");
        emperor.signal(Signal::TERM);
        emperor.wait_for("stopping 1 vassal");
        let next = another(sandbox, &[VASSALS]);
        next.wait_for(&format!(
            "emperor: watch {VASSALS}: another emperor, pid {}, is still stopping its vassals: waiting up to",
            emperor.pid()
        ));
        fs::write(&go, "").unwrap();
        assert_eq!(emperor.wait(), 0);
        fs::remove_file(&go).unwrap();
        next.wait_running(1, "app");
        // One that waits can be stopped.
        let mut next = next;
        next.wait_for("caught");
        next.signal(Signal::TERM);
        next.wait_for("stopping 1 vassal");
        let mut last = another(sandbox, &[VASSALS]);
        last.wait_for("is still stopping its vassals");
        last.signal(Signal::TERM);
        assert_eq!(last.wait(), 1);
        last.wait_for("emperor: start an emperor: SIGTERM came first");
        fs::write(&go, "").unwrap();
        assert_eq!(next.wait(), 0);
    });
}

#[test]
fn a_read_only_directory_is_locked_and_can_be_unmounted() {
    sandboxed(|sandbox| {
        fs::create_dir("/etc/uwsgi/vassals").unwrap();
        fs::create_dir("/etc/uwsgi/more").unwrap();
        sandbox.mount(&["-t", "tmpfs", "vassals"], VASSALS);
        sandbox.mount(&["--bind", VASSALS], "/etc/uwsgi/more");
        sandbox.vassal("app", STEADY);
        run("mount", &["-o", "remount,ro", VASSALS]);
        let emperor = sandbox.emperor(&["--emperor-freq", "1"]);
        emperor.wait_running(1, "app");
        is_refused(another(sandbox, &["/etc/uwsgi/more"]), "/etc/uwsgi/more", emperor.pid());
        // The vassals have mounts of their own, which do not hold this one.
        until("it is unmounted", || Command::new("umount").arg(VASSALS).status().unwrap().success());
        emperor.stop();
        run("mount", &["-t", "tmpfs", "vassals", VASSALS]);
    });
}

#[test]
fn of_a_directory_that_appears_later_only_one_emperor_runs_the_vassals() {
    sandboxed(|sandbox| {
        let [other, late] = ["/etc/uwsgi/other", "/etc/uwsgi/late"];
        fs::create_dir(other).unwrap();
        sandbox.vassal("app", STEADY);
        let first = sandbox.emperor(&["--emperor-freq", "1"]);
        first.wait_running(1, "app");
        let second = another(sandbox, &[other, late]);
        second.wait_for("emperor: version");
        // The lock goes along with the directory.
        fs::rename(VASSALS, late).unwrap();
        let says = format!("emperor: watch {late}: another emperor, pid {}, runs its vassals", first.pid());
        second.wait_for(&format!("{says}: stop that one first; its vassals are not started until then"));
        second.wait_for("emperor: app: cannot start: watch");
        wait_for_turns(second.pid(), 3);
        assert_eq!(second.lines(&says).len(), 1);
        assert!(second.lines("emperor: app: started").is_empty());
        end(first);
        second.wait_running(1, "app");
        second.stop();
    });
}

/// The name of the lock of a directory.
fn lock_of(directory: &str) -> String {
    let there = fs::metadata(directory).unwrap();
    let (major, minor) = (rustix::fs::major(there.st_dev()), rustix::fs::minor(there.st_dev()));
    format!("emperor of {major}:{minor} {}", there.st_ino())
}

#[test]
fn a_link_that_leads_elsewhere_by_now_leaves_the_lock_to_the_directory() {
    sandboxed(|sandbox| {
        let [link, other] = ["/etc/uwsgi/link", "/etc/uwsgi/other"];
        fs::create_dir_all(VASSALS).unwrap();
        fs::create_dir(other).unwrap();
        symlink(VASSALS, link).unwrap();
        let first = another(sandbox, &[link, VASSALS]);
        first.wait_for("emperor: version");
        fs::remove_file(link).unwrap();
        symlink(other, link).unwrap();
        let lock = format!("@{}\n", lock_of(other));
        until("the lock of the other directory", || {
            fs::read_to_string("/proc/net/unix").unwrap().contains(&lock)
        });
        is_refused(another(sandbox, &[VASSALS]), VASSALS, first.pid());
        end(first);
    });
}

#[test]
fn a_link_of_a_users_does_not_keep_another_emperor_from_its_directory() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", STEADY);
        fs::create_dir("/etc/uwsgi/home").unwrap();
        symlink(VASSALS, "/etc/uwsgi/home/link").unwrap();
        run("chown", &["-hR", "user001", "/etc/uwsgi/home"]);
        let first = another(sandbox, &["/etc/uwsgi/home/link"]);
        first.wait_running(1, "app");
        let second = another(sandbox, &[VASSALS]);
        second.wait_running(1, "app");
        [first, second].into_iter().for_each(end);
    });
}

#[test]
fn a_pattern_is_locked_as_a_whole_and_no_user_keeps_an_emperor_from_its_work() {
    sandboxed(|sandbox| {
        fs::create_dir_all("/etc/uwsgi/sites/a").unwrap();
        fs::write("/etc/uwsgi/sites/a/app.ini", format!("[uwsgi]\n{STEADY}\n")).unwrap();
        let pattern = "glob:///etc/uwsgi/sites/*/app.ini";
        let first = another(sandbox, &[pattern]);
        first.wait_running(1, "a/app");
        is_refused(another(sandbox, &[pattern]), "/etc/uwsgi/sites/*/app.ini", first.pid());
        let second = another(sandbox, &["glob:///etc/uwsgi/sites/*/other.ini"]);
        second.wait_for("emperor: version");

        sandbox.vassal("app", STEADY);
        let name = lock_of(VASSALS);
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "user001", "--clear-groups", "python3", "-c", TAKER, &name]);
        let taker = sandbox.start("taker", command);
        taker.wait_for("taken");
        let third = another(sandbox, &[VASSALS]);
        third.wait_for(&format!("emperor: lock {VASSALS} for this emperor alone: listen on {name}: "));
        third.wait_running(1, "app");
        wait_for_turns(third.pid(), 3);
        assert_eq!(third.lines("going on without").len(), 1);
        drop(taker);
        [first, second, third].into_iter().for_each(end);
    });
}

#[test]
fn who_is_root_in_a_jail_keeps_no_emperor_from_its_work() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", STEADY);
        let name = lock_of(VASSALS);
        // The filesystem of the second jail hangs by then.
        let remote = Remote::mount();
        for place in ["/run/jail", &format!("{}/jail", remote.path)] {
            let jail = "mkdir -p $0/usr && cd $0 && mount --bind /usr usr
                for name in bin lib lib64; do ln -s usr/$name $name; done; exec chroot . \"$@\"";
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", jail, place, "python3", "-c", TAKER, &name]);
            let taker = sandbox.start("taker", command);
            taker.wait_for("taken");
            remote.hang();
            let emperor = another(sandbox, &[VASSALS]);
            emperor.wait_for("and that is no emperor: going on without");
            emperor.wait_running(1, "app");
            remote.answer();
            drop(taker);
            end(emperor);
        }
    });
}

#[test]
fn an_upgrade_keeps_the_lock_of_a_directory_that_hangs() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        fs::write("/run/real/vassals/far.ini", format!("[uwsgi]\n{STEADY}\n")).unwrap();
        let first = another(sandbox, &[remote.path]);
        first.wait_running(1, "far");
        let lock = format!("@{}\n", lock_of(remote.path));
        let is_held = || fs::read_to_string("/proc/net/unix").unwrap().contains(&lock);
        assert!(is_held());
        remote.hang();
        first.wait_for("does not answer since ");
        first.signal(Signal::USR2);
        first.wait_for("has taken over 1 vassal");
        assert!(is_held());
        first.wait_for_nth(2, "does not answer since ");
        remote.answer();
        first.wait_for("answers again");
        is_refused(another(sandbox, &[remote.path]), remote.path, first.pid());
        end(first);
    });
}

/// Takes a copy of the lock of the emperor whose pid is its argument, as a child has that has not closed it
/// yet.
const HOLDER: &str = "import ctypes, os, socket, sys, time
pid = int(sys.argv[1])
pidfd = os.pidfd_open(pid)
for fd in map(int, os.listdir(f'/proc/{pid}/fd')):
    if os.readlink(f'/proc/{pid}/fd/{fd}').startswith('socket:'):
        held = socket.socket(fileno=ctypes.CDLL(None).syscall(438, pidfd, fd, 0))
        name = held.getsockname()
        if isinstance(name, bytes) and b'emperor of' in name:
            print('held', flush=True)
            time.sleep(1000)";

#[test]
fn a_lock_that_has_outlived_its_emperor_keeps_no_other_from_its_work() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", STEADY);
        let mut first = sandbox.emperor(&[]);
        first.wait_running(1, "app");
        let mut command = Command::new("python3");
        command.args(["-c", HOLDER, &first.pid().to_string()]);
        let holder = sandbox.start("holder", command);
        holder.wait_for("held");
        first.signal(Signal::KILL);
        first.wait();
        let second = another(sandbox, &[VASSALS]);
        second.wait_for(&format!("emperor: lock {VASSALS} for this emperor alone: listen on emperor of "));
        second.wait_running(1, "app");
        drop(holder);
        second.stop();
    });
}
