//! `fuse:`: the mount is made by PID 1, and its daemon gets the open device, so nothing needs `fusermount`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::common::process::{self, Handle};
use crate::common::tutorial::PAGE;
use crate::common::{Daemon, ENDED, Sandbox, eventually, run, sandboxed, until};
use rustix::process::Signal;

/// An image with the tutorial's page.
fn image(sandbox: &Sandbox) {
    sandbox.zip();
    fs::create_dir("/run/image").unwrap();
    fs::copy(sandbox.path("page.html"), "/run/image/page.html").unwrap();
    run("mksquashfs", &["/run/image", "/run/image.squashfs", "-quiet", "-no-progress"]);
}

const MOUNTED: &str = "\
uid = user001
confine-hooks = true
hook-as-user = fuse:/app squashfuse /run/image.squashfs {}
mountpoint-check = /app
mountpoint-check-interval = 50ms";

/// Reads the page whenever it can.
const APP: &str = "command = sh -c 'while :; do cat /app/page.html; sleep 0.1; done'";

fn served(vassal: &Daemon) -> usize {
    vassal.lines(PAGE.trim()).len()
}

/// The line of the mount table with a mount, as a process sees it.
fn mount_at(pid: i32, place: &str) -> String {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let found: Vec<_> = table.lines().filter(|line| line.split(' ').nth(4) == Some(place)).collect();
    assert_eq!(found.len(), 1, "{place} in {table}");
    found[0].to_owned()
}

fn status_of(pid: i32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().find_map(|line| line.strip_prefix(field)).expect(field).trim().to_owned()
}

#[test]
fn a_daemon_that_may_gain_no_privilege_serves_a_mount_and_is_watched() {
    sandboxed(|sandbox| {
        image(sandbox);
        let mut vassal = sandbox.vassal_init("vassal", &format!("{MOUNTED}\n{APP}"));
        until("the page", || served(&vassal) > 0);
        let daemon = process::only("squashfuse");
        let init = daemon.parent;
        assert_eq!(daemon.uid.to_string(), run("id", &["-u", "user001"]).trim());
        assert_eq!(
            (status_of(daemon.pid, "NoNewPrivs:"), status_of(daemon.pid, "CapBnd:")),
            ("1".into(), "0000000000000000".into())
        );
        let mount = mount_at(init, "/app");
        let user = format!("user_id={},group_id=", daemon.uid);
        assert!(mount.contains(" rw,nosuid,nodev") && mount.contains(&user), "{mount}");
        assert!(!mount.contains("allow_other"), "{mount}");
        // The daemon has the device, and nobody else: its end is the end of the connection.
        let instance = Handle::of(init);
        process::signal(daemon.pid, Signal::KILL);
        instance.wait();
        assert_eq!(vassal.wait(), 75);
        let line = vassal.wait_for("mountpoint /app lost: ");
        assert!(ENDED.iter().any(|why| line.contains(why)), "{line}");
        assert!(line.contains(" after the daemon died (pid "), "{line}");
    });
}

#[test]
fn a_lost_mount_is_made_again_and_a_reload_keeps_it() {
    sandboxed(|sandbox| {
        image(sandbox);
        let lines =
            format!("if-not-reload =\n{MOUNTED}\nendif =\nuid = user001\nmountpoint-lost = remount\n{APP}");
        sandbox.vassal("a", &lines);
        let emperor = sandbox.emperor(&[]);
        let init = emperor.wait_running(1, "a");
        let daemon = process::only("squashfuse").pid;
        process::signal(daemon, Signal::KILL);
        emperor.wait_for("mounted again and running, ");
        let next = process::only("squashfuse").pid;
        assert_ne!(next, daemon);
        mount_at(init, "/app");
        sandbox.vassal("a", &format!("{lines}\nenv = A=b"));
        emperor.wait_for("emperor: a: reloaded after ");
        assert_eq!((process::only("squashfuse").pid, emperor.pid_of("a")), (next, init));
        // PID 1 has the right to mount only where something is mounted like that.
        sandbox.vassal("a", &format!("uid = user001\n{}", "command = sleep 1000"));
        let plain = emperor.wait_running(2, "a");
        assert_eq!(status_of(plain, "CapPrm:"), "00000000000001e0");
        sandbox.vassal("a", &format!("{MOUNTED}\n{APP}"));
        let mounting = emperor.wait_running(3, "a");
        assert_eq!(status_of(mounting, "CapPrm:"), "00000000002001e4");
        emperor.stop();
    });
}

#[test]
fn daemons_in_the_foreground_and_those_for_other_users_are_served_too() {
    sandboxed(|sandbox| {
        image(sandbox);
        let app = "command = sh -c 'cat /app/page.html; touch /app/file 2>&1; id -u'";
        let foreground =
            "mountpoint-check = /app\nhook-as-user = fuse:/app squashfuse -f /run/image.squashfs {} &";
        let said = sandbox.said(&format!("uid = user001\n{foreground}\n{app}"));
        assert!(said.contains(&PAGE.trim().to_owned()), "{said:?}");
        // Of root's, for the user.
        let by_root = "hook-as-root = fuse:/app -o allow_other,ro squashfuse /run/image.squashfs {}";
        let lines =
            format!("uid = user001\n{by_root}\nexec-as-root = grep ' /app ' /proc/self/mountinfo\n{app}");
        let said = sandbox.said(&lines);
        let mount = said.iter().find(|line| line.contains(" /app ")).unwrap();
        assert!(mount.contains(" ro,nosuid,nodev") && mount.contains("user_id=0,group_id=0"), "{mount}");
        assert!(mount.contains("default_permissions") && mount.contains("allow_other"), "{mount}");
        assert!(said.contains(&PAGE.trim().to_owned()), "{said:?}");
        // One that is written to.
        for directory in ["/run/upper", "/run/work"] {
            fs::create_dir(directory).unwrap();
            run("chown", &["user001:user001", directory]);
        }
        let union = "fuse-overlayfs -o lowerdir=/run/image,upperdir=/run/upper,workdir=/run/work {}";
        let app = "command = sh -c 'echo new > /app/file; cat /app/file /app/page.html'";
        let said =
            sandbox.said(&format!("uid = user001\nconfine-hooks\nhook-as-user = fuse:/app {union}\n{app}"));
        assert!(said.contains(&"new".to_owned()) && said.contains(&PAGE.trim().to_owned()), "{said:?}");
        assert_eq!(fs::read_to_string("/run/upper/file").unwrap(), "new\n");
    });
}

#[test]
fn whoever_cannot_take_it_is_told_so_and_nothing_is_left() {
    sandboxed(|sandbox| {
        image(sandbox);
        let fails = |action: &str, parts: &[&str]| {
            sandbox.fails(&format!("uid = user001\nhook-as-user = fuse:{action}"), parts);
        };
        let place = "vassal.ini:3:16: hook-as-user)";
        // It has libfuse 2.
        fails("/app bindfs --no-allow-other /run/image {}", &["exited with status 1", place]);
        fails("/app true {}; exit 3", &["as-user #1: run fuse:/app true {}; exit 3: exited with status 3"]);
        fails("/run/none squashfuse /run/image.squashfs {}", &["/run/none: No such file", place]);
        fails("/run/image.squashfs squashfuse /run/image.squashfs {}", &["Not a directory", place]);
        sandbox.is_invalid("hook-as-user = fuse:/app squashfuse /image /app", "the command has no {}");

        let plain =
            format!("uid = user001\nhook-as-user = fuse:/app squashfuse /run/image.squashfs {{}}\n{APP}");
        let mut command = sandbox.program("vassal-init");
        command.arg(sandbox.ini("shared", &plain));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("use fuse:: needs a mount namespace (unshare = fs, or fs in"), "{said}");

        // Root is led nowhere by a link of the user's.
        fs::create_dir("/run/home").unwrap();
        std::os::unix::fs::symlink("/etc", "/run/home/app").unwrap();
        run("chown", &["-h", "user001:user001", "/run/home", "/run/home/app"]);
        let link = ["mount /run/home/app: ", "/run/home/app is a symbolic link of ", place];
        fails("/run/home/app squashfuse /run/image.squashfs {}", &link);

        // What has the name of the device in a tenant's tree is not used for another one.
        sandbox.copied_tree();
        let jail = "hook-pre-jail = mount:none /ns/precise /ufs rbind\npivot_root = /ufs /ufs/.old_root\n\
                    umount-as-root = /.old_root detach\nuid = user001";
        let inside = format!("{jail}\nhook-as-user = fuse:/mnt true {{}}");
        sandbox.fails(&inside, &["fuse: open /dev/fuse: No such file"]);
        fs::write("/ns/precise/dev/fuse", "").unwrap();
        sandbox.fails(&inside, &["fuse: /dev/fuse: it is another device, or none"]);
        fs::remove_file("/ns/precise/dev/fuse").unwrap();
        std::os::unix::fs::symlink("zero", "/ns/precise/dev/fuse").unwrap();
        run("chown", &["user001", "/ns/precise/dev"]);
        sandbox.fails(&inside, &["fuse /dev/fuse: /dev/fuse is a symbolic link of "]);
    });
}

#[test]
fn root_of_a_user_namespace_mounts_like_that() {
    sandboxed(|sandbox| {
        image(sandbox);
        let app = "command = sh -c 'cat /app/page.html; cat /proc/self/uid_map'";
        let ini = sandbox.ini(
            "vassal",
            &format!(
                "hook-as-user = fuse:/app squashfuse /run/image.squashfs {{}}\nmountpoint-check = /app\n{app}"
            ),
        );
        fs::set_permissions("/run/image.squashfs", fs::Permissions::from_mode(0o644)).unwrap();
        let user = ["setpriv", "--reuid", "user001", "--regid", "user001", "--clear-groups"];
        let namespace = ["unshare", "--user", "--map-root-user"];
        let mut command = sandbox.wrapped(&[&user[..], &namespace].concat(), "vassal-init");
        command.args(["--unshare", "fs,pid"]).arg(ini);
        let mut vassal = sandbox.start("vassal", command);
        assert_eq!(vassal.wait(), 0, "{}", vassal.log());
        assert_eq!(served(&vassal), 1, "{}", vassal.log());
        eventually("an end", || process::named("squashfuse").is_empty().then_some(()));
    });
}

/// Traces the process of a name and has it execute a shell with a command (x86_64).
const TAKE_OVER: &str = r#"
import ctypes, os, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
def comm(pid):
    try:
        return open(f"/proc/{pid}/comm").read().strip()
    except OSError:
        return ""
pid = max(int(name) for name in os.listdir("/proc") if name.isdigit() and comm(name) == sys.argv[1])
# It waits in a system call, which is to be another one.
while open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1][0] != "S":
    time.sleep(0.01)
if libc.ptrace(16, pid, None, None):
    print("not traced:", os.strerror(ctypes.get_errno()), flush=True)
    sys.exit()
os.waitpid(pid, 0x40000000)
registers = (ctypes.c_ulong * 27)()
libc.ptrace(12, pid, None, registers)
place = (registers[19] - 4096) & ~15
words = b"/bin/sh\0".ljust(16, b"\0") + b"-c\0".ljust(16, b"\0") + sys.argv[2].encode() + b"\0"
words = words.ljust(512, b"\0") + struct.pack("5Q", place, place + 16, place + 32, 0, 0)
for at in range(0, len(words), 8):
    libc.ptrace(5, pid, place + at, struct.unpack_from("Q", words, at)[0])
registers[16] -= 2
registers[10], registers[15] = 59, 2**64 - 1
registers[14], registers[13], registers[12] = place, place + 512, place + 512 + 32
libc.ptrace(13, pid, None, registers)
libc.ptrace(17, pid, None, None)
print("taken over", flush=True)
"#;

#[test]
fn an_app_that_takes_its_daemon_over_has_gained_nothing() {
    sandboxed(|sandbox| {
        image(sandbox);
        let script = sandbox.file("take.py", TAKE_OVER).display().to_string();
        let look = "grep -E \\\"^(NoNewPrivs|CapBnd|Seccomp):\\\" /proc/self/status > /run/scratch/taken; \
                    sleep 1000";
        let app =
            format!("command = sh -c \"/usr/bin/python3 {script} squashfuse '{look}'; exec sleep 2000\"");
        let plain = "exec-as-user = squashfuse /run/image.squashfs /app";
        let handed = "hook-as-user = fuse:/app squashfuse /run/image.squashfs {}\nconfine-hooks = true";
        let outcome = |lines: &str| {
            let _ = fs::remove_file("/run/scratch/taken");
            let mut vassal = sandbox.vassal_init("vassal", &format!("uid = user001\n{lines}\n{app}"));
            let end = eventually("the attempt", || {
                let taken = fs::read_to_string("/run/scratch/taken").unwrap_or_default();
                let refused = vassal.lines("not traced: ").into_iter().next();
                refused.or(taken.contains("Seccomp").then_some(taken))
            });
            vassal.signal(Signal::TERM);
            vassal.wait();
            end
        };
        let refused = "not traced: Operation not permitted";
        let [taken, confined, filtered] =
            [plain, handed, &format!("{handed}\nseccomp = default")].map(outcome);
        assert_eq!(filtered, refused);
        // With yama only a parent may trace a process.
        let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
        if !["", "0"].contains(&scope.trim()) {
            assert_eq!([&*taken, &*confined], [refused; 2]);
        } else {
            assert_eq!(confined, "CapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t0\n");
            // Where hooks are not confined, it has left its confinement.
            let has_left = taken.contains("NoNewPrivs:\t0") && !taken.contains("CapBnd:\t0000000000000000");
            assert!(has_left, "{taken}");
        }
    });
}
