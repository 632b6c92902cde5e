//! Mount and umount actions: what they do, what they refuse, and where they cannot be led.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::cow::{PIVOTED, words};
use crate::common::{Sandbox, built, process, run, sandboxed, slowness, unmount, until};
use rustix::process::Signal;

/// The options of what is mounted at a place, and the rest of its line of mountinfo.
fn mount_at(said: &[String], place: &str) -> String {
    let line = said.iter().rev().find(|line| line.split(' ').nth(4) == Some(place));
    line.unwrap_or_else(|| panic!("nothing at {place}: {said:#?}")).clone()
}

/// The mount table after these hooks.
fn table(sandbox: &Sandbox, lines: &str) -> Vec<String> {
    sandbox.said(&format!("{lines}\ncommand = cat /proc/self/mountinfo"))
}

#[test]
fn filesystems_are_mounted_by_type_with_flags_and_data() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        for (lines, place, parts) in [
            ("hook-asap = mount:tmpfs none /mnt", "/mnt", &[" - tmpfs none rw"][..]),
            (
                "mount-asap = tmpfs stuff /mnt nosuid,nodev,noexec size=64k",
                "/mnt",
                &["nosuid,nodev,noexec", "- tmpfs stuff", "size=64k"],
            ),
            ("mount-as-root = proc none /mnt ro", "/mnt", &[" ro,", " - proc none"]),
            ("mount-as-root = sysfs none /mnt", "/mnt", &[" - sysfs none"]),
            (
                "mount-asap = tmpfs none /mnt\nmount-asap = none none /mnt remount,ro",
                "/mnt",
                &[" - tmpfs none ro"],
            ),
            ("mount-asap = none /ns/precise/var /mnt bind,noexec", "/mnt", &["noexec"]),
            (
                "mount-asap = none /ns/precise /mnt rbind\nmount-asap = none /mnt/usr /ns/cow move",
                "/ns/cow",
                &[" / "],
            ),
        ] {
            let line = mount_at(&table(sandbox, lines), place);
            for part in parts {
                if *part != " / " {
                    assert!(line.contains(part), "{lines}: '{part}' is not in: {line}");
                }
            }
        }
    });
}

#[test]
fn a_read_only_bind_mount_is_read_only() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        fs::create_dir_all("/ns/a/b").unwrap();
        run("mount", &["-t", "tmpfs", "below", "/ns/a/b"]);
        // What touch says is written in one piece only by the shell.
        let touch = "command = sh -c 'for x in /mnt/x /mnt/b/x /ns/a/x; do echo \"`touch $x 2>&1`\"; done'";
        let refused = |said: &[String], path: &str| {
            said.iter().any(|line| line.contains(path) && line.contains("Read-only file system"))
        };
        for (lines, top, below) in [
            ("mount-asap = none /ns/a /mnt bind", false, false),
            // Alone it shows the directory that the mount below covers.
            ("mount-asap = none /ns/a /mnt bind,ro", true, true),
            ("mount-asap = none /ns/a /mnt rbind", false, false),
            ("mount-asap = none /ns/a /mnt rbind,ro", true, true),
            ("mount-asap = none /ns/a /mnt bind,rec,readonly", true, true),
            ("mount-asap = none /ns/a /mnt bind\nmount-asap = none none /mnt bind,remount,ro", true, true),
            ("mount-asap = none /ns/a /mnt rbind\nmount-asap = none none /mnt bind,remount,ro", true, false),
            (
                "mount-asap = none /ns/a /mnt rbind\nmount-asap = none none /mnt bind,remount,rec,ro",
                true,
                true,
            ),
        ] {
            let said = sandbox.said(&format!("{lines}\n{touch}"));
            assert_eq!(refused(&said, "/mnt/x"), top, "{lines}: {said:?}");
            assert_eq!(refused(&said, "/mnt/b/x"), below, "{lines}: {said:?}");
            assert!(!refused(&said, "/ns/a/x"), "{lines}: the source became read-only: {said:?}");
        }
    });
}

#[test]
fn a_remount_keeps_the_source_writable_and_can_be_undone() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        let lines =
            "mount-asap = none /ns /mnt bind,ro,nosuid\nmount-asap = none none /mnt bind,remount,nodev";
        let line = mount_at(&table(sandbox, lines), "/mnt");
        // As mount(8) does it: what is not named is not changed, else a lock would be lifted by accident.
        assert!(line.contains("nodev"), "{line}");
        assert!(line.contains("nosuid"), "{line}");
    });
}

#[test]
fn propagation_is_as_asked_and_never_reaches_the_outside() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        run("mount", &["--make-rshared", "/"]);
        for (flags, expected) in
            [("shared", Some("shared:")), ("private", None), ("unbindable", Some("unbindable"))]
        {
            // `outcome` compares the table outside.
            let lines = format!("mount-asap = tmpfs none /mnt\nmount-asap = none none /mnt {flags}");
            let line = mount_at(&table(sandbox, &lines), "/mnt");
            let optional = line.split(" - ").next().unwrap().split(' ').skip(6).collect::<Vec<_>>().join(" ");
            match expected {
                Some(text) => assert!(optional.starts_with(text), "{flags}: {line}"),
                None => assert_eq!(optional, "", "{flags}: {line}"),
            }
        }
        let lines = "mount-asap = none none / rshared\nmount-asap = tmpfs none /mnt";
        assert!(mount_at(&table(sandbox, lines), "/mnt").contains("shared:"));
    });
}

#[test]
fn a_remount_gives_a_bind_flags_and_takes_them_away() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        fs::create_dir("/ns/a").unwrap();
        let bind = "mount-asap = none /ns/a /mnt bind,ro,noexec,nosuid,noatime";
        let options = |remount: &str| {
            let line = mount_at(&table(sandbox, &format!("{bind}\n{remount}")), "/mnt");
            line.split(' ').nth(5).unwrap().to_owned()
        };
        assert_eq!(options(""), "ro,nosuid,noexec,noatime");
        for (flags, options_then) in [
            ("rw", "rw,nosuid,noexec,noatime"),
            ("nodev", "ro,nosuid,nodev,noexec,noatime"),
            ("suid,exec,atime", "ro,relatime"),
            ("relatime", "ro,nosuid,noexec,relatime"),
            ("strictatime", "ro,nosuid,noexec"),
            ("nosymfollow", "ro,nosuid,noexec,noatime,nosymfollow"),
        ] {
            assert_eq!(options(&format!("mount-asap = none none /mnt remount,bind,{flags}")), options_then);
        }
    });
}

#[test]
fn an_unmount_is_not_led_astray_either() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        fs::create_dir_all("/ns/precise/there/below").unwrap();
        run("mount", &["-t", "tmpfs", "host", "/ns/cow"]);
        fs::create_dir_all("/ns/cow/below").unwrap();
        run("mount", &["-t", "tmpfs", "host", "/ns/cow/below"]);
        // From outside it would be the host's mount, from inside it is the jail's own.
        symlink("/ns/cow", "/ns/precise/outward").unwrap();
        symlink("/there", "/ns/precise/inward").unwrap();
        let bind = "mount-pre-jail = none /ns/precise /ufs rbind";
        sandbox.fails(
            &format!("{bind}\numount-pre-jail = /ufs/outward/below\npivot_root = /ufs /ufs/.old_root"),
            &["pre-jail #2: umount: open /ufs/outward: No such file"],
        );
        let said = sandbox.said(&format!(
            "{bind}\nmount-pre-jail = tmpfs x /ufs/there/below\numount-pre-jail = /ufs/inward/below\n\
             exec-pre-jail = grep -c ' /ufs/there/below ' /proc/self/mountinfo || true\n\
             exec-pre-jail = grep -c ' /ns/cow/below ' /proc/self/mountinfo\n\
             pivot_root = /ufs /ufs/.old_root\ncommand = true"
        ));
        assert_eq!(said, ["0", "1"]);
        symlink("/.old_root/ns/cow", "/ns/precise/link").unwrap();
        sandbox.fails(
            &format!("{PIVOTED}\numount-as-root = /link/below detach"),
            &["as-root #3: umount /link: a symbolic link on the way: refused while the old root"],
        );
        unmount("/ns/cow/below");
        unmount("/ns/cow");
    });
}

#[test]
fn below_a_plain_chroot_the_way_out_is_said() {
    sandboxed(|sandbox| {
        fs::create_dir_all("/run/tree/proc").unwrap();
        for dir in ["usr", "etc", "run"] {
            fs::create_dir_all(format!("/run/tree/{dir}")).unwrap();
        }
        for dir in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{dir}"), format!("/run/tree/{dir}")).unwrap();
        }
        sandbox.mount(&["--bind", "/usr"], "/run/tree/usr");
        fs::copy(sandbox.ini("vassal", "command = true"), "/run/tree/vassal.ini").unwrap();
        let program = sandbox.program("vassal-init");
        fs::copy(program.get_program(), "/run/tree/vassal-init").unwrap();
        let output = Command::new("chroot")
            .args(["/run/tree", "/vassal-init", "--unshare", "fs,pid", "/vassal.ini"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(71), "{text}");
        assert!(
            text.contains(
                "make private all mounts: the root directory is not a mount point, it was entered by chroot"
            ),
            "{text}"
        );
    });
}

#[test]
fn umount_rec_takes_all_below_along() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        // A place with a blank and a line break, which mountinfo escapes.
        fs::create_dir_all("/ns/t/a b").unwrap();
        let mounts = "exec-asap = mount -t tmpfs x /ns/t; mkdir '/ns/t/a b' /ns/t/c; mount -t tmpfs y \
            '/ns/t/a b'; \
                      mkdir '/ns/t/a b/d'; mount -t tmpfs z '/ns/t/a b/d'; mount -t tmpfs w /ns/t/c";
        for flags in ["rec", "rec,detach", "recursive,lazy", "detach"] {
            let said = table(sandbox, &format!("{mounts}\numount-as-root = /ns/t {flags}"));
            assert!(!said.iter().any(|line| line.contains(" /ns/t")), "{flags}: {said:#?}");
        }
        sandbox.fails(&format!("{mounts}\numount-as-root = /ns/t"), &["as-root #1: umount /ns/t: ", "busy"]);
        let busy = format!(
            "{mounts}\nexec-as-root = (cd '/ns/t/a b/d' && touch /run/scratch/there && exec sleep 1000) \
             >/dev/null 2>&1 &\nexec-as-root = until [ -e /run/scratch/there ]; do sleep 0.01; done"
        );
        let busy = format!("{busy}\nhook-post-jail = print:x\nhook-as-user = umount:/ns/t rec");
        sandbox.fails(&busy, &["as-user #1: umount /ns/t/a b/d: ", "busy"]);
    });
}

#[test]
fn umount_finds_what_was_moved_and_what_is_named_from_the_working_directory() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        // The one at the bottom is the oldest.
        let moved = "exec-asap = mkdir /ns/old /ns/t; mount -t tmpfs a /ns/old; mount -t tmpfs b /ns/t; \
            mkdir /ns/t/c; \
                     mount -t tmpfs c /ns/t/c; mkdir /ns/t/c/d; mount --move /ns/old /ns/t/c/d; \
                     grep -c ' /ns/t' /proc/self/mountinfo";
        for umount in ["umount-as-root = /ns/t rec", "hook-as-root = cd:/ns\numount-as-root = t rec"] {
            fs::remove_dir("/ns/old").and_then(|()| fs::remove_dir("/ns/t")).ok();
            let said = table(sandbox, &format!("{moved}\n{umount}"));
            assert_eq!(said[0], "3", "{said:#?}");
            assert!(!said.iter().any(|line| line.contains(" /ns/t")), "{umount}: {said:#?}");
        }
    });
}

#[test]
fn unmounting_what_is_not_mounted_fails_the_start() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        sandbox.fails("umount-asap = /ns/cow", &["asap #1: umount /ns/cow: ", "vassal.ini:2:"]);
        sandbox.fails("umount-asap = /ns/none rec,detach", &["asap #1: umount /ns/none: No such file"]);
        sandbox.fails("umount-asap = /ns/cow rec,detach", &["asap #1: umount /ns/cow: "]);
    });
}

#[test]
fn a_mount_that_fails_is_named_with_its_step() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        for (lines, parts) in [
            (
                "hook-asap = mount:tmpfs none /ns/none",
                &["asap #1: mount: open /ns/none: No such file", "(ENOENT)", "hook-asap"][..],
            ),
            ("mount-as-root = none /ns/none /mnt bind", &["as-root #1: bind: open /ns/none: No such file"]),
            (
                "mount-asap = nosuchfs none /mnt",
                &["asap #1: mount nosuchfs on /mnt: this kernel has no such filesystem (ENODEV)"],
            ),
            (
                "mount-asap = tmpfs none /mnt defaults size=banana",
                &["asap #1: mount tmpfs on /mnt: tmpfs: Bad value for 'size': Invalid argument (EINVAL)"],
            ),
            (
                "mount-asap = fuse none /mnt defaults rootmode=40000,nosuchoption",
                &["asap #1: mount fuse on /mnt: fuse: Unknown parameter 'nosuchoption': Invalid argument"],
            ),
            ("mount-asap = none /ns /mnt/x bind", &["asap #1: mount: open /mnt/x: No such file"]),
            ("mount-asap = none /etc/passwd /mnt bind", &["asap #1: bind to /mnt: "]),
            (
                "exec-asap = true\nmount-asap = none none /ns/precise/var remount,ro",
                &["asap #1: remount /ns/precise/var: "],
            ),
            ("mount-asap = none /ns/precise/var /mnt move", &["asap #1: move a mount to /mnt: "]),
        ] {
            sandbox.fails(lines, parts);
        }
        sandbox.is_invalid(
            "mount-asap = tmpfs none /mnt raedonly",
            "unknown mount flag 'raedonly', did you mean 'readonly'?",
        );
        sandbox.is_invalid("mount-asap = tmpfs none", "the target is missing");
        sandbox.is_invalid("umount-asap = /mnt ro", "unknown umount flag 'ro'");
        sandbox.is_invalid("hook-asap = umount:", "the path is missing");
    });
}

#[test]
fn a_link_in_the_coming_root_leads_nowhere_outside() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        // What the tenant prepared: the same path, outside and inside.
        fs::create_dir_all("/ns/precise/ns/cow").unwrap();
        symlink("/ns/cow", "/ns/precise/escape").unwrap();
        symlink("../../../../../../ns/cow", "/ns/precise/climb").unwrap();
        for link in ["escape", "climb"] {
            for what in ["tmpfs trap", "none /mnt"] {
                let flags = if what == "none /mnt" { " bind" } else { "" };
                let lines = format!(
                    "mount-pre-jail = none /ns/precise /ufs rbind\nmount-pre-jail = {what} \
                     /ufs/{link}{flags}\n\
                     exec-pre-jail = grep -c ' /ns/cow ' /proc/self/mountinfo || true\n\
                     exec-pre-jail = grep -c ' /ufs/ns/cow ' /proc/self/mountinfo\n\
                     pivot_root = /ufs /ufs/.old_root\ncommand = true"
                );
                assert_eq!(sandbox.said(&lines), ["0", "1"], "{lines}");
            }
        }
        // A link to nothing inside, though it leads somewhere outside.
        symlink("/ns/cow/user001", "/ns/precise/dangling").unwrap();
        sandbox.fails(
            "mount-pre-jail = none /ns/precise /ufs rbind\nmount-pre-jail = tmpfs trap /ufs/dangling\n\
             pivot_root = /ufs /ufs/.old_root",
            &["pre-jail #2: mount: open /ufs/dangling: No such file"],
        );
    });
}

#[test]
fn no_start_fails_because_others_mount_and_rename() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        fs::create_dir_all("/ns/precise/ns/cow").unwrap();
        symlink("../../../../../../ns/cow", "/ns/precise/climb").unwrap();
        fs::create_dir("/run/load").unwrap();
        let load = ["mount", "rename"].map(|task| {
            let mut load = Command::new("unshare");
            load.args(["--mount", "--propagation", "private"]).arg(built("load")).args([task, "/run/load"]);
            sandbox.start(task, load)
        });
        until("others mount", || fs::exists("/run/load/count").unwrap());
        let mount = "mount-pre-jail = tmpfs trap /ufs/climb\n".repeat(300);
        let lines = format!(
            "mount-pre-jail = none /ns/precise /ufs rbind\n{mount}\
             exec-pre-jail = grep -c ' /ufs/ns/cow ' /proc/self/mountinfo\n\
             pivot_root = /ufs /ufs/.old_root\ncommand = true"
        );
        assert_eq!(sandbox.said(&lines), ["300"]);
        drop(load);
    });
}

/// What a vassal wrote when the kernel failed system calls as strace(1) is told to.
fn said_with_faults(sandbox: &Sandbox, inject: &str, lines: &str) -> Vec<String> {
    let trace = sandbox.path("trace");
    let inject = format!("inject={inject}");
    let options = ["-f", "-D", "-qq", "-o", trace.to_str().unwrap(), "-e", &inject];
    let mut command = sandbox.wrapped(&[&["strace"], &options[..]].concat(), "vassal-init");
    command.args(["--unshare", "fs,pid"]).arg(sandbox.ini("vassal", lines));
    let mut vassal = sandbox.start("vassal", command);
    assert_eq!(vassal.wait(), 0, "{inject}\n{lines}\n{}", vassal.log());
    until("a call has failed", || fs::read_to_string(&trace).unwrap().contains("(INJECTED)"));

    words(&vassal.log())
}

#[test]
fn a_walk_that_the_kernel_gives_up_again_and_again_is_finished_all_the_same() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        fs::create_dir_all("/ns/precise/ns/cow").unwrap();
        symlink("/ns/cow", "/ns/precise/escape").unwrap();
        symlink("../../../../../../ns/cow", "/ns/precise/climb").unwrap();
        for link in ["escape", "climb"] {
            let lines = format!(
                "hook-pre-jail = exec:mount --rbind /ns/precise /ufs\nmount-pre-jail = tmpfs trap \
                 /ufs/{link}\n\
                 exec-pre-jail = grep -c ' /ns/cow ' /proc/self/mountinfo || true\n\
                 exec-pre-jail = grep -c ' /ufs/ns/cow ' /proc/self/mountinfo\n\
                 pivot_root = /ufs /ufs/.old_root\ncommand = true"
            );
            assert_eq!(said_with_faults(sandbox, "openat2:error=EAGAIN", &lines), ["0", "1"], "{lines}");
        }
    });
}

#[test]
fn a_mount_that_is_busy_for_a_moment_is_no_error() {
    sandboxed(|sandbox| {
        let mounted = "mount-asap = tmpfs none /ufs\n";
        // PID 1 tries for 100 ms, in which strace on a slow machine sees only a few calls.
        let last = if slowness() > 1 { 5 } else { 20 };
        for (inject, lines, result) in [
            ("umount2:error=EBUSY:when=1", "umount-as-root = /ufs", None),
            ("mount:error=EBUSY:when=3", "mount-as-root = none none /ufs remount,ro", Some("tmpfs none ro")),
            (
                "mount_setattr:error=EBUSY:when=1",
                "mount-as-root = none none /ufs bind,remount,ro",
                Some(" ro,"),
            ),
        ] {
            let lines = format!("{mounted}{lines}\ncommand = cat /proc/self/mountinfo");
            let said = said_with_faults(sandbox, &format!("{inject}..{last}"), &lines);
            let line = said.iter().find(|line| line.contains(" /ufs "));
            assert_eq!(line.is_some(), result.is_some(), "{inject}: {said:#?}");
            assert!(result.is_none_or(|part| line.unwrap().contains(part)), "{inject}: {line:?}");
        }
    });
}

#[test]
fn a_link_is_refused_while_the_old_root_can_be_reached() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        symlink("/.old_root/ns/cow", "/ns/precise/link").unwrap();
        fs::create_dir("/ns/precise/plain").unwrap();
        symlink("plain", "/ns/precise/harmless").unwrap();
        for link in ["link", "harmless"] {
            sandbox.fails(
                &format!("{PIVOTED}\nhook-as-root = mount:tmpfs trap /{link}"),
                &[&format!(
                    "as-root #3: mount /{link}: a symbolic link on the way: refused while the old root"
                )],
            );
        }
        // When it is gone, links only lead to where the tenant is anyway.
        let lines = format!(
            "{PIVOTED}\nhook-as-root = umount:/.old_root rec,detach\nhook-as-root = mount:tmpfs none \
             /harmless"
        );
        assert!(mount_at(&table(sandbox, &lines), "/plain").contains("tmpfs"));
        // It may be unmounted under another name for it.
        for name in ["/.old_root/", "//.old_root", "/./.old_root"] {
            let lines = format!(
                "{PIVOTED}\nhook-as-root = umount:{name} rec,detach\nhook-as-root = mount:tmpfs none \
                 /harmless"
            );
            assert!(mount_at(&table(sandbox, &lines), "/plain").contains("tmpfs"), "{name}");
        }
    });
}

#[test]
fn a_mount_that_meets_a_hung_filesystem_of_the_host_takes_no_longer_than_a_hook_may() {
    sandboxed(|sandbox| {
        sandbox.zip();
        run("fuse-zip", &["-r", "-o", "allow_other", "/var/www/app001.zip", "/app"]);
        let daemon = process::only("fuse-zip").pid;
        process::signal(daemon, Signal::STOP);
        // Who waits for a request that it has read cannot be killed.
        until("it has stopped", || process::read(daemon).is_some_and(|daemon| daemon.state == 'T'));
        for hook in [
            "mount:none /app/page.html /mnt bind",
            "mount:none /run /app/page.html bind",
            "umount:/app/page.html",
        ] {
            let start = Instant::now();
            sandbox.fails(
                &format!("hook-timeout = 300ms\nhook-as-root = {hook}"),
                &["as-root #1: ", "still running after 300 ms, killed"],
            );
            assert!(start.elapsed() < Duration::from_secs(20));
        }
        process::signal(daemon, Signal::KILL);
        run("umount", &["--lazy", "/app"]);
    });
}

#[test]
fn of_two_flags_that_contradict_each_other_the_last_counts() {
    sandboxed(|sandbox| {
        for (flags, options) in
            [("bind,ro,rw", "rw"), ("bind,rw,ro", "ro"), ("bind,nosuid,ro,rw,suid,ro", "ro")]
        {
            let said = table(sandbox, &format!("hook-as-root = mount:none /run/scratch /mnt {flags}"));
            let line = mount_at(&said, "/mnt");
            let found = line.split(' ').nth(5).unwrap();
            assert!(
                found.split(',').any(|option| option == options) && !found.contains("nosuid"),
                "{flags}: {line}"
            );
        }
    });
}
