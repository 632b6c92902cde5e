//! The change of root: the tutorial's second example as it is, and every way to get a pivot wrong.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::common::cow::{self, PIVOTED};
use crate::common::process::{self, Handle};
use crate::common::tutorial::get;
use crate::common::{Daemon, ENDED, eventually, run, sandboxed, unmount, until};
use rustix::process::Signal;

/// What the app can see of the old root: nothing.
const BLIND: &str = "seen: \n";

#[test]
fn the_tutorials_second_example_word_for_word() {
    sandboxed(|sandbox| {
        sandbox.cow_tutorial();
        // As systemd has it.
        run("mount", &["--make-rshared", "/"]);
        let before = cow::mounts();
        let emperor = sandbox.emperor(&[]);
        let page = eventually("the page", get);
        assert_eq!(page, BLIND);
        assert_eq!(cow::mounts(), before, "mounts of the jail are seen outside");

        // What was written lies in the tenant's layer, as the tenant's, and nowhere else.
        let written = Path::new("/ns/cow/user001/tmp/written");
        assert_eq!(fs::read_to_string(written).unwrap(), "by the app\n");
        let user: u32 = run("id", &["-u", "user001"]).trim().parse().unwrap();
        assert_eq!(fs::metadata(written).unwrap().uid(), user);
        assert!(!Path::new("/ns/precise/tmp/written").exists(), "the shared tree was written to");

        // Killed: gone, said, back.
        let init = emperor.pid_of("cow001");
        let instance = Handle::of(init);
        process::signal(process::only("unionfs-fuse").pid, Signal::KILL);
        instance.wait();
        let line = emperor.wait_for("mountpoint / lost: ");
        assert!(ENDED.iter().any(|why| line.contains(why)), "{line}");
        assert_eq!(eventually("the page, again", get), BLIND);
        assert_ne!(emperor.pid_of("cow001"), init);
        assert_eq!(fs::read_to_string(written).unwrap(), "by the app\nby the app\n", "the layer is kept");
        emperor.stop();
        assert_eq!(cow::mounts(), before);
    });
}

#[test]
fn a_tenants_tree_cannot_keep_pid_1_waiting() {
    sandboxed(|sandbox| {
        sandbox.copied_tree();
        fs::remove_file("/ns/precise/etc/passwd").unwrap();
        run("mkfifo", &["/ns/precise/etc/passwd"]);
        // Nobody writes to it; the user is the host's then.
        let lines =
            format!("{PIVOTED}\nhook-as-root = umount:/.old_root rec,detach\nuid = user001\ncommand = id -u");
        let user = run("id", &["-u", "user001"]);
        assert_eq!(sandbox.said(&lines), [user.trim()]);
    });
}

#[test]
fn a_directory_of_a_stopped_filesystem_is_not_entered() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let mounted = "exec-asap = fuse-zip -f -r -o allow_other /var/www/app001.zip /app >/dev/null 2>&1 & \
                       until grep -q ' /app ' /proc/self/mountinfo; do sleep 0.01; done; kill -STOP $!\n\
                       mountpoint-timeout = 300ms";
        sandbox.fails(
            &format!("{mounted}\nhook-as-root = chdir:/app"),
            &["as-root #1: chdir /app: it does not answer: its daemon hangs"],
        );
    });
}

#[test]
fn two_tenants_share_a_tree_and_not_their_writes() {
    sandboxed(|sandbox| {
        sandbox.copied_tree();
        // The tree's own is not believed through a FUSE daemon.
        sandbox.append_to("/etc/passwd", "user002:x:5102:5102::/:/bin/sh\n");
        fs::create_dir_all("/ns/cow/user002").unwrap();
        let emperor = sandbox.emperor(&[]);
        for user in ["user001", "user002"] {
            let (head, _) = cow::VASSAL_INI.split_once("; common bind").unwrap();
            let head = head.split_once("; drop").unwrap().1.replace("user001", user);
            let lines = format!(
                "; drop{head}\nmountpoint-check = /\ncommand = sh -c 'echo {user} >/tmp/who; exec sleep 1000'"
            );
            let lines = lines.replace("gid = user002", "gid = 5102");
            sandbox.vassal(user, &lines);
        }
        for user in ["user001", "user002"] {
            emperor.wait_running(1, user);
            let file = format!("/ns/cow/{user}/tmp/who");
            let text = eventually(&file, || fs::read_to_string(&file).ok().filter(|text| !text.is_empty()));
            assert_eq!(text.trim(), user);
        }
        // One tenant's filesystem dies: the other does not notice.
        let other = emperor.pid_of("user002");
        let init = emperor.pid_of("user001");
        let daemons = process::named("unionfs-fuse");
        let daemon = daemons.iter().find(|daemon| daemon.parent == init).expect("a daemon below PID 1");
        let instance = Handle::of(init);
        process::signal(daemon.pid, Signal::KILL);
        instance.wait();
        emperor.wait_running(2, "user001");
        assert_eq!(emperor.lines("user002: started").len(), 1);
        assert_eq!(emperor.pid_of("user002"), other);
        emperor.stop();
    });
}

#[test]
fn an_old_root_that_is_put_under_the_new_one_is_gone() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("a procfs where none is to be seen") {
            return;
        }
        sandbox.namespace_tree();
        for put_old in ["/ufs", "/ufs/", "/ufs/."] {
            let lines = format!(
                "hook-pre-jail = mount:none /ns/precise /ufs rbind\npivot_root = /ufs {put_old}\nuid = root\n\
                 mount-as-root = proc none /proc\n\
                 command = sh -c '[ -e /usr ] && [ ! -e /../ns ] && [ ! -e /ns ] && echo gone; cd /..; ls'"
            );
            let said = sandbox.said(&lines);
            assert!(said.contains(&"gone".to_owned()) && !said.contains(&"ns".to_owned()), "{said:?}");
        }
    });
}

#[test]
fn nothing_of_the_old_root_stays_reachable() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        sandbox.vassal(
            "app",
            &format!(
                "uid = user001\n{PIVOTED}\numount-as-root = /.old_root rec,detach\ncommand = sleep 1000"
            ),
        );
        let emperor = sandbox.emperor(&[]);
        let init = emperor.wait_running(1, "app");
        let app = process::only("sleep").pid;
        // Until then it loads its libraries.
        process::wait_asleep(app);
        for pid in [init, app] {
            let at = |name: &str| fs::metadata(format!("/proc/{pid}/{name}")).unwrap();
            let root = at("root");
            let tree = fs::metadata("/ns/precise").unwrap();
            assert_eq!((root.dev(), root.ino()), (tree.dev(), tree.ino()), "the root of {pid}");
            assert_eq!(
                (at("cwd").dev(), at("cwd").ino()),
                (root.dev(), root.ino()),
                "the directory of {pid}"
            );
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
                let path = entry.unwrap().path();
                let number: u32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
                let (what, leads_to) = (fs::metadata(&path).unwrap(), fs::read_link(&path).unwrap());
                // A procfs that is mounted nowhere leads nowhere: above it there is nothing.
                let is_root = |path: &Path| {
                    (what.dev(), what.ino()) == fs::metadata(path).map(|top| (top.dev(), top.ino())).unwrap()
                };
                let is_procfs = pid == init && what.is_dir() && is_root(&path.join(".."));
                assert!(!what.is_dir() || is_procfs, "{pid}: {number} -> {}", leads_to.display());
                // 0, 1 and 2 are the starter's.
                let inner = is_procfs || leads_to.starts_with("/proc") || !leads_to.is_absolute();
                assert!(number <= 2 || inner, "{pid}: {number} -> {}", leads_to.display());
            }
        }
        let mut mounted = cow::mounted_at(init);
        if sandbox.needs_root("a bind without what is mounted below") {
            mounted.retain(|place| !place.starts_with("/dev/"));
        }
        assert_eq!(mounted, ["/", "/etc", "/usr", "/proc", "/dev"]);
        let exe = fs::read_link(format!("/proc/{init}/exe")).unwrap();
        assert!(exe.to_string_lossy().contains("memfd:"), "{}", exe.display());
        let exe = fs::OpenOptions::new().write(true).open(format!("/proc/{init}/exe"));
        assert!(exe.is_err(), "PID 1's program can be written to");
        emperor.stop();
    });
}

#[test]
fn a_pivot_that_cannot_be_says_why_in_a_sentence() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        fs::write("/ns/file", "").unwrap();
        let mounted = "hook-pre-jail = mount:none /ns/precise /ufs rbind\n";
        for (lines, parts) in [
            (
                "pivot_root = /ns/precise /ns/precise/.old_root".to_owned(),
                &["jail: pivot_root /ns/precise /ns/precise/.old_root: /ns/precise is not a mount point"][..],
            ),
            (
                format!("{mounted}pivot_root = /ufs /ufs/missing"),
                &["jail: ", "/ufs/missing", "No such file or directory"],
            ),
            ("pivot_root = /ns/none /ns/none/.old".to_owned(), &["jail: ", "/ns/none", "No such file"]),
            ("pivot_root = /ns/file /ns/file".to_owned(), &["jail: ", "/ns/file is not a directory"]),
            ("chroot = /ns/none".to_owned(), &["jail: chroot /ns/none: No such file"]),
            ("chroot = /ns/file".to_owned(), &["jail: chroot /ns/file: Not a directory"]),
        ] {
            sandbox.fails(&lines, parts);
        }
        let outside = "the old root cannot go to '/ns/cow': that is not at or beneath the new root '/ufs'";
        sandbox.is_invalid("pivot_root = /ufs /ns/cow", outside);
        sandbox.is_invalid("pivot_root = /ufs", "it takes two paths: NEW_ROOT PUT_OLD");
    });
}

#[test]
fn chroot_is_entered_before_post_jail() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        fs::write("/ns/precise/where", "inside\n").unwrap();
        let look = "exec-pre-jail = cat /where 2>/dev/null || echo outside\nexec-post-jail = cat /where";
        let said = sandbox.said(&format!("{look}\nchroot = /ns/precise\ncommand = cat /where"));
        assert_eq!(said, ["outside", "inside", "inside"]);
    });
}

#[test]
fn users_are_those_of_the_jail_else_those_of_the_host() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        unmount("/ns/precise/etc");
        let lines = format!("uid = user001\n{PIVOTED}\ncommand = sh -c 'id -u; id -g'");
        let outside = [run("id", &["-u", "user001"]), run("id", &["-g", "user001"])];
        let outside: Vec<_> = outside.iter().map(|id| id.trim()).collect();
        assert_eq!(sandbox.said(&lines), outside, "a jail without /etc/passwd");
        fs::write("/ns/precise/etc/passwd", "user001:x:4001:4002::/:/bin/sh\n").unwrap();
        fs::write("/ns/precise/etc/group", "user001:x:4002:\n").unwrap();
        assert_eq!(sandbox.said(&lines), ["4001", "4002"], "the jail's own come first");
        let unknown = lines.replace("user001", "nobody-knows").replace("command", "exec-pre-app");
        sandbox.fails(&unknown, &["privilege drop: ", "uid: user 'nobody-knows': does not exist"]);
    });
}

#[test]
fn a_tenant_whose_tree_it_is_does_not_say_there_who_it_is() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        unmount("/ns/precise/etc");
        let [user, group] = ["-u", "-g"].map(|which| run("id", &[which, "user001"]).trim().to_owned());
        let groups = "root:x:0:user001\ndisk:x:6:user001\nshadow:x:42:user001\nnew:x:77:\n";
        fs::write("/ns/precise/etc/group", format!("{groups}user001:x:{group}:\n")).unwrap();
        let passwd = |uid: &str, gid: &str| {
            fs::write("/ns/precise/etc/passwd", format!("user001:x:{uid}:{gid}::/:/bin/sh\n")).unwrap();
        };
        let detached = "hook-as-root = umount:/.old_root rec,detach\ncommand = sh -c 'id -u; id -g; id -G'";
        let number = format!("uid = {user}\ngid = {group}");
        let tenants = [
            // The way, the file, and either by its mode.
            ("/ns/precise/etc", "chown user001"),
            ("/ns/precise/etc/group", "chown user001"),
            ("/ns/precise/etc/passwd", "chgrp user001 /ns/precise/etc/passwd; chmod g+w"),
            ("/ns/precise", "chmod o+w"),
        ];
        for (path, make_it_the_tenants) in tenants {
            passwd(&user, "6");
            run("sh", &["-c", &format!("{make_it_the_tenants} {path}")]);
            for who in ["uid = user001", &number] {
                let said = sandbox.said(&format!("{who}\n{PIVOTED}\n{detached}"));
                assert_eq!(said, [&*user, &*group, &*group], "{path}: {who}");
            }
            passwd("4001", "6");
            for (who, says) in [
                ("uid = user001", "uid: user 'user001': is 4001 in /etc/passwd of the jail, which others"),
                (&format!("{number}\nadd-gid = new"), "add-gid: group 'new': is 77 in /etc/group of the"),
            ] {
                sandbox.fails(&format!("{who}\n{PIVOTED}"), &["privilege drop: ", says]);
            }
            let chown = format!("{number}\n{PIVOTED}\nhook-as-root = mkdir:/mnt/new\nhook-as-root =");
            sandbox.fails(&format!("{chown} chown:/mnt/new user001"), &["is 4001 in /etc/passwd"]);
            run("rmdir", &["/ns/precise/mnt/new"]);
            passwd(&user, &group);
            let look = "command = sh -c 'ls -nd /mnt/new | cut -d\" \" -f3'";
            assert_eq!(sandbox.said(&format!("{chown} chown:/mnt/new user001\n{look}")), [&*user]);
            run("rmdir", &["/ns/precise/mnt/new"]);
            for path in ["/ns/precise", "/ns/precise/etc", "/ns/precise/etc/group", "/ns/precise/etc/passwd"]
            {
                run("chown", &["root:root", path]);
                run("chmod", &["go-w", path]);
            }
        }
    });
}

#[test]
fn nor_does_it_where_a_hook_has_changed_the_root_before_anybody_asked() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        unmount("/ns/precise/etc");
        fs::write("/ns/precise/etc/passwd", "user001:x:0:0::/:/bin/sh\n").unwrap();
        run("chown", &["-R", "user001", "/ns/precise/etc"]);
        for phase in ["asap", "pre-jail", "as-root"] {
            let lines = format!("uid = user001\nhook-{phase} = chroot:/ns/precise");
            sandbox
                .fails(&lines, &["user 'user001': is 0 in /etc/passwd of the jail, which others than root"]);
        }
    });
}

#[test]
fn a_vassal_init_inside_the_tree_works_too() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        let program = sandbox.program("vassal-init");
        fs::copy(program.get_program(), "/ns/precise/init").unwrap();
        fs::write("/ns/precise/app.ini", "[uwsgi]\ncommand = echo from inside\n").unwrap();
        run("mount", &["--rbind", "/proc", "/ns/precise/proc"]);
        run("mount", &["--rbind", "/dev", "/ns/precise/dev"]);
        // The root must be a mount for its propagation to be changed.
        sandbox.mount(&["--rbind", "/ns/precise"], "/ufs");
        let said = run("chroot", &["/ufs", "/init", "--unshare", "fs,pid", "/app.ini"]);
        assert!(said.lines().any(|line| line == "from inside"), "{said}");
    });
}

#[test]
fn a_union_over_itself_is_no_hang_but_a_sentence() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("fusectl") {
            return;
        }
        sandbox.copied_tree();
        let hangs = "it does not answer: its daemon hangs, or it is a union whose branches are reached \
            through its own \
                     mountpoint, which waits for itself";
        let jail = "mountpoint-timeout = 500ms\nunmount-timeout = 500ms\npivot_root = /ufs /ufs/mnt\n\
            mountpoint-check = /";
        for (daemon, says) in [
            (
                "unionfs-fuse -ocow,default_permissions,allow_other /run=RW:/=RO /ufs",
                format!("jail: new root: /: {hangs}"),
            ),
            (
                "bindfs -o allow_other,attr_timeout=0,entry_timeout=0 / /ufs",
                format!("jail: new root: /: {hangs}"),
            ),
            // What it knows of itself is still good for a second, but no more than that.
            ("bindfs -o allow_other / /ufs", format!(": {hangs}")),
            // It can also hang before it is the root. A thread of it may answer once more before it stops.
            (
                "unionfs-fuse -ocow,chroot=/ns,allow_other /precise=RO:/cow/user001=RW /ufs; kill -STOP -1; \
                 p=`pidof unionfs-fuse`; \
                 while cat /proc/$p/task/*/status | grep ^State: | grep -qv T; do :; done",
                format!("jail: new root: /ufs/mnt: {hangs}"),
            ),
        ] {
            sandbox.fails(&format!("exec-pre-jail = {daemon}\n{jail}"), &[&says]);
            until("no daemon is left", || {
                ["unionfs-fuse", "bindfs"].iter().all(|name| process::named(name).is_empty())
            });
        }
    });
}

#[test]
fn what_a_tenant_puts_in_place_of_proc_is_neither_waited_for_nor_read() {
    sandboxed(|sandbox| {
        sandbox.copied_tree();
        fs::create_dir_all("/ns/precise/proc/self").unwrap();
        let fake = "/ns/precise/proc/self/mountinfo";
        let jail = "hook-pre-jail = mount:none /ns/precise /ufs rbind\npivot_root = /ufs /ufs/.old_root";
        run("mkfifo", &[fake]);
        assert_eq!(sandbox.said(&format!("{jail}\nuid = 33\ngid = 33\ncommand = sh -c 'echo up'")), ["up"]);
        fs::remove_file(fake).unwrap();
        fs::write(fake, "1 0 0:1 / /fake rw - tmpfs none rw\n").unwrap();
        for (lines, told) in [
            (
                "mountpoint-check = /fake\nmountpoint-timeout = 300ms",
                "mountpoint /fake: nothing is mounted there",
            ),
            ("umount-as-root = /fake rec", "/proc/self/mountinfo: No such file or directory (ENOENT)"),
        ] {
            sandbox.fails(&format!("{jail}\n{lines}"), &[told]);
        }
        // The kernel is asked without the tenant's tree.
        assert_eq!(sandbox.said(&format!("{jail}\nmountpoint-check = /\ncommand = sh -c 'echo up'")), ["up"]);
    });
}

#[test]
fn a_vassal_in_namespaces_of_its_own_sees_no_process_but_its_own() {
    sandboxed(|sandbox| {
        let lines = "exec-asap = mount -t tmpfs none /mnt && touch /mnt/private\nuid = user001\n";
        let other = sandbox.vassal_init("other", &format!("{lines}command = sleep 1000"));
        other.wait_for("app started");
        let root = "ls $p/root/mnt | sed s/^/found:/";
        let look = format!("cd /proc; for p in [0-9]*; do echo process `cat $p/comm`; {root}; done");
        let mount = "grep ' /proc ' /proc/self/mountinfo | tail -n 1";
        let show = sandbox.file("show.sh", &format!("{look} 2>/dev/null\n{mount}\n"));
        let command = format!("uid = user001\ncommand = sh {}", show.display());
        let log = |more: &str| {
            let mut vassal = sandbox.vassal_init("vassal", &format!("{more}{command}"));
            assert_eq!(vassal.wait(), 0);
            vassal.log()
        };
        let own = log("");
        assert!(own.contains("process vassal-init") && !own.contains("process sleep"), "{own}");
        assert!(!own.contains("found:private"), "{own}");
        assert!(own.contains(" rw,nosuid,nodev,noexec,relatime - proc "), "{own}");
        let hosts = log("mount-proc = false\n");
        assert!(hosts.contains("process sleep") && hosts.contains("found:private"), "{hosts}");
        stop(other);
    });
}

fn stop(mut vassal: Daemon) {
    vassal.signal(Signal::TERM);
    vassal.wait();
}
