//! Where containers run: a real OCI runtime, and seccomp filters of older ones.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use crate::common::cgroups::OutermostCgroup;
use crate::common::filter::{CLONE_WITH_PIDFD, NEWER_CALLS};
use crate::common::sandbox::VASSALS;
use crate::common::{Sandbox, eventually, process, run, sandboxed, until};
use rustix::process::Signal;

#[test]
fn filters_that_do_not_know_newer_calls_do_not_stop_a_start() {
    sandboxed(|sandbox| {
        let ini = sandbox.ini("hooks", "exec-asap = true\nexec-as-user-atexit = true");
        let older = [&[CLONE_WITH_PIDFD][..], &NEWER_CALLS].concat();
        // gVisor says EINVAL, to a part of them.
        let gvisor = [libc::SYS_clone3, CLONE_WITH_PIDFD];
        for (calls, errno) in [
            (&NEWER_CALLS[..], libc::ENOSYS),
            (&NEWER_CALLS, libc::EPERM),
            (&older, libc::EINVAL),
            (&gvisor, libc::EINVAL),
        ] {
            for options in [
                &[][..],
                &["--user", "user001", "--chdir", "/"],
                &["--unshare", "fs,pid,uts", "--hostname", "x"],
                &["--ini", ini.to_str().unwrap()],
                &["--mountpoint-check", "/proc"],
            ] {
                let mut command = sandbox.filtered(calls, errno, "vassal-init");
                let output = command
                    .args(options)
                    .args(["--", "sh", "-c", "setsid sleep 1000 & exit 5"])
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(5), "{errno} {options:?}: {said}");
                until("nothing is left", || process::named("sleep").is_empty());
            }
        }
    });
}

#[test]
fn what_needs_a_newer_kernel_says_which() {
    sandboxed(|sandbox| {
        let source = sandbox.path("source");
        fs::create_dir(&source).unwrap();
        let source = source.display();
        for (action, what) in [
            (format!("mount:none {source} {source} bind,ro"), format!("bind: set the flags of {source}")),
            ("mount:none none / rprivate".into(), "change the propagation of /".into()),
        ] {
            let ini = sandbox.ini("new", &format!("hook-asap = {action}\ncommand = true"));
            let mut command = sandbox.filtered(&[libc::SYS_mount_setattr], libc::ENOSYS, "vassal-init");
            let output = command.args(["--unshare", "fs,pid"]).arg(ini).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let expected =
                format!("{what}: it needs Linux 5.12, whose mount_setattr(2) this kernel has not (");
            assert!(output.status.code() == Some(71) && said.contains(&expected), "{said}");
        }
        sandbox.vassal("app", "command = sleep 1000");
        let mut command = sandbox.filtered(&[libc::SYS_mount_setattr], libc::ENOSYS, "emperor");
        command.args(["--emperor", VASSALS]);
        let emperor = sandbox.start("emperor", command);
        emperor.wait_for("emperor: this kernel has no mount_setattr(2), as Linux before 5.12: ");
        emperor.wait_running(1, "app");
        emperor.stop();
    });
}

#[test]
fn where_no_proc_can_be_mounted_no_app_sees_the_processes_of_the_host_unasked() {
    sandboxed(|sandbox| {
        for (line, status) in [("", 71), ("mount-proc = false", 5)] {
            let ini = sandbox.ini("app", &format!("{line}\ncommand = sh -c 'exit 5'"));
            let mut command = sandbox.filtered(&[libc::SYS_fsopen], libc::EPERM, "vassal-init");
            let output = command.args(["--unshare", "fs,pid"]).arg(ini).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(status), "{said}");
            let says_how = said.contains("'mount-proc = false' leaves the processes of the host in sight");
            assert_eq!(says_how, status == 71, "{said}");
        }
    });
}

#[test]
fn a_mountpoint_is_watched_without_statx() {
    sandboxed(|sandbox| {
        let mountpoint = sandbox.path("mount");
        fs::create_dir(&mountpoint).unwrap();
        let mountpoint = mountpoint.to_str().unwrap();
        for (errno, event) in [(libc::ENOSYS, "umount"), (libc::EPERM, "mount -t tmpfs none")] {
            let prepare = "mount -t tmpfs none $0 && exec \"$@\"";
            let filter = sandbox.filter(&NEWER_CALLS, errno);
            let mut wrapper = vec!["unshare", "--mount", "sh", "-c", prepare, mountpoint];
            wrapper.extend(filter.iter().map(String::as_str));
            let mut command = sandbox.wrapped(&wrapper, "vassal-init");
            // It is busy while the prober looks at it.
            let script = format!("until {event} {mountpoint}; do sleep 0.01; done; exec sleep 1000");
            let output =
                command.args(["--mountpoint-check", mountpoint, "--", "sh", "-c", &script]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(75), "{event}: {said}");
        }
    });
}

#[test]
fn without_close_range_nothing_is_held_either() {
    sandboxed(|sandbox| {
        let program = sandbox.program("vassal-init").get_program().display().to_string();
        let filter = sandbox.filter(&NEWER_CALLS, libc::ENOSYS).join(" ");
        let line = format!("exec {filter} {program} sleep 1000 77>/dev/null 1023>/dev/null");
        let mut child = Command::new("bash").args(["-c", &line]).stdin(Stdio::null()).spawn().unwrap();
        let fds = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        let app = eventually("the command", || process::named("sleep").first().map(|process| process.pid));
        until("the init lets go", || fds(child.id() as i32) == 3);
        assert!([77, 1023].iter().all(|fd| fs::exists(format!("/proc/{app}/fd/{fd}")).unwrap()));
        process::signal(child.id() as i32, Signal::TERM);
        assert_eq!(child.wait().unwrap().code(), Some(143));
    });
}

/// The bundle's process: everything a careful runtime takes away is taken away.
const CONFIG: &str = r#"{
  "ociVersion": "1.0.2",
  "process": {
    "terminal": false, "user": {"uid": 1234, "gid": 1234}, "cwd": "/", "args": ARGS,
    "env": ["PATH=/bin"], "noNewPrivileges": true,
    "capabilities": {"bounding": [], "effective": [], "permitted": [], "ambient": []}
  },
  "root": {"path": "rootfs", "readonly": true},
  "hostname": "inner",
  "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
  "linux": {"namespaces": [
    {"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network"}
  ]}
}"#;

/// An OCI bundle whose process is vassal-init, under some name, with these arguments.
fn bundle(sandbox: &Sandbox, name: &str, arguments: &[&str]) -> PathBuf {
    let bundle = sandbox.path("bundle");
    let bin = bundle.join("rootfs/bin");
    if !bin.exists() {
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir(bundle.join("rootfs/proc")).unwrap();
        for tool in ["dash", "sleep", "cat", "env", "sh"] {
            let path = run("readlink", &["-f", &format!("/bin/{tool}")]);
            fs::copy(path.trim(), bin.join(tool)).unwrap();
            let libraries =
                run("bash", &["-c", &format!("ldd /bin/{tool} | grep -oE '/[^ ]+' | grep -v ':$'")]);
            for library in libraries.lines() {
                run("cp", &["-L", "--parents", library, bundle.join("rootfs").to_str().unwrap()]);
            }
        }
        for name in ["vassal-init", "tini", "dumb-init", "catatonit"] {
            fs::copy(sandbox.program("vassal-init").get_program(), bin.join(name)).unwrap();
        }
    }
    let program = format!("/bin/{name}");
    let words = [&[program.as_str()], arguments].concat();
    let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    let config = CONFIG.replace("ARGS", &format!("[{}]", words.join(",")));
    fs::write(bundle.join("config.json"), config).unwrap();
    bundle
}

/// A name for a container. It becomes that of a cgroup, which other tests on this machine could have too.
fn unused_name() -> String {
    format!("vassal-{}", UNIX_EPOCH.elapsed().unwrap().as_nanos())
}

/// The machine's cgroups, where runc finds them. It would enable all controllers in the outermost one, for
/// good.
fn cgroups_for_runc(sandbox: &Sandbox) -> OutermostCgroup {
    let machines = OutermostCgroup::open();
    sandbox.mount(&["-t", "cgroup2", "none"], "/sys/fs/cgroup");
    sandbox.mount(&["--bind", "/dev/null"], "/sys/fs/cgroup/cgroup.subtree_control");
    machines
}

fn runc(bundle: &PathBuf, name: &str) -> Command {
    let mut command = Command::new("runc");
    // No cgroups to be had in the sandbox, and none needed.
    command.args(["--root", "/run/scratch/runc", "run", "--no-pivot", "--bundle"]).arg(bundle).arg(name);
    command.stdin(Stdio::null());
    command
}

#[test]
fn vassal_init_is_the_entrypoint_of_a_real_container() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("runc") {
            return;
        }
        let machines = cgroups_for_runc(sandbox);
        let show = "echo $PPID $(cat /proc/1/comm) $(cat /proc/sys/kernel/hostname); grep -E \
            'Cap(Prm|Bnd)|Uid' /proc/1/status >/dev/null 2>&1; sleep 1000 & exit 9";
        for name in ["vassal-init", "tini", "dumb-init", "catatonit"] {
            let output =
                runc(&bundle(sandbox, name, &["--", "sh", "-c", show]), &unused_name()).output().unwrap();
            let (out, err) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert_eq!((output.status.code(), &*out), (Some(9), &*format!("1 {name} inner\n")), "{err}");
            // runc itself may not get rid of its cgroup in here.
            assert!(err.lines().all(|line| line.starts_with("time=")), "{name}: {err}");
            let status = runc(
                &bundle(sandbox, name, &["--", "sh", "-c", "sleep 1000 & kill -KILL $$"]),
                &unused_name(),
            )
            .status()
            .unwrap();
            assert_eq!(status.code().unwrap_or_else(|| 128 + status.signal().unwrap()), 137, "{name}");
        }
        machines.is_as_it_was();
    });
}

#[test]
fn a_container_runtime_stops_the_command_in_order() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("runc") {
            return;
        }
        let machines = cgroups_for_runc(sandbox);
        let script = "trap 'exit 4' TERM; while :; do sleep 0.01; done";
        let name = unused_name();
        let mut child =
            runc(&bundle(sandbox, "vassal-init", &["--", "sh", "-c", script]), &name).spawn().unwrap();
        until("the command runs", || !process::named("sleep").is_empty());
        run("runc", &["--root", "/run/scratch/runc", "kill", &name, "TERM"]);
        assert_eq!(child.wait().unwrap().code(), Some(4));
        machines.is_as_it_was();
    });
}
