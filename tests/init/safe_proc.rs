//! `proc = safe`: root in a jail, whatever capabilities it has left, cannot change the machine by
//! `/proc`.

use std::fs;

use crate::common::sandboxed;

/// Opens each of its arguments for writing, and reads from it, and prints what came of both. Nothing is
/// written.
const TRY: &str = r#"
import errno, os, sys
def outcome(act):
    try:
        return act()
    except OSError as error:
        return errno.errorcode[error.errno]
def write(path):
    os.close(os.open(path, os.O_WRONLY))
    return "writable"
def read(path):
    if os.path.isdir(path):
        return len(os.listdir(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return len(os.read(descriptor, 16))
for path in sys.argv[1:]:
    print(path, outcome(lambda: write(path)), outcome(lambda: read(path)))
"#;

const PROC: &str = "mount-as-root = proc none /proc nosuid,nodev,noexec";

#[test]
fn root_in_a_jail_cannot_write_what_belongs_to_the_machine_nor_read_its_secrets() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("files of the kernel") {
            return;
        }
        let script = sandbox.file("try.py", TRY).display().to_string();
        let irq = fs::read_dir("/proc/irq").unwrap().map(|entry| entry.unwrap().path());
        let irq = irq.map(|path| path.join("smp_affinity")).find(|path| path.exists());
        let mut writable =
            vec!["/proc/sys/kernel/core_pattern".to_owned(), "/proc/sys/vm/drop_caches".into()];
        writable.extend(irq.map(|path| path.display().to_string()));
        writable.push("/proc/sysrq-trigger".into());
        let mut masked: Vec<_> =
            ["keys", "kcore", "timer_list", "sched_debug", "latency_stats", "acpi", "scsi"]
                .iter()
                .map(|name| format!("/proc/{name}"))
                .collect();
        for paths in [&mut writable, &mut masked] {
            paths.retain(|path| fs::exists(path).unwrap());
        }
        assert!(writable.len() > 1 && !masked.is_empty(), "{writable:?} {masked:?}");
        let own = ["/proc/self/oom_score_adj".to_owned(), "/proc/self/comm".into()];
        let app = |paths: &[String]| format!("command = /usr/bin/python3 {script} {}", paths.join(" "));
        let safe = format!("{PROC}\nproc = safe\ncap-drop = all\n");
        let line_of = |said: &[String], path: &str| {
            let line = said.iter().find(|line| line.starts_with(&format!("{path} ")));
            line.unwrap_or_else(|| panic!("{path} is not in {said:?}")).split_once(' ').unwrap().1.to_owned()
        };

        let all = [&writable[..], &masked, &own].concat();
        let said = sandbox.said(&format!("{safe}{}", app(&all)));
        for path in &writable {
            assert!(line_of(&said, path).starts_with("EROFS "), "{path}: {said:?}");
        }
        for path in &masked {
            let outcome = line_of(&said, path);
            // What is written goes to the null device.
            assert!(matches!(outcome.as_str(), "writable 0" | "EISDIR 0"), "{path}: {outcome}");
        }
        for path in &own {
            assert!(line_of(&said, path).starts_with("writable "), "{path}: {said:?}");
        }
        assert_ne!(line_of(&said, &writable[0]), "EROFS 0", "it can be read");

        // The same without it, for comparison: opened only.
        let open = sandbox.said(&format!("{PROC}\ncap-drop = all\n{}", app(&writable[..1])));
        assert!(open[0].contains("writable"), "{open:?}");
        // The last word counts.
        let open = sandbox.said(&format!("{PROC}\nproc = safe\nproc = full\n{}", app(&writable[..1])));
        assert!(open[0].contains("writable"), "{open:?}");
        // What is mounted after it was written in the file is meant, too.
        let said = sandbox.said(&format!("proc = safe\n{PROC}\n{}", app(&writable[..1])));
        assert!(said[0].contains("EROFS"), "{said:?}");
    });
}

#[test]
fn a_safe_proc_is_that_of_the_jail_and_of_no_one_else() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("files of the kernel") {
            return;
        }
        sandbox.copied_tree();
        fs::create_dir("/ns/precise/proc/here").unwrap();
        let jail = "hook-pre-jail = mount:none /ns/precise /ufs rbind\npivot_root = /ufs /ufs/.old_root\n\
                    mount-as-root = none /.old_root/dev /dev bind\numount-as-root = /.old_root rec,detach";
        let app = "command = sh -c 'touch /proc/sys/kernel/core_pattern'";
        let (status, log) = sandbox.outcome(&format!("{jail}\n{PROC}\nproc = safe\n{app}"));
        assert!(status != 0 && log.contains("Read-only file system"), "{log}");
        let why = "proc = safe: /proc: no procfs is mounted there: write 'mount-as-root = proc none /proc";
        sandbox.fails(&format!("{jail}\nproc = safe"), &["as-root #3", why, "vassal.ini:6:8: proc)"]);
        std::os::unix::fs::symlink("/.old_root/proc", "/ns/precise/link").unwrap();
        fs::remove_dir("/ns/precise/proc/here").unwrap();
        fs::remove_dir("/ns/precise/proc").unwrap();
        std::os::unix::fs::symlink("/.old_root/proc", "/ns/precise/proc").unwrap();
        let jail = jail.replace("umount-as-root = /.old_root rec,detach", "");
        sandbox.fails(&format!("{jail}\nproc = safe"), &["as-root #2", "a symbolic link"]);

        // Without mounts of one's own it would be the host's.
        let mut command = sandbox.program("vassal-init");
        command.arg(sandbox.ini("shared", "proc = safe\ncommand = echo the app ran"));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(71), "{said}");
        assert!(said.contains("use proc = safe: needs a mount namespace (unshare = fs, or fs in "), "{said}");
        assert!(!said.contains("the app ran"));
        sandbox.is_invalid("proc = sfe", "'sfe' is neither safe nor full");
    });
}
