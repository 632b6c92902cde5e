//! The filter of system calls: what it refuses, and that real apps run under it.

use std::fs;

use crate::common::tutorial::{MOUNTED, get, wait_for_page};
use crate::common::{Sandbox, eventually, sandboxed};

/// Refused whoever asks. The arguments are nonsense, so without a filter each call fails for another reason.
const REFUSED: &[(&str, i64)] = &[
    ("acct", libc::SYS_acct),
    ("add_key", libc::SYS_add_key),
    ("bpf", libc::SYS_bpf),
    ("delete_module", libc::SYS_delete_module),
    ("finit_module", libc::SYS_finit_module),
    ("fsconfig", libc::SYS_fsconfig),
    ("fsmount", libc::SYS_fsmount),
    ("fsopen", libc::SYS_fsopen),
    ("fspick", libc::SYS_fspick),
    ("init_module", libc::SYS_init_module),
    ("io_uring_enter", libc::SYS_io_uring_enter),
    ("io_uring_register", libc::SYS_io_uring_register),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("ioperm", libc::SYS_ioperm),
    ("iopl", libc::SYS_iopl),
    ("kcmp", libc::SYS_kcmp),
    ("kexec_file_load", libc::SYS_kexec_file_load),
    ("kexec_load", libc::SYS_kexec_load),
    ("keyctl", libc::SYS_keyctl),
    ("lookup_dcookie", libc::SYS_lookup_dcookie),
    ("mount", libc::SYS_mount),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("move_mount", libc::SYS_move_mount),
    ("nfsservctl", libc::SYS_nfsservctl),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("open_tree", libc::SYS_open_tree),
    ("open_tree_attr", 467),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("pivot_root", libc::SYS_pivot_root),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("ptrace", libc::SYS_ptrace),
    ("quotactl", libc::SYS_quotactl),
    ("quotactl_fd", libc::SYS_quotactl_fd),
    ("reboot", libc::SYS_reboot),
    ("request_key", libc::SYS_request_key),
    ("setns", libc::SYS_setns),
    ("swapoff", libc::SYS_swapoff),
    ("swapon", libc::SYS_swapon),
    ("syslog", libc::SYS_syslog),
    ("umount2", libc::SYS_umount2),
    ("unshare", libc::SYS_unshare),
    ("userfaultfd", libc::SYS_userfaultfd),
];

/// Prints the name and the error of each system call of its arguments (`NAME,NUMBER`), then of those whose
/// arguments decide.
const ASK: &str = r#"
import ctypes, errno, mmap, os, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def ask(name, number, *arguments):
    arguments = [ctypes.c_long(argument) for argument in (number, *arguments)]
    error = ctypes.get_errno() if libc.syscall(*arguments) == -1 else 0
    print(name, errno.errorcode.get(error, "done"))
for argument in sys.argv[1:]:
    name, number = argument.split(",")
    ask(name, int(number), -1, -1, -1, -1, -1, -1)
ask("clone3", 435, 0, 0)
ask("x32", 0x40000000 | 39)
ask("unshare-files", 272, 0x400)
ask("unshare-user", 272, 0x10000000)
ask("unshare-mounts", 272, 0x20000)
if "filtered" in os.environ:
    ask("clone-user", 56, 0x10000000 | 17, 0, 0, 0, 0)
ask("TIOCSTI", 16, 0, 0x5412, 0)
ask("TIOCSTI-high", 16, 0, 0x100005412, 0)
ask("TIOCLINUX", 16, 0, 0x541C, 0)
ask("FIONREAD", 16, 99, 0x541B, 0)
ask("personality-ask", 135, 0xffffffff)
ask("personality-32", 135, 8)
ask("personality-0", 135, 0)
ask("personality-fixed-addresses", 135, 0x40000)
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("b814000000cd80c3"))
pid = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
print("i386-getpid", errno.errorcode.get(-pid, "done"))
thread = threading.Thread(target=lambda: print("thread done"))
thread.start()
thread.join()
if os.fork() == 0:
    print("fork done", flush=True)
    os._exit(0)
os.wait()
"#;

/// What each of the calls comes to in an app with these lines.
fn asked(sandbox: &Sandbox, lines: &str) -> Vec<(String, String)> {
    let script = sandbox.file("ask.py", ASK).display().to_string();
    let calls: Vec<_> = REFUSED.iter().map(|(name, number)| format!("{name},{number}")).collect();
    let said = sandbox.said(&format!("{lines}\ncommand = /usr/bin/python3 {script} {}", calls.join(" ")));
    let pair = |line: &String| line.split_once(' ').map(|(name, error)| (name.into(), error.into())).unwrap();
    said.iter().map(pair).collect()
}

fn error_of<'a>(asked: &'a [(String, String)], name: &str) -> &'a str {
    let found = asked.iter().find(|(known, _)| known == name);
    &found.unwrap_or_else(|| panic!("{name} is not in {asked:?}")).1
}

#[test]
fn an_app_cannot_use_what_only_attackers_of_the_kernel_need() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("system calls for root alone") {
            return;
        }
        // Root may do all of it, so it is the filter that refuses.
        let open = asked(sandbox, "");
        for (lines, who) in [("env = filtered=1", "root"), ("uid = user001\nenv = filtered=1", "the user")] {
            let filtered = asked(sandbox, &format!("{lines}\nseccomp = default"));
            for (name, _) in REFUSED {
                assert_eq!(error_of(&filtered, name), "EPERM", "{name} as {who}");
                assert_ne!(error_of(&open, name), "EPERM", "{name} without a filter");
            }
            for (name, error) in [
                ("clone3", "ENOSYS"),
                ("x32", "ENOSYS"),
                ("i386-getpid", "ENOSYS"),
                ("unshare-files", "done"),
                ("unshare-user", "EPERM"),
                ("unshare-mounts", "EPERM"),
                ("clone-user", "EPERM"),
                ("TIOCSTI", "EPERM"),
                ("TIOCSTI-high", "EPERM"),
                ("TIOCLINUX", "EPERM"),
                ("FIONREAD", "EBADF"),
                ("personality-ask", "done"),
                ("personality-32", "done"),
                ("personality-0", "done"),
                ("personality-fixed-addresses", "EPERM"),
                ("thread", "done"),
                ("fork", "done"),
            ] {
                assert_eq!(error_of(&filtered, name), error, "{name} as {who}");
            }
        }
        for name in ["unshare-user", "unshare-mounts", "personality-fixed-addresses"] {
            assert_eq!(error_of(&open, name), "done", "{name} without a filter");
        }
        // The last word counts.
        assert_ne!(error_of(&asked(sandbox, "seccomp = default\nseccomp = none"), "ptrace"), "EPERM");
    });
}

/// Asks for what would let the app act as PID 1, which has no filter.
const ESCAPE: &str = r#"
import os
try:
    os.close(os.open("/proc/1/mem", os.O_RDWR))
    print("open")
except OSError as error:
    print(error.strerror)
"#;

#[test]
fn an_app_that_is_root_cannot_take_its_filter_off() {
    sandboxed(|sandbox| {
        let script = sandbox.file("escape.py", ESCAPE).display().to_string();
        for namespaces in ["fs,pid", "user,fs,pid"] {
            for (lines, expected) in [
                ("", "open"),
                ("seccomp = none", "open"),
                ("seccomp = default", "Permission denied"),
                // Whoever writes it has it.
                ("seccomp = default\ncap = sys_ptrace,dac_override", "open"),
                ("seccomp = default\ncap = dac_override,sys_admin", "Permission denied"),
            ] {
                let lines = format!("uid = root\n{lines}\ncommand = /usr/bin/python3 {script}");
                let mut command = sandbox.program("vassal-init");
                command.args(["--unshare", namespaces]).arg(sandbox.ini("vassal", &lines));
                let output = command.output().unwrap();
                let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
                assert!(text.lines().any(|line| line == expected), "{namespaces}: {lines}: {text}");
            }
        }
    });
}

#[test]
fn hooks_and_a_command_are_filtered_only_where_that_is_said() {
    sandboxed(|sandbox| {
        let status = "grep -E ^(NoNewPrivs|Seccomp): /proc/self/status";
        let hook = "grep -E \"^(NoNewPrivs|Seccomp):\" /proc/self/status";
        let lines = format!("uid = user001\nseccomp = default\nexec-as-user = {hook}\ncommand = {status}");
        let said = sandbox.said(&lines);
        assert_eq!(said, ["NoNewPrivs:\t0", "Seccomp:\t0", "NoNewPrivs:\t1", "Seccomp:\t2"]);
        for (options, expected) in [
            (&[][..], "NoNewPrivs:\t0\nSeccomp:\t0\n"),
            (&["--seccomp", "default"], "NoNewPrivs:\t1\nSeccomp:\t2\n"),
        ] {
            let mut command = sandbox.program("vassal-init");
            command.args(options).args(["--", "grep", "-E", "^(NoNewPrivs|Seccomp):", "/proc/self/status"]);
            let output = command.output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        }
    });
}

#[test]
fn a_filter_of_ones_own_is_taken_from_a_file_of_the_host() {
    sandboxed(|sandbox| {
        // As seccomp_export_bpf(3) writes it: mkdir is refused with ENOTTY, all else is let pass.
        let lines: [(u16, u8, u8, u32); 4] = [
            (0x20, 0, 0, 0),
            (0x15, 0, 1, libc::SYS_mkdir as u32),
            (0x06, 0, 0, 0x0005_0000 | libc::ENOTTY as u32),
            (0x06, 0, 0, 0x7fff_0000),
        ];
        let bytes = |&(code, jt, jf, k): &(u16, u8, u8, u32)| {
            [&code.to_ne_bytes()[..], &[jt, jf], &k.to_ne_bytes()].concat()
        };
        let program: Vec<u8> = lines.iter().flat_map(bytes).collect();
        sandbox.namespace_tree();
        fs::write("/ns/filter", &program).unwrap();
        // In the jail there is no such file.
        let jail = "hook-pre-jail = mount:none /ns/precise /ufs rbind\npivot_root = /ufs /ufs/.old_root\n\
                    umount-as-root = /.old_root detach";
        let app = "command = sh -c 'test -e /ns && echo there; mkdir /tmp/d 2>&1; true'";
        let said = sandbox.said(&format!("{jail}\nuid = user001\nseccomp = /ns/filter\n{app}"));
        assert!(said.len() == 1 && said[0].contains("Inappropriate ioctl for device"), "{said:?}");

        let refused = |path: &str, why: &str| {
            sandbox.fails(&format!("seccomp = {path}"), &[why, "(/run/scratch/vassal.ini:2:11: seccomp)"]);
        };
        refused("/ns/none", "seccomp: read the filter /ns/none: No such file or directory (ENOENT)");
        refused("/ns", "read the filter /ns: Is a directory (EISDIR)");
        fs::write("/ns/short", &program[..9]).unwrap();
        refused("/ns/short", "read the filter /ns/short: it is none: write what seccomp_export_bpf(3) does");
        fs::write("/ns/empty", "").unwrap();
        refused("/ns/empty", "it is none");
        fs::write("/ns/nonsense", [0; 16]).unwrap();
        refused("/ns/nonsense", "install the filter of seccomp: Invalid argument (EINVAL)");
        fs::write("/ns/long", program[24..].repeat(70_000)).unwrap();
        refused("/ns/long", "install the filter of seccomp: Invalid argument (EINVAL)");
        sandbox.is_invalid("seccomp = filter", "'filter' is none of default, none and an absolute path");
        let both = "no-new-privs = false\nseccomp = default";
        sandbox.is_invalid(both, "'seccomp' and 'no-new-privs = false' exclude each other");
    });
}

#[test]
fn real_apps_serve_under_the_filter() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let filtered = |log: &str, app: &str| {
            let mut vassal = sandbox.vassal_init(log, &format!("{app}\nseccomp = default"));
            vassal.wait_for("app started");
            if log == "uwsgi" {
                wait_for_page();
            } else {
                assert!(eventually(log, get).contains("from the app"), "{log}");
            }
            vassal.signal(rustix::process::Signal::TERM);
            vassal.wait();
        };
        filtered("uwsgi", &format!("{MOUNTED}\nhttp-socket = :9090\nplugin = psgi\npsgi = /app/myapp.pl"));
        let pages = sandbox.path("pages");
        fs::create_dir(&pages).unwrap();
        fs::write(pages.join("index.html"), "from the app").unwrap();
        let server = format!("/usr/bin/python3 -m http.server 9090 --directory {}", pages.display());
        filtered("python", &format!("uid = user001\ncommand = {server}"));
        let script = sandbox.file(
            "serve.js",
            "require('http').createServer((q, s) => { require('fs').readFile('/etc/hostname', () => \
             s.end('from the app')); }).listen(9090);",
        );
        filtered("node", &format!("uid = user001\ncommand = node {}", script.display()));
    });
}
